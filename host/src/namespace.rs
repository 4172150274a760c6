//! Which interface of the node leads into a network namespace.
//!
//! Whoever is root in the namespace can give its interfaces any name, address or number, so nothing
//! is read inside it. The node's own list of links says for every veth in which namespace its other
//! end is, by a number that only the kernel assigns; the same kernel says the number of the
//! namespace at a path. Where both agree, the veth leads there.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use futures::StreamExt;
use model::Interface;
use nix::libc;
use rtnetlink::packet_core::{NLM_F_REQUEST, NetlinkMessage, NetlinkPayload};
use rtnetlink::packet_route::RouteNetlinkMessage;
use rtnetlink::packet_route::nsid::{NsidAttribute, NsidMessage};

use crate::message;
use crate::netlink::{self, NetlinkError};
use crate::node::{Link, Peer, PeerNamespace};

const OWN_NAMESPACE: &str = "/proc/thread-self/ns/net";

/// Why no interface could be told.
#[derive(Debug, thiserror::Error)]
pub enum NamespaceError {
    /// Nothing is at the path.
    #[error("{}: there is no such namespace", .0.display())]
    Missing(PathBuf),
    /// What is at the path cannot be opened.
    #[error("{}: {source}", path.display())]
    Unreadable {
        /// The path.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// What is at the path is something else.
    #[error("{}: this is not a network namespace", .0.display())]
    NotANamespace(PathBuf),
    /// The path is that of the node's own namespace.
    #[error("{}: this is the node's own network namespace", .0.display())]
    Own(PathBuf),
    /// No veth leads there.
    #[error("{}: no veth of the node leads into this namespace", .0.display())]
    NoneLeadsThere(PathBuf),
    /// A device of another kind leads there.
    #[error(
        "{}: the netkit device {name} leads into this namespace, not a veth: its own programs come \
         before others, so it is not supported", path.display()
    )]
    NetkitLeadsThere {
        /// The path.
        path: PathBuf,
        /// The device's name.
        name: String,
    },
    /// More than one veth leads there.
    #[error(
        "{}: {} veths of the node lead into this namespace ({}); name one by the annotation \
         fqdnd.io/interface", path.display(), names.len(), names.join(", ")
    )]
    SeveralLeadThere {
        /// The path.
        path: PathBuf,
        /// Their names.
        names: Vec<String>,
    },
    /// The kernel did not answer.
    #[error(transparent)]
    Netlink(#[from] NetlinkError),
}

/// The one veth of the node whose other end is in the namespace at `path`.
///
/// The answer holds for the moment: until the pod's root moves its end elsewhere, or the node's
/// root adds a second veth. Ask again when the node's links or its
/// mounts have changed.
pub async fn host_side(path: &Path) -> Result<Interface, NamespaceError> {
    let namespace = open(path)?;
    let handle = netlink::connect()?;
    let number = match number(&handle, &namespace, path).await? {
        Some(number) => number,
        // Listing a pair's end gives the namespace of its other end a number, if it had none.
        None => {
            pairs(&handle).await?;
            number(&handle, &namespace, path)
                .await?
                .ok_or_else(|| NamespaceError::NoneLeadsThere(path.to_owned()))?
        }
    };
    // The number is the namespace's for as long as it is open here.
    let there = PeerNamespace::Numbered(number);
    leading(&pairs(&handle).await?, there, path)
}

/// The one of these links that leads to a namespace.
fn leading(links: &[Link], there: PeerNamespace, path: &Path) -> Result<Interface, NamespaceError> {
    let leads = |peer: Option<Peer>| peer.is_some_and(|peer| peer.namespace == there);
    let veths: Vec<&Link> = links.iter().filter(|link| leads(link.peer())).collect();
    let netkit = links.iter().find(|link| leads(link.netkit_peer()));
    match (veths.as_slice(), netkit) {
        (_, Some(netkit)) => Err(NamespaceError::NetkitLeadsThere {
            path: path.to_owned(),
            name: netkit.name.clone(),
        }),
        ([], None) => Err(NamespaceError::NoneLeadsThere(path.to_owned())),
        ([one], None) => Ok(one.index),
        (several, None) => Err(NamespaceError::SeveralLeadThere {
            path: path.to_owned(),
            names: several.iter().map(|link| link.name.clone()).collect(),
        }),
    }
}

fn open(path: &Path) -> Result<File, NamespaceError> {
    let unreadable = |source: io::Error| match source.kind() {
        io::ErrorKind::NotFound => NamespaceError::Missing(path.to_owned()),
        _ => NamespaceError::Unreadable { path: path.to_owned(), source },
    };
    // Without O_NONBLOCK a named pipe at the path would hold us for ever.
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_NONBLOCK | libc::O_CLOEXEC)
        .open(path)
        .map_err(unreadable)?;
    let there = file.metadata().map_err(unreadable)?;
    let own = std::fs::metadata(OWN_NAMESPACE).map_err(unreadable)?;
    if (there.dev(), there.ino()) == (own.dev(), own.ino()) {
        return Err(NamespaceError::Own(path.to_owned()));
    }
    Ok(file)
}

/// The number by which the node's namespace knows the open one, if it knows it at all.
async fn number(
    handle: &rtnetlink::Handle,
    namespace: &File,
    path: &Path,
) -> Result<Option<i32>, NamespaceError> {
    let descriptor = u32::try_from(namespace.as_raw_fd()).unwrap_or(u32::MAX);
    let mut question = NsidMessage::default();
    question.attributes = vec![NsidAttribute::Fd(descriptor)];
    let mut request = NetlinkMessage::from(RouteNetlinkMessage::GetNsId(question));
    request.header.flags = NLM_F_REQUEST;
    let what = || format!("asking for the number of {}", path.display());
    let mut answers =
        handle.clone().request(request).map_err(|error| NetlinkError::new(what(), error))?;
    while let Some(answer) = answers.next().await {
        if let Some(source) = netlink::refusal(&answer.payload) {
            return Err(match source.raw_os_error() {
                Some(libc::EINVAL) => NamespaceError::NotANamespace(path.to_owned()),
                _ => NetlinkError { what: what(), source }.into(),
            });
        }
        if let NetlinkPayload::InnerMessage(RouteNetlinkMessage::NewNsId(answer)) = answer.payload {
            let number = answer.attributes.iter().find_map(|attribute| match attribute {
                NsidAttribute::Id(number) => Some(*number),
                _ => None,
            });
            return Ok(number.filter(|number| *number >= 0));
        }
    }
    Err(NetlinkError { what: what(), source: io::ErrorKind::UnexpectedEof.into() }.into())
}

/// The links that are one end of a pair.
async fn pairs(handle: &rtnetlink::Handle) -> Result<Vec<Link>, NetlinkError> {
    let dump = netlink::collect("listing links", handle.link().get().execute()).await?;
    let links = dump.iter().filter_map(message::link);
    Ok(links.filter(|link| link.peer().or(link.netkit_peer()).is_some()).collect())
}

#[cfg(test)]
mod tests;
