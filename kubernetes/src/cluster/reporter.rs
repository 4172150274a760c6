//! Says in the cluster what became of each policy: conditions of its status, whether it could be read
//! and on how many nodes it is in force, and an event for one that is refused.
//!
//! One node writes for all: the one that holds a lease. It writes only what a policy's status does
//! not say yet, so that another which takes over goes on where it stopped, and at most some writes
//! a second. All nodes read policies alike, so it does not matter which one writes. How many nodes
//! there are changes more often than anything else of a policy: that alone is written one policy a
//! second on average.

mod event;
mod lease;
mod refused;
mod words;

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use kube::Client;
use kube::api::{Patch, PatchParams, PostParams};
use kube::core::Request;
use policy::PolicyKey;
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout};

use crate::cluster::access::{Access, reason};
use crate::cluster::condition::{Condition, Due};
use crate::cluster::kind::Kind;
use crate::cluster::pause::Pause;
use crate::cluster::tally::Tally;
use crate::cluster::verdict::{Verdict, Verdicts};
use crate::inventory::Inventory;
use lease::{Lease, RENEWED};
use refused::Refused;
use words::Words;

pub(crate) use words::tell;

/// The pause between two writes.
const PAUSE: Duration = Duration::from_millis(100);
/// The pause between two rounds in which numbers of nodes are written, for each that was written
/// in the one before; and the shortest.
const RECOUNT: Duration = Duration::from_secs(1);
const SHORTEST_RECOUNT: Duration = Duration::from_secs(10);
/// How often what nodes say is read, where there is nothing to wait for.
const IDLE: Duration = Duration::from_secs(30);
/// How long it goes well before a fault is one of its own, and no more of the one before.
const WELL: Duration = Duration::from_secs(60);
/// Who writes, as the API server notes it.
const MANAGER: &str = "fqdnd";
/// What leases are, as the API has it.
const LEASES: (&str, &str) = ("coordination.k8s.io/v1", "Lease");

/// Where a node says what became of policies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reports {
    /// The namespace of the leases.
    pub namespace: String,
    /// This node's name.
    pub node: String,
}

fn leases(reports: &Reports) -> String {
    format!("/apis/{}/namespaces/{}/leases", LEASES.0, reports.namespace)
}

/// Why nothing can be said.
struct Fault(String);

impl From<kube::Error> for Fault {
    fn from(error: kube::Error) -> Self {
        Self(reason(&error))
    }
}

/// Writes as long as somebody judges policies.
pub(crate) async fn run(
    access: Access,
    reports: Reports,
    verdicts: watch::Receiver<Verdicts>,
    inventory: watch::Receiver<Arc<Inventory>>,
) {
    let (mut told, mut pause) = (String::new(), Pause::default());
    loop {
        let began = Instant::now();
        let ended = match access.client().await {
            Ok(client) => {
                let (verdicts, inventory) = (verdicts.clone(), inventory.clone());
                Reporter::new(client, &reports, verdicts, inventory).follow().await
            }
            Err(error) => Err(Fault(error.to_string())),
        };
        let Err(Fault(reason)) = ended else { return };
        if told != reason {
            tracing::warn!(reason, "what became of policies cannot be written");
            told = reason;
        }
        if began.elapsed() > WELL {
            pause = Pause::default();
        }
        sleep(pause.next(None)).await;
    }
}

struct Reporter<'a> {
    client: Client,
    reports: &'a Reports,
    verdicts: watch::Receiver<Verdicts>,
    inventory: watch::Receiver<Arc<Inventory>>,
    lease: Lease,
    words: Words,
    refused: Refused,
    tally: Option<Tally>,
    /// When what nodes say is read again, and when numbers of nodes may be written.
    read_at: Instant,
    recount_at: Instant,
}

impl<'a> Reporter<'a> {
    fn new(
        client: Client,
        reports: &'a Reports,
        verdicts: watch::Receiver<Verdicts>,
        inventory: watch::Receiver<Arc<Inventory>>,
    ) -> Self {
        let now = Instant::now();
        Self {
            client,
            reports,
            verdicts,
            inventory,
            lease: Lease::default(),
            words: Words::default(),
            refused: Refused::default(),
            tally: None,
            read_at: now,
            recount_at: now,
        }
    }

    /// Writes until nobody judges policies any more.
    async fn follow(&mut self) -> Result<(), Fault> {
        loop {
            self.lease.hold(&self.client, self.reports).await?;
            if self.lease.is_ours() {
                self.write_all().await?;
            }
            match timeout(RENEWED, self.verdicts.changed()).await {
                Ok(Err(_)) => return Ok(()),
                // What is in force will be other than it was.
                Ok(Ok(())) => self.read_at = Instant::now(),
                Err(_) => {}
            }
        }
    }

