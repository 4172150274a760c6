//! Rules that come and go, beside a table made anew at every step.

use proptest::prelude::*;

use super::reference::{any_context, any_destination, any_rule, with_levels};
use crate::meaning::Meaning;
use crate::table::*;

/// The rows of a level; alternatives in an order that does not depend on what came first.
fn rows(table: &Table, subject: Subject<'_>) -> Vec<TableRow> {
    let mut rows = table.rows(subject);
    rows.iter_mut().for_each(|row| row.conversations.sort_by_key(|own| format!("{own:?}")));
    rows
}

/// What a table says on each level that a destination is on; of every destination first.
fn said(table: &Table, to: &super::reference::Owned) -> Vec<Vec<TableRow>> {
    with_levels(table, to, |levels| {
        let levels = [Subject::Any].into_iter().chain(levels.iter().copied());
        levels.map(|level| rows(table, level)).collect()
    })
}

impl Altered {
    /// Whether something else may be said on one level.
    fn covers(&self, subject: Subject<'_>) -> bool {
        match subject {
            Subject::Any => self.everywhere,
            Subject::Labels(labels) => {
                self.inside || self.selectors.iter().any(|own| own.matches(labels))
            }
            Subject::Service(name) => self.services.contains(name),
            Subject::Outside { prefix, labels } => {
                let labels = outside(prefix, labels);
                let cluster = labels.values(&Source::Reserved, API_SERVER).next().is_some();
                self.inside && cluster
                    || self.selectors.iter().any(|own| own.matches(&labels))
                    || self.prefixes.iter().any(|own| own.contains(prefix))
            }
            Subject::Names(_) => self.names != AlteredNames::Same,
        }
    }
}

/// What is asked for, after some came and some went.
fn step(asked: &Asked, altered: &Altered) -> Asked {
    let Altered { come, gone, .. } = altered;
    let Wants { services, ports } = &asked.wants;
    Asked {
        prefixes: &(&asked.prefixes | &come.prefixes) - &gone.prefixes,
        wants: Wants {
            services: &(services | &come.wants.services) - &gone.wants.services,
            ports: &(ports | &come.wants.ports) - &gone.wants.ports,
        },
    }
}

proptest! {
    #[test]
    fn rules_that_come_and_go_leave_the_table_of_those_that_stay(
        rules in prop::collection::vec(any_rule(), 1..5),
        context in any_context(),
        steps in prop::collection::vec(prop::collection::vec(any::<prop::sample::Index>(), 1..3), 1..8),
        destinations in prop::collection::vec(any_destination(), 1..6),
    ) {
        let meanings: Vec<Meaning> = rules.iter().map(|rule| rule.meaning(&context)).collect();
        let mut present = vec![false; rules.len()];
        let mut table = Table::default();
        for step_of in steps {
            let before = present.clone();
            step_of.iter().for_each(|own| present[own.index(rules.len())] ^= true);
            let moved = |came: bool| {
                let moved = before.iter().zip(&present).zip(&meanings);
                moved.filter(move |((was, is), _)| **was != came && **is == came).map(|(_, own)| own)
            };
            let (next, altered) = table.changed(moved(false), moved(true));
            let left: Vec<_> = rules.iter().zip(&present).filter(|(_, is)| **is).collect();
            let left: Vec<_> = left.into_iter().map(|(rule, _)| Arc::clone(rule)).collect();
            let anew = Table::compile(&left, &context);
            prop_assert_eq!(next.asked(), anew.asked());
            prop_assert_eq!(next.asked(), step(&table.asked(), &altered));
            prop_assert_eq!(next.default_deny(), anew.default_deny());
            for to in &destinations {
                prop_assert_eq!(said(&next, to), said(&anew, to));
                with_levels(&next, to, |levels| {
                    for level in levels.iter().copied().chain([Subject::Any]) {
                        let is_named = matches!(level, Subject::Names(_));
                        let same = is_named && altered.names == AlteredNames::Same
                            || !is_named && !altered.covers(level);
                        prop_assert!(!same || rows(&next, level) == rows(&table, level), "{level:?}");
                    }
                    Ok(())
                })?;
            }
            table = next;
        }
        let all = meanings.iter().zip(&present).filter(|(_, is)| **is).map(|(own, _)| own);
        let (empty, _) = table.changed(all, []);
        prop_assert_eq!(empty.places(), Table::default().places());
        prop_assert!(empty.grants.is_empty() && empty.conversations.is_empty());
    }
}
