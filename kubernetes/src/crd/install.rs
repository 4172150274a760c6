//! Puts the definitions into a cluster, and leaves those alone that are another's.

use std::fmt;
use std::time::Duration;

use kube::api::{Api, Patch, PatchParams};
use kube::core::{ApiResource, DynamicObject};
use serde_json::Value;

use crate::cluster::{Access, AccessError};
use crate::crd::{Owner, definitions};

/// Who writes, as the API server notes it.
const MANAGER: &str = "fqdnctl";
/// How long a server may take until it serves what it was told of, and how often it is asked.
const PATIENCE: Duration = Duration::from_secs(30);
const PAUSE: Duration = Duration::from_millis(100);

/// What became of a definition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Installed {
    /// The definition's name.
    pub name: String,
    /// What became of it.
    pub outcome: Outcome,
}

/// What became of a definition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The cluster did not have it.
    Created,
    /// The cluster had an earlier one of ours.
    Updated,
    /// The cluster had it as it is.
    Unchanged,
    /// The cluster has another's, Cilium's as a rule: it serves as well.
    LeftAlone,
    /// The cluster has another's that does not serve the version that is read here.
    Unfit,
}

/// Why definitions cannot be installed.
#[derive(Debug, thiserror::Error)]
pub enum InstallError {
    /// The API server cannot be reached at all.
    #[error(transparent)]
    Access(#[from] AccessError),
    /// The API server refuses.
    #[error("{name}: {}", outline(&source.to_string()))]
    Refused {
        /// The definition.
        name: String,
        /// Why.
        #[source]
        source: Box<kube::Error>,
    },
    /// The API server has it, and does not serve it.
    #[error("{name}: the API server did not come to serve it within {}s", PATIENCE.as_secs())]
    NotServed {
        /// The definition.
        name: String,
    },
}

/// Installs every definition, and tells what became of each once all of them are served.
pub async fn install(access: &Access) -> Result<Vec<Installed>, InstallError> {
    let resource = ApiResource {
        group: "apiextensions.k8s.io".to_owned(),
        version: "v1".to_owned(),
        api_version: "apiextensions.k8s.io/v1".to_owned(),
        kind: "CustomResourceDefinition".to_owned(),
        plural: "customresourcedefinitions".to_owned(),
    };
    let api: Api<DynamicObject> = Api::all_with(access.client().await?, &resource);
    let mut installed = Vec::new();
    for definition in definitions() {
        let name = definition["metadata"]["name"].as_str().unwrap_or_default().to_owned();
        let put = put(&api, &name, &definition).await;
        let refused =
            |source| InstallError::Refused { name: name.clone(), source: Box::new(source) };
        let outcome = put.map_err(refused)?;
        installed.push(Installed { name, outcome });
    }
    for Installed { name, .. } in &installed {
        let served = tokio::time::timeout(PATIENCE, until_served(&api, name)).await;
        let served = served.map_err(|_| InstallError::NotServed { name: name.clone() })?;
        let refused =
            |source| InstallError::Refused { name: name.clone(), source: Box::new(source) };
        served.map_err(refused)?;
    }
    Ok(installed)
}

async fn until_served(api: &Api<DynamicObject>, name: &str) -> Result<(), kube::Error> {
    while !is_served(&api.get(name).await?.data) {
        tokio::time::sleep(PAUSE).await;
    }
    Ok(())
}

fn is_served(definition: &Value) -> bool {
    let conditions = definition["status"]["conditions"].as_array();
    let is_established = |own: &Value| own["type"] == "Established" && own["status"] == "True";
    conditions.into_iter().flatten().any(is_established)
}

async fn put(
    api: &Api<DynamicObject>,
    name: &str,
    definition: &Value,
) -> Result<Outcome, kube::Error> {
    let before = api.get_opt(name).await?;
    if let Some(before) = &before {
        let before = serde_json::to_value(before).map_err(kube::Error::SerdeError)?;
        if Owner::of(&before) == Owner::Another {
            return Ok(if serves(&before) { Outcome::LeftAlone } else { Outcome::Unfit });
        }
    }
    let parameters = PatchParams::apply(MANAGER).force();
    let after = api.patch(name, &parameters, &Patch::Apply(definition)).await?;
    let version = |object: &DynamicObject| object.metadata.resource_version.clone();
    Ok(match before {
        None => Outcome::Created,
        Some(before) if version(&before) == version(&after) => Outcome::Unchanged,
        Some(_) => Outcome::Updated,
    })
}

/// Whether a definition serves the version that is read here.
fn serves(definition: &Value) -> bool {
    let versions = definition["spec"]["versions"].as_array();
    versions.into_iter().flatten().any(|own| own["name"] == "v2" && own["served"] == true)
}

/// A text without its middle: an API server that refuses a schema says all of it before it says
/// why.
fn outline(text: &str) -> String {
    const END: usize = 300;
    let (begin, rest) = text.split_at(text.floor_char_boundary(END));
    match rest.len().checked_sub(END) {
        None | Some(0) => text.to_owned(),
        Some(middle) => format!("{begin} … {}", &rest[rest.ceil_char_boundary(middle)..]),
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Created => "created",
            Self::Updated => "updated",
            Self::Unchanged => "unchanged",
            Self::LeftAlone => "left alone: it is not ours",
            Self::Unfit => "left alone: it is not ours, and does not serve v2",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_refusal_keeps_its_beginning_and_its_end() {
        let long = format!("schema: {}: why", "ß".repeat(1000));
        let told = outline(&long);
        assert!(told.starts_with("schema: ß") && told.ends_with("ß: why"), "{told}");
        assert!(told.len() < 610 && told.contains(" … "), "{told}");
        assert_eq!(outline("short"), "short");
        assert_eq!(outline(&"a".repeat(600)).len(), 600);
    }
}
