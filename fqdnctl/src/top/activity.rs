//! What flows tell: who asks how often, which names are hot, what was dropped last, what was lost.
//!
//! Bounded, whatever pods do: names and endpoints that were idle for a whole span are forgotten,
//! and those over the bound are counted together, under no name.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use hubble::proto::flow::{
    Endpoint, Flow, FlowType, LostEvent, TrafficDirection, Verdict, layer4, layer7,
};

use super::rate::Rate;
use crate::observe::line::Line;

/// How many names, and how many endpoints, are counted apart.
const KEYS: usize = 4096;
/// How many different drops are remembered.
const DROPS: usize = 256;
/// How many endpoints are remembered for a name.
const ENDPOINTS_OF_A_NAME: usize = 64;

/// What has happened lately.
#[derive(Clone, Debug, Default)]
pub(super) struct Activity {
    queries: BTreeMap<String, Rate>,
    names: BTreeMap<String, NameActivity>,
    drops: VecDeque<Drop>,
    lost: Rate,
    uncounted: Rate,
}

/// What has happened to a name.
#[derive(Clone, Debug, Default)]
pub(super) struct NameActivity {
    /// Queries, with those that were refused.
    pub queries: Rate,
    /// Queries that policy refused.
    pub refused: Rate,
    /// Connections to its addresses.
    pub connections: Rate,
    /// Who has asked for it or connected to it.
    pub endpoints: BTreeSet<String>,
}

/// A drop, or what would have been one if its policies were enforced, and how often the same was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Drop {
    /// When it was seen last, since 1970.
    pub time: Duration,
    /// Whose packet or query it was.
    pub endpoint: String,
    /// Where it was to go, or what was asked for.
    pub target: String,
    /// Why it was dropped, or would have been.
    pub reason: String,
    /// Whether it passed all the same.
    pub audited: bool,
    /// The policies that deny it, each with its place.
    pub policies: Vec<String>,
    /// How often it was seen.
    pub count: u64,
}

impl Activity {
    /// Takes in a flow. What is said to be of the future is of now.
    pub fn handle_flow(&mut self, flow: &Flow, now: Duration) {
        let time = time(flow).unwrap_or(now).min(now);
        let second = time.as_secs();
        let endpoint = who(flow);
        if let Some(name) = asked_name(flow) {
            self.count_query(&endpoint, second);
            let refused = u64::from(flow.verdict() == Verdict::Dropped);
            self.count_name(name, &endpoint, second, |own| {
                own.queries.count(second, 1);
                own.refused.count(second, refused);
            });
        } else if begins_connection(flow) {
            for name in &flow.destination_names {
                self.count_name(name, &endpoint, second, |own| own.connections.count(second, 1));
            }
        }
        if matches!(flow.verdict(), Verdict::Dropped | Verdict::Audit) {
            self.remember(drop(flow, endpoint, time));
        }
    }

    /// Takes in what was lost.
    pub fn handle_lost(&mut self, lost: &LostEvent, now: Duration) {
        self.lost.count(now.as_secs(), lost.num_events_lost);
    }

    /// Forgets whoever was idle for a whole span.
    pub fn forget_idle(&mut self, now: Duration) {
        let now = now.as_secs();
        self.queries.retain(|_, rate| !rate.is_idle(now));
        self.names.retain(|_, own| !own.queries.is_idle(now) || !own.connections.is_idle(now));
    }

    /// The queries of an endpoint a second.
    pub fn queries_of(&self, endpoint: &str, now: Duration) -> f64 {
        self.queries.get(endpoint).map_or(0.0, |rate| rate.per_second(now.as_secs()))
    }

    /// Names with what has happened to them.
    pub fn names(&self) -> impl Iterator<Item = (&str, &NameActivity)> {
        self.names.iter().map(|(name, own)| (name.as_str(), own))
    }

    /// The drops, the latest first.
    pub fn drops(&self) -> impl Iterator<Item = &Drop> {
        self.drops.iter()
    }

    /// Flows a second that are not in these figures, because they were lost on their way here or
    /// are of more names than are counted.
    pub fn missing_per_second(&self, now: Duration) -> f64 {
        self.lost.per_second(now.as_secs()) + self.uncounted.per_second(now.as_secs())
    }

    fn count_query(&mut self, endpoint: &str, second: u64) {
        match entry(&mut self.queries, endpoint) {
            Some(rate) => rate.count(second, 1),
            None => self.uncounted.count(second, 1),
        }
    }

