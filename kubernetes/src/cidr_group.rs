//! CiliumCIDRGroups: prefixes that rules refer to by the group's name or labels.

use model::{CidrGroup, Label};
use policy::Problem;
use serde::Deserialize;

use crate::described::Described;
use crate::metadata::Metadata;
use crate::text::Cidr;

/// How many prefixes one group may have.
const MAX_PREFIXES: usize = 65_536;

/// A group's document, pruned.
#[derive(Debug, Deserialize)]
struct CidrGroupDocument {
    metadata: Metadata,
    spec: CidrGroupSpec,
}

#[derive(Debug, Deserialize)]
struct CidrGroupSpec {
    #[serde(rename = "externalCIDRs")]
    external_cidrs: Vec<Cidr>,
}

/// Reads a group's document.
pub(crate) fn read(document: &impl Described) -> Result<CidrGroup, Problem> {
    let CidrGroupDocument { metadata, spec } = document.read()?;
    if spec.external_cidrs.len() > MAX_PREFIXES {
        let message = format!("has more than {MAX_PREFIXES} prefixes");
        return Err(document.problem_at(&["spec", "externalCIDRs"], message));
    }
    let mut prefixes: Vec<_> = spec.external_cidrs.into_iter().map(|cidr| cidr.0).collect();
    prefixes.sort_unstable();
    prefixes.dedup();
    let labels = metadata.labels();
    Ok(CidrGroup {
        name: metadata.name(),
        labels: labels.iter().map(|(key, value)| Label::kubernetes(key, value)).collect(),
        prefixes,
    })
}
