//! Answers that deny a request, in its own version and with its correlation.

use std::net::SocketAddr;

use super::layout::{Api, Part, What};
use super::wire::Writer;
use super::{API_VERSIONS, Request, Scope, Topic};

impl Request {
    /// The error that denies the request; 0 where only closing the connection does.
    pub fn denial(&self) -> i16 {
        self.answerable().map_or(0, |api| api.error)
    }

    /// The answer that denies the request, its length before it. None where the protocol has none
    /// for this kind and version, or the client waits for none: the connection has to be closed.
    ///
    /// `broker` is whom the client spoke to: an answer about brokers names it alone, since clients
    /// take one without any for broken.
    pub fn deny(&self, broker: SocketAddr) -> Option<Vec<u8>> {
        let api = self.answerable()?;
        self.answer(api, api.error, broker)
    }

    fn answerable(&self) -> Option<&'static Api> {
        Api::of(self.api_key).filter(|api| {
            let readable = (0..=api.newest).contains(&self.api_version);
            readable && !api.answer.is_empty() && self.is_answered
        })
    }

    pub(super) fn answer(&self, api: &Api, error: i16, broker: SocketAddr) -> Option<Vec<u8>> {
        let topics = match &self.scope {
            Scope::Topics(topics) => &topics[..],
            Scope::Everything => &[],
            Scope::Unreadable => return None,
        };
        let flexible = self.api_version >= api.flexible;
        let mut writer = Writer::default();
        writer.put(&[0; 4]);
        writer.put(&self.correlation.to_be_bytes());
        writer.flexible = flexible && self.api_key != API_VERSIONS;
        writer.tags();
        writer.flexible = flexible;
        let mut denial = Denial { writer, version: self.api_version, error, broker, topics };
        denial.parts(api.answer, None, None);
        let mut bytes = denial.writer.bytes;
        let length = u32::try_from(bytes.len() - 4).ok()?;
        bytes[..4].copy_from_slice(&length.to_be_bytes());
        Some(bytes)
    }
}

/// An answer that is being written.
struct Denial<'a> {
    writer: Writer,
    version: i16,
    error: i16,
    broker: SocketAddr,
    topics: &'a [Topic],
}

impl Denial<'_> {
    fn parts(&mut self, parts: &[Part], topic: Option<&Topic>, partition: Option<i32>) {
        let version = self.version;
        for part in parts.iter().filter(|part| part.is_in(version)) {
            self.part(part.what, topic, partition);
        }
        self.writer.tags();
    }

    fn part(&mut self, what: What, topic: Option<&Topic>, partition: Option<i32>) {
        match what {
            What::Error => self.writer.put(&self.error.to_be_bytes()),
            What::NoError => self.writer.put(&[0; 2]),
            What::Zeros(count) => self.writer.put(&[0; 16][..count]),
            What::Ones(count) => self.writer.put(&[0xff; 8][..count]),
            What::NoOperations => self.writer.put(&i32::MIN.to_be_bytes()),
            What::TopicType => self.writer.put(&[2]),
            What::EmptyText => self.writer.string(""),
            What::NoText => self.writer.null_string(),
            What::EmptyBytes => self.writer.empty_bytes(),
            What::Empty => self.writer.count(0),
            What::TopicName => self.writer.string(topic.map_or("", |topic| &topic.name)),
            What::PartitionNumber => self.writer.put(&partition.unwrap_or(-1).to_be_bytes()),
            What::Broker => self.broker(),
            What::Topics(parts) => {
                let topics = self.topics;
                self.writer.count(topics.len());
                for topic in topics {
                    self.parts(parts, Some(topic), None);
                }
            }
            What::Partitions(parts) => {
                let partitions = topic.map_or(&[][..], |topic| &topic.partitions);
                self.writer.count(partitions.len());
                for partition in partitions {
                    self.parts(parts, topic, Some(*partition));
                }
            }
        }
    }

    /// Number, host and port, and from version 1 on its rack.
    fn broker(&mut self) {
        self.writer.count(1);
        self.writer.put(&[0; 4]);
        self.writer.string(&self.broker.ip().to_string());
        self.writer.put(&i32::from(self.broker.port()).to_be_bytes());
        if self.version >= 1 {
            self.writer.null_string();
        }
        self.writer.tags();
    }
}
