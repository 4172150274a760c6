//! `fqdnctl policy get` and `fqdnctl policy selectors`.

use anyhow::anyhow;
use clap::Args;

use crate::client::Client;
use crate::output::{Cell, Output, Tone};

/// Show the policies in force.
///
/// Without a name, all of them in a table. A policy that asks for what is not enforced here is
/// marked `partly`: the rules that need it allow nothing. One that is audited drops nothing: what it
/// would drop passes, and flows show it as AUDIT.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  fqdnctl policy get
  fqdnctl policy get prod/web
  fqdnctl policy get prod/web -o json")]
pub(crate) struct Get {
    /// The policy, as NAMESPACE/NAME, or NAME for a clusterwide one.
    policy: Option<String>,
}

/// Show what the rules in force name as destinations, and what each selects.
///
/// IDENTITIES are pods, nodes and prefixes that the selector selects; NAMES those that it matches
/// of the names that endpoints of this node have resolved.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  fqdnctl policy selectors
  fqdnctl policy selectors -o json | jq '.[] | select(.field == \"toFQDNs\")'")]
pub(crate) struct Selectors {}

impl Get {
    pub fn run(&self, client: &Client, output: &Output) -> anyhow::Result<()> {
        let policies: Vec<api::Policy> = client.read(api::path::POLICIES)?;
        match &self.policy {
            None => list(&policies, output),
            Some(name) => {
                let policy = policies.iter().find(|policy| policy.full_name() == *name);
                let policy = policy.ok_or_else(|| anyhow!("no policy `{name}` is in force"))?;
                show(policy, output)
            }
        }
    }
}

fn list(policies: &[api::Policy], output: &Output) -> anyhow::Result<()> {
    if output.is_data() {
        return Ok(output.data(&policies)?);
    }
    let header = ["NAMESPACE", "NAME", "RULES", "ENDPOINTS", "ENFORCED", "WARNINGS", "FILE"];
    let rows = policies.iter().map(|policy| {
        vec![
            Cell::or_none(policy.namespace.as_ref()),
            Cell::new(&policy.name),
            Cell::new(policy.rules.len()),
            Cell::new(policy.endpoints.len()),
            enforced(policy),
            Cell::new(policy.warnings.len()),
            Cell::or_none(Some(&policy.file)),
        ]
    });
    Ok(output.table(&header, rows.collect(), "No policies found.")?)
}

fn show(policy: &api::Policy, output: &Output) -> anyhow::Result<()> {
    if output.is_data() {
        return Ok(output.data(&policy)?);
    }
    let mut pairs = vec![
        ("Policy", Cell::new(policy.full_name())),
        ("File", Cell::or_none(Some(&policy.file))),
        ("Enforced", enforced(policy)),
        ("Endpoints", Cell::list(&policy.endpoints)),
    ];
    for rule in &policy.rules {
        let subject = if rule.subject.is_empty() { "everything" } else { &rule.subject };
        let default = if rule.default_deny { "denies the rest" } else { "leaves the rest" };
        let text = format!(
            "line {}: for {subject}: {} allow, {} deny, {default}",
            rule.line, rule.allows, rule.denies
        );
        pairs.push(("Rule", Cell::new(text)));
    }
    output.pairs(pairs)?;
    if !policy.warnings.is_empty() {
        output.lines(["", "Warnings"])?;
        output.lines(policy.warnings.iter().map(ToString::to_string))?;
    }
    Ok(())
}

fn enforced(policy: &api::Policy) -> Cell {
    match (policy.audited, policy.unenforced.is_empty()) {
        (true, _) => Cell::toned("audited", Tone::Warning),
        (false, true) => Cell::toned("whole", Tone::Good),
        (false, false) => Cell::toned("partly", Tone::Warning),
    }
}

impl Selectors {
    pub fn run(&self, client: &Client, output: &Output) -> anyhow::Result<()> {
        let selectors: Vec<api::Selector> = client.read(api::path::SELECTORS)?;
        if output.is_data() {
            return Ok(output.data(&selectors)?);
        }
        let rows = selectors.iter().map(|own| {
            let selector = if own.selector.is_empty() { "everything" } else { &own.selector };
            vec![
                Cell::new(&own.field),
                Cell::new(selector),
                Cell::list(&own.policies),
                Cell::list(own.identities.iter().map(|identity| identity.0)),
                Cell::list(&own.names),
            ]
        });
        let header = ["FIELD", "SELECTOR", "POLICIES", "IDENTITIES", "NAMES"];
        Ok(output.table(&header, rows.collect(), "No selectors found.")?)
    }
}
