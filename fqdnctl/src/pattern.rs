//! `fqdnctl pattern`: needs no daemon.

use std::process::ExitCode;

use clap::Args;
use model::Name;
use serde::Serialize;

use crate::output::{Output, unless_closed};

/// Tell whether a matchPattern matches names.
///
/// Prints a line for each name: `yes` or `no`, and the name. `*` stands for any characters of one
/// label, `**.` at the start for one or more whole labels, and stars alone for every name. Letter
/// case and a trailing dot make no difference. No daemon is needed.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  fqdnctl pattern '*.example.com' www.example.com a.b.example.com
  fqdnctl pattern '**.example.com' a.b.example.com && echo all of them

Put the pattern in quotes, or the shell may replace its stars.

Exit codes:
  0  every name matches
  1  a name does not match
  2  the pattern or a name is invalid")]
pub(crate) struct Pattern {
    /// The pattern, as in toFQDNs' matchPattern.
    pattern: String,
    /// The names.
    #[arg(required = true, value_name = "NAME")]
    names: Vec<String>,
}

/// The answer for one name.
#[derive(Debug, Serialize)]
struct Answer<'a> {
    name: &'a str,
    matches: bool,
}

impl Pattern {
    pub fn run(&self, output: &Output) -> anyhow::Result<ExitCode> {
        let answers = match self.answers() {
            Ok(answers) => answers,
            Err(reason) => {
                eprintln!("Error: {reason}");
                return Ok(ExitCode::from(2));
            }
        };
        let said =
            |own: &Answer<'_>| format!("{} {}", if own.matches { "yes" } else { "no" }, own.name);
        unless_closed(match output.is_data() {
            true => output.data(&answers),
            false => output.lines(answers.iter().map(said)),
        })?;
        let all = answers.iter().all(|answer| answer.matches);
        Ok(if all { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }

    fn answers(&self) -> Result<Vec<Answer<'_>>, String> {
        let pattern = model::Pattern::match_pattern(&self.pattern)
            .map_err(|error| format!("invalid pattern `{}`: {error}", self.pattern))?;
        let answer = |name: &'_ str| match name.parse::<Name>() {
            Ok(parsed) => Ok(pattern.matches(parsed.as_ref())),
            Err(error) => Err(format!("invalid name `{name}`: {error}")),
        };
        self.names.iter().map(|name| Ok(Answer { name, matches: answer(name)? })).collect()
    }
}
