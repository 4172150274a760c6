//! One endpoint: its policies, what they select, its cache, and what it was denied.

use model::EndpointName;
use ratatui::style::Style;
use ratatui::text::{Line, Span};

use super::columns::{fit, fit_name, rate};
use super::{Palette, clock};
use crate::cache;
use crate::output::duration;
use crate::top::board::{Board, Detail, EndpointRow};

/// How wide the first of several texts in a line is, where there is room.
const FIRST: usize = 42;

/// What is known of an endpoint, line by line.
pub(in crate::top) fn lines(
    board: &Board,
    name: &EndpointName,
    width: u16,
    palette: Palette,
) -> Vec<Line<'static>> {
    let mut text = Text { palette, width: width.into(), lines: Vec::new() };
    let Some(row) = board.endpoint(name) else {
        text.heading(&name.to_string());
        text.plain("it is not on this node any more");
        return text.lines;
    };
    text.endpoint(&row);
    let detail = board.sample.as_ref().and_then(|sample| sample.detail.as_ref());
    match detail.filter(|detail| detail.endpoint == *name) {
        Some(detail) => {
            text.policies(&row, detail);
            text.selectors(&row, detail);
            text.cache(detail);
        }
        None => text.plain("asking fqdnd for more ..."),
    }
    text.drops(board, name);
    text.lines
}

/// How many lines there are.
pub(in crate::top) fn count(board: &Board, name: &EndpointName) -> usize {
    lines(board, name, 0, Palette { colored: false }).len()
}

/// What is left of a text that is too long.
type Cut = fn(&str, usize) -> String;

struct Text {
    palette: Palette,
    width: usize,
    lines: Vec<Line<'static>>,
}

impl Text {
    fn endpoint(&mut self, row: &EndpointRow<'_>) {
        let own = row.endpoint;
        self.heading(&row.name.to_string());
        let reason = own.reason.as_ref().map_or_else(String::new, |own| format!(" ({own})"));
        let interface = own.interface.as_deref().unwrap_or("no interface");
        let addresses: Vec<String> = own.addresses.iter().map(ToString::to_string).collect();
        self.plain(&format!("{}{reason}  {interface}  {}", own.enforcement, addresses.join(" ")));
        self.plain(&format!(
            "{} queries/s  {} connections/s  {} drops/s",
            rate(row.queries),
            rate(row.connections),
            rate(row.drops)
        ));
        let drops = own.drops.iter().map(|(reason, count)| format!("{reason} {count}"));
        let drops: Vec<String> = drops.collect();
        if !drops.is_empty() {
            self.styled(&format!("dropped: {}", drops.join(", ")), self.palette.warning());
        }
        let audits = own.audits.iter().map(|(reason, count)| format!("{reason} {count}"));
        let audits: Vec<String> = audits.collect();
        if !audits.is_empty() {
            self.styled(&format!("audited: {}", audits.join(", ")), self.palette.warning());
        }
    }

    fn policies(&mut self, row: &EndpointRow<'_>, detail: &Detail) {
        self.section("POLICIES");
        let selects = |own: &&api::Policy| row.endpoint.policies.contains(&own.full_name());
        let policies: Vec<_> = detail.policies.iter().filter(selects).collect();
        if policies.is_empty() {
            self.plain("none: everything passes");
        }
        for policy in policies {
            let partly = match (policy.audited, policy.unenforced.is_empty()) {
                (true, _) => "  audited",
                (false, true) => "",
                (false, false) => "  enforced partly",
            };
            let name = policy.full_name();
            let room = self.width.saturating_sub(name.chars().count() + partly.len() + 2);
            self.plain(&format!("{name}  {}{partly}", fit_name(&policy.file, room)));
            for rule in &policy.rules {
                let default = if rule.default_deny { "denies the rest" } else { "leaves the rest" };
                let subject = if rule.subject.is_empty() { "everything" } else { &rule.subject };
                self.faint(&format!(
                    "  line {}: for {subject}: {} allow, {} deny, {default}",
                    rule.line, rule.allows, rule.denies
                ));
            }
        }
    }

    fn selectors(&mut self, row: &EndpointRow<'_>, detail: &Detail) {
        let policies = &row.endpoint.policies;
        let own = |own: &&api::Selector| own.policies.iter().any(|own| policies.contains(own));
        let selectors: Vec<_> = detail.selectors.iter().filter(own).collect();
        if selectors.is_empty() {
            return;
        }
        self.section("SELECTS");
        for own in selectors {
            let selector = if own.selector.is_empty() { "everything" } else { &own.selector };
            let selected = match own.field.as_str() {
                "toFQDNs" => own.names.join(" "),
                _ if own.identities.len() == 1 => "1 identity".to_owned(),
                _ => format!("{} identities", own.identities.len()),
            };
            let selector = format!("{} {selector}", own.field);
            self.pair(fit, &selector, &selected, Style::new());
        }
    }

    fn cache(&mut self, detail: &Detail) {
        self.section(&format!("CACHE ({})", detail.cache.len()));
        if detail.cache.is_empty() {
            self.plain("it has resolved nothing that it may reach");
        }
        for entry in &detail.cache {
            let (state, _) = cache::state(entry);
            let expires = duration(entry.expires_in_seconds);
            let text = format!("{:<22} {expires:>7} {state}", entry.address.to_string());
            let style = if state == "leased" { Style::new() } else { self.palette.warning() };
            self.pair(fit_name, &entry.name, &text, style);
        }
    }

    fn drops(&mut self, board: &Board, name: &EndpointName) {
        let name = name.to_string();
        let drops: Vec<_> =
            board.drops("").into_iter().filter(|own| own.endpoint == name).collect();
        self.section("LATEST DROPS");
        if drops.is_empty() {
            self.plain("no drop was seen");
        }
        for drop in drops {
            let by = match drop.policies.is_empty() {
                true => String::new(),
                false => format!(" by {}", drop.policies.join(", ")),
            };
            let time = clock(drop.time.as_secs());
            let text = format!("{time} {} x{}{by}", drop.why(), drop.count);
            self.pair(fit_name, &drop.target, &text, self.palette.warning());
        }
    }

    fn heading(&mut self, text: &str) {
        self.styled(text, self.palette.heading(true));
    }

    fn section(&mut self, text: &str) {
        self.lines.push(Line::default());
        self.heading(text);
    }

    fn plain(&mut self, text: &str) {
        self.styled(text, Style::new());
    }

    fn faint(&mut self, text: &str) {
        self.styled(text, self.palette.faint());
    }

    fn styled(&mut self, text: &str, style: Style) {
        self.lines.push(Line::styled(fit(text, self.width), style));
    }

    /// Two texts, the second in a column of its own; of the first, `cut` leaves what fits.
    fn pair(&mut self, cut: Cut, first: &str, second: &str, style: Style) {
        let place = FIRST.min(self.width / 2);
        let first = format!("{:<place$} ", cut(first, place));
        let second = fit(second, self.width.saturating_sub(place + 1));
        self.lines.push(Line::from(vec![Span::raw(first), Span::styled(second, style)]));
    }
}
