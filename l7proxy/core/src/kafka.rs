//! Kafka requests against the rules for them.
//!
//! Requests are read by hand, by tables of their layouts: counts and lengths on the wire bound
//! loops over bytes that are there, and never an allocation. A request whose topics cannot be read,
//! because its kind or version is not in the tables, passes only where a rule without a topic
//! allows it; the versions of [`pipeline`] keep clients from using such.

use model::KafkaRule;

mod answer;
mod layout;
pub mod pipeline;
mod versions;
mod wire;

pub use layout::is_known;
use layout::{Api, Field, Kind};
use wire::Reader;

/// The most bytes of a request that is read whole.
pub const MAX_REQUEST: usize = 8 << 20;
/// The fewest bytes of a request: its kind, version and correlation.
pub const MIN_REQUEST: usize = 8;

/// The number of Produce.
pub const PRODUCE: i16 = 0;
/// The number of Fetch.
pub const FETCH: i16 = 1;
/// The number of ApiVersions.
pub const API_VERSIONS: i16 = 18;

/// What is judged of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// The number of its kind.
    pub api_key: i16,
    /// Its version.
    pub api_version: i16,
    /// The number that its answer carries.
    pub correlation: i32,
    /// What the client calls itself.
    pub client_id: Option<String>,
    /// What it touches.
    pub scope: Scope,
    /// Whether an answer is expected: not to a Produce request without acknowledgements.
    pub is_answered: bool,
    /// The fetch session's number and where its epoch stands in the request, for a Fetch with one.
    session: Option<(i32, i32, usize)>,
}

/// What a request touches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Scope {
    /// These topics, which may be none.
    Topics(Vec<Topic>),
    /// Every topic, or something that is no topic and that no rule about topics can speak of.
    Everything,
    /// What cannot be told: the kind or version is not known.
    Unreadable,
}

/// A topic of a request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Topic {
    /// Its name.
    pub name: String,
    /// The partitions that the request names.
    pub partitions: Vec<i32>,
}

/// The bytes are no request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Malformed;

impl Request {
    /// Reads a request, without the length before it.
    pub fn read(frame: &[u8]) -> Result<Self, Malformed> {
        let (mut request, mut reader) = Self::begin(frame)?;
        request.client_id = reader.nullable_string()?.map(str::to_owned);
        match Api::of(request.api_key) {
            Some(api) if api.layout.is_empty() => request.scope = Scope::Topics(Vec::new()),
            Some(api) if (0..=api.newest).contains(&request.api_version) => {
                reader.flexible = request.api_version >= api.flexible;
                reader.tags()?;
                request.read_body(reader, api)?;
            }
            Some(_) | None => {}
        }
        Ok(request)
    }

    /// Reads no more of a request than by what it is answered.
    pub fn read_head(frame: &[u8]) -> Result<Self, Malformed> {
        Ok(Self::begin(frame)?.0)
    }

    fn begin(frame: &[u8]) -> Result<(Self, Reader<'_>), Malformed> {
        let mut reader = Reader::new(frame);
        let request = Self {
            api_key: reader.i16()?,
            api_version: reader.i16()?,
            correlation: reader.i32()?,
            client_id: None,
            scope: Scope::Unreadable,
            is_answered: true,
            session: None,
        };
        Ok((request, reader))
    }

    fn read_body(&mut self, reader: Reader<'_>, api: &Api) -> Result<(), Malformed> {
        let mut scan = Scan {
            reader,
            version: self.api_version,
            topics: Vec::new(),
            everything: false,
            is_topic_resource: false,
            acknowledged: true,
            session: None,
        };
        scan.fields(api.layout)?;
        if !scan.reader.is_at_end() {
            return Err(Malformed);
        }
        self.is_answered = scan.acknowledged;
        self.session = scan.session;
        self.scope = if scan.everything { Scope::Everything } else { Scope::Topics(scan.topics) };
        Ok(())
    }

