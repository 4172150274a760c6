//! The 120 rules that every proxy has, and the names that are asked for under them.

use std::fmt::Write as _;
use std::sync::atomic::{AtomicU32, Ordering};

use super::batch::SIZE;

/// Rules that name one name each.
pub const EXACT: u32 = 100;
/// Rules that name all names under a zone, one label deep.
pub const ZONES: u32 = 20;
/// How many names a client asks for again and again.
const WORKING_SET: u32 = 2000;

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Names {
    /// A set of names, again and again.
    Working,
    /// Every time another name, with addresses that no name before it had.
    Fresh,
}

/// The name of a rule of its own.
pub fn exact(number: u32) -> String {
    format!("www{number}.bench.example.com")
}

/// The zone of a rule.
pub fn zone(number: u32) -> String {
    format!("zone{number}.example.net")
}

/// The policy with the rules, for the pods that `app` names, asking `server`.
pub fn policy(app: &str, server: &str) -> String {
    let mut rules = String::new();
    // Writing to a String cannot fail.
    for number in 0..EXACT {
        let _ = writeln!(rules, "        - matchName: {}", exact(number));
    }
    for number in 0..ZONES {
        let _ = writeln!(rules, "        - matchPattern: \"*.{}\"", zone(number));
    }
    format!(
        "apiVersion: cilium.io/v2\n\
         kind: CiliumNetworkPolicy\n\
         metadata: {{name: bench, namespace: default}}\n\
         spec:\n\
         \x20 endpointSelector: {{matchLabels: {{app: {app}}}}}\n\
         \x20 egress:\n\
         \x20 - toCIDR: [{server}/32]\n\
         \x20   toPorts:\n\
         \x20   - ports: [{{port: \"53\", protocol: ANY}}]\n\
         \x20     rules:\n\
         \x20       dns:\n{rules}\
         \x20 - toFQDNs:\n{rules}"
    )
}

/// Writes queries, one after the other.
pub struct Queries {
    /// Each name on the wire.
    working: Vec<Vec<u8>>,
    names: Names,
    next: u32,
}

impl Names {
    /// The set of names that is asked for again and again.
    pub fn working() -> impl Iterator<Item = String> {
        (0..WORKING_SET).map(|number| match number {
            0..EXACT => exact(number),
            _ => format!("h{number}.{}", zone(number % ZONES)),
        })
    }
}

impl Queries {
    pub fn new(names: Names) -> Self {
        static FRESH: AtomicU32 = AtomicU32::new(0);
        let working = Names::working().map(|name| wire(&name));
        // No two runs ask for the same fresh names.
        let next = match names {
            Names::Working => 0,
            Names::Fresh => FRESH.fetch_add(10_000_000, Ordering::Relaxed),
        };
        Self { working: working.collect(), names, next }
    }

    /// Writes the next query and returns its length.
    pub fn write(&mut self, id: u16, bytes: &mut [u8; SIZE]) -> usize {
        let number = self.next;
        self.next = self.next.wrapping_add(1);
        bytes[..2].copy_from_slice(&id.to_be_bytes());
        bytes[2..12].copy_from_slice(&[1, 0, 0, 1, 0, 0, 0, 0, 0, 0]);
        let fresh;
        let name = match self.names {
            // A stride that meets every name, but not in order.
            Names::Working => &self.working[(number.wrapping_mul(7919) % WORKING_SET) as usize],
            Names::Fresh => {
                fresh = wire(&format!("u{number:08}.{}", zone(number % ZONES)));
                &fresh
            }
        };
        let end = 12 + name.len();
        bytes[12..end].copy_from_slice(name);
        bytes[end..end + 4].copy_from_slice(&[0, 1, 0, 1]);
        end + 4
    }
}

fn wire(name: &str) -> Vec<u8> {
    let mut wire = Vec::with_capacity(name.len() + 2);
    for label in name.split('.') {
        wire.push(label.len() as u8);
        wire.extend(label.as_bytes());
    }
    wire.push(0);
    wire
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_is_one_question_for_an_address() {
        let mut bytes = [0; SIZE];
        let length = Queries::new(Names::Working).write(7, &mut bytes);
        let expected =
            b"\0\x07\x01\0\0\x01\0\0\0\0\0\0\x04www0\x05bench\x07example\x03com\0\0\x01\0\x01";
        assert_eq!(bytes[..length], expected[..]);
    }
}