    /// Writes what is not said yet, as long as the lease is ours.
    async fn write_all(&mut self) -> Result<(), Fault> {
        let verdicts = self.verdicts.borrow_and_update().clone();
        self.refused.keep(&verdicts);
        self.count(&verdicts).await?;
        let recounts = Instant::now() >= self.recount_at;
        let (mut recounted, mut waits) = (0, false);
        for (key, verdict) in &verdicts {
            let now = humantime::format_rfc3339_seconds(SystemTime::now()).to_string();
            let (conditions, due) = verdict.conditions(self.tally.as_ref(), &now);
            waits |= self.tally.as_ref().is_some_and(|tally| {
                let missing = tally.enforcing(&verdict.uid) < tally.nodes();
                tally.nodes() == 0 || (verdict.problems.is_empty() && missing)
            });
            match due {
                Due::Now => {}
                Due::Sometime if recounts => recounted += 1,
                Due::Sometime | Due::Not => continue,
            }
            if self.refused.holds(key, verdict) {
                continue;
            }
            if !self.lease.is_ours() {
                self.lease.hold(&self.client, self.reports).await?;
                if !self.lease.is_ours() {
                    return Ok(());
                }
            }
            match self.write(key, verdict, &conditions).await {
                Ok(()) => self.refused.forget(key),
                // It is gone, or there is a newer one, which is judged anew.
                Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => {}
                Err(error) if is_of_one_object(&error) => self.refused.note(key, verdict, &error),
                Err(error) => return Err(error.into()),
            }
            sleep(PAUSE).await;
        }
        if recounts {
            self.recount_at = Instant::now() + SHORTEST_RECOUNT.max(RECOUNT * recounted);
        }
        if waits {
            self.read_at = Instant::now();
        }
        Ok(())
    }

    /// Reads what nodes say of these policies, when it is time to.
    async fn count(&mut self, verdicts: &Verdicts) -> Result<(), Fault> {
        if Instant::now() < self.read_at {
            return Ok(());
        }
        let inventory = self.inventory.borrow().clone();
        let read = self.words.read(&self.client, self.reports, verdicts, &inventory);
        self.tally = Some(read.await?);
        self.read_at = Instant::now() + IDLE;
        Ok(())
    }

    async fn write(
        &self,
        key: &PolicyKey,
        verdict: &Verdict,
        conditions: &[Condition],
    ) -> Result<(), kube::Error> {
        let kind = match &key.namespace {
            Some(_) => Kind::NetworkPolicies,
            None => Kind::ClusterwideNetworkPolicies,
        };
        let resource = kind.resource();
        let mut policy = json!({
            "apiVersion": format!("{}/{}", resource.group, resource.version),
            "kind": resource.kind,
            "metadata": {"name": key.name, "uid": verdict.uid},
            "status": {"conditions": conditions},
        });
        if let Some(namespace) = &key.namespace {
            policy["metadata"]["namespace"] = namespace.clone().into();
        }
        let request = Request::new(resource.path_in(key.namespace.as_deref()));
        let parameters = PatchParams::apply(MANAGER).force();
        let request = request
            .patch_subresource("status", &key.name, &parameters, &Patch::Apply(&policy))
            .map_err(kube::Error::BuildRequest)?;
        // Once the status says so, nobody comes here again for this generation.
        if !verdict.problems.is_empty() {
            self.tell(&policy, verdict).await?;
        }
        self.client.request::<Value>(request).await.map(drop)
    }

    /// An event, once for each generation of a policy that is refused. A cluster that takes none,
    /// as in a namespace that is going away, is still told by the status.
    async fn tell(&self, policy: &Value, verdict: &Verdict) -> Result<(), kube::Error> {
        let now = humantime::format_rfc3339_micros(SystemTime::now()).to_string();
        let event = event::of_refused(policy, verdict, &self.reports.node, &now);
        let namespace = event["metadata"]["namespace"].as_str().unwrap_or_default();
        let request = Request::new(format!("/apis/events.k8s.io/v1/namespaces/{namespace}/events"));
        let event = serde_json::to_vec(&event).map_err(kube::Error::SerdeError)?;
        let request = request.create(&PostParams::default(), event);
        let created = self.client.request::<Value>(request.map_err(kube::Error::BuildRequest)?);
        match created.await {
            Err(kube::Error::Api(status)) if status.code == 409 => Ok(()),
            Err(error) if is_of_one_object(&error) => {
                tracing::warn!(reason = reason(&error), "an event is refused");
                Ok(())
            }
            created => created.map(drop),
        }
    }
}

/// Whether the server refuses what was written, and not whoever writes.
fn is_of_one_object(error: &kube::Error) -> bool {
    match error {
        kube::Error::Api(status) => matches!(status.code, 400 | 403 | 404 | 409 | 413 | 422),
        _ => false,
    }
}
