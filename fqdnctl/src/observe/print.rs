//! Prints flows as they come, in one of the forms that Hubble has.

use std::io;

use hubble::json::Json;
use hubble::proto::flow::{Flow, LostEvent, Verdict};
use hubble::proto::observer::GetFlowsResponse;
use hubble::proto::observer::get_flows_response::ResponseTypes;

use super::line::Line;
use super::time::stamp;
use crate::output::{Cell, Format, Output, Tone};

/// Where flows go.
pub(super) struct Printer<'a> {
    output: &'a Output,
    format: Format,
    numeric: bool,
    names_node: bool,
    /// A table's rows, which are as wide as the widest of them.
    rows: Vec<Vec<Cell>>,
    printed: u64,
}

impl<'a> Printer<'a> {
    pub fn new(output: &'a Output, format: Format, numeric: bool, names_node: bool) -> Self {
        Self { output, format, numeric, names_node, rows: Vec::new(), printed: 0 }
    }

    /// Prints what the server has said, or keeps it for the table's end.
    pub fn add(&mut self, response: &GetFlowsResponse) -> io::Result<()> {
        if matches!(self.format, Format::Json | Format::Jsonpb) {
            return self.output.line(&response.to_json());
        }
        match &response.response_types {
            Some(ResponseTypes::Flow(flow)) => self.add_flow(flow),
            Some(ResponseTypes::LostEvents(lost)) => {
                eprintln!("{}", told(lost));
                Ok(())
            }
            Some(ResponseTypes::NodeStatus(status)) => {
                let state = status.state_change().as_str_name();
                eprintln!("{state}: {} {}", status.node_names.join(", "), status.message);
                Ok(())
            }
            None => Ok(()),
        }
    }

    /// Prints what was kept.
    pub fn finish(&mut self) -> io::Result<()> {
        if self.format == Format::Table {
            let header =
                ["TIMESTAMP", "NODE", "SOURCE", "DESTINATION", "TYPE", "VERDICT", "SUMMARY"];
            let header = header.into_iter().filter(|&name| self.names_node || name != "NODE");
            let rows = std::mem::take(&mut self.rows);
            return self.output.table(&header.collect::<Vec<_>>(), rows, "No flows.");
        }
        Ok(())
    }

    fn add_flow(&mut self, flow: &Flow) -> io::Result<()> {
        let line = Line { flow, numeric: self.numeric };
        self.printed += 1;
        match self.format {
            Format::Table => {
                self.rows.push(self.row(&line));
                Ok(())
            }
            Format::Dict => self.dict(&line),
            Format::Compact | Format::Wide | Format::Json | Format::Jsonpb | Format::Yaml => {
                self.compact(&line)
            }
        }
    }

    fn compact(&self, line: &Line<'_>) -> io::Result<()> {
        let mut text = self.output.text();
        let (left, arrow, right) = line.ends();
        text.plain(stamp(line.flow.time.as_ref()));
        if self.names_node {
            text.plain(" [").plain(&*line.flow.node_name).plain("]");
        }
        text.plain(": ");
        text.put(Tone::Accent, left.name).plain(" ").put(Tone::Faint, left.identity);
        text.plain(" ").plain(arrow).plain(" ");
        text.put(Tone::Accent, right.name).plain(" ").put(Tone::Faint, right.identity);
        text.plain(" ").plain(line.kind());
        for word in [line.direction(), line.verdict()] {
            if !word.is_empty() {
                text.plain(" ").put(tone(line, word), word);
            }
        }
        let policies = line.policies();
        if !policies.is_empty() {
            text.plain(" by ").plain(policies.join(", "));
        }
        let summary = line.summary();
        if !summary.is_empty() {
            text.plain(" (").plain(summary).plain(")");
        }
        text.plain("\n").print()
    }

    fn dict(&self, line: &Line<'_>) -> io::Result<()> {
        let mut text = self.output.text();
        if self.printed > 1 {
            text.put(Tone::Faint, "------------\n");
        }
        let policies = line.policies().join(", ");
        for (key, value) in [
            ("TIMESTAMP", stamp(line.flow.time.as_ref())),
            ("NODE", if self.names_node { line.flow.node_name.clone() } else { String::new() }),
            ("SOURCE", line.source().name),
            ("DESTINATION", line.destination().name),
            ("TYPE", line.kind()),
            ("DIRECTION", line.direction().to_owned()),
            ("VERDICT", line.verdict().to_owned()),
            ("REASON", line.reason().unwrap_or_default()),
            ("POLICY", policies),
            ("SUMMARY", line.summary().to_owned()),
        ] {
            if !value.is_empty() {
                text.plain(format!("{key:>11}: ")).put(tone(line, &value), value).plain("\n");
            }
        }
        text.print()
    }

    fn row(&self, line: &Line<'_>) -> Vec<Cell> {
        let node = self.names_node.then(|| Cell::new(&*line.flow.node_name));
        let rest = [
            Cell::new(line.source().name),
            Cell::new(line.destination().name),
            Cell::new(line.kind()),
            Cell::toned(line.verdict(), tone(line, line.verdict())),
            Cell::new(line.summary()),
        ];
        [Cell::new(stamp(line.flow.time.as_ref()))].into_iter().chain(node).chain(rest).collect()
    }
}

/// Verdicts have colours, so that drops are seen.
fn tone(line: &Line<'_>, word: &str) -> Tone {
    if word != line.verdict() {
        return Tone::Plain;
    }
    match line.flow.verdict() {
        Verdict::Forwarded | Verdict::Redirected => Tone::Good,
        Verdict::Dropped | Verdict::Error => Tone::Bad,
        Verdict::Audit | Verdict::Traced | Verdict::Translated => Tone::Warning,
        Verdict::Unknown => Tone::Plain,
    }
}

fn told(lost: &LostEvent) -> String {
    let at = lost.last.as_ref().map_or_else(String::new, |time| format!("{}: ", stamp(Some(time))));
    format!("{at}EVENTS LOST: {} {}", lost.source().as_str_name(), lost.num_events_lost)
}
