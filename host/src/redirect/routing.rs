//! The rules and routes of the redirection, one of each a family.

use std::net::{Ipv4Addr, Ipv6Addr};

use nix::libc;
use rtnetlink::packet_route::AddressFamily;
use rtnetlink::packet_route::route::{
    RouteAttribute, RouteHeader, RouteMessage, RouteProtocol, RouteScope, RouteType,
};
use rtnetlink::packet_route::rule::{RuleAction, RuleAttribute, RuleMessage};
use rtnetlink::{Handle, RouteMessageBuilder};

use super::{Family, Fault, Redirect, RedirectError};
use crate::netlink::{self, NetlinkError};

/// The routing protocol number by which our rules and routes are known. It is none of those in
/// iproute2's rt_protos.
const PROTOCOL: RouteProtocol = RouteProtocol::Other(170);

/// The loopback device has this index in every namespace.
const LOOPBACK: u32 = 1;

/// What a rule says, as far as it matters here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Rule {
    priority: u32,
    mark: u32,
    mask: u32,
    table: u32,
    /// Whether it looks at nothing but the mark, and only leads to a table.
    plain: bool,
    ours: bool,
}

impl Rule {
    fn wanted(redirect: &Redirect) -> Self {
        Self {
            priority: redirect.priority,
            mark: redirect.marks.redirect(),
            mask: redirect.marks.mask(),
            table: redirect.table,
            plain: true,
            ours: true,
        }
    }

    fn read(message: &RuleMessage) -> Self {
        let header = &message.header;
        let mut rule = Self {
            priority: 0,
            mark: 0,
            mask: 0,
            table: u32::from(header.table),
            plain: header.action == RuleAction::ToTable
                && (header.dst_len, header.src_len, header.tos) == (0, 0, 0)
                && header.flags.is_empty(),
            ours: false,
        };
        for attribute in &message.attributes {
            match attribute {
                RuleAttribute::Priority(priority) => rule.priority = *priority,
                RuleAttribute::FwMark(mark) => rule.mark = *mark,
                RuleAttribute::FwMask(mask) => rule.mask = *mask,
                RuleAttribute::Table(table) => rule.table = *table,
                RuleAttribute::Protocol(protocol) => rule.ours = *protocol == PROTOCOL,
                RuleAttribute::SuppressPrefixLen(u32::MAX) => {}
                _ => rule.plain = false,
            }
        }
        rule
    }
}

/// Which of the rules found are to go, and whether the wanted one is to be added.
struct Plan<'a> {
    surplus: Vec<&'a (Rule, RuleMessage)>,
    missing: bool,
}

impl<'a> Plan<'a> {
    fn new(wanted: Rule, found: &'a [(Rule, RuleMessage)]) -> Self {
        let mut missing = true;
        let mut surplus = Vec::new();
        for entry in found.iter().filter(|(rule, _)| rule.ours) {
            if entry.0 == wanted && missing {
                missing = false;
            } else {
                surplus.push(entry);
            }
        }
        Self { surplus, missing }
    }
}

/// Installs route and rule, the route first; says whether anything had to be changed.
pub(super) async fn install(
    handle: &Handle,
    redirect: &Redirect,
    family: Family,
) -> Result<bool, RedirectError> {
    let routes = routes(handle, redirect.table, family).await?;
    if routes.iter().any(|route| route.header.protocol != PROTOCOL) {
        return Err(RedirectError::TableInUse { table: redirect.table, family });
    }
    let route_missing = !routes.iter().any(makes_local);
    if route_missing {
        add_route(handle, redirect.table, family).await?;
    }
    let rules = rules(handle, family).await?;
    let plan = Plan::new(Rule::wanted(redirect), &rules);
    if plan.missing {
        add_rule(handle, redirect, family).await?;
    }
    for (rule, message) in &plan.surplus {
        delete_rule(handle, message.clone(), family).await?;
        if rule.table != redirect.table {
            delete_routes(handle, rule.table, family).await?;
        }
    }
    Ok(route_missing || plan.missing || !plan.surplus.is_empty())
}

