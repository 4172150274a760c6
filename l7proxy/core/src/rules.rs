//! The rules for a connection, compiled, and which of them a connection's first bytes bring in.
//!
//! Alternatives are united: what one allows, another does not take away. One that terminates TLS
//! says how TLS of its names is handled, so it comes before one that would let it through unread.

use std::sync::Arc;

use model::{KafkaRule, L7Rule, L7Rules, Name, Originate, Requests, ServerNames, Terminate};

use crate::Reason;
use crate::hello::Hello;
use crate::http::{self, Edit, Facts, HttpRuleError, Matcher};

/// Rules that are ready to be held against connections.
#[derive(Debug)]
pub struct CompiledRules {
    alternatives: Vec<Alternative>,
    problems: Vec<RuleProblem>,
}

/// A rule that matches nothing, and why.
pub type RuleProblem = HttpRuleError;

#[derive(Debug)]
struct Alternative {
    server_names: Option<ServerNames>,
    terminate: Option<Terminate>,
    originate: Option<Originate>,
    requests: Compiled,
}

#[derive(Debug)]
enum Compiled {
    Any,
    Http(Vec<Arc<Matcher>>),
    Kafka(Vec<KafkaRule>),
}

/// The names that the pod resolved to an address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Resolved {
    /// Names do not matter for this address: it is allowed by other means.
    Any,
    /// These.
    Names(Vec<Name>),
}

/// What becomes of a TLS connection.
#[derive(Clone, Debug)]
pub enum TlsRoute {
    /// It goes on untouched.
    Splice,
    /// It ends at the proxy, which begins another.
    Terminate {
        /// How the pod's TLS is ended.
        terminate: Terminate,
        /// How TLS to the destination is begun.
        originate: Originate,
        /// The name that the client asked for.
        server_name: Name,
        /// What may be said inside.
        admitted: Admitted,
    },
}

/// What may be said on a connection: the alternatives that cover it.
#[derive(Clone, Debug)]
pub struct Admitted {
    rules: Arc<CompiledRules>,
    which: Vec<usize>,
}

impl Resolved {
    fn contains(&self, name: &Name) -> bool {
        match self {
            Self::Any => true,
            Self::Names(names) => names.contains(name),
        }
    }
}

impl CompiledRules {
    /// Compiles the rules. One that cannot be compiled matches nothing, and is told by
    /// [`CompiledRules::problems`].
    pub fn new(rules: &L7Rules) -> Self {
        let mut problems = Vec::new();
        let compile = |rule: &L7Rule| Alternative::new(rule, &mut problems);
        let alternatives = rules.0.iter().map(compile).collect();
        Self { alternatives, problems }
    }

    /// The rules that match nothing.
    pub fn problems(&self) -> &[RuleProblem] {
        &self.problems
    }

    /// What becomes of a connection that begins with this ClientHello.
    pub fn tls(self: &Arc<Self>, hello: &Hello, resolved: &Resolved) -> Result<TlsRoute, Reason> {
        let mut refusal = Reason::NoRules;
        let mut which = Vec::new();
        for (index, alternative) in self.alternatives.iter().enumerate() {
            match alternative.covers(hello, resolved) {
                Ok(()) => which.push(index),
                Err(reason) => refusal = refusal.max_by_closeness(reason),
            }
        }
        let covering = || which.iter().map(|index| &self.alternatives[*index]);
        // The one that names the server is meant before one that does not.
        let by_name = covering().filter(|alternative| alternative.server_names.is_some());
        let terminating = by_name.chain(covering()).find(|one| one.terminate.is_some());
        if let Some(Alternative { terminate: Some(terminate), originate, .. }) = terminating {
            let server_name = hello.server_name.clone()?;
            let originate = originate.clone().ok_or(Reason::NotOriginated)?;
            let unavailable = matches!(terminate, Terminate::Unavailable(_))
                || matches!(originate, Originate::Unavailable(_));
            if unavailable {
                return Err(Reason::SecretUnavailable);
            }
            let admitted = Admitted { rules: Arc::clone(self), which };
            let terminate = terminate.clone();
            return Ok(TlsRoute::Terminate { terminate, originate, server_name, admitted });
        }
        if covering().any(Alternative::lets_tls_through) {
            return Ok(TlsRoute::Splice);
        }
        Err(if which.is_empty() { refusal } else { Reason::TlsNotTerminated })
    }