    /// Whether the rules allow the request: each of its topics by one of them.
    pub fn is_allowed<'r>(&self, rules: impl Iterator<Item = &'r KafkaRule> + Clone) -> bool {
        let mut fitting = rules.filter(|rule| self.fits(rule));
        match &self.scope {
            Scope::Topics(topics) if topics.is_empty() => fitting.next().is_some(),
            Scope::Topics(topics) => topics.iter().all(|topic| {
                let covers = |wanted: &String| *wanted == topic.name;
                fitting.clone().any(|rule| rule.topic.as_ref().is_none_or(covers))
            }),
            Scope::Everything | Scope::Unreadable => fitting.any(|rule| rule.topic.is_none()),
        }
    }

    fn fits(&self, rule: &KafkaRule) -> bool {
        (rule.api_keys.is_empty() || rule.api_keys.contains(&self.api_key))
            && rule.api_version.is_none_or(|version| version == self.api_version)
            && rule.client_id.as_ref().is_none_or(|id| Some(id) == self.client_id.as_ref())
    }
}

/// A walk over a request's body.
struct Scan<'a> {
    reader: Reader<'a>,
    version: i16,
    topics: Vec<Topic>,
    everything: bool,
    /// Whether the last resource's type was that of a topic.
    is_topic_resource: bool,
    acknowledged: bool,
    session: Option<(i32, i32, usize)>,
}

impl Scan<'_> {
    fn fields(&mut self, fields: &[Field]) -> Result<(), Malformed> {
        let version = self.version;
        for field in fields.iter().filter(|field| field.is_in(version)) {
            self.field(field.kind)?;
        }
        self.reader.tags()
    }

    fn field(&mut self, kind: Kind) -> Result<(), Malformed> {
        match kind {
            Kind::Skip(bytes) => drop(self.reader.take(bytes)?),
            Kind::Text => drop(self.reader.string()?),
            Kind::Bytes => drop(self.reader.bytes()?),
            Kind::Acks => self.acknowledged = self.reader.i16()? != 0,
            Kind::Partition => {
                let partition = self.reader.i32()?;
                self.topics.last_mut().ok_or(Malformed)?.partitions.push(partition);
            }
            Kind::Session => {
                let id = self.reader.i32()?;
                let at = self.reader.position();
                self.session = Some((id, self.reader.i32()?, at));
            }
            Kind::Topic => self.topic()?,
            Kind::TopicOrId => {
                self.reader.take(16)?;
                self.topic()?;
            }
            Kind::ResourceType => self.is_topic_resource = self.reader.take(1)? == [2],
            Kind::ResourceName if self.is_topic_resource => self.topic()?,
            Kind::ResourceName => {
                self.reader.string()?;
                self.everything = true;
            }
            Kind::Array(fields) => drop(self.array(fields)?),
            Kind::List(kind) => {
                for _ in 0..self.reader.count()?.unwrap_or(0) {
                    self.field(*kind)?;
                }
            }
            Kind::AllIfAbsent(fields) => self.everything |= !self.array(fields)?,
            Kind::AllIfEmpty(fields) => {
                let before = self.topics.len();
                self.array(fields)?;
                self.everything |= self.topics.len() == before;
            }
        }
        Ok(())
    }

    /// A topic's name; one without a name is known by a number that nothing here can judge.
    fn topic(&mut self) -> Result<(), Malformed> {
        match self.reader.string()? {
            Some(name) => self.topics.push(Topic { name: name.to_owned(), partitions: Vec::new() }),
            None => self.everything = true,
        }
        Ok(())
    }

    /// Reads an array, and tells whether there was one.
    fn array(&mut self, fields: &[Field]) -> Result<bool, Malformed> {
        let Some(count) = self.reader.count()? else { return Ok(false) };
        for _ in 0..count {
            self.fields(fields)?;
        }
        Ok(true)
    }
}

#[cfg(test)]
mod tests;
