//! `fqdnctl policy learn`: from what somebody did to the policy that allows just that.
//!
//! Flows come from the server of flows, and who is behind a service from the daemon; all between
//! them and the text is a function of the two.

mod document;
mod kind;
mod lessons;
mod peer;
mod seen;
mod tree;
mod wildcard;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{anyhow, bail};
use clap::Args;
use hubble::proto::flow::{FlowFilter, TrafficDirection};
use hubble::proto::observer::GetFlowsRequest;
use hubble::proto::observer::get_flows_response::ResponseTypes;
use model::{EndpointName, Labels};
use tokio::runtime;
use tokio::time::{Instant, sleep_until};

use crate::client::Client;
use crate::observe::server::Server;
use crate::observe::time;
use crate::output::Output;
use crate::policy::explain::full_name;

use document::{Head, counted};
use kind::Kind;
use lessons::{Entries, Lessons, Manner, Subject};
use peer::Services;
use tree::Tree;

/// How many different names, and destinations with ports, are kept.
const ROOM: usize = 16_384;
/// How long a name of ours may be, as a label has it.
const NAME_LENGTH: usize = 63;

/// Write a policy that allows what a pod was seen to do.
///
/// The policy allows the connections and lookups among the pod's flows, and denies everything
/// else: names where the pod has resolved the address, pods by their labels, addresses where
/// nothing better is known. Each line says how many flows it comes from. What did not happen while
/// it was watched is not in it, so read it before you apply it.
///
/// Names are known only of pods whose lookups pass the DNS proxy. That of a pod without any policy
/// do not: --prepare writes the policy that changes this, and denies nothing.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  fqdnctl policy learn prod/web --prepare > seen.yaml   apply it, and let the pod work a while
  fqdnctl policy learn prod/web > web.yaml
  fqdnctl policy learn -n prod -l app=web,tier=front --since 1h --wildcards
  fqdnctl policy learn prod/web --for 10m               what happens from now on
  fqdnctl policy learn prod/web --denied | fqdnctl policy check -

Exit codes:
  0  a policy is written; ctrl-C ends --for early
  1  nothing was observed, or another error
  2  wrong usage")]
pub(crate) struct Learn {
    /// The pod. The policy selects it by those of its labels that its successors have as well.
    #[arg(value_name = "NAMESPACE/POD", value_parser = full_name,
        required_unless_present = "selector", conflicts_with = "selector")]
    pod: Option<EndpointName>,
    /// The pods with these labels, KEY=VALUE with commas between them.
    #[arg(short = 'l', long, value_name = "LABELS", value_parser = selector)]
    selector: Option<Selected>,
    /// The namespace of the pods with these labels.
    #[arg(short, long, value_name = "NAMESPACE", default_value = "default", requires = "selector")]
    namespace: String,
    /// The policy's name. Default: `learned-` and what the pod is called.
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// Learn from the last flows alone, at most so many. Default: all that are kept.
    #[arg(long, value_name = "N")]
    last: Option<u64>,
    /// Learn from flows since then: a time, or how long ago, such as 5m.
    #[arg(long, value_name = "TIME", value_parser = time::parse)]
    since: Option<prost_types::Timestamp>,
    /// Learn from what happens from now on, for so long; with --last or --since from that as well.
    #[arg(long = "for", value_name = "DURATION", value_parser = humantime::parse_duration)]
    during: Option<Duration>,
    /// Write `*.DOMAIN` where several names of a domain were used.
    #[arg(long)]
    wildcards: bool,
    /// Learn from what was dropped because no policy allows it, too.
    #[arg(long)]
    denied: bool,
    /// Write the policy that makes lookups seen, and denies nothing.
    #[arg(long, conflicts_with_all = ["last", "since", "during", "wildcards", "denied"])]
    prepare: bool,
    #[command(flatten)]
    server: Server,
}

/// Labels that were asked for.
#[derive(Clone, Debug)]
struct Selected(BTreeMap<String, String>);

/// What was observed.
struct Observed {
    lessons: Lessons,
    /// How many flows the server says it lost.
    lost: u64,
}

