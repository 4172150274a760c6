//! What brings redirected packets to local sockets, and the proxy's answers back to pods.
//!
//! The program on a pod's veth assigns a packet to a proxy's socket and marks it `redirect`. Three
//! things of the node's must then be so, and are installed here:
//! - *routing*: an `ip rule` of each family sends the mark to a table whose only route makes every
//!   address local. It stands before all rules that a network plugin may have (priority 90), since
//!   a rule such as `to <pod> lookup main` would take the packet to the server it was meant for.
//! - *no translation*: kube-proxy would replace the server's address after the assignment, and the
//!   answer's source too. An nftables table of our own takes packets with either mark out of
//!   connection tracking, and so out of every NAT rule. The proxy's own queries to servers carry no
//!   mark, and are tracked and translated as everybody's.
//! - *no way around*: a marked packet that is about to be forwarded (someone has removed the rule
//!   or the route) would reach the server unjudged. The table drops it.
//!
//! Where the L7 proxy uses pods' own addresses, what destinations answer has to come to its sockets
//! and not to the pods: connection tracking remembers the mark of such a connection, `upstream`,
//! and what comes back is marked `redirect`, whichever device it comes by and however it was
//! translated.
//!
//! What is right is not touched; what is ours and differs is replaced; others' rules are left
//! alone. Ours are known by their routing protocol number and by the name of the nftables table.
//!
//! An untracked packet is in state `untracked`: rules that drop `invalid` let it be, but a host
//! firewall that accepts only `established` and some ports on INPUT, or on OUTPUT, drops it. There
//! the marks must be accepted, and no table of ours can do that in another's stead.

mod routing;
mod table;

use std::fmt;

use rtnetlink::IpVersion;

use crate::mark::Marks;
use crate::netlink::{self, NetlinkError};
use crate::nft::NftError;

const IPV6_SWITCH: &str = "/proc/sys/net/ipv6/conf/lo/disable_ipv6";

/// An IP family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl Family {
    const fn version(self) -> IpVersion {
        match self {
            Self::V4 => IpVersion::V4,
            Self::V6 => IpVersion::V6,
        }
    }
}

impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::V4 => "IPv4",
            Self::V6 => "IPv6",
        })
    }
}

/// Why the redirection could not be installed, removed or looked at.
#[derive(Debug, thiserror::Error)]
pub enum RedirectError {
    /// A table that the kernel or the system uses.
    #[error("routing table {0} is not free for use: choose one other than 0 and 253 to 255")]
    ReservedTable(u32),
    /// A priority that comes too late, or before the local table.
    #[error("rule priority {0} is not between 1 and 32765")]
    Priority(u32),
    /// Somebody else keeps routes in the table.
    #[error("routing table {table} holds {family} routes that are not ours: choose another")]
    TableInUse {
        /// The table.
        table: u32,
        /// The routes' family.
        family: Family,
    },
    /// The kernel refused.
    #[error(transparent)]
    Netlink(#[from] NetlinkError),
    /// nftables refused.
    #[error(transparent)]
    Nft(#[from] NftError),
}

/// Something that is not as it must be, or that is in the way.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// The rule is not there.
    #[error("the {0} rule that sends redirected packets to local sockets is missing")]
    RuleMissing(Family),
    /// The route is not there.
    #[error("the {0} route that makes redirected packets local is missing")]
    RouteMissing(Family),
    /// A rule of ours that these settings do not ask for.
    #[error("a {0} rule or route of an earlier configuration is left over")]
    LeftOver(Family),
    /// Somebody else's rule looks at our bits.
    #[error(
        "the {family} rule with priority {priority} looks at our bits of the mark ({mark:#x}/\
         {mask:#x}): choose another mark mask"
    )]
    ForeignRule {
        /// The rule's family.
        family: Family,
        /// Its priority.
        priority: u32,
        /// The mark it looks for.
        mark: u32,
        /// The bits it looks at.
        mask: u32,
    },
    /// The nftables table is not there.
    #[error("the nftables table inet {} is missing", table::NAME)]
    TableMissing,
    /// The nftables table is not what it must be.
    #[error("the nftables table inet {} is not as it was installed", table::NAME)]
    TableDiffers,
}

/// What an installation found and did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Installed {
    /// Whether IPv6 is there; without it nothing is installed for it.
    pub ipv6: bool,
    /// Whether anything had to be changed.
    pub changed: bool,
}

/// The redirection's settings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Redirect {
    /// The bits of the mark.
    pub marks: Marks,
    /// The routing table, which must be ours alone.
    pub table: u32,
    /// The priority of the rules: before those of network plugins, after the local table's.
    pub priority: u32,
    /// Whether a proxy uses pods' own addresses.
    pub from_pods: bool,
}

impl Default for Redirect {
    fn default() -> Self {
        Self { marks: Marks::default(), table: 2005, priority: 90, from_pods: false }
    }
}

impl Redirect {
    /// Puts everything in place, by difference. The nftables table comes first and the rules last,
    /// so that nothing is half redirected in between.
    pub async fn install(&self) -> Result<Installed, RedirectError> {
        self.validate()?;
        let families = families();
        let mut changed = table::install(self).await?;
        let handle = netlink::connect()?;
        for family in families {
            changed |= routing::install(&handle, self, *family).await?;
        }
        let ipv6 = families.contains(&Family::V6);
        if !ipv6 {
            tracing::warn!("IPv6 is disabled on this node: nothing is redirected there");
        }
        Ok(Installed { ipv6, changed })
    }

    /// Takes away all that is ours, whatever settings it was installed with.
    pub async fn remove(&self) -> Result<(), RedirectError> {
        let handle = netlink::connect()?;
        for family in families() {
            routing::remove(&handle, self, *family).await?;
        }
        Ok(table::remove().await?)
    }

    /// What is missing or in the way; nothing if all is in place.
    pub async fn check(&self) -> Result<Vec<Fault>, RedirectError> {
        let handle = netlink::connect()?;
        let mut faults = Vec::new();
        for family in families() {
            faults.extend(routing::check(&handle, self, *family).await?);
        }
        faults.extend(table::check(self).await?);
        Ok(faults)
    }

    fn validate(&self) -> Result<(), RedirectError> {
        if matches!(self.table, 0 | 253..=255) {
            return Err(RedirectError::ReservedTable(self.table));
        }
        if !(1..=32765).contains(&self.priority) {
            return Err(RedirectError::Priority(self.priority));
        }
        Ok(())
    }
}

/// Whether the kernel knows routing rules at all.
pub(crate) async fn list_rules() -> Result<(), NetlinkError> {
    routing::rules(&netlink::connect()?, Family::V4).await.map(|_| ())
}

/// The families that the node speaks.
fn families() -> &'static [Family] {
    if ipv6_enabled() { &[Family::V4, Family::V6] } else { &[Family::V4] }
}

/// Whether packets can be made local by IPv6, on the loopback device of this namespace.
pub(crate) fn ipv6_enabled() -> bool {
    std::fs::read_to_string(IPV6_SWITCH).is_ok_and(|text| text.trim() == "0")
}

#[cfg(test)]
mod tests;
