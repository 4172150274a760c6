//! What an upstream answer says: its code, and the addresses that its question leads to.
//!
//! Only records of class IN that the question's name reaches count: at the name itself, and at
//! the names that CNAME and DNAME records lead to, whatever the order of the records. Each alias
//! is followed once and the chain has a bound, so loops end. Of several aliases at one name the
//! first is followed. The additional section gives no address, and no PTR record ever does.
//!
//! TTLs are capped in the message while it is read, each before anything behind it means something:
//! a name may lead, by a pointer, through the bytes of a TTL, and what is judged must be what its
//! client reads.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::ops::Range;

use model::{NameBuf, NameRef};

use crate::header::{Flags, Header, Rcode};
use crate::question::Question;
use crate::rewrite::{cap_ttl, effective_ttl};
use crate::wire::{self, CLASS_IN, Malformed, Record, kind};

/// The most aliases that are followed from the question's name.
const MAX_CHAIN: usize = 16;

/// The service parameter `ipv4hint` (RFC 9460, 14.3.2).
const IPV4_HINT: u16 = 4;
/// The service parameter `ipv6hint`.
const IPV6_HINT: u16 = 6;

/// An address that an answer gives to its question's name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Address {
    /// The address.
    pub ip: IpAddr,
    /// The least TTL, in seconds, of the record and of the aliases that led to it.
    pub ttl: u32,
}

/// An answer, read. Kept and read again and again, it allocates only while it grows.
#[derive(Debug, Default)]
pub struct Answer {
    /// The response code.
    pub rcode: Rcode,
    /// Whether the answer is cut short.
    pub truncated: bool,
    /// Whether the chain of aliases went on past its bound.
    pub chain_cut: bool,
    /// The addresses of the question's name.
    pub addresses: Vec<Address>,
    /// All records, in the order of the message.
    pub(crate) records: Vec<Record>,
    /// For each record of the answer section: whether it was used already.
    used: Vec<bool>,
}

impl Answer {
    /// Reads a message with one question, and lowers every TTL over `max_ttl` seconds in it, in all
    /// sections, so that its client asks again in time. The addresses keep the TTLs that were sent.
    /// After an error nothing of the message counts, and some of its TTLs may be lowered.
    pub fn read(&mut self, message: &mut [u8], max_ttl: u32) -> Result<(), Malformed> {
        let read = self.read_all(message, max_ttl);
        if read.is_err() {
            self.clear();
        }
        read
    }

    fn clear(&mut self) {
        self.rcode = Rcode::SERVFAIL;
        self.truncated = false;
        self.chain_cut = false;
        self.addresses.clear();
        self.records.clear();
        self.used.clear();
    }

    /// The names that the question's name is an alias of, in the order of their records, as they
    /// stand in `message`, which this was read from.
    pub fn cnames(&self, message: &[u8]) -> impl Iterator<Item = NameBuf> {
        let records = self.records.iter().zip(&self.used);
        let followed = records.filter(|(record, used)| **used && record.kind == kind::CNAME);
        followed.filter_map(|(record, _)| {
            let mut target = NameBuf::new();
            read_target(message, record, &mut target).ok().map(|()| target)
        })
    }

    fn read_all(&mut self, message: &mut [u8], max_ttl: u32) -> Result<(), Malformed> {
        self.clear();
        let header = wire::one_question(message)?;
        self.truncated = header.flags.has(Flags::TRUNCATED);
        let question = Question::read(message)?;
        let (at, class, name) = (question.end(), question.qclass, question.name);
        self.read_records(message, at, header, max_ttl)?;
        if class == CLASS_IN { self.follow(message, name) } else { Ok(()) }
    }

    fn read_records(
        &mut self,
        message: &mut [u8],
        mut at: usize,
        header: Header,
        max_ttl: u32,
    ) -> Result<(), Malformed> {
        let Header { answers, authorities, additionals, .. } = header;
        let additional = usize::from(answers) + usize::from(authorities);
        for _ in 0..additional + usize::from(additionals) {
            let (record, next) = wire::read_record(message, at)?;
            cap_ttl(&record, message, max_ttl);
            self.records.push(record);
            at = next;
        }
        self.used.resize(usize::from(answers), false);
        self.rcode = extended_rcode(header, &self.records[additional..]);
        if at == message.len() { Ok(()) } else { Err(Malformed::Trailing) }
    }

    /// Follows the chain from `name` and takes the addresses at each of its names.
    fn follow(&mut self, message: &[u8], mut name: NameBuf) -> Result<(), Malformed> {
        let mut ttl = u32::MAX;
        let mut next = NameBuf::new();
        for _ in 0..=MAX_CHAIN {
            self.take_addresses(message, name.as_ref(), ttl)?;
            let Some(alias_ttl) = self.take_alias(message, name.as_ref(), &mut next)? else {
                return Ok(());
            };
            ttl = ttl.min(alias_ttl);
            std::mem::swap(&mut name, &mut next);
        }
        self.chain_cut = true;
        Ok(())
    }

