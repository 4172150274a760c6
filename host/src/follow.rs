//! Follows what one netlink socket says about the node: a dump of the links, a dump of the
//! addresses, and notifications between and after them. Pure.
//!
//! The socket has joined the groups before the first dump is asked for, so whatever changes after
//! a dump has passed it comes as a notification, in order. A socket that lost a notification
//! (ENOBUFS) is at its end: the next one starts with a follower of its own, made by `after`.

use std::collections::BTreeSet;
use std::io;

use model::Interface;

use crate::node::{Node, PeerNamespace, Update};

/// Something to ask the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Request {
    DumpLinks,
    DumpAddresses,
    ReadLink(Interface),
}

/// A message to a follower, as far as it is its business.
#[derive(Debug)]
pub(crate) enum Input {
    /// A notification, or part of a dump.
    Update(Update),
    /// A dump that the kernel said was disturbed: it may lack something.
    Disturbed,
    /// The end of the dump under this sequence number.
    Done(u32),
    /// The refusal of the request under this sequence number.
    Refused(u32, io::Error),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Links,
    Addresses,
    Following,
}

/// What is known of the node through one socket.
#[derive(Debug)]
pub(crate) struct Follower {
    earlier: Node,
    node: Node,
    stage: Stage,
    disturbed: bool,
    /// The sequence number of the dump that runs.
    dump: u32,
    next_sequence: u32,
    wanted: Option<Request>,
    reread: BTreeSet<Interface>,
    changed: bool,
}

impl Follower {
    /// A follower for a new socket; `earlier` is what the one before it knew.
    pub(crate) fn after(earlier: Node) -> Self {
        Self {
            node: earlier.successor(),
            earlier,
            stage: Stage::Links,
            disturbed: false,
            dump: 0,
            next_sequence: 1,
            wanted: Some(Request::DumpLinks),
            reread: BTreeSet::new(),
            changed: false,
        }
    }

    /// The next request to send, with its sequence number.
    pub(crate) fn poll_request(&mut self) -> Option<(u32, Request)> {
        let request = match self.wanted.take() {
            Some(dump) => dump,
            None if self.stage == Stage::Following => Request::ReadLink(self.reread.pop_first()?),
            None => return None,
        };
        let sequence = self.next_sequence;
        self.next_sequence = self.next_sequence.wrapping_add(1).max(1);
        if !matches!(request, Request::ReadLink(_)) {
            self.dump = sequence;
            self.disturbed = false;
        }
        Some((sequence, request))
    }

    /// The node as it is now, if it is known whole and has changed since the last time.
    pub(crate) fn poll_snapshot(&mut self) -> Option<&Node> {
        let due = self.stage == Stage::Following && std::mem::take(&mut self.changed);
        due.then_some(&self.node)
    }

    /// What the next follower should know: this one's node, or the earlier one's if this one has
    /// not come so far.
    pub(crate) fn into_known(self) -> Node {
        match self.stage {
            Stage::Following => self.node,
            Stage::Links | Stage::Addresses => self.earlier,
        }
    }

    /// Takes a message. An error means that the kernel refused a dump.
    pub(crate) fn handle_input(&mut self, input: Input) -> io::Result<()> {
        match input {
            Input::Update(update) => self.handle_update(update),
            Input::Disturbed => self.disturbed = true,
            Input::Done(sequence) if sequence == self.dump => self.handle_dump_done(),
            Input::Refused(sequence, error) if sequence == self.dump => return Err(error),
            // A link asked for singly may be gone by then, and its going is notified.
            Input::Done(_) | Input::Refused(..) => {}
        }
        Ok(())
    }

    fn handle_update(&mut self, update: Update) {
        if let Update::LinkGone(index) = update {
            self.note_departure(index);
        }
        self.changed |= self.node.apply(update);
    }

    /// When one end of a veth moves to another namespace, it is gone from here, and nothing is
    /// said of the end that stays although its peer's namespace is another now.
    fn note_departure(&mut self, gone: Interface) {
        self.reread.remove(&gone);
        let Some(peer) = self.node.link(gone).and_then(crate::Link::peer) else { return };
        if peer.namespace == PeerNamespace::Here && self.node.link(Interface(peer.index)).is_some()
        {
            self.reread.insert(Interface(peer.index));
        }
    }

    fn handle_dump_done(&mut self) {
        self.dump = 0;
        self.wanted = match (self.stage, self.disturbed) {
            (Stage::Links, true) => Some(Request::DumpLinks),
            (Stage::Links, false) | (Stage::Addresses, true) => {
                self.stage = Stage::Addresses;
                Some(Request::DumpAddresses)
            }
            (Stage::Addresses, false) => {
                self.stage = Stage::Following;
                self.node.recognise(&std::mem::take(&mut self.earlier));
                self.changed = true;
                None
            }
            (Stage::Following, _) => None,
        };
    }
}

#[cfg(test)]
mod tests;
