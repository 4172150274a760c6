//! The values of filters: verdicts, reasons, event types and identities, as people write them.

use hubble::event;
use hubble::proto::flow::{
    DropReason, EventTypeFilter, HttpHeader, IpVersion, NetworkInterface, TcpFlags,
    TrafficDirection, Verdict,
};
use hubble::reason;
use model::Identity;

/// A verdict in any case, or a verb for it.
pub(super) fn verdict(text: &str) -> Result<i32, String> {
    let verdict = match text.to_ascii_lowercase().as_str() {
        "forward" | "forwarded" | "allow" | "allowed" => Verdict::Forwarded,
        "drop" | "dropped" | "deny" | "denied" => Verdict::Dropped,
        "redirect" | "redirected" => Verdict::Redirected,
        "error" => Verdict::Error,
        "audit" | "audited" => Verdict::Audit,
        "trace" | "traced" => Verdict::Traced,
        "translate" | "translated" => Verdict::Translated,
        _ => {
            return Err("there are forwarded, dropped, redirected, error, audit, traced and \
                        translated"
                .to_owned());
        }
    };
    Ok(verdict.into())
}

/// A direction in any case.
pub(super) fn direction(text: &str) -> Result<i32, String> {
    match text.to_ascii_lowercase().as_str() {
        "egress" => Ok(TrafficDirection::Egress.into()),
        "ingress" => Ok(TrafficDirection::Ingress.into()),
        _ => Err("there are egress and ingress".to_owned()),
    }
}

/// One of our reasons, or one of Hubble's by name or number.
pub(super) fn drop_reason(text: &str) -> Result<i32, String> {
    let own = model::DropReason::ALL.iter().find(|own| own.as_str() == text);
    let reason = own.map(|&own| reason::to_hubble(own)).or_else(|| {
        let name = text.to_ascii_uppercase().replace('-', "_");
        let number: Option<i32> = text.parse().ok();
        let number = number.and_then(|number| DropReason::try_from(number).ok());
        DropReason::from_str_name(&name).or(number)
    });
    reason.map(i32::from).ok_or_else(|| {
        let own: Vec<&str> = model::DropReason::ALL.iter().map(|own| own.as_str()).collect();
        format!("there are {}, and those of Hubble", own.join(", "))
    })
}

/// A type, and after a colon the reason of a drop or the number of another sub-type.
pub(super) fn event_type(text: &str) -> Result<EventTypeFilter, String> {
    let (kind, sub_type) =
        text.split_once(':').map_or((text, None), |(kind, rest)| (kind, Some(rest)));
    let number = match kind {
        "drop" => event::DROP,
        "policy-verdict" => event::POLICY_VERDICT,
        "l7" => event::L7,
        "trace" => event::TRACE,
        _ => kind.parse().map_err(|_| "there are drop, policy-verdict, l7 and trace")?,
    };
    let sub_type = match sub_type {
        None => None,
        Some(reason) if number == event::DROP => Some(drop_reason(reason)?),
        Some(other) => Some(other.parse().map_err(|_| format!("`{other}` is no number"))?),
    };
    Ok(EventTypeFilter {
        r#type: number,
        match_sub_type: sub_type.is_some(),
        sub_type: sub_type.unwrap_or_default(),
    })
}

/// A number, or the name of a reserved identity. The world has an identity for each family beside
/// the one that is of both.
pub(super) fn identities(text: &str) -> Result<Vec<u32>, String> {
    const WORLD: [Identity; 3] = [Identity::WORLD, Identity::WORLD_IPV4, Identity::WORLD_IPV6];
    if let Ok(number) = text.parse() {
        return Ok(vec![number]);
    }
    if text == "world" {
        return Ok(WORLD.map(|identity| identity.0).to_vec());
    }
    let reserved = (1..Identity::first(model::Scope::Labels).0).map(Identity);
    let found = reserved.into_iter().find(|identity| identity.to_string() == text);
    found.map(|identity| vec![identity.0]).ok_or_else(|| {
        "write a number, or world, host, remote-node, kube-apiserver and the like".to_owned()
    })
}