    fn count_name(
        &mut self,
        name: &str,
        endpoint: &str,
        second: u64,
        count: impl FnOnce(&mut NameActivity),
    ) {
        let name = plain(name);
        let Some(own) = entry(&mut self.names, name) else {
            return self.uncounted.count(second, 1);
        };
        count(own);
        if own.endpoints.len() < ENDPOINTS_OF_A_NAME && !own.endpoints.contains(endpoint) {
            own.endpoints.insert(endpoint.to_owned());
        }
    }

    /// The same as before is counted, and stands at its latest time.
    fn remember(&mut self, mut drop: Drop) {
        let before = self.drops.iter().position(|own| own.is_same(&drop));
        if let Some(before) = before.and_then(|place| self.drops.remove(place)) {
            drop.count += before.count;
            drop.time = drop.time.max(before.time);
        }
        self.drops.truncate(DROPS - 1);
        self.drops.push_front(drop);
    }
}

/// What is counted for a key, if there is room for it.
fn entry<'a, T: Default>(all: &'a mut BTreeMap<String, T>, key: &str) -> Option<&'a mut T> {
    if !all.contains_key(key) {
        if all.len() >= KEYS {
            return None;
        }
        all.insert(key.to_owned(), T::default());
    }
    all.get_mut(key)
}

impl Drop {
    /// Why it was dropped, or passed only because its policies are audited.
    pub fn why(&self) -> String {
        if self.audited { format!("audit:{}", self.reason) } else { self.reason.clone() }
    }

    fn is_same(&self, other: &Self) -> bool {
        (&self.endpoint, &self.target, &self.reason, self.audited)
            == (&other.endpoint, &other.target, &other.reason, other.audited)
    }
}

fn drop(flow: &Flow, endpoint: String, time: Duration) -> Drop {
    let line = Line { flow, numeric: false };
    let target = match said(flow) {
        Some(said) => said,
        None if is_ingress(flow) => format!("from {}", line.source().name),
        None => format!("{}{}", line.destination().name, protocol(flow)),
    };
    let reason = line.reason().unwrap_or_else(|| "unknown".to_owned());
    let audited = flow.verdict() == Verdict::Audit;
    Drop { time, endpoint, target, reason, audited, policies: line.policies(), count: 1 }
}

/// Whose flow it is: the pod on this node, by whose rules it is judged.
fn who(flow: &Flow) -> String {
    let own = if is_ingress(flow) { &flow.destination } else { &flow.source };
    let address = flow.ip.as_ref().map(|ip| match is_ingress(flow) {
        true => ip.destination.clone(),
        false => ip.source.clone(),
    });
    match own {
        Some(Endpoint { namespace, pod_name, .. }) if !pod_name.is_empty() => {
            format!("{namespace}/{pod_name}")
        }
        _ => address.unwrap_or_else(|| "?".to_owned()),
    }
}

fn is_ingress(flow: &Flow) -> bool {
    flow.traffic_direction() == TrafficDirection::Ingress
}

/// Whether it is the first packet of a connection that passed, if only to a proxy.
fn begins_connection(flow: &Flow) -> bool {
    flow.r#type() == FlowType::L3L4
        && matches!(flow.verdict(), Verdict::Forwarded | Verdict::Redirected | Verdict::Audit)
}

/// The name that a query asks for.
fn asked_name(flow: &Flow) -> Option<&str> {
    match flow.l7.as_ref()?.record.as_ref()? {
        layer7::Record::Dns(dns) => Some(&dns.query),
        layer7::Record::Http(_) | layer7::Record::Kafka(_) => None,
    }
}

/// What was said, where a proxy has read it.
fn said(flow: &Flow) -> Option<String> {
    Some(match flow.l7.as_ref()?.record.as_ref()? {
        layer7::Record::Dns(dns) => format!("{} {}", dns.qtypes.join(","), plain(&dns.query)),
        layer7::Record::Http(http) => format!("{} {}", http.method, http.url),
        layer7::Record::Kafka(kafka) => format!("{} {}", kafka.api_key, kafka.topic),
    })
}

/// A name without the dot at its end; the root keeps it.
fn plain(name: &str) -> &str {
    name.strip_suffix('.').filter(|plain| !plain.is_empty()).unwrap_or(name)
}

