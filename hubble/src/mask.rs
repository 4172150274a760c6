//! The fields of flows that a client wants to see: a field mask of protobuf.
//!
//! A mask is applied to the encoded message, where leaving a field out is skipping its bytes.

use std::collections::BTreeMap;

use prost::Message;
use prost::bytes::Buf;
use prost::encoding::{DecodeContext, WireType, decode_key, decode_varint, skip_field};
use prost_reflect::{Kind, MessageDescriptor};
use prost_types::FieldMask;

use crate::json::Json;
use crate::proto::flow::Flow;

/// Fields of Hubble's flows that are never set here: to ask for them is no mistake.
const NEVER_SET: [&str; 9] = [
    "ethernet",
    "debug_capture_point",
    "trace_context",
    "sock_xlate_point",
    "socket_cookie",
    "cgroup_id",
    "extensions",
    "file",
    "ip_trace_id",
];

/// Fields that are not understood without others, and these: Hubble's own client prints them, and
/// leaves them out of the mask that it sends unless it is told otherwise.
const COMPANIONS: [(&str, &[&str]); 2] = [
    (
        "event_type",
        &[
            "traffic_direction",
            "policy_match_type",
            "drop_reason_desc",
            "egress_allowed_by",
            "ingress_allowed_by",
            "egress_denied_by",
            "ingress_denied_by",
        ],
    ),
    ("IP", &["source_names", "destination_names"]),
];

/// Fields by their numbers: some whole, of others only parts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Mask(BTreeMap<u32, Part>);

/// How much of a field is wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Whole,
    Fields(Mask),
}

/// Why a mask cannot be applied.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` in the field mask is no field of a flow")]
pub struct MaskError(String);

impl Mask {
    /// Checks a mask; one without paths wants everything, and is none.
    pub fn new(mask: &FieldMask) -> Result<Option<Self>, MaskError> {
        if mask.paths.is_empty() {
            return Ok(None);
        }
        let mut own = Self::default();
        for path in &mask.paths {
            let known = !path.split('.').next().is_some_and(|top| NEVER_SET.contains(&top));
            if known && own.add(path, &Flow::descriptor()).is_none() {
                return Err(MaskError(path.clone()));
            }
            let companions = COMPANIONS.iter().filter(|(field, _)| field == path);
            for field in companions.flat_map(|(_, fields)| *fields) {
                own.add(field, &Flow::descriptor()).expect("a field of a flow");
            }
        }
        Ok(Some(own))
    }

    /// Adds a path, if the message has it.
    fn add(&mut self, path: &str, message: &MessageDescriptor) -> Option<()> {
        let (name, rest) =
            path.split_once('.').map_or((path, None), |(name, rest)| (name, Some(rest)));
        let field = message.get_field_by_name(name)?;
        let Some(rest) = rest else {
            self.0.insert(field.number(), Part::Whole);
            return Some(());
        };
        let Kind::Message(message) = field.kind() else { return None };
        if field.is_list() {
            return None;
        }
        match self.0.entry(field.number()).or_insert_with(|| Part::Fields(Self::default())) {
            Part::Whole => Self::default().add(rest, &message),
            Part::Fields(parts) => parts.add(rest, &message),
        }
    }

    /// The flow with nothing but these fields.
    pub fn apply(&self, flow: &Flow) -> Flow {
        let encoded = flow.encode_to_vec();
        let kept = self.keep(&encoded).expect("it was encoded here");
        Flow::decode(kept.as_slice()).expect("whole fields of a message are one")
    }

    fn keep(&self, message: &[u8]) -> Result<Vec<u8>, prost::DecodeError> {
        let mut kept = Vec::new();
        let mut rest = message;
        while rest.has_remaining() {
            let field = rest;
            let (number, wire) = decode_key(&mut rest)?;
            let key = &field[..field.len() - rest.len()];
            match self.0.get(&number) {
                Some(Part::Fields(parts)) if wire == WireType::LengthDelimited => {
                    let length = decode_varint(&mut rest)? as usize;
                    let (inner, behind) =
                        rest.split_at_checked(length).ok_or_else(|| cut_short(field))?;
                    rest = behind;
                    let inner = parts.keep(inner)?;
                    kept.extend_from_slice(key);
                    prost::encoding::encode_varint(inner.len() as u64, &mut kept);
                    kept.extend(inner);
                }
                wanted => {
                    skip_field(wire, number, &mut rest, DecodeContext::default())?;
                    if wanted.is_some() {
                        kept.extend_from_slice(&field[..field.len() - rest.len()]);
                    }
                }
            }
        }
        Ok(kept)
    }
}

/// The decoder's own error for a message that ends too early.
fn cut_short(message: &[u8]) -> prost::DecodeError {
    let whole = Flow::decode(message);
    whole.expect_err("a field is longer than the message")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message;
    use crate::samples::dropped;

    fn mask(paths: &[&str]) -> Result<Option<Mask>, MaskError> {
        Mask::new(&FieldMask { paths: paths.iter().map(|&path| path.to_owned()).collect() })
    }

    #[test]
    fn only_the_fields_that_are_wanted_are_kept() {
        let flow = message::flow(&dropped(7));
        let paths = ["time", "verdict", "source.pod_name", "l4.TCP.destination_port", "ethernet"];
        let kept = mask(&paths).unwrap().unwrap().apply(&flow);
        assert_eq!(
            kept.to_json(),
            r#"{"time":"1970-01-01T00:00:07Z","verdict":"DROPPED","l4":{"TCP":{"destination_port":443}},"source":{"pod_name":"web-7"}}"#
        );
    }

    #[test]
    fn a_field_that_is_wanted_whole_and_in_part_is_kept_whole() {
        let flow = message::flow(&dropped(7));
        for paths in [["source", "source.pod_name"], ["source.pod_name", "source"]] {
            let kept = mask(&paths).unwrap().unwrap().apply(&flow);
            assert_eq!(kept, Flow { source: flow.source.clone(), ..Flow::default() });
        }
    }

    #[test]
    fn what_is_not_understood_alone_has_company() {
        let flow = message::flow(&dropped(7));
        let kept = mask(&["event_type"]).unwrap().unwrap().apply(&flow);
        assert_eq!(kept.drop_reason_desc(), flow.drop_reason_desc());
        assert_eq!(kept.traffic_direction(), flow.traffic_direction());
        assert_eq!(kept.egress_denied_by, flow.egress_denied_by);
        let kept = mask(&["IP"]).unwrap().unwrap().apply(&flow);
        assert_eq!((kept.ip, kept.destination_names), (flow.ip, flow.destination_names));
        assert_eq!(kept.event_type, None);
    }

    #[test]
    fn a_mask_without_paths_is_none_and_one_of_all_fields_changes_nothing() {
        assert_eq!(mask(&[]), Ok(None));
        let flow = message::flow(&dropped(7));
        let fields = Flow::descriptor();
        let names: Vec<String> = fields.fields().map(|own| own.name().to_owned()).collect();
        let all = Mask::new(&FieldMask { paths: names }).unwrap().unwrap();
        assert_eq!(all.apply(&flow), flow);
    }

    #[test]
    fn a_path_that_no_flow_has_is_named() {
        for path in ["colour", "source.colour", "verdict.x", "", "source.", "egress_denied_by.name"]
        {
            let error = mask(&["time", path]).unwrap_err();
            assert_eq!(error, MaskError(path.to_owned()));
        }
        assert!(mask(&["source", "source.colour"]).is_err());
    }
}