/// Removes our rules, and our routes in the tables that they lead to.
pub(super) async fn remove(
    handle: &Handle,
    redirect: &Redirect,
    family: Family,
) -> Result<(), RedirectError> {
    for (rule, message) in rules(handle, family).await? {
        if !rule.ours {
            continue;
        }
        delete_rule(handle, message, family).await?;
        delete_routes(handle, rule.table, family).await?;
    }
    Ok(delete_routes(handle, redirect.table, family).await?)
}

/// What is missing, left over, or in the way.
pub(super) async fn check(
    handle: &Handle,
    redirect: &Redirect,
    family: Family,
) -> Result<Vec<Fault>, RedirectError> {
    let mut faults = Vec::new();
    let routes = routes(handle, redirect.table, family).await?;
    if !routes.iter().any(makes_local) {
        faults.push(Fault::RouteMissing(family));
    }
    let rules = rules(handle, family).await?;
    let plan = Plan::new(Rule::wanted(redirect), &rules);
    if plan.missing {
        faults.push(Fault::RuleMissing(family));
    }
    if !plan.surplus.is_empty() {
        faults.push(Fault::LeftOver(family));
    }
    let in_the_way = |rule: &&Rule| !rule.ours && rule.mask & redirect.marks.mask() != 0;
    let foreign = rules.iter().map(|(rule, _)| rule).filter(in_the_way);
    faults.extend(foreign.map(|rule| Fault::ForeignRule {
        family,
        priority: rule.priority,
        mark: rule.mark,
        mask: rule.mask,
    }));
    Ok(faults)
}

/// All rules of the family, with the messages that say them.
pub(super) async fn rules(
    handle: &Handle,
    family: Family,
) -> Result<Vec<(Rule, RuleMessage)>, NetlinkError> {
    let dump = handle.rule().get(family.version()).execute();
    let messages = netlink::collect(&format!("listing {family} rules"), dump).await?;
    Ok(messages.into_iter().map(|message| (Rule::read(&message), message)).collect())
}

async fn add_rule(
    handle: &Handle,
    redirect: &Redirect,
    family: Family,
) -> Result<(), NetlinkError> {
    let mut request = handle
        .rule()
        .add()
        .priority(redirect.priority)
        .fw_mark(redirect.marks.redirect())
        .table_id(redirect.table)
        .action(RuleAction::ToTable);
    let message = request.message_mut();
    message.attributes.push(RuleAttribute::FwMask(redirect.marks.mask()));
    message.attributes.push(RuleAttribute::Protocol(PROTOCOL));
    let added = match family {
        Family::V4 => request.v4().execute().await,
        Family::V6 => request.v6().execute().await,
    };
    added.map_err(|error| NetlinkError::new(format!("adding the {family} rule"), error))
}

async fn delete_rule(
    handle: &Handle,
    message: RuleMessage,
    family: Family,
) -> Result<(), NetlinkError> {
    let deleted = handle.rule().del(message).execute().await;
    let what = format!("deleting a {family} rule of ours");
    unless_gone(deleted.map_err(|error| NetlinkError::new(what, error)))
}

fn makes_local(route: &RouteMessage) -> bool {
    let goes_to_loopback =
        route.attributes.iter().any(|a| matches!(a, RouteAttribute::Oif(LOOPBACK)));
    let RouteHeader { kind, protocol, destination_prefix_length, source_prefix_length, .. } =
        route.header;
    goes_to_loopback
        && kind == RouteType::Local
        && protocol == PROTOCOL
        && (destination_prefix_length, source_prefix_length) == (0, 0)
}

async fn routes(
    handle: &Handle,
    table: u32,
    family: Family,
) -> Result<Vec<RouteMessage>, NetlinkError> {
    let mut filter = RouteMessage::default();
    filter.header.address_family = match family {
        Family::V4 => AddressFamily::Inet,
        Family::V6 => AddressFamily::Inet6,
    };
    filter.attributes.push(RouteAttribute::Table(table));
    let what = format!("listing {family} routes of table {table}");
    match netlink::collect(&what, handle.route().get(filter).execute()).await {
        // A table that never had a route does not exist.
        Err(error) if error.errno() == Some(libc::ENOENT) => Ok(Vec::new()),
        other => other,
    }
}

