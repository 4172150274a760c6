//! The flags that filter, in one table.

use clap::{Arg, ArgAction};
use hubble::proto::flow::FlowFilter;

use crate::observe::value;

/// Adds a value to a filter.
pub(super) type Add = fn(&mut FlowFilter, &str) -> Result<(), String>;

/// A flag with values; one about ends stands for three, `--pod`, `--from-pod` and `--to-pod`.
pub(super) struct Flag {
    name: &'static str,
    /// The names of the flags for the source and the destination, if it is about ends.
    of_end: Option<[&'static str; 2]>,
    short: Option<char>,
    alias: Option<&'static str>,
    value: &'static str,
    help: &'static str,
    /// Adds the value as one of the source; as one of the flow where it is not about ends.
    pub source: Add,
    /// Adds the value as one of the destination.
    pub destination: Add,
}

/// A flag as it stands on the command line.
#[derive(Clone, Copy)]
pub(super) enum Given {
    /// The next filter is one to leave out by.
    Not,
    Namespace,
    FromNamespace,
    ToNamespace,
    AllNamespaces,
    FromAllNamespaces,
    ToAllNamespaces,
    /// Only this version of IP.
    Ipv4,
    Ipv6,
    /// Of either end, or of the flow.
    Either(&'static Flag),
    /// Of the source, and the flag's name then.
    From(&'static Flag, &'static str),
    /// Of the destination.
    To(&'static Flag, &'static str),
}

/// Pushes what is parsed onto a field.
macro_rules! push {
    ($field:ident, $parse:expr) => {
        |filter, text| {
            filter.$field.push($parse(text)?);
            Ok(())
        }
    };
}

/// The same of all that is parsed.
macro_rules! extend {
    ($field:ident, $parse:expr) => {
        |filter, text| {
            filter.$field.extend($parse(text)?);
            Ok(())
        }
    };
}

#[rustfmt::skip]
const FLAGS: &[Flag] = &[
    Flag::of_flow("verdict", "VERDICT", "forwarded, dropped, redirected, error or audit",
        push!(verdict, value::verdict)),
    Flag::of_flow("direction", "DIRECTION", "egress or ingress",
        push!(traffic_direction, value::direction)).alias("traffic-direction"),
    Flag::of_flow("drop-reason", "REASON", "Why it was dropped: lease-expired, policy-denied, ...",
        push!(drop_reason_desc, value::drop_reason)).alias("drop-reason-desc"),
    Flag::of_flow("type", "TYPE", "drop, policy-verdict or l7; drop:REASON",
        push!(event_type, value::event_type)).short('t'),
    Flag::of_flow("protocol", "PROTOCOL", "tcp, udp, sctp, icmp, icmpv6, dns, http or kafka",
        push!(protocol, text)),
    Flag::of_ends(["pod", "from-pod", "to-pod"], "POD", "Pods, by the beginning of [NAMESPACE/]NAME",
        push!(source_pod, text), push!(destination_pod, text)),
    Flag::of_ends(["service", "from-service", "to-service"], "SERVICE", "Services, by the beginning of [NAMESPACE/]NAME",
        push!(source_service, text), push!(destination_service, text)),
    Flag::of_ends(["label", "from-label", "to-label"], "SELECTOR", "Labels, as Kubernetes selects by them",
        push!(source_label, text), push!(destination_label, text)).short('l'),
    Flag::of_ends(["fqdn", "from-fqdn", "to-fqdn"], "PATTERN", "A name that the pod resolved, such as *.example.com",
        push!(source_fqdn, text), push!(destination_fqdn, text)),
    Flag::of_ends(["ip", "from-ip", "to-ip"], "ADDRESS", "An address or prefix",
        push!(source_ip, text), push!(destination_ip, text)),
    Flag::of_ends(["port", "from-port", "to-port"], "PORT", "A port",
        push!(source_port, text), push!(destination_port, text)),
    Flag::of_ends(["identity", "from-identity", "to-identity"], "IDENTITY", "A security identity: a number, or world, host, ...",
        extend!(source_identity, value::identities), extend!(destination_identity, value::identities)),
    Flag::of_ends(["cluster", "from-cluster", "to-cluster"], "CLUSTER", "Pods of a cluster, by its name",
        push!(source_cluster_name, text), push!(destination_cluster_name, text)),
    Flag::of_flow("dns-query", "REGEX", "A name that was asked for", push!(dns_query, text)),
    Flag::of_flow("http-status", "CODE", "An HTTP status: 404, 5+", push!(http_status_code, text)),
    Flag::of_flow("http-method", "METHOD", "An HTTP method", push!(http_method, text)),
    Flag::of_flow("http-path", "REGEX", "An HTTP path", push!(http_path, text)),
    Flag::of_flow("http-url", "REGEX", "An HTTP URL", push!(http_url, text)),
    Flag::of_flow("http-header", "NAME:VALUE", "An HTTP header",
        push!(http_header, value::header)),
    Flag::of_flow("tcp-flags", "FLAGS", "TCP flags that are all set: syn,ack",
        push!(tcp_flags, value::tcp_flags)),
    Flag::of_flow("ip-version", "VERSION", "v4 or v6", push!(ip_version, value::ip_version)),
    Flag::of_flow("interface", "INTERFACE", "The interface where it was seen",
        push!(interface, value::interface)),
    Flag::of_flow("node-name", "PATTERN", "The node that saw it", push!(node_name, text)),
    Flag::of_flow("uuid", "UUID", "One flow", push!(uuid, text)),
];

fn text(text: &str) -> Result<String, String> {
    Ok(text.to_owned())
}

impl Flag {
    const fn of_flow(
        name: &'static str,
        value: &'static str,
        help: &'static str,
        add: Add,
    ) -> Self {
        Self {
            name,
            of_end: None,
            short: None,
            alias: None,
            value,
            help,
            source: add,
            destination: add,
        }
    }

