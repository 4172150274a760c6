//! Messages as JSON, the way Hubble prints them: the mapping of proto3 with the names of the
//! `.proto` files, without fields that have their default value.

use std::sync::LazyLock;

use prost::Message;
use prost_reflect::{
    DescriptorPool, DeserializeOptions, DynamicMessage, MessageDescriptor, SerializeOptions,
};

use crate::proto::flow::{Flow, FlowFilter};
use crate::proto::observer::{GetFlowsResponse, ServerStatusResponse};

static POOL: LazyLock<DescriptorPool> = LazyLock::new(|| {
    let descriptors = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));
    DescriptorPool::decode(descriptors.as_slice()).expect("the build has made these descriptors")
});

/// A message that has a form in JSON.
pub trait Json: Message + Default {
    /// The message's name in the `.proto` files.
    const NAME: &str;

    /// What the message is made of.
    fn descriptor() -> MessageDescriptor {
        POOL.get_message_by_name(Self::NAME).expect("its file was compiled in")
    }

    /// The message on one line.
    fn to_json(&self) -> String {
        let mut text = Vec::new();
        let options = SerializeOptions::new().use_proto_field_name(true);
        let mut serializer = serde_json::Serializer::new(&mut text);
        dynamic(self)
            .serialize_with_options(&mut serializer, &options)
            .expect("memory takes everything, and every key is a string");
        String::from_utf8(text).expect("JSON is UTF-8")
    }

    /// Reads a message; fields that are not known are errors.
    fn from_json(text: &str) -> Result<Self, serde_json::Error> {
        let mut json = serde_json::Deserializer::from_str(text);
        let options = DeserializeOptions::new();
        let message =
            DynamicMessage::deserialize_with_options(Self::descriptor(), &mut json, &options)?;
        json.end()?;
        Ok(message.transcode_to().expect("both are the same message"))
    }
}

impl Json for Flow {
    const NAME: &str = "flow.Flow";
}

impl Json for FlowFilter {
    const NAME: &str = "flow.FlowFilter";
}

impl Json for GetFlowsResponse {
    const NAME: &str = "observer.GetFlowsResponse";
}

impl Json for ServerStatusResponse {
    const NAME: &str = "observer.ServerStatusResponse";
}

fn dynamic<M: Json>(message: &M) -> DynamicMessage {
    let bytes = message.encode_to_vec();
    DynamicMessage::decode(M::descriptor(), bytes.as_slice()).expect("both are the same message")
}

#[cfg(test)]
mod tests {
    use super::*;

    use crate::proto::flow::Verdict;
    use crate::proto::observer::get_flows_response::ResponseTypes;

    #[test]
    fn keys_enums_and_times_are_written_as_hubble_writes_them() {
        let time = prost_types::Timestamp { seconds: 1_763_892_000, nanos: 123_000_000 };
        let flow = Flow {
            time: Some(time),
            verdict: Verdict::Dropped.into(),
            drop_reason_desc: crate::proto::flow::DropReason::PolicyDenied.into(),
            is_reply: Some(false),
            node_name: "node-1".to_owned(),
            ..Flow::default()
        };
        let response = GetFlowsResponse {
            response_types: Some(ResponseTypes::Flow(flow)),
            node_name: "node-1".to_owned(),
            time: None,
        };
        assert_eq!(
            response.to_json(),
            r#"{"flow":{"time":"2025-11-23T10:00:00.123Z","verdict":"DROPPED","node_name":"node-1","drop_reason_desc":"POLICY_DENIED","is_reply":false},"node_name":"node-1"}"#
        );
        assert_eq!(GetFlowsResponse::from_json(&response.to_json()).unwrap(), response);
    }

    #[test]
    fn a_filter_with_a_key_that_is_not_known_is_refused() {
        assert!(FlowFilter::from_json(r#"{"verdict":["DROPPED"]}"#).is_ok());
        let error = FlowFilter::from_json(r#"{"verdicts":["DROPPED"]}"#).unwrap_err();
        assert!(error.to_string().contains("verdicts"), "{error}");
    }
}
