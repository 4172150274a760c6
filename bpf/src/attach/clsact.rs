//! Attaching by filters of a clsact qdisc, for kernels before 6.6.
//!
//! Our filters stand at a fixed priority under a fixed handle that nobody else picks by chance, so
//! one netlink request puts a new program in an old one's place, and detaching takes out ours alone.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::path::{Path, PathBuf};

use model::Interface;

use super::Attached;
use super::netlink::{self, Message, TrafficControl};
use crate::bpffs;

const RTM_NEWQDISC: u16 = 36;
const RTM_DELQDISC: u16 = 37;
const RTM_NEWTFILTER: u16 = 44;
const RTM_DELTFILTER: u16 = 45;
const RTM_GETQDISC: u16 = 38;
const RTM_GETTFILTER: u16 = 46;
const TCA_KIND: u16 = 1;
const TCA_OPTIONS: u16 = 2;
const TCA_BPF_FD: u16 = 6;
const TCA_BPF_NAME: u16 = 7;
const TCA_BPF_FLAGS: u16 = 8;
const TCA_BPF_ID: u16 = 11;
const ACT_DIRECT: u32 = 1;

const CLSACT: u32 = 0xffff_fff1;
const CLSACT_HANDLE: u32 = 0xffff_0000;
const INGRESS: u32 = 0xffff_fff2;
const EGRESS: u32 = 0xffff_fff3;

/// The first priority, where nobody's verdict comes before ours.
const PRIORITY: u32 = 1;
/// Within it, the filters of one classifier are told apart by this.
const HANDLE: u32 = 0x0f9d_0001;

const fn info() -> u32 {
    PRIORITY << 16 | (libc::ETH_P_ALL as u16).to_be() as u32
}

impl Attached {
    const fn parent(&self) -> u32 {
        if self.hook.is_ingress() { INGRESS } else { EGRESS }
    }

    fn filter(&self) -> TrafficControl {
        TrafficControl {
            interface: self.interface,
            handle: HANDLE,
            parent: self.parent(),
            info: info(),
        }
    }
}

/// Pins the program, which stands for the attachment, then puts the filter in its place.
pub fn attach(wanted: &Attached, links: &Path, program: BorrowedFd<'_>) -> io::Result<()> {
    make_qdisc(wanted.interface, links, program)?;
    let pin = wanted.pin(links);
    absent_is_fine(fs::remove_file(&pin), libc::ENOENT)?;
    bpffs::pin(program, &pin)?;
    let mut message = Message::new(RTM_NEWTFILTER, netlink::CREATE, wanted.filter());
    message.attribute(TCA_KIND, b"bpf\0");
    message.nested(TCA_OPTIONS, |options| {
        options.attribute(TCA_BPF_FD, &program.as_raw_fd().to_ne_bytes());
        let name = format!("fqdnd/{}\0", wanted.hook.name());
        options.attribute(TCA_BPF_NAME, name.as_bytes());
        options.attribute(TCA_BPF_FLAGS, &ACT_DIRECT.to_ne_bytes());
    });
    netlink::request(message)
}

/// Takes our filter out.
pub fn detach(attached: &Attached) -> io::Result<()> {
    if !is_attached(attached)? {
        return Ok(());
    }
    let mut message = Message::new(RTM_DELTFILTER, 0, attached.filter());
    message.attribute(TCA_KIND, b"bpf\0");
    gone_is_fine(netlink::request(message))
}

/// Whether our filter is there.
pub fn is_attached(attached: &Attached) -> io::Result<bool> {
    let filters = filters(attached.interface, attached.parent())?;
    Ok(filters.iter().any(|filter| filter.handle == HANDLE && filter.info == info()))
}

/// A filter as somebody made it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Filter {
    /// The number of the program that it is; none for filters of other kinds.
    pub program: Option<u32>,
    /// What it is called: by whoever made it, or else by its kind.
    pub name: String,
}

/// The filters of an interface's qdisc, in the order in which packets meet them.
pub fn all_filters(interface: Interface, ingress: bool) -> io::Result<Vec<Filter>> {
    let parent = if ingress { INGRESS } else { EGRESS };
    let place = TrafficControl { interface, handle: 0, parent, info: 0 };
    let mut found = Vec::new();
    let visited = netlink::visit(
        Message::new(RTM_GETTFILTER, netlink::DUMP, place),
        // Each priority stands once more for itself, with handle 0.
        |place, attributes| {
            if place.handle != 0 {
                found.push(Filter::read(attributes));
            }
        },
    );
    gone_is_fine(visited)?;
    Ok(found)
}

