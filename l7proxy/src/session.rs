//! One connection's judgement, as it changes.
//!
//! Before each request the rules in force are asked for; only when their revision changed is the
//! daemon asked again. A change that touches how the connection itself is handled, not only what
//! may be said on it, ends it; where rules are only audited, what they are against goes on as long
//! as that lasts.

use std::net::SocketAddr;
use std::sync::{Arc, PoisonError};

use l7proxy_core::control::{Access, Asked, Judgement};
use l7proxy_core::hello::Hello;
use l7proxy_core::http::{Edit, Facts};
use l7proxy_core::{Admitted, CompiledRules, Fate, Reason, TlsRoute, Unmatched};
use model::{EndpointId, Originate, Terminate};
use tokio::net::TcpStream;
use tokio::sync::{Mutex, watch};

use crate::proxy::Shared;

/// A connection that is being judged.
pub(crate) struct Session {
    pub shared: Arc<Shared>,
    pub client: SocketAddr,
    pub destination: SocketAddr,
    pub endpoint: EndpointId,
    /// Whether the destination is to see the pod's own address.
    pub from_pod_address: bool,
    opening: Opening,
    /// The connection to the destination, where it was made before anything was judged.
    dialed: std::sync::Mutex<Option<TcpStream>>,
    /// How the connection is handled, which no change of the rules may change.
    handling: Handling,
    revision: watch::Receiver<u64>,
    judged: Mutex<Judged>,
}

/// How a connection begins.
#[derive(Clone, Debug)]
pub(crate) enum Opening {
    /// Not in TLS.
    Plain,
    /// In TLS.
    Tls(Hello),
    /// So that it cannot be told, for this reason.
    Unreadable(Reason),
}

/// How a connection is handled.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Handling {
    /// It goes on untouched.
    Splice,
    /// It is TLS, ends here, and another begins.
    Terminate(Terminate, Originate),
    /// It is not TLS, and perhaps goes on in TLS.
    Plain(Option<Originate>),
}

struct Judged {
    revision: u64,
    verdict: Result<Standing, Reason>,
}

/// What the rules say of a connection.
#[derive(Clone, Debug)]
pub(crate) struct Standing {
    /// What may be said on it. None where it goes on untouched.
    pub admitted: Option<Admitted>,
    /// What becomes of what no rule allows.
    pub unmatched: Unmatched,
    /// Why no rule allows the connection, where it goes on all the same.
    pub breach: Option<Reason>,
}

/// What is known of a connection before it is a session.
pub(crate) struct Newcomer {
    pub shared: Arc<Shared>,
    pub client: SocketAddr,
    pub destination: SocketAddr,
}

impl Session {
    /// Judges a connection by its first bytes.
    pub fn begin(
        newcomer: &Newcomer,
        judgement: &Judgement,
        opening: Opening,
        dialed: Option<TcpStream>,
    ) -> Result<Self, Reason> {
        let shared = Arc::clone(&newcomer.shared);
        let (handling, standing) = route(&shared, judgement, &opening)?;
        let revision = shared.control.revision();
        Ok(Self {
            shared,
            client: newcomer.client,
            destination: newcomer.destination,
            endpoint: judgement.endpoint,
            from_pod_address: judgement.from_pod_address,
            opening,
            dialed: std::sync::Mutex::new(dialed),
            handling,
            revision,
            judged: Mutex::new(Judged { revision: judgement.revision, verdict: Ok(standing) }),
        })
    }

    /// How the connection is handled.
    pub const fn handling(&self) -> &Handling {
        &self.handling
    }

    /// What the client says it wants, where it speaks TLS.
    pub const fn hello(&self) -> Option<&Hello> {
        match &self.opening {
            Opening::Tls(hello) => Some(hello),
            Opening::Plain | Opening::Unreadable(_) => None,
        }
    }

    /// A connection to the destination: first the one that stands already, if one does.
    pub async fn dial(&self) -> Result<TcpStream, Reason> {
        let dialed = self.dialed.lock().unwrap_or_else(PoisonError::into_inner).take();
        match dialed {
            Some(stream) => Ok(stream),
            None => self.shared.reach(self.client, self.destination, self.from_pod_address).await,
        }
    }

    /// What the rules say now.
    pub async fn standing(&self) -> Result<Standing, Reason> {
        let mut judged = self.judged.lock().await;
        if judged.revision < *self.revision.borrow() {
            let judgement = self.shared.control.ask(self.client, self.destination).await;
            let verdict = judgement.and_then(|judgement| {
                judged.revision = judgement.revision;
                let (handling, standing) = route(&self.shared, &judgement, &self.opening)?;
                let same = judgement.endpoint == self.endpoint;
                let same = same && self.goes_on(&handling, &standing);
                if same { Ok(standing) } else { Err(Reason::RulesChanged) }
            });
            judged.verdict = verdict;
        }
        judged.verdict.clone()
    }

