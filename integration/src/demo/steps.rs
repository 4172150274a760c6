//! What the demo shows, in order: each step types, compares, and says in a line what was seen.

use anyhow::{Context, Result, ensure};

use super::{
    download::Download,
    page::Prompt,
    stage::{CLIENT, Kernel, OTHER, Stage},
};

type Step = fn(&mut Story) -> Result<String>;

pub(super) const STEPS: [(&str, Step); 8] = [
    ("An allowed name resolves, and its addresses are open", an_allowed_name),
    ("A wildcard allows a family of names, exactly as it is written", a_wildcard),
    ("A name that no policy allows is refused, and its server never hears of it", a_refused_name),
    ("An address that was never resolved is closed, and the drop has a reason", a_direct_address),
    ("What one pod has resolved is not open to another", another_pod),
    ("What fqdnd knows: who resolved what, and which selectors allow it", the_cache),
    ("fqdnd is killed while a download runs, and what is enforced stays enforced", a_kill),
    ("fqdnd is back, with the state that the kernel kept", the_return),
];

/// The address of www.example.com, which the policies allow.
const RESOLVED: &str = "203.0.113.10";
/// The address of payments.example.com, a host that is there and that nobody may look up.
const UNRESOLVED: &str = "203.0.113.12";
const DENIED: &str = "policy-denied";
const DOWNLOAD: &str = "curl -sSN http://www.example.com/drip";

/// The stage, and what one step leaves for the next.
#[derive(Debug)]
pub(super) struct Story {
    /// Before the stage: it ends before the pod does.
    interrupted: Option<Interrupted>,
    stage: Stage,
}

/// What was when the daemon was killed.
#[derive(Debug)]
struct Interrupted {
    download: Download,
    kernel: Kernel,
    drops: u64,
}

impl Story {
    pub(super) fn new(stage: Stage) -> Story {
        Story { interrupted: None, stage }
    }

    pub(super) fn stage(&self) -> &Stage {
        &self.stage
    }
}

fn an_allowed_name(story: &mut Story) -> Result<String> {
    let stage = &story.stage;
    stage.client("dig +short www.example.com", RESOLVED)?;
    stage.client("curl -sS -m 2 -4 http://www.example.com/", "web at 203.0.113.10,")?;
    stage.client("curl -sS -m 2 -6 http://www.example.com/", "web at 2001:db8:1::10,")?;
    let drops = stage.drops(CLIENT)?;
    ensure!(drops.is_empty(), "no packet should be dropped here, and {drops:?} were");
    Ok("the kernel knew the addresses before the pod did: not one packet was dropped".to_owned())
}

fn a_wildcard(story: &mut Story) -> Result<String> {
    let stage = &story.stage;
    stage.client("dig +short one.apps.example.com", "203.0.113.30")?;
    stage.client("dig two.one.apps.example.com | grep status", "status: REFUSED")?;
    stage.client("curl -sS -m 2 http://raw.githubusercontent.com/", "web at ")?;
    Ok("*.apps.example.com is one label deep; **.githubusercontent.com is any depth".to_owned())
}

fn a_refused_name(story: &mut Story) -> Result<String> {
    let stage = &story.stage;
    stage.client("dig secret.example.org | grep status", "status: REFUSED")?;
    stage.client("curl -sS -m 2 http://secret.example.org/", "Could not resolve host")?;
    let questions = stage.lab().questions().questions();
    let told = |name: &str| questions.iter().filter(|own| own.name.contains(name)).count();
    let (refused, allowed) = (told("secret"), told("www.example.com"));
    ensure!(refused == 0, "the DNS server was asked {refused} times for secret.example.org");
    ensure!(allowed > 0, "the DNS server should have been asked for www.example.com");
    Ok(format!("the DNS server was asked {} times so far, never for this name", questions.len()))
}

fn a_direct_address(story: &mut Story) -> Result<String> {
    let stage = &story.stage;
    stage.client(&format!("curl -sS -m 1 http://{UNRESOLVED}/"), "(28)")?;
    stage.node("fqdnctl status | sed -n '/^Dropped/,$p'", DENIED)?;
    let drops = stage.drops(CLIENT)?;
    let is_denied = drops.len() == 1 && drops.contains_key(DENIED);
    ensure!(is_denied, "packets should be dropped as {DENIED} alone, and were as {drops:?}");
    Ok(format!("dropped at the pod's veth: {DENIED}"))
}

