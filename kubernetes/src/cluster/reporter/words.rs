//! What nodes have in force, each in few words that it writes itself.
//!
//! A node writes when something else is in force there, and not before its turn: the more nodes
//! there are, the longer they spread their writes. What a node said stands as what it enforces
//! does: also while its daemon does not run.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use kube::Client;
use kube::api::{GetParams, Patch, PatchParams, PostParams};
use kube::core::Request;
use rand::Rng;
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::time::{Instant, sleep};

use super::{Fault, LEASES, MANAGER, Reports, leases};
use crate::cluster::access::{Access, Remedy};
use crate::cluster::pause::Pause;
use crate::cluster::tally::{ANNOTATION, Digest, Tally, place_of, shards};
use crate::cluster::verdict::Verdicts;
use crate::inventory::Inventory;

/// How many nodes may write within a second.
const TURNS: u32 = 20;
/// How long a node may be missing from the cluster before its words are taken out.
const MISSING: Duration = Duration::from_secs(3600);

/// Tells what this node has in force, now and later.
pub(crate) async fn tell(
    access: Access,
    reports: Reports,
    mut in_force: watch::Receiver<Option<Verdicts>>,
    inventory: watch::Receiver<Arc<Inventory>>,
) {
    let (mut said, mut told, mut pause) = (None, String::new(), Pause::default());
    loop {
        let digest = in_force.borrow_and_update().as_ref().map(Digest::of);
        if digest != said {
            let nodes = inventory.borrow().nodes.len();
            let spread = f64::from(u32::try_from(nodes).unwrap_or(u32::MAX)) / f64::from(TURNS);
            let turn = rand::rng().random_range(0.0..=spread);
            sleep(Duration::from_secs_f64(turn)).await;
            let digest = in_force.borrow_and_update().as_ref().map(Digest::of);
            if let Some(digest) = &digest
                && let Err(reason) = write(&access, &reports, digest).await
            {
                if told != reason {
                    tracing::warn!(reason, "what this node enforces cannot be told");
                    told = reason;
                }
                sleep(pause.next(None)).await;
                continue;
            }
            (said, pause) = (digest, Pause::default());
        }
        if in_force.changed().await.is_err() {
            return;
        }
    }
}

async fn write(access: &Access, reports: &Reports, digest: &Digest) -> Result<(), String> {
    let client = access.client().await.map_err(|error| error.to_string())?;
    let (shard, annotation) = place_of(&reports.node);
    let words = format!("{} {digest}", reports.node);
    let patched = annotate(&client, reports, &shard, json!({annotation: words})).await;
    patched.map_err(|Fault(reason)| reason)
}

/// Changes annotations of a shard, which is made if need be.
async fn annotate(
    client: &Client,
    reports: &Reports,
    shard: &str,
    annotations: Value,
) -> Result<(), Fault> {
    let request = Request::new(leases(reports));
    let parameters = PatchParams { field_manager: Some(MANAGER.into()), ..PatchParams::default() };
    let patch = json!({"metadata": {"annotations": annotations}});
    loop {
        let patch = request.patch(shard, &parameters, &Patch::Merge(&patch));
        let patched = client.request::<Value>(patch.map_err(kube::Error::BuildRequest)?).await;
        match patched {
            Err(error) if Remedy::of(&error) == Remedy::Unknown => {}
            patched => return Ok(patched.map(drop)?),
        }
        let (api_version, kind) = LEASES;
        let lease = json!({
            "apiVersion": api_version, "kind": kind, "spec": {},
            "metadata": {"name": shard, "namespace": reports.namespace},
        });
        let lease = serde_json::to_vec(&lease).map_err(kube::Error::SerdeError)?;
        let create = request.create(&PostParams::default(), lease);
        match client.request::<Value>(create.map_err(kube::Error::BuildRequest)?).await {
            // Another node was quicker.
            Err(kube::Error::Api(status)) if status.code == 409 => {}
            created => drop(created?),
        }
    }
}

/// What all nodes told, as it is read now and then.
#[derive(Default)]
pub(super) struct Words {
    /// Annotations of nodes that the cluster does not have, and since when.
    missing: HashMap<String, Instant>,
}

impl Words {
    /// Reads what nodes told of what is expected. Words of nodes that have long gone are taken
    /// out.
    pub async fn read(
        &mut self,
        client: &Client,
        reports: &Reports,
        expected: &Verdicts,
        inventory: &Inventory,
    ) -> Result<Tally, Fault> {
        let mut digests = Vec::new();
        let mut missing = HashMap::new();
        for shard in shards() {
            let get = Request::new(leases(reports)).get(&shard, &GetParams::default());
            let lease = client.request::<Value>(get.map_err(kube::Error::BuildRequest)?).await;
            let lease = match lease {
                Err(error) if Remedy::of(&error) == Remedy::Unknown => continue,
                lease => lease?,
            };
            let mut gone = serde_json::Map::new();
            let annotations = lease["metadata"]["annotations"].as_object();
            for (annotation, words) in annotations.into_iter().flatten() {
                if !annotation.starts_with(ANNOTATION) {
                    continue;
                }
                let words = words.as_str().and_then(|words| words.split_once(' '));
                match words {
                    Some((node, digest)) if inventory.nodes.contains_key(node) => {
                        digests.extend(digest.parse::<Digest>());
                    }
                    _ => {
                        let known = self.missing.get(annotation).copied();
                        let since = known.unwrap_or_else(Instant::now);
                        if since.elapsed() > MISSING {
                            gone.insert(annotation.clone(), Value::Null);
                        } else {
                            missing.insert(annotation.clone(), since);
                        }
                    }
                }
            }
            if !gone.is_empty() {
                annotate(client, reports, &shard, gone.into()).await?;
            }
        }
        self.missing = missing;
        Ok(Tally::of(&Digest::of(expected), digests.into_iter()))
    }
}
