//! Kafka's primitive types, read and written, in their plain and their flexible form (KIP-482).

use super::Malformed;

/// Bytes of a message that are read in order.
#[derive(Clone)]
pub(super) struct Reader<'a> {
    whole: &'a [u8],
    rest: &'a [u8],
    /// Whether strings, bytes and arrays are compact, and structures end with tagged fields.
    pub flexible: bool,
}

impl<'a> Reader<'a> {
    pub const fn new(bytes: &'a [u8]) -> Self {
        Self { whole: bytes, rest: bytes, flexible: false }
    }

    pub const fn is_at_end(&self) -> bool {
        self.rest.is_empty()
    }

    /// How many bytes were read.
    pub const fn position(&self) -> usize {
        self.whole.len() - self.rest.len()
    }

    pub fn take(&mut self, count: usize) -> Result<&'a [u8], Malformed> {
        let (taken, rest) = self.rest.split_at_checked(count).ok_or(Malformed)?;
        self.rest = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        let (taken, rest) = self.rest.split_first_chunk().ok_or(Malformed)?;
        self.rest = rest;
        Ok(*taken)
    }

    pub fn i16(&mut self) -> Result<i16, Malformed> {
        self.array().map(i16::from_be_bytes)
    }

    pub fn i32(&mut self) -> Result<i32, Malformed> {
        self.array().map(i32::from_be_bytes)
    }

    /// Seven bits a byte, the lowest first; at most five bytes, in the shortest form.
    pub fn varint(&mut self) -> Result<u32, Malformed> {
        let mut value = 0_u64;
        for shift in 0..5 {
            let [byte] = self.array()?;
            value |= u64::from(byte & 0x7f) << (7 * shift);
            if byte & 0x80 == 0 {
                let shortest = byte != 0 || shift == 0;
                return u32::try_from(value).ok().filter(|_| shortest).ok_or(Malformed);
            }
        }
        Err(Malformed)
    }

    /// A length or count; none for what is absent.
    fn length(&mut self, plain: i64) -> Result<Option<usize>, Malformed> {
        let length = if self.flexible { i64::from(self.varint()?) - 1 } else { plain };
        match length {
            -1 => Ok(None),
            length => usize::try_from(length).map(Some).map_err(|_| Malformed),
        }
    }

    /// How many elements an array has; none where it is absent. Each is a byte at least.
    pub fn count(&mut self) -> Result<Option<usize>, Malformed> {
        let plain = if self.flexible { 0 } else { i64::from(self.i32()?) };
        let count = self.length(plain)?;
        if count.is_some_and(|count| count > self.rest.len()) { Err(Malformed) } else { Ok(count) }
    }

    pub fn string(&mut self) -> Result<Option<&'a str>, Malformed> {
        let plain = if self.flexible { 0 } else { i64::from(self.i16()?) };
        let Some(length) = self.length(plain)? else { return Ok(None) };
        str::from_utf8(self.take(length)?).map(Some).map_err(|_| Malformed)
    }

    /// A string in plain form, whatever the message's.
    pub fn nullable_string(&mut self) -> Result<Option<&'a str>, Malformed> {
        let flexible = std::mem::replace(&mut self.flexible, false);
        let string = self.string();
        self.flexible = flexible;
        string
    }

    pub fn bytes(&mut self) -> Result<Option<&'a [u8]>, Malformed> {
        let plain = if self.flexible { 0 } else { i64::from(self.i32()?) };
        self.length(plain)?.map(|length| self.take(length)).transpose()
    }

    /// The tagged fields at a structure's end, where there are any. They are passed over: none of
    /// those of the versions in the tables names a topic.
    pub fn tags(&mut self) -> Result<(), Malformed> {
        if !self.flexible {
            return Ok(());
        }
        for _ in 0..self.varint()? {
            self.varint()?;
            let size = self.varint()?;
            self.take(size as usize)?;
        }
        Ok(())
    }
}

/// Bytes of a message that are written in order.
#[derive(Default)]
pub(super) struct Writer {
    pub bytes: Vec<u8>,
    /// As [`Reader::flexible`].
    pub flexible: bool,
}

impl Writer {
    pub fn put(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    pub fn varint(&mut self, mut value: u32) {
        while value >= 0x80 {
            self.bytes.push(value.to_le_bytes()[0] | 0x80);
            value >>= 7;
        }
        self.bytes.push(value.to_le_bytes()[0]);
    }

    /// The count of an array. What is counted was read from a request, or stands in the tables.
    pub fn count(&mut self, count: usize) {
        let count = u32::try_from(count).unwrap_or(u32::MAX - 1);
        if self.flexible { self.varint(count + 1) } else { self.put(&count.to_be_bytes()) }
    }

    pub fn string(&mut self, text: &str) {
        // No topic is longer: it was read with a length of two bytes, or cut here.
        let bytes = &text.as_bytes()[..text.len().min(i16::MAX as usize)];
        if self.flexible {
            self.count(bytes.len());
        } else {
            let length = u16::try_from(bytes.len()).unwrap_or_default();
            self.put(&length.to_be_bytes());
        }
        self.put(bytes);
    }

    pub fn null_string(&mut self) {
        if self.flexible { self.varint(0) } else { self.put(&(-1_i16).to_be_bytes()) }
    }

    pub fn empty_bytes(&mut self) {
        self.count(0);
    }

    pub fn tags(&mut self) {
        if self.flexible {
            self.bytes.push(0);
        }
    }
}
