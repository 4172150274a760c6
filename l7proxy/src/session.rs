//! One connection's judgement, as it changes.
//!
//! Before each request the rules in force are asked for; only when their revision changed is the
//! daemon asked again. A change that touches how the connection itself is handled, not only what
//! may be said on it, ends it.

use std::net::SocketAddr;
use std::sync::Arc;

use l7proxy_core::control::{Access, Asked, Judgement};
use l7proxy_core::hello::Hello;
use l7proxy_core::{Admitted, CompiledRules, Reason, TlsRoute};
use model::{EndpointId, Originate, Terminate};
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
    pub hello: Option<Hello>,
    /// How the connection is handled, which no change of the rules may change.
    handling: Handling,
    revision: watch::Receiver<u64>,
    judged: Mutex<Judged>,
}

/// How a connection is handled.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Handling {
    /// It is TLS and goes on untouched.
    Splice,
    /// It is TLS, ends here, and another begins.
    Terminate(Terminate, Originate),
    /// It is not TLS, and perhaps goes on in TLS.
    Plain(Option<Originate>),
}

struct Judged {
    revision: u64,
    verdict: Result<Option<Admitted>, Reason>,
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
        hello: Option<Hello>,
    ) -> Result<Self, Reason> {
        let shared = Arc::clone(&newcomer.shared);
        let (handling, admitted) = route(&shared, judgement, hello.as_ref())?;
        let revision = shared.control.revision();
        Ok(Self {
            shared,
            client: newcomer.client,
            destination: newcomer.destination,
            endpoint: judgement.endpoint,
            from_pod_address: judgement.from_pod_address,
            hello,
            handling,
            revision,
            judged: Mutex::new(Judged { revision: judgement.revision, verdict: Ok(admitted) }),
        })
    }

    /// How the connection is handled.
    pub const fn handling(&self) -> &Handling {
        &self.handling
    }

    /// What may be said now. None for a connection that goes on untouched.
    pub async fn admitted(&self) -> Result<Option<Admitted>, Reason> {
        let mut judged = self.judged.lock().await;
        if judged.revision < *self.revision.borrow() {
            let judgement = self.shared.control.ask(self.client, self.destination).await;
            let verdict = judgement.and_then(|judgement| {
                judged.revision = judgement.revision;
                let same = judgement.endpoint == self.endpoint;
                let (handling, admitted) = route(&self.shared, &judgement, self.hello.as_ref())?;
                let same = same && handling == self.handling;
                if same { Ok(admitted) } else { Err(Reason::RulesChanged) }
            });
            judged.verdict = verdict;
        }
        judged.verdict.clone()
    }

    /// What may be said now on a connection that is read.
    pub async fn rules(&self) -> Result<Admitted, Reason> {
        self.admitted().await?.ok_or(Reason::RulesChanged)
    }

    /// The revision of the rules in force, as it changes.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.revision.clone()
    }

    /// Waits until the rules changed and no longer let the connection be: tells why.
    pub async fn revoked(&self) -> Reason {
        let mut revision = self.revision.clone();
        loop {
            match self.admitted().await {
                Ok(None) => {}
                Ok(Some(admitted)) if admitted.allows_anything() => {}
                Ok(Some(_)) => return Reason::RulesChanged,
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
            if let Err(reason) = self.admitted().await {
                return reason;
            }
            if revision.changed().await.is_err() {
                return Reason::NoJudgement;
            }
        }
    }

    /// The server name that the client asked for.
    pub fn server_name(&self) -> Option<String> {
        self.hello.as_ref()?.server_name_text()
    }

    /// Records what was asked.
    pub fn record(&self, request: Asked, refused: Option<Reason>, micros: Option<u64>) {
        self.shared.journal.write(Access {
            endpoint: Some(self.endpoint),
            client: self.client,
            destination: self.destination,
            server_name: self.server_name(),
            request,
            refused,
            micros,
        });
    }
}

fn route(
    shared: &Shared,
    judgement: &Judgement,
    hello: Option<&Hello>,
) -> Result<(Handling, Option<Admitted>), Reason> {
    let rules = compiled(shared, judgement);
    let Some(hello) = hello else {
        let (admitted, originate) = rules.plain()?;
        return Ok((Handling::Plain(originate), Some(admitted)));
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