fn another_pod(story: &mut Story) -> Result<String> {
    let stage = &story.stage;
    let connect = format!("curl -sS -m 1 http://{RESOLVED}/");
    stage.other(&connect, "(28)")?;
    let drops = stage.drops(OTHER)?;
    ensure!(drops.contains_key(DENIED), "it should be dropped as {DENIED}, and was as {drops:?}");
    stage.other("dig +short www.example.com", RESOLVED)?;
    stage.other(&connect, "web at 203.0.113.10,")?;
    Ok("the same policy selects both pods, and each must ask for itself".to_owned())
}

fn the_cache(story: &mut Story) -> Result<String> {
    let stage = &story.stage;
    stage.node("fqdnctl cache list", "default/other")?;
    stage.node("fqdnctl cache names", "**.githubusercontent.com")?;
    let (client, other) = (stage.learned(CLIENT)?, stage.learned(OTHER)?);
    for wanted in ["www.example.com. 203.0.113.10", "www.example.com. 2001:db8:1::10"] {
        ensure!(client.contains(wanted), "client should have learned {wanted}, and has {client:?}");
    }
    let only = other.iter().map(String::as_str).eq(["www.example.com. 203.0.113.10"]);
    ensure!(only, "other should have learned {RESOLVED} alone, and has {other:?}");
    Ok(format!("{} addresses are open to client, {} to other", client.len(), other.len()))
}

fn a_kill(story: &mut Story) -> Result<String> {
    let stage = &mut story.stage;
    let drops = denied(stage)?;
    stage.page().command(Prompt::Pod("client"), &format!("{DOWNLOAD} &"));
    let mut curl = stage.lab().pod(CLIENT).command("curl");
    curl.args(DOWNLOAD.split(' ').skip(1));
    let download = Download::start(curl)?;
    stage.page().output(&format!("{} lines have arrived", download.lines()));
    // The download has looked its name up, which may have made a lease longer.
    let kernel = stage.kernel()?;
    let pid = stage.daemon().pid().context("fqdnd should be running")?;
    stage.page().command(Prompt::Node, &format!("kill -9 {pid}"));
    stage.daemon_mut().kill9()?;
    stage.page().remark("a leased address, an address never resolved, and a name to look up:");
    stage.client(&format!("curl -sS -m 1 http://{RESOLVED}/"), "web at 203.0.113.10,")?;
    stage.client(&format!("curl -sS -m 1 http://{UNRESOLVED}/"), "(28)")?;
    let lookup = "dig +short +tries=1 +time=1 www.example.com";
    stage.client(lookup, "no servers could be reached")?;
    download.goes_on().context("the download should go on without fqdnd")?;
    let lines = download.lines();
    story.interrupted = Some(Interrupted { download, kernel, drops });
    Ok(format!("leased is open, the rest is closed, and the download goes on: {lines} lines"))
}

fn the_return(story: &mut Story) -> Result<String> {
    let stage = &mut story.stage;
    let before = story.interrupted.as_ref().context("fqdnd should have been killed")?;
    stage.page().command(Prompt::Node, "fqdnd --config fqdnd.yaml &");
    stage.daemon_mut().restart()?;
    let started = stage.daemon().started_in().as_secs_f64();
    stage.page().output(&format!("ready in {started:.2} s"));
    let kernel = stage.kernel()?;
    ensure!(
        kernel == before.kernel,
        "the kernel's state should be as before, and differs by {:?}",
        kernel.differences(&before.kernel)
    );
    stage.node("fqdnctl cache list -e default/client", "www.example.com.")?;
    stage.client("dig +short www.example.com", RESOLVED)?;
    before.download.goes_on().context("the download should go on with the new fqdnd")?;
    let dropped = denied(stage)?.saturating_sub(before.drops);
    ensure!(dropped > 0, "the drops of the time without fqdnd should be counted");
    Ok(format!(
        "{} rows in {} kernel maps are as they were, and the download still runs",
        kernel.rows(),
        kernel.maps()
    ))
}

fn denied(stage: &Stage) -> Result<u64> {
    Ok(stage.drops(CLIENT)?.get(DENIED).copied().unwrap_or(0))
}
