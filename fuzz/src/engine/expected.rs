//! What the menu's policies mean, said without any of the project's code.

use std::net::IpAddr;
use std::sync::{Arc, OnceLock};

use model::{DropReason, Fate, Protocol, Way};
use policy::{Document, Policy};

use crate::kernel::Probe;

const HEAD: &str = "apiVersion: cilium.io/v2\nkind: CiliumNetworkPolicy\n";

/// The policies that a day may have: whom each selects, and what it says.
const MENU: [(&[&str], &str); 11] = [
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
    (
        &["client"],
        "egressDeny: [{toPorts: [{ports: [{port: '443', protocol: UDP}]}]}]\n  enableDefaultDeny: {egress: false}",
    ),
    (
        &["client", "other"],
        "egress: [{toPorts: [{ports: [{port: '443', protocol: TCP}], rules: {http: [{}]}}]}]\n  enableDefaultDeny: {egress: false}",
    ),
    (
        &["client"],
        "egress: [{toCIDR: [203.0.113.0/24], toPorts: [{ports: [{port: '80', protocol: TCP}], rules: {http: [{method: GET}]}}]}]",
    ),
];

/// How many policies there are.
pub const POLICIES: usize = MENU.len();

/// Policies that ask for no default deny.
const OFF: [usize; 2] = [8, 9];

/// How a policy stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It does not.
    Absent,
    /// As it is written.
    Enforced,
    /// By its annotation, so that it drops nothing.
    Audited,
}

/// All policies of the menu, and the node's own switch.
#[derive(Clone, Copy, Debug)]
pub struct Policies {
    /// How each stands.
    pub standing: [Standing; POLICIES],
    /// Whether the node audits them all.
    pub node_audits: bool,
}

impl Policies {
    /// None stands.
    pub const NONE: Self = Self { standing: [Standing::Absent; POLICIES], node_audits: false };

    /// Those that stand, as the node reads them.
    pub fn read(&self) -> impl Iterator<Item = &'static Arc<Policy>> {
        let numbers = (0..POLICIES).filter(|number| self.stands(*number));
        numbers.map(|number| &menu()[number][usize::from(self.is_audited(number))])
    }

    fn stands(&self, number: usize) -> bool {
        self.standing[number] != Standing::Absent
    }

    fn is_audited(&self, number: usize) -> bool {
        self.node_audits || self.standing[number] == Standing::Audited
    }

    /// Whether a rule about names selects this one for a pod.
    pub fn selects(&self, app: &str, name: &str) -> bool {
        [1, 3].into_iter().any(|number| self.is_about(number, app) && matches(number, name))
    }

    fn is_about(&self, number: usize, app: &str) -> bool {
        self.stands(number) && MENU[number].0.contains(&app)
    }
}

/// The menu, read once: each policy enforced, and audited.
fn menu() -> &'static [[Arc<Policy>; 2]] {
    static READ: OnceLock<Vec<[Arc<Policy>; 2]>> = OnceLock::new();
    READ.get_or_init(|| {
        (0..POLICIES).map(|number| [false, true].map(|audited| read(number, audited))).collect()
    })
}

fn read(number: usize, audited: bool) -> Arc<Policy> {
    let (apps, spec) = MENU[number];
    let apps = apps.join(", ");
    let text = format!(
        "{HEAD}metadata: {{name: p{number}, namespace: default, annotations: {{fqdnd.io/audit: \
         '{audited}'}}}}\nspec:\n  endpointSelector: {{matchExpressions: [{{key: app, operator: In, \
         values: [{apps}]}}]}}\n  {spec}\n"
    );
    let file: Arc<std::path::Path> = std::path::Path::new("menu.yaml").into();
    let (documents, problems) = Document::read_all(&file, &text);
    assert_eq!(problems, []);
    Arc::new(Policy::read(&documents[0]).unwrap())
}

/// Whether a policy's rule for names is about this one.
fn matches(number: usize, name: &str) -> bool {
    match number {
        1 => name.strip_suffix(".one.test").is_some_and(|label| !label.contains('.')),
        3 => name.ends_with(".test"),
        _ => false,
    }
}