    const fn of_ends(
        [name, from, to]: [&'static str; 3],
        value: &'static str,
        help: &'static str,
        source: Add,
        destination: Add,
    ) -> Self {
        let flag = Self::of_flow(name, value, help, source);
        Self { of_end: Some([from, to]), destination, ..flag }
    }

    /// The argument with its value, which clap refuses where a filter would.
    fn valued(&'static self, arg: Arg) -> Arg {
        arg.value_name(self.value).value_parser(move |text: &str| {
            (self.source)(&mut FlowFilter::default(), text).map(|()| text.to_owned())
        })
    }

    const fn short(self, short: char) -> Self {
        Self { short: Some(short), ..self }
    }

    const fn alias(self, alias: &'static str) -> Self {
        Self { alias: Some(alias), ..self }
    }
}

impl Given {
    /// All flags that there are.
    pub fn all() -> impl Iterator<Item = Self> {
        let bare = [
            Self::Not,
            Self::Namespace,
            Self::FromNamespace,
            Self::ToNamespace,
            Self::AllNamespaces,
            Self::FromAllNamespaces,
            Self::ToAllNamespaces,
            Self::Ipv4,
            Self::Ipv6,
        ];
        let of_flag = |flag: &'static Flag| {
            let of_end = flag.of_end.map(|[from, to]| [Self::From(flag, from), Self::To(flag, to)]);
            std::iter::once(Self::Either(flag)).chain(of_end.into_iter().flatten())
        };
        bare.into_iter().chain(FLAGS.iter().flat_map(of_flag))
    }

    /// The flag without its dashes.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Not => "not",
            Self::Namespace => "namespace",
            Self::FromNamespace => "from-namespace",
            Self::ToNamespace => "to-namespace",
            Self::AllNamespaces => "all-namespaces",
            Self::FromAllNamespaces => "from-all-namespaces",
            Self::ToAllNamespaces => "to-all-namespaces",
            Self::Ipv4 => "ipv4",
            Self::Ipv6 => "ipv6",
            Self::Either(flag) => flag.name,
            Self::From(_, name) | Self::To(_, name) => name,
        }
    }

    /// What clap is to know of it.
    pub fn arg(self) -> Arg {
        let name = self.name();
        let arg = Arg::new(name).long(name).help_heading("Filters");
        let arg = arg.action(ArgAction::Append);
        // Its places among the filters count, so it has a value at each.
        let bare = |arg: Arg| arg.num_args(0).default_missing_value("true");
        match self {
            Self::Not => bare(arg).help("Leave out what the next filter matches"),
            Self::Namespace => {
                arg.short('n').value_name("NAMESPACE").help("The namespace of pods and services")
            }
            Self::FromNamespace => arg.value_name("NAMESPACE").help("The same, of the source"),
            Self::ToNamespace => arg.value_name("NAMESPACE").help("The same, of the destination"),
            Self::AllNamespaces => {
                bare(arg.short('A')).help("Pods and services without a namespace are of any one")
            }
            Self::FromAllNamespaces => bare(arg).help("The same, of the source"),
            Self::ToAllNamespaces => bare(arg).help("The same, of the destination"),
            Self::Ipv4 => bare(arg.short('4')).help("Only IPv4"),
            Self::Ipv6 => bare(arg.short('6')).help("Only IPv6"),
            Self::Either(flag) => {
                let arg = flag.valued(arg).help(flag.help);
                let arg = flag.short.into_iter().fold(arg, Arg::short);
                flag.alias.into_iter().fold(arg, Arg::visible_alias)
            }
            Self::From(flag, _) => flag.valued(arg).help("The same, of the source"),
            Self::To(flag, _) => flag.valued(arg).help("The same, of the destination"),
        }
    }
}