    fn take_addresses(
        &mut self,
        message: &[u8],
        name: NameRef<'_>,
        chain_ttl: u32,
    ) -> Result<(), Malformed> {
        for (record, used) in self.records.iter().zip(&mut self.used) {
            let carries = matches!(record.kind, kind::A | kind::AAAA | kind::SVCB | kind::HTTPS);
            if *used || !carries || record.class != CLASS_IN {
                continue;
            }
            if !wire::name_is(message, record.owner, name)? {
                continue;
            }
            *used = true;
            let ttl = effective_ttl(record.ttl).min(chain_ttl);
            let mut take = |ip| self.addresses.push(Address { ip, ttl });
            match record.kind {
                kind::A => take(ipv4(&message[record.data.clone()])?),
                kind::AAAA => take(ipv6(&message[record.data.clone()])?),
                _ => take_hints(message, record.data.clone(), &mut take)?,
            }
        }
        Ok(())
    }

    /// Writes where `name` leads to into `target`, and gives the alias's TTL.
    fn take_alias(
        &mut self,
        message: &[u8],
        name: NameRef<'_>,
        target: &mut NameBuf,
    ) -> Result<Option<u32>, Malformed> {
        for (record, used) in self.aliases(kind::CNAME) {
            if wire::name_is(message, record.owner, name)? {
                *used = true;
                read_target(message, record, target)?;
                return Ok(Some(effective_ttl(record.ttl)));
            }
        }
        for (record, used) in self.aliases(kind::DNAME) {
            let mut owner = NameBuf::new();
            wire::read_name(message, record.owner, &mut owner)?;
            let below = name.is_under(owner.as_ref()) && name != owner.as_ref();
            if below && substitute(message, record, name, owner.as_ref(), target)? {
                *used = true;
                return Ok(Some(effective_ttl(record.ttl)));
            }
        }
        Ok(None)
    }

    fn aliases(&mut self, kind: u16) -> impl Iterator<Item = (&Record, &mut bool)> {
        let of_kind = move |record: &Record| record.kind == kind && record.class == CLASS_IN;
        let records = self.records.iter().zip(&mut self.used);
        records.filter(move |(record, used)| !**used && of_kind(record))
    }
}

/// The header's code with the upper bits that an OPT record among `additional` adds.
fn extended_rcode(header: Header, additional: &[Record]) -> Rcode {
    let opt = additional.iter().find(|record| record.kind == kind::OPT);
    let upper = opt.map_or(0, |opt| (opt.ttl >> 24) as u16);
    Rcode(upper << 4 | header.flags.rcode().0)
}

/// Reads the name that is the whole data of an alias.
fn read_target(message: &[u8], record: &Record, target: &mut NameBuf) -> Result<(), Malformed> {
    let end = wire::read_name(message, record.data.start, target)?;
    if end == record.data.end { Ok(()) } else { Err(Malformed::Data) }
}

/// Replaces `owner` at the end of `name` by the data of a DNAME (RFC 6672, 2.2). Says whether the
/// result is a name; one that is too long leads nowhere.
fn substitute(
    message: &[u8],
    record: &Record,
    name: NameRef<'_>,
    owner: NameRef<'_>,
    target: &mut NameBuf,
) -> Result<bool, Malformed> {
    let mut suffix = NameBuf::new();
    read_target(message, record, &mut suffix)?;
    let kept = name.labels().count() - owner.labels().count();
    target.clear();
    let mut labels = name.labels().take(kept).chain(suffix.as_ref().labels());
    Ok(labels.all(|label| target.push(label).is_ok()))
}

fn ipv4(data: &[u8]) -> Result<IpAddr, Malformed> {
    let bytes: [u8; 4] = data.try_into().map_err(|_| Malformed::Data)?;
    Ok(Ipv4Addr::from(bytes).into())
}

fn ipv6(data: &[u8]) -> Result<IpAddr, Malformed> {
    let bytes: [u8; 16] = data.try_into().map_err(|_| Malformed::Data)?;
    Ok(Ipv6Addr::from(bytes).into())
}

/// Takes the address hints of an SVCB or HTTPS record; an alias form (priority 0) has none.
fn take_hints(
    message: &[u8],
    data: Range<usize>,
    take: &mut impl FnMut(IpAddr),
) -> Result<(), Malformed> {
    let (priority, _) = wire::split_u16(&message[data.clone()]).ok_or(Malformed::Data)?;
    let params = wire::skip_name(message, data.start + 2)?;
    let mut rest = message.get(params..data.end).ok_or(Malformed::Data)?;
    while !rest.is_empty() {
        let (key, tail) = wire::split_u16(rest).ok_or(Malformed::Data)?;
        let (length, tail) = wire::split_u16(tail).ok_or(Malformed::Data)?;
        let (value, tail) = tail.split_at_checked(usize::from(length)).ok_or(Malformed::Data)?;
        rest = tail;
        if priority == 0 {
            continue;
        }
        match key {
            IPV4_HINT => value.chunks(4).try_for_each(|hint| ipv4(hint).map(&mut *take))?,
            IPV6_HINT => value.chunks(16).try_for_each(|hint| ipv6(hint).map(&mut *take))?,
            _ => {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
