//! Says in the cluster what became of each policy: a condition of its status, and an event for one
//! that is refused.
//!
//! One node writes for all: the one that holds a lease. It writes only what a policy's status does
//! not say yet, so that another which takes over goes on where it stopped, and at most some writes
//! a second. All nodes read policies alike, so it does not matter which one writes.

use std::time::{Duration, SystemTime};

use kube::Client;
use kube::api::{Patch, PatchParams, PostParams};
use kube::core::Request;
use policy::PolicyKey;
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout};

use crate::cluster::access::{Access, Remedy, reason};
use crate::cluster::kind::Kind;
use crate::cluster::store::{Verdict, Verdicts};
use crate::crd::VALID;

/// The lease's name.
const LEASE: &str = "fqdnd-policies";
/// How long it holds, and how often it is renewed, or looked at by the others.
const HELD: Duration = Duration::from_secs(15);
const RENEWED: Duration = Duration::from_secs(5);
/// The pause between two writes.
const PAUSE: Duration = Duration::from_millis(100);
/// How long after a refusal it is tried again.
const RETRY: Duration = Duration::from_secs(30);
/// Who writes, as the API server notes it.
const MANAGER: &str = "fqdnd";

/// Where a node says what became of policies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reports {
    /// The namespace of the lease.
    pub namespace: String,
    /// This node's name.
    pub node: String,
}

/// Writes as long as somebody judges policies.
pub(crate) async fn run(access: Access, reports: Reports, verdicts: watch::Receiver<Verdicts>) {
    let mut told = String::new();
    loop {
        let ended = match access.client().await {
            Ok(client) => {
                let mut reporter = Reporter::new(client, &reports, verdicts.clone());
                reporter.follow().await
            }
            Err(error) => Err(Fault::Refused(error.to_string())),
        };
        match ended {
            Err(Fault::Closed) | Ok(()) => return,
            Err(Fault::Refused(reason)) => {
                if told != reason {
                    tracing::warn!(reason, "what became of policies cannot be written");
                    told = reason;
                }
                sleep(RETRY).await;
            }
        }
    }
}

enum Fault {
    /// Nobody judges policies any more.
    Closed,
    Refused(String),
}

impl From<kube::Error> for Fault {
    fn from(error: kube::Error) -> Self {
        Self::Refused(reason(&error))
    }
}

struct Reporter<'a> {
    client: Client,
    reports: &'a Reports,
    verdicts: watch::Receiver<Verdicts>,
    /// Another's lease as it was last seen to change, by this node's own clock.
    seen: Option<(Value, Instant)>,
    /// Until when the lease is surely ours.
    ours: Option<Instant>,
}

impl<'a> Reporter<'a> {
    fn new(client: Client, reports: &'a Reports, verdicts: watch::Receiver<Verdicts>) -> Self {
        Self { client, reports, verdicts, seen: None, ours: None }
    }

    async fn follow(&mut self) -> Result<(), Fault> {
        loop {
            self.hold().await?;
            if self.is_ours() {
                self.write_all().await?;
            }
            if let Ok(Err(_)) = timeout(RENEWED, self.verdicts.changed()).await {
                return Err(Fault::Closed);
            }
        }
    }

    fn is_ours(&self) -> bool {
        self.ours.is_some_and(|until| Instant::now() + RENEWED < until)
    }

    /// Takes the lease, renews it, or sees that it is another's.
    async fn hold(&mut self) -> Result<(), Fault> {
        if self.ours.is_some_and(|until| Instant::now() + 2 * RENEWED < until) {
            return Ok(());
        }
        let path =
            format!("/apis/coordination.k8s.io/v1/namespaces/{}/leases", self.reports.namespace);
        let request = Request::new(&path);
        let began = Instant::now();
        let get = request.get(LEASE, &kube::api::GetParams::default());
        let lease = self.client.request::<Value>(get.map_err(kube::Error::BuildRequest)?).await;
        let written = match lease {
            Ok(lease) if self.may_take(&lease) => {
                let lease = serde_json::to_vec(&self.lease(Some(&lease)));
                let lease = lease.map_err(kube::Error::SerdeError)?;
                request.replace(LEASE, &PostParams::default(), lease)
            }
            Ok(_) => {
                self.ours = None;
                return Ok(());
            }
            Err(error) if Remedy::of(&error) == Remedy::Unknown => {
                let lease = serde_json::to_vec(&self.lease(None));
                request.create(&PostParams::default(), lease.map_err(kube::Error::SerdeError)?)
            }
            Err(error) => return Err(error.into()),
        };
        let written = written.map_err(kube::Error::BuildRequest)?;
        match self.client.request::<Value>(written).await {
            Ok(_) => self.ours = Some(began + HELD),
            // Another one was quicker.
            Err(kube::Error::Api(status)) if status.code == 409 => self.ours = None,
            Err(error) => return Err(error.into()),
        }
        Ok(())
    }

