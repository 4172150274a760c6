//! The nftables table of the redirection: what it holds, and whether it still holds it.

use serde_json::{Value, json};

use super::{Fault, Redirect};
use crate::mark::Marks;
use crate::nft::{self, NftError};

/// The name of the table, in family inet.
pub(super) const NAME: &str = "fqdnd";
const FAMILY: &str = "inet";

/// Priority `raw`: before connection tracking, and so before every NAT rule.
const RAW: i32 = -300;
/// Priority `mangle`: behind connection tracking, before translation.
const MANGLE: i32 = -150;

/// Installs the table unless it is there as wanted; says whether it had to. The replacement is one
/// transaction, so that no packet meets half a table.
pub(super) async fn install(redirect: &Redirect) -> Result<bool, NftError> {
    let wanted = objects(redirect);
    if nft::list(FAMILY, NAME).await?.is_some_and(|found| is_as_wanted(&found, &wanted)) {
        return Ok(false);
    }
    let mut commands = emptied();
    commands.extend(wanted.into_iter().map(|object| json!({ "add": object })));
    nft::apply(commands).await?;
    Ok(true)
}

/// Removes the table.
pub(super) async fn remove() -> Result<(), NftError> {
    nft::apply(emptied()).await
}

/// Whether the table is missing or not what it must be.
pub(super) async fn check(redirect: &Redirect) -> Result<Option<Fault>, NftError> {
    Ok(match nft::list(FAMILY, NAME).await? {
        None => Some(Fault::TableMissing),
        Some(found) if is_as_wanted(&found, &objects(redirect)) => None,
        Some(_) => Some(Fault::TableDiffers),
    })
}

/// Commands after which the table is not there, whether it was or not.
fn emptied() -> Vec<Value> {
    let table = json!({ "table": { "family": FAMILY, "name": NAME } });
    vec![json!({ "add": table }), json!({ "delete": table })]
}

fn objects(redirect: &Redirect) -> Vec<Value> {
    let marks = redirect.marks;
    let untracked = || vec![json!({ "notrack": null })];
    let dropped = vec![json!({ "counter": null }), json!({ "drop": null })];
    let mut objects = vec![json!({ "table": { "family": FAMILY, "name": NAME } })];
    objects.extend(chain(
        ("redirected", "prerouting"),
        (marks, marks.redirect()),
        "on their way to a proxy: service addresses stay as they are",
        untracked(),
    ));
    objects.extend(chain(
        ("answers", "output"),
        (marks, marks.answer()),
        "a proxy's answers to pods: their source stays as it is",
        untracked(),
    ));
    objects.extend(chain(
        ("strays", "forward"),
        (marks, marks.redirect()),
        "meant for a proxy and not delivered to one",
        dropped,
    ));
    if redirect.from_pods {
        objects.extend(upstreams(marks));
        objects.extend(returns(marks));
    }
    objects
}

/// Connections that have a pod's address are remembered as a proxy's.
fn upstreams(marks: Marks) -> [Value; 2] {
    let known = json!({ "|": [{ "ct": { "key": "mark" } }, marks.upstream()] });
    let remember = json!({ "mangle": { "key": { "ct": { "key": "mark" } }, "value": known } });
    base_chain(
        ("upstreams", "output", MANGLE),
        "a proxy's connections that have a pod's address",
        [carries("meta", marks, marks.upstream()), remember],
    )
}

/// What comes back on them is the proxy's.
fn returns(marks: Marks) -> [Value; 2] {
    let direction = json!({ "ct": { "key": "direction" } });
    let is_reply = json!({ "match": { "op": "==", "left": direction, "right": "reply" } });
    // Its other bit is set anyway.
    let others = json!({ "&": [{ "meta": { "key": "mark" } }, !marks.answer()] });
    let marked = json!({ "|": [others, marks.redirect()] });
    let mark = json!({ "mangle": { "key": { "meta": { "key": "mark" } }, "value": marked } });
    base_chain(
        ("returns", "prerouting", MANGLE),
        "what comes back on them, by whichever device",
        [is_reply, carries("ct", marks, marks.upstream()), mark],
    )
}

/// A base chain with the one rule for packets that carry the mark.
fn chain(
    (name, hook): (&str, &str),
    (marks, mark): (Marks, u32),
    comment: &str,
    statements: Vec<Value>,
) -> [Value; 2] {
    let condition = std::iter::once(carries("meta", marks, mark));
    base_chain((name, hook, RAW), comment, condition.chain(statements))
}

/// Whether our bits of a packet's own mark (`meta`), or of its connection's (`ct`), are these.
fn carries(whose: &str, marks: Marks, mark: u32) -> Value {
    let bits = json!({ "&": [{ whose: { "key": "mark" } }, marks.mask()] });
    json!({ "match": { "op": "==", "left": bits, "right": mark } })
}

/// A base chain with one rule.
fn base_chain(
    (name, hook, priority): (&str, &str, i32),
    comment: &str,
    expression: impl IntoIterator<Item = Value>,
) -> [Value; 2] {
    let expression: Vec<Value> = expression.into_iter().collect();
    [
        json!({ "chain": {
            "family": FAMILY, "table": NAME, "name": name,
            "type": "filter", "hook": hook, "prio": priority, "policy": "accept",
        }}),
        json!({ "rule": {
            "family": FAMILY, "table": NAME, "chain": name,
            "comment": comment, "expr": expression,
        }}),
    ]
}

/// Each wanted object is there, nothing else is, and the table is not asleep.
fn is_as_wanted(found: &[Value], wanted: &[Value]) -> bool {
    let asleep = |object: &Value| object["table"].get("flags").is_some();
    found.len() == wanted.len()
        && !found.iter().any(asleep)
        && wanted.iter().all(|object| found.iter().any(|candidate| covers(candidate, object)))
}

/// Whether a listed value says at least what the wanted one says. Listings add handles, and
/// counters' counts.
fn covers(found: &Value, wanted: &Value) -> bool {
    match (found, wanted) {
        (Value::Object(found), Value::Object(wanted)) => wanted.iter().all(|(key, value)| {
            found.get(key).is_some_and(|there| key == "counter" || covers(there, value))
        }),
        (Value::Array(found), Value::Array(wanted)) => {
            found.len() == wanted.len() && found.iter().zip(wanted).all(|(f, w)| covers(f, w))
        }
        (found, wanted) => found == wanted,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn handles_and_counts_are_no_difference() {
        let wanted = objects(&Redirect::default());
        let mut found = wanted.clone();
        for object in &mut found {
            for value in object.as_object_mut().unwrap().values_mut() {
                value["handle"] = json!(7);
            }
        }
        found[6]["rule"]["expr"][1]["counter"] = json!({ "packets": 3, "bytes": 180 });
        assert!(is_as_wanted(&found, &wanted));
    }

    #[test]
    fn another_mark_a_rule_more_or_less_or_a_sleeping_table_are() {
        let wanted = objects(&Redirect::default());
        assert!(!is_as_wanted(
            &objects(&Redirect { marks: Marks::new(0x300).unwrap(), ..Redirect::default() }),
            &wanted
        ));
        assert!(!is_as_wanted(&wanted[..wanted.len() - 1], &wanted));
        let more = [wanted.clone(), wanted[1..2].to_vec()].concat();
        assert!(!is_as_wanted(&more, &wanted));
        let mut asleep = wanted.clone();
        asleep[0]["table"]["flags"] = json!("dormant");
        assert!(!is_as_wanted(&asleep, &wanted));
    }
}