fn protocol(flow: &Flow) -> &'static str {
    use layer4::Protocol;
    match flow.l4.as_ref().and_then(|l4| l4.protocol.as_ref()) {
        Some(Protocol::Tcp(_)) => "/TCP",
        Some(Protocol::Udp(_)) => "/UDP",
        Some(Protocol::Sctp(_)) => "/SCTP",
        Some(Protocol::IcmPv4(_)) => " ICMP",
        Some(Protocol::IcmPv6(_)) => " ICMPv6",
        None => "",
    }
}

fn time(flow: &Flow) -> Option<Duration> {
    let time = flow.time.as_ref()?;
    let nanos = u32::try_from(time.nanos).ok().filter(|&nanos| nanos < 1_000_000_000)?;
    Some(Duration::new(u64::try_from(time.seconds).ok()?, nanos))
}

#[cfg(test)]
mod tests {
    use super::super::samples::{self, NOW};
    use super::*;

    fn activity(flows: &[Flow]) -> Activity {
        let mut activity = Activity::default();
        for flow in flows {
            activity.handle_flow(flow, NOW);
        }
        activity
    }

    #[test]
    fn queries_count_for_who_asks_and_for_the_name_refused_or_not() {
        let activity = activity(&[
            samples::query("www.example.com.", true),
            samples::query("www.example.com.", false),
            samples::connection("www.example.com"),
        ]);
        assert_eq!(activity.queries_of("default/client", NOW), 0.2);
        assert_eq!(activity.queries_of("default/other", NOW), 0.0);
        let (name, own) = activity.names().next().unwrap();
        let rates = [&own.queries, &own.refused, &own.connections]
            .map(|rate| rate.per_second(NOW.as_secs()));
        assert_eq!((name, rates), ("www.example.com", [0.2, 0.1, 0.1]));
        assert_eq!(own.endpoints.iter().collect::<Vec<_>>(), ["default/client"]);
    }

    #[test]
    fn the_same_drop_is_one_line_with_its_count_and_the_latest_first() {
        let activity = activity(&[
            samples::drop("203.0.113.40", 443),
            samples::query("secret.example.org.", false),
            samples::drop("203.0.113.40", 443),
        ]);
        let drops: Vec<_> = activity
            .drops()
            .map(|own| (own.target.as_str(), own.reason.as_str(), own.count))
            .collect();
        let expected = [
            ("203.0.113.40:443/TCP", "deny-rule", 2),
            ("A secret.example.org", "policy-denied", 1),
        ];
        assert_eq!(drops, expected);
        let denied = activity.drops().next().unwrap();
        assert_eq!(denied.policies, ["default/one-name (one-name.yaml:25)"]);
    }

    #[test]
    fn what_is_audited_stands_among_the_drops_and_counts_as_a_connection() {
        let drop = samples::drop("203.0.113.40", 443);
        let audited = Flow {
            verdict: Verdict::Audit.into(),
            destination_names: vec!["www.example.com".to_owned()],
            r#type: FlowType::L3L4.into(),
            ..drop.clone()
        };
        let activity = activity(&[drop, audited.clone(), audited]);
        let drops: Vec<_> = activity.drops().map(|own| (own.why(), own.count)).collect();
        assert_eq!(drops, [("audit:deny-rule".to_owned(), 2), ("deny-rule".to_owned(), 1)]);
        let (name, own) = activity.names().next().unwrap();
        assert_eq!((name, own.connections.per_second(NOW.as_secs())), ("www.example.com", 0.2));
    }

    #[test]
    fn names_without_number_are_counted_together_and_idle_ones_make_room() {
        let mut activity = Activity::default();
        for number in 0..KEYS + 50 {
            activity.handle_flow(&samples::query(&format!("n{number}.example.com."), true), NOW);
        }
        assert_eq!(activity.names().count(), KEYS);
        assert_eq!(activity.missing_per_second(NOW), 5.0);
        let later = NOW + Duration::from_secs(20);
        activity.forget_idle(later);
        assert_eq!(activity.names().count(), 0);
        for number in 0..2 * DROPS {
            activity.handle_flow(&samples::drop("203.0.113.40", number as u32), later);
        }
        assert_eq!(activity.drops().count(), DROPS);
    }

    #[test]
    fn a_flow_of_the_future_or_without_time_is_of_now() {
        let mut future = samples::query("www.example.com.", true);
        future.time.as_mut().unwrap().seconds += 1_000_000;
        let timeless = Flow { time: None, ..samples::query("www.example.com.", true) };
        let activity = activity(&[future, timeless, samples::query("www.example.com.", true)]);
        assert_eq!(activity.queries_of("default/client", NOW), 0.3);
    }
}