async fn add_route(handle: &Handle, table: u32, family: Family) -> Result<(), NetlinkError> {
    let route = match family {
        Family::V4 => local_default(RouteMessageBuilder::<Ipv4Addr>::new(), table),
        Family::V6 => local_default(RouteMessageBuilder::<Ipv6Addr>::new(), table),
    };
    let added = handle.route().add(route).execute().await;
    added.map_err(|error| {
        NetlinkError::new(format!("adding the {family} route of table {table}"), error)
    })
}

fn local_default<T>(builder: RouteMessageBuilder<T>, table: u32) -> RouteMessage {
    builder
        .table_id(table)
        .kind(RouteType::Local)
        .scope(RouteScope::Host)
        .protocol(PROTOCOL)
        .output_interface(LOOPBACK)
        .build()
}

/// Deletes our routes of a table, and only ours.
async fn delete_routes(handle: &Handle, table: u32, family: Family) -> Result<(), NetlinkError> {
    for route in routes(handle, table, family).await? {
        if route.header.protocol != PROTOCOL {
            continue;
        }
        let deleted = handle.route().del(route).execute().await;
        let what = format!("deleting the {family} route of table {table}");
        unless_gone(deleted.map_err(|error| NetlinkError::new(what, error)))?;
    }
    Ok(())
}

/// What somebody else has deleted meanwhile need not be deleted.
fn unless_gone(deleted: Result<(), NetlinkError>) -> Result<(), NetlinkError> {
    match deleted {
        Err(error) if matches!(error.errno(), Some(libc::ENOENT | libc::ESRCH)) => Ok(()),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(attributes: Vec<RuleAttribute>) -> RuleMessage {
        let mut message = RuleMessage::default();
        message.header.action = RuleAction::ToTable;
        message.attributes = attributes;
        message
    }

    fn ours(priority: u32) -> (Rule, RuleMessage) {
        let message = message(vec![
            RuleAttribute::Priority(priority),
            RuleAttribute::FwMark(0x2000),
            RuleAttribute::FwMask(0x3000),
            RuleAttribute::Table(2005),
            RuleAttribute::SuppressPrefixLen(u32::MAX),
            RuleAttribute::Protocol(PROTOCOL),
        ]);
        (Rule::read(&message), message)
    }

    #[test]
    fn what_is_right_stays_and_what_is_ours_besides_goes() {
        let wanted = Rule::wanted(&Redirect::default());
        let found = [ours(91), ours(90), ours(90)];
        let plan = Plan::new(wanted, &found);
        assert!(!plan.missing);
        let priorities: Vec<_> = plan.surplus.iter().map(|(rule, _)| rule.priority).collect();
        assert_eq!(priorities, [91, 90]);
    }

    #[test]
    fn a_rule_that_also_looks_at_something_else_is_not_the_wanted_one() {
        let (_, mut narrowed) = ours(90);
        narrowed.attributes.push(RuleAttribute::Iifname("eth0".to_owned()));
        let (_, mut inverted) = ours(90);
        inverted.header.flags = rtnetlink::packet_route::rule::RuleFlags::Invert;
        let found = [narrowed, inverted].map(|message| (Rule::read(&message), message));
        let plan = Plan::new(Rule::wanted(&Redirect::default()), &found);
        assert!(plan.missing);
        assert_eq!(plan.surplus.len(), 2);
    }

    #[test]
    fn others_rules_are_left_alone_even_if_they_say_the_same() {
        let (_, mut foreign) = ours(90);
        foreign.attributes.pop();
        let found = [(Rule::read(&foreign), foreign)];
        let plan = Plan::new(Rule::wanted(&Redirect::default()), &found);
        assert!(plan.missing);
        assert!(plan.surplus.is_empty());
    }
}
