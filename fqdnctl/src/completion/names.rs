//! Which names a word of a command line may be.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::time::Duration;

use clap::{Arg, Command};

use crate::client::Client;

/// How long a daemon is waited for. Some shells ask twice, and somebody who pressed a key should not
/// wait for more than 300 ms.
const PATIENCE: Duration = Duration::from_millis(140);

/// Names that the daemon knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Names {
    /// Of endpoints, each with its namespace.
    Endpoints,
    /// Of namespaces that endpoints are in.
    Namespaces,
    /// Of policies, each with its namespace.
    Policies,
}

/// What a command line ends with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Asked<'w> {
    /// What the last word is to be.
    pub names: Names,
    /// How it begins.
    pub beginning: &'w str,
    /// Where the daemon listens, if the line says so.
    pub socket: Option<&'w str>,
}

impl Names {
    /// Those that an argument takes.
    pub fn of(arg: &Arg) -> Option<Self> {
        match arg.get_value_names()?.first()?.as_str() {
            "ENDPOINT" | "NAMESPACE/POD" | "POD" | "TARGET" => Some(Self::Endpoints),
            "NAMESPACE" => Some(Self::Namespaces),
            "POLICY" => Some(Self::Policies),
            _ => None,
        }
    }

    /// Those that the daemon knows, if it says so in time.
    pub fn known(self, client: &Client) -> anyhow::Result<BTreeSet<String>> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(async { tokio::time::timeout(PATIENCE, self.ask(client)).await? })
    }

    async fn ask(self, client: &Client) -> anyhow::Result<BTreeSet<String>> {
        if self == Self::Policies {
            let policies: Vec<api::Policy> = client.fetch(api::path::POLICIES).await?;
            return Ok(policies.iter().map(api::Policy::full_name).collect());
        }
        let endpoints: Vec<api::Endpoint> = client.fetch(api::path::ENDPOINTS).await?;
        let name = |own: api::Endpoint| match self {
            Self::Namespaces => own.namespace,
            Self::Endpoints | Self::Policies => own.full_name().to_string(),
        };
        Ok(endpoints.into_iter().map(name).collect())
    }
}

impl<'w> Asked<'w> {
    /// What the last of these words may be; none where it is no such name.
    pub fn of(root: &Command, words: &'w [Cow<'_, str>]) -> Option<Self> {
        let (last, before) = words.split_last()?;
        let mut line = Line { command: root, awaited: None, positionals: 0, socket: None };
        before.iter().for_each(|word| line.read(word));
        let (arg, beginning) = match (line.awaited, line.option(last)) {
            (Some(arg), _) => (arg, last.as_ref()),
            (None, Some((arg, Some(value)))) => (arg, value),
            (None, _) if last.starts_with('-') => return None,
            (None, _) => (line.command.get_positionals().nth(line.positionals)?, last.as_ref()),
        };
        Some(Self { names: Names::of(arg)?, beginning, socket: line.socket })
    }
}

/// A command line as far as it was read.
struct Line<'c, 'w> {
    command: &'c Command,
    /// The option whose value comes next.
    awaited: Option<&'c Arg>,
    positionals: usize,
    socket: Option<&'w str>,
}

impl<'c, 'w> Line<'c, 'w> {
    fn read(&mut self, word: &'w str) {
        // Where bash parts an option from its value.
        if word == "=" {
            return;
        }
        if let Some(arg) = self.awaited.take() {
            self.note(arg, word);
            return;
        }
        match self.option(word) {
            Some((arg, Some(value))) => self.note(arg, value),
            Some((arg, None)) => self.awaited = takes_value(arg).then_some(arg),
            None if word.starts_with('-') => {}
            None => match self.command.find_subcommand(word) {
                Some(command) => (self.command, self.positionals) = (command, 0),
                None => self.positionals += 1,
            },
        }
    }

    fn note(&mut self, arg: &Arg, value: &'w str) {
        if arg.get_id() == "socket" {
            self.socket = Some(value);
        }
    }

    /// The option that a word is, with the value that it has.
    fn option<'t>(&self, word: &'t str) -> Option<(&'c Arg, Option<&'t str>)> {
        let find = |is: &dyn Fn(&Arg) -> bool| self.command.get_arguments().find(|arg| is(arg));
        if let Some(long) = word.strip_prefix("--") {
            let (name, value) = match long.split_once('=') {
                Some((name, value)) => (name, Some(value)),
                None => (long, None),
            };
            let is_alias = |arg: &Arg| arg.get_all_aliases().is_some_and(|own| own.contains(&name));
            let arg = find(&|arg| arg.get_long() == Some(name) || is_alias(arg))?;
            return Some((arg, value));
        }
        let mut short = word.strip_prefix('-')?.chars();
        let (Some(short), None) = (short.next(), short.next()) else { return None };
        Some((find(&|arg| arg.get_short() == Some(short))?, None))
    }
}

fn takes_value(arg: &Arg) -> bool {
    arg.get_num_args().is_some_and(|count| count.takes_values())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::completion::built;

    fn asked(line: &str) -> Option<(Names, String, Option<String>)> {
        let words: Vec<Cow<'_, str>> = line.split(' ').map(Cow::Borrowed).collect();
        let root = built();
        let asked = Asked::of(&root, &words)?;
        Some((asked.names, asked.beginning.to_owned(), asked.socket.map(str::to_owned)))
    }

    #[test]
    fn a_name_is_asked_for_where_one_may_stand() {
        use Names::{Endpoints, Namespaces, Policies};
        for (line, names, beginning) in [
            ("endpoint get ", Endpoints, ""),
            ("-o json endpoint get prod/w", Endpoints, "prod/w"),
            ("cache list -e pr", Endpoints, "pr"),
            ("cache list --endpoint=pr", Endpoints, "pr"),
            ("cache list --endpoint = pr", Endpoints, "pr"),
            ("policy get prod/", Policies, "prod/"),
            ("policy list ", Policies, ""),
            ("policy learn prod/w", Endpoints, "prod/w"),
            ("policy explain --port 443/TCP --from ", Endpoints, ""),
            ("policy explain --to p", Endpoints, "p"),
            ("observe -f --not --pod prod/", Endpoints, "prod/"),
            ("observe -n ", Namespaces, ""),
        ] {
            assert_eq!(asked(line), Some((names, beginning.to_owned(), None)), "{line}");
        }
        let elsewhere = asked("--socket /tmp/s endpoint get a").unwrap();
        assert_eq!(elsewhere.2.as_deref(), Some("/tmp/s"));
    }

    #[test]
    fn nothing_is_asked_for_elsewhere() {
        for line in [
            "",
            "end",
            "endpoint ",
            "endpoint list ",
            "endpoint get a b",
            "endpoint get -",
            "endpoint get --output ",
            "map dump ",
            "cache list -p ",
            "pattern a.com b",
            "unknown x",
        ] {
            assert_eq!(asked(line), None, "{line}");
        }
    }
}