impl Learn {
    pub fn run(&self, client: &Client, output: &Output) -> anyhow::Result<()> {
        if self.prepare {
            let kind = self.kind_now(client)?;
            let name = self.policy_name(&kind, "seen");
            let policy = Head { name: &name, kind: &kind }.preparation();
            return print(output, "# Makes lookups seen, and denies nothing.\n", &policy);
        }
        let runtime = runtime::Builder::new_current_thread().enable_all().build()?;
        let Observed { lessons, lost } = runtime.block_on(self.observe(client))?;
        let counts = lessons.counts;
        if counts.learned == 0 {
            let denied = counted(counts.denied, "flow");
            bail!(
                "{} was not seen to do anything that was allowed, and {denied} of it were denied \
                   by no rule (--denied learns from those)",
                self.whom()
            );
        }
        let kind = lessons.kind.as_ref().filter(|kind| !kind.labels.is_empty());
        let kind = kind.ok_or_else(|| self.lacks_labels())?;
        let services = client.read(api::path::SERVICES).map(Services).unwrap_or_else(|error| {
            note(&format!("it is not known who is behind services: {error:#}"));
            Services::default()
        });
        let entries = lessons.entries(&services);
        self.tell(&lessons, &entries, lost);
        let name = self.policy_name(kind, "learned");
        let policy = Head { name: &name, kind }.policy(&entries);
        let flows = counted(counts.learned, "flow");
        let head = format!(
            "# Learned from {flows} of {}. What did not happen meanwhile is not in it.\n",
            self.whom()
        );
        print(output, &head, &policy)
    }

    async fn observe(&self, client: &Client) -> anyhow::Result<Observed> {
        let manner = Manner { denied: self.denied, wildcards: self.wildcards };
        let mut observed =
            Observed { lessons: Lessons::new(self.subject(), manner, ROOM), lost: 0 };
        let mut observer = self.server.connect(client.socket()).await?;
        let begun = observer.get_flows(self.request()).await;
        let mut responses = begun.map_err(|status| refused(&status))?.into_inner();
        let end = self.during.map(|during| Instant::now() + during);
        loop {
            let response = tokio::select! {
                response = responses.message() => match response {
                    Err(status) if self.during.is_some() => {
                        note(&format!("{}: learned up to then", refused(&status)));
                        None
                    }
                    response => response.map_err(|status| refused(&status))?,
                },
                () = sleep_until(end.unwrap_or_else(Instant::now)), if end.is_some() => None,
                interrupted = tokio::signal::ctrl_c() => {
                    interrupted?;
                    None
                }
            };
            match response.map(|response| response.response_types) {
                None => return Ok(observed),
                Some(Some(ResponseTypes::Flow(flow))) => observed.lessons.handle_flow(&flow),
                Some(Some(ResponseTypes::LostEvents(lost))) => {
                    observed.lost += lost.num_events_lost;
                }
                Some(Some(ResponseTypes::NodeStatus(_)) | None) => {}
            }
        }
    }

    fn request(&self) -> GetFlowsRequest {
        let mut filter = FlowFilter {
            traffic_direction: vec![TrafficDirection::Egress.into()],
            ..FlowFilter::default()
        };
        match self.subject() {
            Subject::Pod { namespace, name } => {
                filter.source_pod.push(format!("{namespace}/{name}"));
            }
            Subject::Pods(kind) => {
                let labels = kind.labels.iter().map(|(key, value)| format!("k8s:{key}={value}"));
                let namespace = format!("k8s:{}={}", Labels::NAMESPACE, kind.namespace);
                let all: Vec<String> = labels.chain([namespace]).collect();
                filter.source_label.push(all.join(","));
            }
        }
        GetFlowsRequest {
            number: self.last.unwrap_or(0),
            follow: self.during.is_some(),
            whitelist: vec![filter],
            since: self.since,
            ..GetFlowsRequest::default()
        }
    }

    fn subject(&self) -> Subject {
        match (&self.pod, &self.selector) {
            (Some(pod), _) => {
                Subject::Pod { namespace: pod.namespace.clone(), name: pod.name.clone() }
            }
            (None, selected) => Subject::Pods(Kind {
                namespace: self.namespace.clone(),
                labels: selected.as_ref().map(|own| own.0.clone()).unwrap_or_default(),
            }),
        }
    }