/// What a pod is about to do, and what it knows.
pub struct Situation<'a> {
    /// The policies.
    pub policies: &'a Policies,
    /// The pod's own label.
    pub app: &'a str,
    /// The label of the pod that it goes to, if that is one.
    pub peer: Option<&'a str>,
    /// The names that it resolved to where it goes, and that still count.
    pub names: Vec<&'a str>,
    /// The packet.
    pub probe: Probe,
}

/// What becomes of the packet, and why it would not pass, were no policy audited.
pub fn fate(situation: &Situation<'_>) -> Fate {
    let Situation { policies, app, probe, .. } = situation;
    let selected = || (0..POLICIES).filter(|number| policies.is_about(*number, app));
    let enforced = || selected().filter(|number| !policies.is_audited(*number));
    let passing = |way, reason| Fate { way, reason };
    let told = selected().any(|own| situation.denies(own)).then_some(DropReason::DenyRule);
    let asks = |number: usize| !OFF.contains(&number);
    let is_lenient = !enforced().any(asks) && (selected().any(asks) || enforced().next().is_none());
    let by_default = |reason| match is_lenient {
        true => Fate::audited(told.unwrap_or(reason)),
        false => Fate::dropped(reason),
    };
    if selected().next().is_none() {
        return passing(Way::Direct, None);
    }
    if situation.is_unused_service() {
        let lenient = is_lenient && !enforced().any(|own| situation.denies(own));
        let fate = if lenient { Fate::audited } else { Fate::dropped };
        return fate(DropReason::NoService);
    }
    if enforced().any(|own| situation.denies(own)) {
        return Fate::dropped(DropReason::DenyRule);
    }
    if selected().any(|own| situation.allows(own)) {
        return passing(Way::Direct, told);
    }
    if selected().any(|own| situation.is_judged(own)) {
        return match probe.protocol {
            Protocol::TCP => passing(Way::L7Proxy, told),
            _ => by_default(DropReason::QuicNotInspected),
        };
    }
    if selected().any(asks) {
        by_default(DropReason::PolicyDenied)
    } else {
        passing(Way::Direct, told)
    }
}

impl Situation<'_> {
    fn denies(&self, number: usize) -> bool {
        match number {
            4 => self.is_within([198, 51, 100], 128..=255) && self.is(Protocol::TCP, 443),
            6 => self.peer == Some("server"),
            8 => self.is(Protocol::UDP, 443),
            _ => false,
        }
    }

    fn allows(&self, number: usize) -> bool {
        let outside = self.peer.is_none();
        let by_name = || outside && self.names.iter().any(|name| matches(number, name));
        match number {
            0 => outside && self.is_within([198, 51, 100], 0..=255),
            1 => by_name() && self.is(Protocol::TCP, 443),
            2 => self.peer == Some("server") && self.is(Protocol::TCP, 80),
            3 => by_name(),
            5 => {
                self.is_within([203, 0, 113], 0..=255)
                    && !self.is_within([203, 0, 113], 64..=127)
                    && self.is(Protocol::TCP, 443)
            }
            7 => self.is(Protocol::UDP, 53),
            _ => false,
        }
    }

    /// Whether a policy's rule for HTTP is about the port. By UDP it could be HTTP/3.
    fn is_judged(&self, number: usize) -> bool {
        let any = |port| self.is(Protocol::TCP, port) || self.is(Protocol::UDP, port);
        match number {
            9 => any(443),
            10 => self.is_within([203, 0, 113], 0..=255) && any(80),
            _ => false,
        }
    }

    /// Addresses of the service range where there is no service.
    fn is_unused_service(&self) -> bool {
        self.octets()[..2] == [10, 96]
    }

    fn is(&self, protocol: Protocol, port: u16) -> bool {
        self.probe.protocol == protocol && self.probe.port == port
    }

    fn is_within(&self, net: [u8; 3], hosts: std::ops::RangeInclusive<u8>) -> bool {
        let [a, b, c, d] = self.octets();
        [a, b, c] == net && hosts.contains(&d)
    }

    fn octets(&self) -> [u8; 4] {
        match self.probe.to {
            IpAddr::V4(to) => to.octets(),
            IpAddr::V6(_) => unreachable!("no destination has IPv6"),
        }
    }
}