    /// What may be said on a connection without TLS, and how TLS is begun if it is to be.
    pub fn plain(self: &Arc<Self>) -> Result<(Admitted, Option<Originate>), Reason> {
        let plain = |(_, one): &(usize, &Alternative)| {
            one.server_names.is_none() && one.terminate.is_none()
        };
        let which: Vec<usize> =
            self.alternatives.iter().enumerate().filter(plain).map(|(index, _)| index).collect();
        if which.is_empty() {
            let none = self.alternatives.is_empty();
            return Err(if none { Reason::NoRules } else { Reason::NotTls });
        }
        let originate = which.iter().find_map(|index| self.alternatives[*index].originate.clone());
        if let Some(Originate::Unavailable(_)) = originate {
            return Err(Reason::SecretUnavailable);
        }
        Ok((Admitted { rules: Arc::clone(self), which }, originate))
    }
}

impl Alternative {
    fn new(rule: &L7Rule, problems: &mut Vec<RuleProblem>) -> Self {
        let requests = match &rule.requests {
            Requests::Any => Compiled::Any,
            Requests::Kafka(rules) => Compiled::Kafka(rules.clone()),
            Requests::Http(rules) => {
                let compiled = rules.iter().map(Matcher::new);
                let keep = |matcher: Result<_, _>| {
                    matcher.map_err(|problem| problems.push(problem)).ok().map(Arc::new)
                };
                Compiled::Http(compiled.filter_map(keep).collect())
            }
        };
        Self {
            server_names: rule.server_names.clone(),
            terminate: rule.terminate.clone(),
            originate: rule.originate.clone(),
            requests,
        }
    }

    fn covers(&self, hello: &Hello, resolved: &Resolved) -> Result<(), Reason> {
        let Some(wanted) = &self.server_names else { return Ok(()) };
        let name = hello.server_name.as_ref().map_err(|reason| *reason)?;
        if !wanted.matches(name.as_ref()) {
            return Err(Reason::ServerNameDenied);
        }
        if !resolved.contains(name) {
            return Err(Reason::ServerNameNotResolved);
        }
        Ok(())
    }

    fn lets_tls_through(&self) -> bool {
        self.originate.is_none() && matches!(self.requests, Compiled::Any)
    }
}

impl Reason {
    /// Of two reasons why alternatives do not cover a connection, that of the closer one.
    fn max_by_closeness(self, other: Self) -> Self {
        let closeness = |reason| match reason {
            Self::NoRules => 0,
            Self::ServerNameDenied => 1,
            _ => 2,
        };
        if closeness(other) > closeness(self) { other } else { self }
    }
}

impl Admitted {
    /// Whether everything may be said.
    pub fn allows_anything(&self) -> bool {
        self.requests().any(|requests| matches!(requests, Compiled::Any))
    }

    /// Whether there are rules for HTTP.
    pub fn speaks_http(&self) -> bool {
        self.requests().any(|requests| matches!(requests, Compiled::Http(_)))
    }

    /// Whether there are rules for Kafka.
    pub fn speaks_kafka(&self) -> bool {
        self.requests().any(|requests| matches!(requests, Compiled::Kafka(_)))
    }

    /// The edits with which a request is allowed; none where no rule allows it.
    pub fn http(&self, facts: &Facts<'_>) -> Option<Vec<Edit>> {
        let matchers = self.requests().flat_map(|requests| match requests {
            Compiled::Http(matchers) => &matchers[..],
            Compiled::Any | Compiled::Kafka(_) => &[],
        });
        let edits = http::judge(matchers, facts);
        if self.allows_anything() { Some(edits.unwrap_or_default()) } else { edits }
    }

    /// The rules for Kafka.
    pub fn kafka(&self) -> impl Iterator<Item = &KafkaRule> + Clone {
        self.requests().flat_map(|requests| match requests {
            Compiled::Kafka(rules) => &rules[..],
            Compiled::Any | Compiled::Http(_) => &[],
        })
    }

    fn requests(&self) -> impl Iterator<Item = &Compiled> + Clone {
        self.which.iter().map(|index| &self.rules.alternatives[*index].requests)
    }
}

#[cfg(test)]
mod tests;
