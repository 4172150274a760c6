//! Messages that random bytes would seldom hit upon: few names, so that chains, loops and
//! unconnected records come about, with and without compression, honest counts and false ones.

use arbitrary::{Result, Unstructured};

const NAMES: [&[&str]; 7] = [
    &["a", "test"],
    &["B", "TEST"],
    &["b", "test"],
    &["deep", "c", "b", "test"],
    &["x", "other"],
    &["test"],
    &[],
];
const KINDS: [u16; 12] = [1, 1, 28, 5, 5, 39, 65, 64, 16, 12, 41, 250];

/// A message, most likely a whole one.
pub fn message(input: &mut Unstructured<'_>) -> Result<Vec<u8>> {
    let mut counts =
        [1, input.int_in_range(0..=8)?, input.int_in_range(0..=2)?, input.int_in_range(0..=2)?];
    let flags = *input.choose(&[0x8180_u16, 0x0100, 0x8183, 0x8380, 0x2800, 0x0110])?;
    let mut message = Vec::from([0x12, 0x34]);
    message.extend(flags.to_be_bytes());
    message.resize(12, 0);
    name(input, &mut message)?;
    message.extend(input.choose(&[1_u16, 28, 65, 5, 255, 252])?.to_be_bytes());
    message.extend(input.choose(&[1_u16, 1, 1, 1, 3])?.to_be_bytes());
    for _ in 0..counts[1..].iter().sum() {
        record(input, &mut message)?;
    }
    if input.ratio(1, 16)? {
        let section = input.int_in_range(0..=3)?;
        counts[section] = input.int_in_range(0..=3)?;
    }
    for (place, count) in (4..).step_by(2).zip(counts) {
        message[place..place + 2].copy_from_slice(&(count as u16).to_be_bytes());
    }
    if input.ratio(1, 16)? {
        let at = input.int_in_range(12..=message.len() - 1)?;
        message[at] = input.arbitrary()?;
    }
    Ok(message)
}

fn record(input: &mut Unstructured<'_>, message: &mut Vec<u8>) -> Result<()> {
    let kind = *input.choose(&KINDS)?;
    name(input, message)?;
    message.extend(kind.to_be_bytes());
    message.extend(input.choose(&[1_u16, 1, 1, 1, 1, 1, 1, 3])?.to_be_bytes());
    message.extend(input.choose(&[0_u32, 30, 300, 100_000, u32::MAX])?.to_be_bytes());
    let length_at = message.len();
    message.extend([0, 0]);
    data(input, kind, message)?;
    let length = (message.len() - length_at - 2) as u16;
    message[length_at..length_at + 2].copy_from_slice(&length.to_be_bytes());
    Ok(())
}

fn data(input: &mut Unstructured<'_>, kind: u16, message: &mut Vec<u8>) -> Result<()> {
    match kind {
        1 => message.extend([192, 0, 2, input.arbitrary()?]),
        28 => message.extend(input.arbitrary::<[u8; 16]>()?),
        5 | 12 | 39 => name(input, message)?,
        16 => message.extend(b"\x04text"),
        64 | 65 => service(input, message)?,
        _ => message.extend(input.bytes(4)?),
    }
    Ok(())
}

fn service(input: &mut Unstructured<'_>, message: &mut Vec<u8>) -> Result<()> {
    message.extend([0, input.int_in_range(0..=2)?]);
    name(input, message)?;
    for (key, size) in [(1, 3), (4, 4), (4, 8), (6, 16)] {
        if input.ratio(1, 2)? {
            message.extend([0, key, 0, size]);
            let value = if key == 1 { b"\x02h2".to_vec() } else { vec![7; usize::from(size)] };
            message.extend(value);
        }
    }
    Ok(())
}

/// A name, now and then by a pointer to somewhere before.
fn name(input: &mut Unstructured<'_>, message: &mut Vec<u8>) -> Result<()> {
    for label in *input.choose(&NAMES)? {
        if message.len() > 12 && input.ratio(1, 6)? {
            let target =
                if input.ratio(3, 4)? { 12 } else { input.int_in_range(0..=message.len())? };
            message.extend((0xc000 | target as u16).to_be_bytes());
            return Ok(());
        }
        message.push(label.len() as u8);
        message.extend(label.as_bytes());
    }
    message.push(0);
    Ok(())
}