    /// Whether a connection that began otherwise can be handled as the rules now want it. Where
    /// they are against it, or it goes by unread, and that is only audited, it need not.
    fn goes_on(&self, handling: &Handling, standing: &Standing) -> bool {
        let unread = self.handling == Handling::Splice && standing.unmatched == Unmatched::Audited;
        *handling == self.handling || standing.breach.is_some() || unread
    }

    /// The revision of the rules in force, as it changes.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.revision.clone()
    }

    /// Waits until the rules changed and no longer let the connection be: tells why.
    pub async fn revoked(&self) -> Reason {
        let mut revision = self.revision.clone();
        loop {
            match self.standing().await {
                Ok(standing) if standing.lets_go_unread() => {}
                Ok(_) => return Reason::RulesChanged,
                Err(reason) => return reason,
            }
            if revision.changed().await.is_err() {
                return Reason::NoJudgement;
            }
        }
    }

    /// Waits until the rules changed and refuse the connection altogether: tells why.
    pub async fn refused(&self) -> Reason {
        let mut revision = self.revision.clone();
        loop {
            if let Err(reason) = self.standing().await {
                return reason;
            }
            if revision.changed().await.is_err() {
                return Reason::NoJudgement;
            }
        }
    }

    /// The server name that the client asked for.
    pub fn server_name(&self) -> Option<String> {
        self.hello()?.server_name_text()
    }

    /// Records what was asked.
    pub fn record(&self, request: Asked, fate: Fate, micros: Option<u64>) {
        self.shared.journal.write(Access {
            endpoint: Some(self.endpoint),
            client: self.client,
            destination: self.destination,
            server_name: self.server_name(),
            request,
            fate,
            micros,
        });
    }
}

impl Standing {
    /// Whether the connection may be one that nobody reads.
    fn lets_go_unread(&self) -> bool {
        self.unmatched == Unmatched::Audited
            || self.admitted.as_ref().is_none_or(Admitted::allows_anything)
    }

    /// The edits with which a request goes on, and what is against it where that is only audited.
    pub fn http(&self, facts: &Facts<'_>) -> Result<(Vec<Edit>, Option<Reason>), Reason> {
        let Some(admitted) = &self.admitted else { return Ok((Vec::new(), self.breach)) };
        match admitted.http(facts) {
            Some(edits) => Ok((edits, None)),
            None => Ok((Vec::new(), Some(self.unmatched.judge(Reason::RequestDenied)?))),
        }
    }
}

/// How a connection is handled, and what the rules say of it.
fn route(
    shared: &Shared,
    judgement: &Judgement,
    opening: &Opening,
) -> Result<(Handling, Standing), Reason> {
    let unmatched = judgement.unmatched;
    let standing = |admitted, breach| Standing { admitted, unmatched, breach };
    match ruled(shared, judgement, opening) {
        Ok((handling, admitted)) => Ok((handling, standing(admitted, None))),
        Err(reason) => {
            let breach = unmatched.judge(reason)?;
            Ok((Handling::Splice, standing(None, Some(breach))))
        }
    }
}

fn ruled(
    shared: &Shared,
    judgement: &Judgement,
    opening: &Opening,
) -> Result<(Handling, Option<Admitted>), Reason> {
    let rules = compiled(shared, judgement);
    let hello = match opening {
        Opening::Tls(hello) => hello,
        Opening::Plain => {
            let (admitted, originate) = rules.plain()?;
            return Ok((Handling::Plain(originate), Some(admitted)));
        }
        Opening::Unreadable(reason) => return Err(*reason),
    };
    match rules.tls(hello, &judgement.resolved_names())? {
        TlsRoute::Splice => Ok((Handling::Splice, None)),
        TlsRoute::Terminate { terminate, originate, admitted, .. } => {
            Ok((Handling::Terminate(terminate, originate), Some(admitted)))
        }
    }
}

fn compiled(shared: &Shared, judgement: &Judgement) -> Arc<CompiledRules> {
    if let Some(rules) = shared.compiled.find(&judgement.rules, |_| true) {
        return rules;
    }
    let rules = Arc::new(CompiledRules::new(&judgement.rules));
    shared.journal.broken_rules(rules.problems().len());
    for problem in rules.problems() {
        tracing::warn!(endpoint = %judgement.endpoint, %problem, "a rule matches nothing");
    }
    shared.compiled.put(judgement.rules.clone(), Arc::clone(&rules));
    rules
}
