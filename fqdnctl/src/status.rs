//! `fqdnctl status`.

use std::collections::BTreeMap;

use clap::Args;

use crate::client::Client;
use crate::output::{Cell, Output, Tone, duration};

/// Show how the daemon fares.
///
/// Shows the daemon's version and age, how programs are attached, whether the kernel enforces the
/// newest policies, how many endpoints are in which state, what is wrong in the manifests (with
/// file, line, column and field), and the counters of the DNS proxy, of limits that were reached,
/// of recorded flows, of dropped packets, and of those that passed only because policies are audited.
/// Of counters only those that count something are shown,
/// all of them with -o wide.
///
/// What is listed as not enforced is valid in the policies and not built here: the rules that need
/// it allow nothing.
///
/// A file that is named as stale has a document that cannot be read. What the file gave before
/// stays in force until it is repaired.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  fqdnctl status
  fqdnctl status -o wide
  fqdnctl status -o json | jq '.problems[] | .file, .line'")]
pub(crate) struct Status {}

impl Status {
    pub fn run(&self, client: &Client, output: &Output) -> anyhow::Result<()> {
        let status: api::Status = client.read(api::path::STATUS)?;
        if output.is_data() {
            return Ok(output.data(&status)?);
        }
        output.pairs(summary(&status))?;
        counters(output, "DNS", &status.dns)?;
        counters(output, "Limits reached", &status.limits)?;
        counters(output, "Flows", &status.flows)?;
        counters(output, "Dropped packets", &status.drops)?;
        counters(output, "Audited packets", &status.audits)?;
        problems(output, "Problems", &status.problems)?;
        problems(output, "Not enforced", &status.unenforced)?;
        let other = |warning: &&api::Problem| !status.unenforced.contains(warning);
        let warnings: Vec<api::Problem> = status.warnings.iter().filter(other).cloned().collect();
        problems(output, "Warnings", &warnings)?;
        bypasses(output, &status.bypasses)
    }
}

fn summary(status: &api::Status) -> Vec<(&'static str, Cell)> {
    let mut pairs = vec![
        ("Version", Cell::new(&status.version)),
        ("Uptime", Cell::new(duration(seconds(status.uptime_seconds)))),
        ("Kernel", Cell::new(format!("{}, attached by {}", status.kernel, status.attach_mode))),
        ("Policies", policies(status)),
    ];
    if status.audit {
        let text = "every policy is audited: nothing is enforced";
        pairs.push(("Audit", Cell::toned(text, Tone::Warning)));
    }
    pairs.push(("Endpoints", endpoints(status.endpoints)));
    pairs.push(("Manifests", manifests(status)));
    let now = status.started.saturating_add(status.uptime_seconds);
    pairs.extend(status.stale_files.iter().map(|stale| {
        let age = seconds(now.saturating_sub(stale.last_good));
        let text = format!("{}, as it was {} ago", stale.file, duration(age));
        ("Stale", Cell::toned(text, Tone::Bad))
    }));
    pairs.push(("L7 proxy", l7(status.l7.as_ref())));
    if let Some(hubble) = &status.hubble {
        pairs.push(("Hubble", served(hubble)));
        pairs.extend(hubble.listeners.iter().filter_map(not_served));
    }
    for (what, listeners) in [("Metrics", &status.metrics), ("Page", &status.page)] {
        pairs.push((what, listening(listeners)));
        pairs.extend(listeners.iter().filter_map(not_served));
    }
    pairs
}

fn not_served(listener: &api::Listener) -> Option<(&'static str, Cell)> {
    let failure = listener.failure.as_ref()?;
    Some(("Unserved", Cell::toned(format!("{}: {failure}", listener.address), Tone::Bad)))
}

/// Whether requests are judged, and how it went so far.
fn l7(proxy: Option<&api::L7Proxy>) -> Cell {
    let Some(proxy) = proxy else { return Cell::new("off") };
    if let Some(failure) = &proxy.failure {
        return Cell::toned(failure, Tone::Bad);
    }
    let mut words = vec![
        counted(proxy.connections, "connection"),
        format!("{} passed", proxy.forwarded),
        format!("{} refused", proxy.refused),
    ];
    words.extend((proxy.audited > 0).then(|| format!("{} audited", proxy.audited)));
    words.extend((proxy.restarts > 0).then(|| counted(proxy.restarts, "restart")));
    words.extend(proxy.limits.iter().map(|(limit, count)| format!("{limit} {count}")));
    let tone = if proxy.limits.is_empty() { Tone::Plain } else { Tone::Warning };
    Cell::toned(words.join(", "), tone)
}