    /// Whom to select, by what the daemon knows of the pod now.
    fn kind_now(&self, client: &Client) -> anyhow::Result<Kind> {
        let pod = match self.subject() {
            Subject::Pods(kind) => return Ok(kind),
            Subject::Pod { namespace, name } => EndpointName { namespace, name },
        };
        let endpoints: Vec<api::Endpoint> = client.read(api::path::ENDPOINTS)?;
        let endpoint = endpoints.iter().find(|own| own.full_name() == pod);
        let endpoint = endpoint.ok_or_else(|| anyhow!("no endpoint `{pod}` on this node"))?;
        let kind = Kind::read(&endpoint.labels).filter(|kind| !kind.labels.is_empty());
        kind.ok_or_else(|| self.lacks_labels())
    }

    fn policy_name(&self, kind: &Kind, word: &str) -> String {
        if let Some(name) = &self.name {
            return name.clone();
        }
        let pod = self.pod.as_ref().map(|pod| pod.name.as_str());
        let own = kind.title().or(pod).unwrap_or("pods").to_ascii_lowercase();
        let is_legal = |c: char| c.is_ascii_alphanumeric() || c == '-';
        let mut name: String = own.chars().map(|c| if is_legal(c) { c } else { '-' }).collect();
        name.insert_str(0, &format!("{word}-"));
        name.truncate(NAME_LENGTH);
        name.trim_end_matches('-').to_owned()
    }

    fn whom(&self) -> String {
        match (&self.pod, &self.selector) {
            (Some(pod), _) => pod.to_string(),
            (None, selected) => {
                let labels = selected.iter().flat_map(|own| &own.0);
                let labels: Vec<String> =
                    labels.map(|(key, value)| format!("{key}={value}")).collect();
                format!("pods with {} in {}", labels.join(","), self.namespace)
            }
        }
    }

    fn lacks_labels(&self) -> anyhow::Error {
        anyhow!(
            "{} has no label that its successors have as well: give it one, or name the labels \
             with --selector",
            self.whom()
        )
    }

    /// Says what the policy lacks, beside what did not happen.
    fn tell(&self, lessons: &Lessons, entries: &Entries, lost: u64) {
        let counts = lessons.counts;
        if !entries.unseen.is_empty() {
            note(
                "lookups were seen as packets alone: every name may be asked for, and addresses \
                  stand for names; see --prepare",
            );
        }
        for address in &entries.guarded {
            note(&format!(
                "{address} stands for itself: names from outside do not bring private addresses, \
                 unless the daemon's rebindAllow or internalDomains say so"
            ));
        }
        for (namespace, name) in &entries.unknown {
            note(&format!(
                "it is not known who is behind the service {namespace}/{name}: its own \
                           ports stand for those of its backends"
            ));
        }
        for (count, what) in [
            (lost, "lost by the server of flows"),
            (counts.denied, "denied because no policy allows them, and not learned (see --denied)"),
            (counts.judged, "judged by the L7 proxy, and allowed whatever is said by this policy"),
            (counts.unsayable, "of a protocol or a name that no policy can say"),
            (counts.left_out, "left out, for the policy would be too large to be of use"),
        ] {
            if count > 0 {
                note(&format!("{} {what}", counted(count, "flow")));
            }
        }
    }
}

/// Prints a policy, once it is sure that it is one.
fn print(output: &Output, head: &str, policy: &Tree) -> anyhow::Result<()> {
    let text = format!("{head}{}", policy.yaml());
    let file: Arc<Path> = Arc::from(Path::new("learned"));
    for report in policy::check(&file, &text, policy::Options::default()) {
        if let Some(problem) = report.problems.first() {
            bail!("the policy would be rejected: {}: {}", problem.field, problem.message);
        }
        for warning in &report.warnings {
            note(&format!("{}: {}", warning.field, warning.message));
        }
    }
    if output.is_json() {
        return Ok(output.data(policy)?);
    }
    Ok(output.lines(text.lines())?)
}

fn note(text: &str) {
    eprintln!("Note: {text}");
}

fn refused(status: &tonic::Status) -> anyhow::Error {
    anyhow!("the server of flows says: {}", status.message())
}

fn selector(text: &str) -> Result<Selected, String> {
    let pair = |part: &str| match part.trim().split_once('=') {
        Some((key, value)) if !key.is_empty() && !key.ends_with('!') => Ok((
            key.trim_start_matches("k8s:").to_owned(),
            value.trim_start_matches('=').to_owned(),
        )),
        Some(_) | None => Err(format!("`{part}` is not of the form KEY=VALUE")),
    };
    text.split(',').map(pair).collect::<Result<_, _>>().map(Selected)
}

#[cfg(test)]
mod tests;
