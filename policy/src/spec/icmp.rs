//! The items of `icmps`.

use model::{PortPrefix, Protocol};

use crate::rule::PortRule;
use crate::spec::fields::{At, Check};

/// The most `fields` in an item.
const MAX_FIELDS: usize = 40;

/// The types by the names that Cilium takes. ExtendedEchoReply is none of them: its schema has a
/// blank in that name, which its code refuses.
const IPV4: &[(&str, u8)] = &[
    ("DestinationUnreachable", 3),
    ("Echo", 8),
    ("EchoReply", 0),
    ("EchoRequest", 8),
    ("ExtendedEchoRequest", 42),
    ("ParameterProblem", 12),
    ("Photuris", 40),
    ("Redirect", 5),
    ("RouterAdvertisement", 9),
    ("RouterSelection", 10),
    ("TimeExceeded", 11),
    ("Timestamp", 13),
    ("TimestampReply", 14),
];
const IPV6: &[(&str, u8)] = &[
    ("DestinationUnreachable", 1),
    ("DuplicateAddressConfirmationCodeSuffix", 158),
    ("DuplicateAddressRequestCodeSuffix", 157),
    ("EchoReply", 129),
    ("EchoRequest", 128),
    ("ExtendedEchoRequest", 160),
    ("HomeAgentAddressDiscoveryReply", 145),
    ("HomeAgentAddressDiscoveryRequest", 144),
    ("ICMPNodeInformationQuery", 139),
    ("ICMPNodeInformationResponse", 140),
    ("InverseNeighborDiscoveryAdvertisement", 142),
    ("InverseNeighborDiscoverySolicitation", 141),
    ("MobilePrefixAdvertisement", 147),
    ("MobilePrefixSolicitation", 146),
    ("MulticastListenerDone", 132),
    ("MulticastListenerQuery", 130),
    ("MulticastListenerReport", 131),
    ("NeighborAdvertisement", 136),
    ("NeighborSolicitation", 135),
    ("PacketTooBig", 2),
    ("ParameterProblem", 4),
    ("RedirectMessage", 137),
    ("RouterAdvertisement", 134),
    ("RouterRenumbering", 138),
    ("RouterSolicitation", 133),
    ("TimeExceeded", 3),
];

/// Reads `icmps`; empty is as absent.
pub(super) fn read(check: &mut Check, at: &At<'_>) -> Option<Vec<PortRule>> {
    let items = check.list(at)?;
    let rules: Vec<PortRule> = items.iter().filter_map(|item| rule(check, item)).collect();
    (!items.is_empty()).then_some(rules)
}

fn rule(check: &mut Check, at: &At<'_>) -> Option<PortRule> {
    let fields = check.fields(at, &["fields"])?;
    let items = match check.present(&fields, "fields") {
        Some(list) => check.list(&list)?,
        None => Vec::new(),
    };
    if items.len() > MAX_FIELDS {
        let message = format!("has {} items, at most {MAX_FIELDS} are allowed", items.len());
        check.problem(fields.at("fields"), message);
        return None;
    }
    if items.is_empty() {
        check.warn(at, "has no fields, so it covers nothing");
    }
    let ports = items.iter().filter_map(|item| kind(check, item)).flatten().collect();
    Some(PortRule { at: at.spot(), ports, named: Vec::new(), application: None })
}

/// A field: outer none where it is wrong, inner none where no packet can have the type.
fn kind(check: &mut Check, at: &At<'_>) -> Option<Option<PortPrefix>> {
    let fields = check.fields(at, &["family", "type"])?;
    let ipv6 = match check.present(&fields, "family") {
        Some(family) => check.one_of(&family, &["IPv4", "IPv6"])? == "IPv6",
        None => false,
    };
    let Some(at) = check.present(&fields, "type") else {
        check.problem(at, "type must be set");
        return None;
    };
    let (protocol, names) = if ipv6 { (Protocol::ICMPV6, IPV6) } else { (Protocol::ICMP, IPV4) };
    let Some(written) = at.number() else {
        return type_of(check, &at, names)
            .map(|kind| Some(PortPrefix::port(protocol, kind.into())));
    };
    let kind = u8::try_from(written).ok();
    if kind.is_none() {
        check.warn(&at, "is no type from 0 to 255, so it covers nothing");
    }
    Some(kind.map(|kind| PortPrefix::port(protocol, kind.into())))
}

/// A type that is written as text: its number or its name.
fn type_of(check: &mut Check, at: &At<'_>, names: &[(&str, u8)]) -> Option<u8> {
    let text = check.text(at)?;
    if let Ok(number) = text.parse::<u8>()
        && number.to_string() == text
    {
        return Some(number);
    }
    let known: Vec<&str> = names.iter().map(|(name, _)| *name).collect();
    let name = check.one_of(at, &known)?;
    names.iter().find(|(known, _)| *known == name).map(|(_, number)| *number)
}
