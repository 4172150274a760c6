//! What the menu's policies mean, said without any of the project's code.

use std::net::IpAddr;
use std::sync::{Arc, OnceLock};

use model::{Protocol, Verdict};
use policy::{Document, Policy};

use crate::kernel::Probe;

const HEAD: &str = "apiVersion: cilium.io/v2\nkind: CiliumNetworkPolicy\n";

/// The policies that a day may have: whom each selects, and what it says.
const MENU: [(&[&str], &str); 8] = [
    (&["client"], "egress: [{toCIDR: [198.51.100.0/24]}]"),
    (
        &["client"],
        "egress: [{toFQDNs: [{matchPattern: '*.one.test'}], toPorts: [{ports: [{port: '443', protocol: TCP}]}]}]",
    ),
    (
        &["client", "other"],
        "egress: [{toEndpoints: [{matchLabels: {app: server}}], toPorts: [{ports: [{port: '80', protocol: TCP}]}]}]",
    ),
    (&["other"], "egress: [{toFQDNs: [{matchPattern: '**.test'}]}]"),
    (
        &["client", "other"],
        "egressDeny: [{toCIDR: [198.51.100.128/25], toPorts: [{ports: [{port: '443', protocol: TCP}]}]}]",
    ),
    (
        &["client", "other"],
        "egress: [{toCIDRSet: [{cidr: 203.0.113.0/24, except: [203.0.113.64/26]}], toPorts: [{ports: [{port: '443', protocol: TCP}]}]}]",
    ),
    (&["client"], "egressDeny: [{toEndpoints: [{matchLabels: {app: server}}]}]"),
    (&["client", "other"], "egress: [{toPorts: [{ports: [{port: '53', protocol: UDP}]}]}]"),
];

/// How many policies there are.
pub const POLICIES: usize = MENU.len();

/// The menu, read once.
pub fn menu() -> &'static [Arc<Policy>] {
    static READ: OnceLock<Vec<Arc<Policy>>> = OnceLock::new();
    READ.get_or_init(|| {
        let file: Arc<std::path::Path> = std::path::Path::new("menu.yaml").into();
        let read = |(number, (apps, spec)): (usize, &(&[&str], &str))| {
            let apps = apps.join(", ");
            let text = format!(
                "{HEAD}metadata: {{name: p{number}, namespace: default}}\nspec:\n  \
                 endpointSelector: {{matchExpressions: [{{key: app, operator: In, values: [{apps}]}}]}}\n  {spec}\n"
            );
            let (documents, problems) = Document::read_all(&file, &text);
            assert_eq!(problems, []);
            Arc::new(Policy::read(&documents[0]).unwrap())
        };
        MENU.iter().enumerate().map(read).collect()
    })
}

/// Whether a rule about names selects this one for a pod.
pub fn selects(policies: &[bool; POLICIES], app: &str, name: &str) -> bool {
    by_pattern(policies, app, name) || by_wildcard(policies, app, name)
}

fn by_pattern(policies: &[bool; POLICIES], app: &str, name: &str) -> bool {
    let label = name.strip_suffix(".one.test");
    policies[1] && app == "client" && label.is_some_and(|own| !own.contains('.'))
}

fn by_wildcard(policies: &[bool; POLICIES], app: &str, name: &str) -> bool {
    policies[3] && app == "other" && name.ends_with(".test")
}

/// What a pod is about to do, and what it knows.
pub struct Situation<'a> {
    /// Which policies stand.
    pub policies: &'a [bool; POLICIES],
    /// The pod's own label.
    pub app: &'a str,
    /// The label of the pod that it goes to, if that is one.
    pub peer: Option<&'a str>,
    /// The names that it resolved to where it goes, and that still count.
    pub names: Vec<&'a str>,
    /// The packet.
    pub probe: Probe,
}

/// The verdict, none for a drop.
pub fn verdict(situation: &Situation<'_>) -> Option<Verdict> {
    let Situation { policies, app, peer, names, probe } = situation;
    let selected = |number: usize| policies[number] && MENU[number].0.contains(app);
    if !(0..POLICIES).any(selected) {
        return Some(Verdict::Allow);
    }
    let IpAddr::V4(to) = probe.to else { return None };
    let within = |range: std::ops::RangeInclusive<u8>, net: [u8; 3]| {
        let [a, b, c, d] = to.octets();
        [a, b, c] == net && range.contains(&d)
    };
    let tcp = |port: u16| probe.protocol == Protocol::TCP && probe.port == port;
    let test = within(0..=255, [198, 51, 100]);
    let outside = peer.is_none();
    // Unused addresses of the service range are denied to all.
    if to.octets()[..2] == [10, 96] {
        return None;
    }
    let denied = (selected(4) && within(128..=255, [198, 51, 100]) && tcp(443))
        || (selected(6) && *peer == Some("server"));
    let by_name = |rule: fn(&[bool; POLICIES], &str, &str) -> bool| {
        outside && names.iter().any(|name| rule(policies, app, name))
    };
    let allowed = (selected(0) && test && outside)
        || (by_name(by_pattern) && tcp(443))
        || (selected(2) && *peer == Some("server") && tcp(80))
        || by_name(by_wildcard)
        || (selected(5)
            && outside
            && within(0..=255, [203, 0, 113])
            && !within(64..=127, [203, 0, 113])
            && tcp(443))
        || (selected(7) && probe.protocol == Protocol::UDP && probe.port == 53);
    (allowed && !denied).then_some(Verdict::Allow)
}
