//! Patterns in place of names that differ in their first label alone.

use std::collections::{BTreeMap, BTreeSet};

/// How many names a pattern has to stand for.
const ENOUGH: usize = 2;
/// Under a country's domain, second labels this short are mostly registries: `co.uk`, `com.au`.
const REGISTRY: usize = 3;

/// Which pattern stands for which name.
#[derive(Clone, Debug, Default)]
pub(super) struct Wildcards(BTreeSet<String>);

impl Wildcards {
    /// A pattern for every domain under which there are several of these names.
    pub fn of<'a>(names: impl IntoIterator<Item = &'a str>) -> Self {
        let mut under: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
        for name in names {
            if let Some((_, domain)) = name.split_once('.').filter(|(_, own)| may_stand(own)) {
                under.entry(domain).or_default().insert(name);
            }
        }
        let several = under.into_iter().filter(|(_, names)| names.len() >= ENOUGH);
        Self(several.map(|(domain, _)| domain.to_owned()).collect())
    }

    /// The pattern that stands for a name, or the name.
    pub fn widen(&self, name: &str) -> String {
        match name.split_once('.') {
            Some((_, domain)) if self.0.contains(domain) => format!("*.{domain}"),
            Some(_) | None => name.to_owned(),
        }
    }
}

/// Whether somebody may have all of a domain: no top level domain, and no registry's.
fn may_stand(domain: &str) -> bool {
    match domain.rsplit_once('.') {
        None => false,
        Some((second, top)) => second.contains('.') || top.len() != 2 || second.len() > REGISTRY,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_under_one_domain_become_a_pattern_unless_it_is_a_registrys() {
        let names = [
            "a.example.com",
            "b.example.com",
            "only.example.org",
            "shop.co.uk",
            "bank.co.uk",
            "a.shop.co.uk",
            "b.shop.co.uk",
            "com",
            "x.com",
            "y.com",
        ];
        let wildcards = Wildcards::of(names);
        let widened: Vec<String> = names.iter().map(|name| wildcards.widen(name)).collect();
        assert_eq!(
            widened,
            [
                "*.example.com",
                "*.example.com",
                "only.example.org",
                "shop.co.uk",
                "bank.co.uk",
                "*.shop.co.uk",
                "*.shop.co.uk",
                "com",
                "x.com",
                "y.com",
            ]
        );
    }
}
