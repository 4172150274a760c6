//! Label selectors as Kubernetes writes them: `app=web, tier in (a, b), !canary`.
//!
//! A key may stand behind its label's source (`k8s:app`); without one, every source is meant.

use model::{Labels, Source};

use super::FilterError;

/// Requirements that must all hold. None hold of everything.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Selector(Vec<Requirement>);

#[derive(Clone, Debug, PartialEq, Eq)]
struct Requirement {
    source: Source,
    key: String,
    operator: Operator,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Operator {
    Exists,
    Absent,
    In(Vec<String>),
    NotIn(Vec<String>),
    Above(i64),
    Below(i64),
}

impl Selector {
    pub fn parse(text: &str) -> Result<Self, FilterError> {
        let mut scanner = Scanner { rest: text.trim() };
        scanner.selector().map_err(|why| FilterError::Labels(text.to_owned(), why))
    }

    pub fn matches(&self, labels: &Labels) -> bool {
        self.0.iter().all(|requirement| requirement.holds(labels))
    }
}

impl Requirement {
    fn holds(&self, labels: &Labels) -> bool {
        let mut values = labels.values(&self.source, &self.key);
        match &self.operator {
            Operator::Exists => values.next().is_some(),
            Operator::Absent => values.next().is_none(),
            Operator::In(wanted) => values.any(|own| wanted.iter().any(|one| one == own)),
            Operator::NotIn(others) => !values.any(|own| others.iter().any(|one| one == own)),
            Operator::Above(bound) => {
                values.any(|own| own.parse().is_ok_and(|own: i64| own > *bound))
            }
            Operator::Below(bound) => {
                values.any(|own| own.parse().is_ok_and(|own: i64| own < *bound))
            }
        }
    }
}

/// What has not been read yet.
struct Scanner<'a> {
    rest: &'a str,
}

impl<'a> Scanner<'a> {
    fn selector(&mut self) -> Result<Selector, &'static str> {
        let mut all = Vec::new();
        if self.rest.is_empty() {
            return Ok(Selector(all));
        }
        loop {
            all.push(self.requirement()?);
            if self.rest.is_empty() {
                return Ok(Selector(all));
            }
            if !self.takes(",") {
                return Err("requirements must be separated by commas");
            }
        }
    }

    fn requirement(&mut self) -> Result<Requirement, &'static str> {
        let negated = self.takes("!");
        let (source, key) = self.key()?;
        let operator = if negated { Operator::Absent } else { self.operator()? };
        Ok(Requirement { source, key, operator })
    }

    fn key(&mut self) -> Result<(Source, String), &'static str> {
        let word = self.word();
        let (source, key) = Source::split(word);
        if key.is_empty() {
            return Err("a key is missing");
        }
        if key.contains(':') {
            return Err("a key must not have more than one colon");
        }
        Ok((source, key.to_owned()))
    }

    fn operator(&mut self) -> Result<Operator, &'static str> {
        if self.rest.is_empty() || self.rest.starts_with(',') {
            return Ok(Operator::Exists);
        }
        for (sign, make) in [
            ("==", Operator::In as fn(Vec<String>) -> Operator),
            ("=", Operator::In),
            ("!=", Operator::NotIn),
        ] {
            if self.takes(sign) {
                return Ok(make(vec![self.word().to_owned()]));
            }
        }
        if self.takes(">") {
            return self.number().map(Operator::Above);
        }
        if self.takes("<") {
            return self.number().map(Operator::Below);
        }
        match self.word() {
            "in" => self.values().map(Operator::In),
            "notin" => self.values().map(Operator::NotIn),
            _ => Err("an operator must be one of =, ==, !=, in, notin, > and <"),
        }
    }

    fn values(&mut self) -> Result<Vec<String>, &'static str> {
        if !self.takes("(") {
            return Err("values must stand in parentheses");
        }
        let mut values = Vec::new();
        loop {
            values.push(self.word().to_owned());
            if self.takes(")") {
                return Ok(values);
            }
            if !self.takes(",") {
                return Err("values must be separated by commas and closed by a parenthesis");
            }
        }
    }

    fn number(&mut self) -> Result<i64, &'static str> {
        self.word().parse().map_err(|_| "behind > and < must stand a whole number")
    }

    /// What stands before the next sign or space.
    fn word(&mut self) -> &'a str {
        let is_sign = |c: char| c.is_whitespace() || "=!<>(),".contains(c);
        let end = self.rest.find(is_sign).unwrap_or(self.rest.len());
        let (word, rest) = self.rest.split_at(end);
        self.rest = rest.trim_start();
        word
    }

    fn takes(&mut self, sign: &str) -> bool {
        let Some(rest) = self.rest.strip_prefix(sign) else { return false };
        self.rest = rest.trim_start();
        true
    }
}
