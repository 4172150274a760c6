//! The items of `toCIDR` and `toCIDRSet`.

use model::Prefix;

use crate::rule::{PrefixBase, PrefixPeer};
use crate::spec::fields::{At, Check, Fields};
use crate::spec::metadata::check_name;
use crate::spec::selector;

/// An item of `toCIDR`.
pub(super) fn plain(check: &mut Check, at: &At<'_>) -> Option<PrefixPeer> {
    prefix(check, at).map(PrefixPeer::whole)
}

/// An item of `toCIDRSet`.
pub(super) fn set(check: &mut Check, at: &At<'_>) -> Option<PrefixPeer> {
    let fields = check.fields(at, &["cidr", "cidrGroupRef", "cidrGroupSelector", "except"])?;
    let base = base(check, &fields);
    let mut except = Vec::new();
    if let Some(list) = check.present(&fields, "except") {
        for item in check.list(&list)? {
            let Some(own) = prefix(check, &item) else { continue };
            match &base {
                Some(PrefixBase::Prefix(outer)) if !outer.contains(own) => {
                    check.problem(&item, format!("`{own}` does not lie inside of `{outer}`"));
                }
                _ => except.push(own),
            }
        }
    }
    Some(PrefixPeer { base: base?, except })
}

fn base(check: &mut Check, fields: &Fields<'_>) -> Option<PrefixBase> {
    let cidr = check.present(fields, "cidr");
    let group = check.present(fields, "cidrGroupRef");
    let groups = check.present(fields, "cidrGroupSelector");
    match (cidr, group, groups) {
        (Some(cidr), None, None) => prefix(check, &cidr).map(PrefixBase::Prefix),
        (None, Some(group), None) => {
            check_name(check, &group)?;
            Some(PrefixBase::Group(check.text(&group)?.to_owned()))
        }
        (None, None, Some(groups)) => {
            let written = selector::read_unsourced(check, &groups)?;
            Some(PrefixBase::Groups(written.into_selector()))
        }
        (None, None, None) => {
            let message = "one of cidr, cidrGroupRef and cidrGroupSelector must be set";
            check.problem(fields.itself(), message);
            None
        }
        _ => {
            let message = "must have one of cidr, cidrGroupRef and cidrGroupSelector only";
            check.problem(fields.itself(), message);
            None
        }
    }
}

fn prefix(check: &mut Check, at: &At<'_>) -> Option<Prefix> {
    match check.text(at)?.parse() {
        Ok(prefix) => Some(prefix),
        Err(error) => {
            check.problem(at, error.to_string());
            None
        }
    }
}