/// Where something is served that nobody has to ask for.
fn listening(listeners: &[api::Listener]) -> Cell {
    let open = listeners.iter().filter(|listener| listener.failure.is_none());
    let addresses: Vec<&str> = open.map(|listener| listener.address.as_str()).collect();
    if addresses.is_empty() { Cell::new("off") } else { Cell::new(addresses.join(", ")) }
}

/// Where flows are served, and to how many.
fn served(hubble: &api::Hubble) -> Cell {
    let open = hubble.listeners.iter().filter(|listener| listener.failure.is_none());
    let mut words: Vec<String> = open.map(|listener| listener.address.clone()).collect();
    words.push(counted(hubble.clients, "client"));
    if hubble.clients_refused == 0 {
        return Cell::new(words.join(", "));
    }
    words.push(format!("{} refused", hubble.clients_refused));
    Cell::toned(words.join(", "), Tone::Warning)
}

fn seconds(seconds: u64) -> i64 {
    i64::try_from(seconds).unwrap_or(i64::MAX)
}

fn policies(status: &api::Status) -> Cell {
    let (newest, applied) = (status.policy_revision, status.applied_revision);
    if newest == applied {
        let (word, tone) =
            if status.audit { ("in force", Tone::Plain) } else { ("enforced", Tone::Good) };
        return Cell::toned(format!("{}, revision {newest} {word}", status.policies), tone);
    }
    let text = format!("{}, revision {applied} enforced, {newest} pending", status.policies);
    Cell::toned(text, Tone::Warning)
}

fn endpoints(counts: api::EndpointCounts) -> Cell {
    let api::EndpointCounts { open, enforced, audited, denied } = counts;
    let tone = match (denied, audited) {
        (0, 0) => Tone::Plain,
        (0, _) => Tone::Warning,
        (_, _) => Tone::Bad,
    };
    let audited = if audited == 0 { String::new() } else { format!(" {audited} audited,") };
    Cell::toned(format!("{enforced} enforced,{audited} {open} open, {denied} denied"), tone)
}

fn manifests(status: &api::Status) -> Cell {
    let (problems, warnings) = (status.problems.len(), status.warnings.len());
    let tone = match (problems, warnings) {
        (0, 0) => Tone::Plain,
        (0, _) => Tone::Warning,
        (_, _) => Tone::Bad,
    };
    let text = [
        counted(status.files, "file"),
        counted(problems as u64, "problem"),
        counted(warnings as u64, "warning"),
    ];
    let text = text.join(", ");
    Cell::toned(text, tone)
}

fn counted(count: u64, noun: &str) -> String {
    format!("{count} {noun}{}", if count == 1 { "" } else { "s" })
}

fn counters(output: &Output, title: &str, counters: &BTreeMap<String, u64>) -> anyhow::Result<()> {
    let shown = counters.iter().filter(|&(_, &count)| count > 0 || output.is_wide());
    let rows: Vec<_> = shown.map(|(key, count)| (key.as_str(), Cell::new(count))).collect();
    if rows.is_empty() {
        return Ok(());
    }
    output.lines(["", title])?;
    Ok(output.pairs(rows)?)
}

/// Packets that are not judged or not seen, with why and what to do about it.
fn bypasses(output: &Output, bypasses: &[api::Bypass]) -> anyhow::Result<()> {
    if bypasses.is_empty() {
        return Ok(());
    }
    output.lines(["", "Past fqdnd"])?;
    Ok(output.lines(bypasses.iter().map(api::Bypass::to_string))?)
}

fn problems(output: &Output, title: &str, problems: &[api::Problem]) -> anyhow::Result<()> {
    if problems.is_empty() {
        return Ok(());
    }
    output.lines(["", title])?;
    Ok(output.lines(problems.iter().map(api::Problem::to_string))?)
}
