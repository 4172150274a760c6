//! Reads programs, and those that they go on with by tail calls.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::os::fd::AsFd;

use crate::map::Map;
use crate::sys::program;
use crate::sys::{self, kind};

use super::calls::Calls;
use super::{Redirects, Unread};

/// So many programs are remembered, and so read anew in one look.
const PROGRAMS: usize = 4096;
/// So many places of arrays of programs are looked at in one look.
const PLACES: usize = 1 << 18;

/// What is known of programs by their numbers, which the kernel does not use twice.
#[derive(Debug, Default)]
pub struct Reader {
    calls: Option<Calls>,
    known: BTreeMap<u32, Known>,
    /// What the arrays of programs hold, as far as this look has read them.
    arrays: BTreeMap<u32, Result<Vec<u32>, Unread>>,
    places_left: usize,
}

/// A program.
#[derive(Debug)]
struct Known {
    name: String,
    redirects: Redirects,
    /// The numbers of the arrays that it may go on with a program of.
    arrays: Vec<u32>,
    /// Whether this look has come upon it.
    seen: bool,
}

impl Reader {
    /// Begins a look at these programs, and those that they lead to; what the last one did not come
    /// upon is forgotten.
    pub fn begin(&mut self, programs: impl Iterator<Item = u32>) {
        let wanted: BTreeSet<u32> = programs.collect();
        self.known.retain(|id, known| std::mem::take(&mut known.seen) || wanted.contains(id));
        self.arrays.clear();
        self.places_left = PLACES;
    }

    /// The name of a program that was read.
    pub fn name(&self, id: u32) -> Option<&str> {
        self.known.get(&id).map(|known| known.name.as_str())
    }

    /// What a program, or one that it goes on with, does to a packet's way: the worst of it.
    pub fn redirects(&mut self, id: u32) -> Redirects {
        let mut worst = Redirects::Never;
        let mut met = BTreeSet::from([id]);
        let mut next = vec![id];
        while let Some(id) = next.pop() {
            let (redirects, arrays) = match self.read(id) {
                Ok(Some(known)) => (known.redirects.clone(), known.arrays.clone()),
                Ok(None) => continue,
                Err(unread) => (Redirects::Unread(unread), Vec::new()),
            };
            worst = worse(worst, redirects);
            for array in arrays {
                match self.array(array) {
                    Ok(programs) => next.extend(programs.iter().filter(|id| met.insert(**id))),
                    Err(unread) => worst = worse(worst, Redirects::Unread(*unread)),
                }
            }
        }
        worst
    }

    /// A program; none if it is gone.
    fn read(&mut self, id: u32) -> Result<Option<&Known>, Unread> {
        if !self.known.contains_key(&id) {
            if self.known.len() >= PROGRAMS {
                return Err(Unread::TooMany);
            }
            let Some(known) = self.read_anew(id)? else { return Ok(None) };
            self.known.insert(id, known);
        }
        let known = self.known.get_mut(&id);
        Ok(known.map(|known| {
            known.seen = true;
            &*known
        }))
    }

    fn read_anew(&mut self, id: u32) -> Result<Option<Known>, Unread> {
        let found = program::by_id(id).and_then(|program| program::read(program.as_fd()));
        let Some(found) = present(found)? else { return Ok(None) };
        if self.calls.is_none() {
            self.calls = Calls::learn().map_err(|_| Unread::CallsHidden)?;
        }
        let calls = self.calls.filter(|_| !found.instructions.is_empty());
        let redirects = calls.map_or(Redirects::Unread(Unread::CallsHidden), |calls| {
            calls.judge(&found.name, &found.instructions)
        });
        let arrays = found.maps.into_iter().filter(|map| is_program_array(*map)).collect();
        Ok(Some(Known { name: found.name, redirects, arrays, seen: false }))
    }

    fn array(&mut self, id: u32) -> &Result<Vec<u32>, Unread> {
        let places = &mut self.places_left;
        self.arrays.entry(id).or_insert_with(|| read_array(id, places))
    }
}

fn is_program_array(id: u32) -> bool {
    let info = program::map_by_id(id).and_then(|map| sys::map_info(map.as_fd()));
    // What cannot be told is looked at, and then found unread.
    info.map_or(true, |info| info.kind == kind::PROGRAM_ARRAY)
}

fn read_array(id: u32, places: &mut usize) -> Result<Vec<u32>, Unread> {
    let Some(map) = present(program::map_by_id(id))? else { return Ok(Vec::new()) };
    let info = sys::map_info(map.as_fd()).map_err(|_| Unread::NotPermitted)?;
    let size = info.max_entries as usize;
    *places = places.checked_sub(size).ok_or(Unread::TooMany)?;
    let map = Map::<u32, u32>::new("programs", map).map_err(|_| Unread::NotPermitted)?;
    let programs = (0..info.max_entries).map(|index| map.lookup(&index));
    let programs: io::Result<Vec<_>> = programs.filter_map(Result::transpose).collect();
    programs.map_err(|_| Unread::NotPermitted)
}

/// What was opened by its number; none if it is gone.
fn present<T>(opened: io::Result<T>) -> Result<Option<T>, Unread> {
    match opened {
        Ok(found) => Ok(Some(found)),
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(None),
        Err(_) => Err(Unread::NotPermitted),
    }
}

/// What matters more of two programs that a packet may meet.
fn worse(one: Redirects, other: Redirects) -> Redirects {
    const fn weight(redirects: &Redirects) -> u8 {
        match redirects {
            Redirects::Never => 0,
            Redirects::ToInterface => 1,
            Redirects::Unread(_) => 2,
            Redirects::IntoNamespace { .. } => 3,
        }
    }
    if weight(&other) > weight(&one) { other } else { one }
}