    /// Whether the lease is this node's, nobody's, or was not renewed for as long as it holds.
    fn may_take(&mut self, lease: &Value) -> bool {
        let spec = &lease["spec"];
        let holder = spec["holderIdentity"].as_str().unwrap_or_default();
        if holder.is_empty() || holder == self.reports.node {
            return true;
        }
        match &self.seen {
            Some((known, since)) if known == spec => since.elapsed() > HELD,
            _ => {
                self.seen = Some((spec.clone(), Instant::now()));
                false
            }
        }
    }

    fn lease(&self, before: Option<&Value>) -> Value {
        let now = humantime::format_rfc3339_micros(SystemTime::now()).to_string();
        let mut lease = before.cloned().unwrap_or_else(|| {
            json!({
                "apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
                "metadata": {"name": LEASE, "namespace": self.reports.namespace},
                "spec": {},
            })
        });
        let spec = &mut lease["spec"];
        if spec["holderIdentity"] != self.reports.node.as_str() {
            spec["acquireTime"] = now.clone().into();
            let transitions = spec["leaseTransitions"].as_i64().unwrap_or(0);
            spec["leaseTransitions"] = (transitions + i64::from(before.is_some())).into();
        }
        spec["holderIdentity"] = self.reports.node.clone().into();
        spec["leaseDurationSeconds"] = HELD.as_secs().into();
        spec["renewTime"] = now.into();
        lease
    }

    /// Writes what is not said yet, as long as the lease is ours.
    async fn write_all(&mut self) -> Result<(), Fault> {
        let verdicts = self.verdicts.borrow_and_update().clone();
        for (key, verdict) in verdicts.iter().filter(|(_, verdict)| !verdict.told) {
            if !self.is_ours() {
                self.hold().await?;
                if !self.is_ours() {
                    return Ok(());
                }
            }
            match self.write(key, verdict).await {
                Ok(()) => {}
                // It is gone, or there is a newer one, which is judged anew.
                Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => {}
                Err(error) => return Err(error.into()),
            }
            sleep(PAUSE).await;
        }
        Ok(())
    }

    async fn write(&self, key: &PolicyKey, verdict: &Verdict) -> Result<(), kube::Error> {
        let kind = match &key.namespace {
            Some(_) => Kind::NetworkPolicies,
            None => Kind::ClusterwideNetworkPolicies,
        };
        let resource = kind.resource();
        let now = humantime::format_rfc3339_seconds(SystemTime::now()).to_string();
        let refused = !verdict.problems.is_empty();
        let mut policy = json!({
            "apiVersion": format!("{}/{}", resource.group, resource.version),
            "kind": resource.kind,
            "metadata": {"name": key.name, "uid": verdict.uid},
            "status": {"conditions": [{
                "type": VALID,
                "status": verdict.status(),
                "reason": if refused { "Refused" } else { "Accepted" },
                "message": verdict.message(),
                "observedGeneration": verdict.generation,
                "lastTransitionTime": now,
            }]},
        });
        if let Some(namespace) = &key.namespace {
            policy["metadata"]["namespace"] = namespace.clone().into();
        }
        let request = Request::new(resource.path_in(key.namespace.as_deref()));
        let parameters = PatchParams::apply(MANAGER).force();
        let request = request
            .patch_subresource("status", &key.name, &parameters, &Patch::Apply(&policy))
            .map_err(kube::Error::BuildRequest)?;
        self.client.request::<Value>(request).await?;
        if refused {
            self.tell(&policy, verdict).await?;
        }
        Ok(())
    }

    /// An event, once for each generation of a policy that is refused.
    async fn tell(&self, policy: &Value, verdict: &Verdict) -> Result<(), kube::Error> {
        let metadata = &policy["metadata"];
        let namespace = metadata["namespace"].as_str().unwrap_or("default");
        let name = metadata["name"].as_str().unwrap_or_default();
        let uid: String = verdict.uid.chars().filter(char::is_ascii_alphanumeric).take(8).collect();
        let event = json!({
            "apiVersion": "events.k8s.io/v1",
            "kind": "Event",
            "metadata": {
                "name": format!("{name}.{uid}-{}", verdict.generation),
                "namespace": namespace,
            },
            "eventTime": humantime::format_rfc3339_micros(SystemTime::now()).to_string(),
            "reportingController": "fqdnd",
            "reportingInstance": self.reports.node,
            "action": "Read",
            "reason": "PolicyRefused",
            "type": "Warning",
            "note": verdict.message(),
            "regarding": {
                "apiVersion": policy["apiVersion"], "kind": policy["kind"],
                "name": name, "namespace": metadata["namespace"], "uid": verdict.uid,
            },
        });
        let request = Request::new(format!("/apis/events.k8s.io/v1/namespaces/{namespace}/events"));
        let event = serde_json::to_vec(&event).map_err(kube::Error::SerdeError)?;
        let request = request.create(&PostParams::default(), event);
        let created = self.client.request::<Value>(request.map_err(kube::Error::BuildRequest)?);
        match created.await {
            Err(kube::Error::Api(status)) if status.code == 409 => Ok(()),
            created => created.map(drop),
        }
    }
}