/// Flags, all of which must be set: `syn,ack`.
pub(super) fn tcp_flags(text: &str) -> Result<TcpFlags, String> {
    let mut flags = TcpFlags::default();
    for name in text.split(',') {
        let flag = match name.to_ascii_lowercase().as_str() {
            "fin" => &mut flags.fin,
            "syn" => &mut flags.syn,
            "rst" => &mut flags.rst,
            "psh" => &mut flags.psh,
            "ack" => &mut flags.ack,
            "urg" => &mut flags.urg,
            "ece" => &mut flags.ece,
            "cwr" => &mut flags.cwr,
            _ => return Err("there are fin, syn, rst, psh, ack, urg, ece and cwr".to_owned()),
        };
        *flag = true;
    }
    Ok(flags)
}

/// A header's name and value.
pub(super) fn header(text: &str) -> Result<HttpHeader, String> {
    let (key, value) = text.split_once(':').ok_or("write NAME:VALUE")?;
    Ok(HttpHeader { key: key.trim().to_owned(), value: value.trim().to_owned() })
}

/// The version of IP.
pub(super) fn ip_version(text: &str) -> Result<i32, String> {
    match text.to_ascii_lowercase().trim_start_matches("ip").trim_start_matches('v') {
        "4" => Ok(IpVersion::IPv4.into()),
        "6" => Ok(IpVersion::IPv6.into()),
        _ => Err("there are v4 and v6".to_owned()),
    }
}

/// An interface's name or index.
pub(super) fn interface(text: &str) -> Result<NetworkInterface, String> {
    match text.parse() {
        Ok(index) => Ok(NetworkInterface { index, name: String::new() }),
        Err(_) => Ok(NetworkInterface { index: 0, name: text.to_owned() }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn verdicts_may_be_verbs_and_of_any_case() {
        for text in ["drop", "dropped", "DROPPED", "Drop"] {
            assert_eq!(verdict(text), Ok(2));
        }
        assert_eq!(verdict("forwarded"), Ok(1));
        assert_eq!(verdict("REDIRECTED"), Ok(5));
        assert!(verdict("maybe").unwrap_err().contains("redirected"));
    }

    #[test]
    fn reasons_are_ours_or_hubbles() {
        assert_eq!(drop_reason("lease-expired"), Ok(151));
        assert_eq!(drop_reason("policy-denied"), Ok(133));
        assert_eq!(drop_reason("POLICY_DENIED"), Ok(133));
        assert_eq!(drop_reason("133"), Ok(133));
        assert!(drop_reason("bad-luck").unwrap_err().contains("lease-expired"));
    }

    #[test]
    fn event_types_may_have_a_sub_type() {
        let filter = |r#type, sub_type: Option<i32>| EventTypeFilter {
            r#type,
            match_sub_type: sub_type.is_some(),
            sub_type: sub_type.unwrap_or(0),
        };
        assert_eq!(event_type("drop"), Ok(filter(1, None)));
        assert_eq!(event_type("drop:deny-rule"), Ok(filter(1, Some(181))));
        assert_eq!(event_type("trace:3"), Ok(filter(4, Some(3))));
        assert_eq!(event_type("129"), Ok(filter(129, None)));
        assert!(event_type("packet").is_err() && event_type("drop:x").is_err());
    }

    #[test]
    fn identities_have_numbers_or_reserved_names() {
        assert_eq!(identities("world"), Ok(vec![2, 9, 10]));
        assert_eq!(identities("world-ipv6"), Ok(vec![10]));
        assert_eq!(identities("300"), Ok(vec![300]));
        assert!(identities("nobody").is_err());
    }

    #[test]
    fn flags_stand_together_where_all_must_be_set() {
        let expected = TcpFlags { syn: true, ack: true, ..TcpFlags::default() };
        assert_eq!(tcp_flags("SYN,ack"), Ok(expected));
        assert!(tcp_flags("syn,foo").is_err());
    }
}
