//! The lease by which nodes agree on the one that writes for all.

use std::time::{Duration, SystemTime};

use kube::Client;
use kube::api::{GetParams, PostParams};
use kube::core::Request;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::{Fault, LEASES, Reports, leases};
use crate::cluster::access::Remedy;

/// The lease's name.
const LEASE: &str = "fqdnd-policies";
/// How long it holds.
const HELD: Duration = Duration::from_secs(15);
/// How often it is renewed, or looked at by the others.
pub(super) const RENEWED: Duration = Duration::from_secs(5);

/// What this node knows of the lease.
#[derive(Debug, Default)]
pub(super) struct Lease {
    /// Another's lease as it was last seen to change, by this node's own clock.
    seen: Option<(Value, Instant)>,
    /// Until when the lease is surely ours.
    ours: Option<Instant>,
}

impl Lease {
    /// Whether it is this node that writes.
    pub fn is_ours(&self) -> bool {
        self.ours.is_some_and(|until| Instant::now() + RENEWED < until)
    }

    /// Takes the lease, renews it, or sees that it is another's.
    pub async fn hold(&mut self, client: &Client, reports: &Reports) -> Result<(), Fault> {
        if self.ours.is_some_and(|until| Instant::now() + 2 * RENEWED < until) {
            return Ok(());
        }
        let request = Request::new(leases(reports));
        let began = Instant::now();
        let get = request.get(LEASE, &GetParams::default());
        let lease = client.request::<Value>(get.map_err(kube::Error::BuildRequest)?).await;
        let written = match lease {
            Ok(lease) if self.may_take(&lease, reports) => {
                let lease = serde_json::to_vec(&renewed(Some(&lease), reports));
                let lease = lease.map_err(kube::Error::SerdeError)?;
                request.replace(LEASE, &PostParams::default(), lease)
            }
            Ok(_) => {
                self.ours = None;
                return Ok(());
            }
            Err(error) if Remedy::of(&error) == Remedy::Unknown => {
                let lease = serde_json::to_vec(&renewed(None, reports));
                request.create(&PostParams::default(), lease.map_err(kube::Error::SerdeError)?)
            }
            Err(error) => return Err(error.into()),
        };
        let written = written.map_err(kube::Error::BuildRequest)?;
        match client.request::<Value>(written).await {
            Ok(_) => self.ours = Some(began + HELD),
            // Another one was quicker.
            Err(kube::Error::Api(status)) if status.code == 409 => self.ours = None,
            Err(error) => return Err(error.into()),
        }
        Ok(())
    }

    /// Whether the lease is this node's, nobody's, or was not renewed for as long as it holds.
    fn may_take(&mut self, lease: &Value, reports: &Reports) -> bool {
        let spec = &lease["spec"];
        let holder = spec["holderIdentity"].as_str().unwrap_or_default();
        if holder.is_empty() || holder == reports.node {
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
}

fn renewed(before: Option<&Value>, reports: &Reports) -> Value {
    let now = humantime::format_rfc3339_micros(SystemTime::now()).to_string();
    let (api_version, kind) = LEASES;
    let mut lease = before.cloned().unwrap_or_else(|| {
        json!({
            "apiVersion": api_version, "kind": kind,
            "metadata": {"name": LEASE, "namespace": reports.namespace},
            "spec": {},
        })
    });
    let spec = &mut lease["spec"];
    if spec["holderIdentity"] != reports.node.as_str() {
        spec["acquireTime"] = now.clone().into();
        let transitions = spec["leaseTransitions"].as_i64().unwrap_or(0);
        spec["leaseTransitions"] = (transitions + i64::from(before.is_some())).into();
    }
    spec["holderIdentity"] = reports.node.clone().into();
    spec["leaseDurationSeconds"] = HELD.as_secs().into();
    spec["renewTime"] = now.into();
    lease
}