/// The interfaces that have a qdisc for such filters.
pub fn interfaces() -> io::Result<BTreeSet<Interface>> {
    let place = TrafficControl { interface: Interface(0), handle: 0, parent: 0, info: 0 };
    let qdiscs = netlink::dump(Message::new(RTM_GETQDISC, netlink::DUMP, place))?;
    let own = qdiscs.into_iter().filter(|qdisc| qdisc.parent == CLSACT);
    Ok(own.map(|qdisc| qdisc.interface).collect())
}

impl Filter {
    fn read(attributes: &[u8]) -> Self {
        let (mut kind, mut name, mut program) = (String::new(), None, None);
        for (number, value) in netlink::attributes(attributes) {
            match number {
                TCA_KIND => kind = text(value),
                TCA_OPTIONS => {
                    for (number, value) in netlink::attributes(value) {
                        match number {
                            TCA_BPF_ID => program = value.try_into().ok().map(u32::from_ne_bytes),
                            TCA_BPF_NAME => name = Some(text(value)),
                            _ => {}
                        }
                    }
                }
                _ => {}
            }
        }
        match kind.as_str() {
            "bpf" => Self { program, name: name.unwrap_or(kind) },
            _ => Self { program: None, name: kind },
        }
    }
}

fn text(value: &[u8]) -> String {
    let text = value.split(|byte| *byte == 0).next().unwrap_or_default();
    String::from_utf8_lossy(text).into_owned()
}

/// Makes the qdisc, and a note if it was not there before.
fn make_qdisc(interface: Interface, links: &Path, program: BorrowedFd<'_>) -> io::Result<()> {
    let place = TrafficControl { interface, handle: CLSACT_HANDLE, parent: CLSACT, info: 0 };
    let mut message = Message::new(RTM_NEWQDISC, netlink::CREATE | netlink::EXCLUSIVE, place);
    message.attribute(TCA_KIND, b"clsact\0");
    match netlink::request(message) {
        Ok(()) => {
            let note = note(interface, links);
            absent_is_fine(fs::remove_file(&note), libc::ENOENT)?;
            bpffs::pin(program, &note)
        }
        Err(error) if error.raw_os_error() == Some(libc::EEXIST) => Ok(()),
        Err(error) => Err(error),
    }
}

/// Takes the qdisc away if it was made here and holds no filter.
pub fn remove_qdisc(interface: Interface, links: &Path) -> io::Result<()> {
    let note = note(interface, links);
    if !note.exists() {
        return Ok(());
    }
    let used = [INGRESS, EGRESS]
        .into_iter()
        .map(|parent| filters(interface, parent).map(|found| !found.is_empty()))
        .collect::<io::Result<Vec<_>>>()?;
    if used.contains(&true) {
        return Ok(());
    }
    let place = TrafficControl { interface, handle: CLSACT_HANDLE, parent: CLSACT, info: 0 };
    let mut message = Message::new(RTM_DELQDISC, 0, place);
    message.attribute(TCA_KIND, b"clsact\0");
    gone_is_fine(netlink::request(message))?;
    fs::remove_file(note)
}

/// The pin that says that the qdisc is ours.
pub fn note(interface: Interface, links: &Path) -> PathBuf {
    links.join(format!("{interface}-qdisc"))
}

/// The filters at a parent; none where the interface or its qdisc is gone.
fn filters(interface: Interface, parent: u32) -> io::Result<Vec<TrafficControl>> {
    let place = TrafficControl { interface, handle: 0, parent, info: 0 };
    match netlink::dump(Message::new(RTM_GETTFILTER, netlink::DUMP, place)) {
        // Each priority stands once more for itself, with handle 0.
        Ok(found) => Ok(found.into_iter().filter(|filter| filter.handle != 0).collect()),
        Err(error) if is_gone(&error) => Ok(Vec::new()),
        Err(error) => Err(error),
    }
}

fn is_gone(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::ENODEV | libc::ENOENT | libc::EINVAL))
}

fn gone_is_fine(answer: io::Result<()>) -> io::Result<()> {
    match answer {
        Err(error) if is_gone(&error) => Ok(()),
        answer => answer,
    }
}

fn absent_is_fine(answer: io::Result<()>, code: i32) -> io::Result<()> {
    match answer {
        Err(error) if error.raw_os_error() == Some(code) => Ok(()),
        answer => answer,
    }
}
