//! `fqdnctl policy check`: needs no daemon.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use clap::{Args, ValueEnum};
use policy::{Options, Problem, Report, SelectorScope};
use serde::Serialize;

use crate::output::{Output, Text, Tone, unless_closed};
use crate::source::{self, Place, Sources};

/// Tell whether policies are valid, as the daemon reads them.
///
/// Prints a line for each CiliumNetworkPolicy and CiliumClusterwideNetworkPolicy, with what is
/// wrong and what is worth a warning below it. Documents of other kinds are passed over; what is
/// no document at all is an error. No daemon is needed.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  fqdnctl policy check policies/
  kubectl get cnp -A -o yaml | fqdnctl policy check -
  fqdnctl policy check -o json web.yaml | jq '.[] | select(.ok | not)'

Exit codes:
  0  every policy is accepted, perhaps with warnings
  1  one is rejected, or a file cannot be read
  2  wrong usage")]
pub(crate) struct Check {
    /// The files; `-` for standard input. A directory stands for the manifests below it.
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// Where a toEndpoints selector without a namespace looks for pods, as the daemon is
    /// configured.
    #[arg(long, value_enum, value_name = "SCOPE", default_value = "policy-namespace")]
    selector_scope: Scope,
    /// The node has no proxy for HTTP, Kafka and TLS, as the daemon is configured.
    #[arg(long)]
    without_l7: bool,
}

/// Where a toEndpoints selector without a namespace looks for pods.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum Scope {
    /// In the policy's own namespace.
    PolicyNamespace,
    /// In all namespaces.
    AllNamespaces,
}

/// What there is to say of one document.
#[derive(Debug, Serialize)]
struct Verdict {
    file: String,
    document: usize,
    kind: String,
    namespace: String,
    name: String,
    ok: bool,
    /// What it alone would drop passes, and is told.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    audited: bool,
    errors: Vec<Finding>,
    warnings: Vec<Finding>,
}

/// One thing that is wrong, or worth a warning.
#[derive(Debug, Serialize)]
struct Finding {
    line: usize,
    column: usize,
    field: String,
    message: String,
}

impl Check {
    pub fn run(&self, output: &Output) -> anyhow::Result<ExitCode> {
        let (mut verdicts, mut sources) = (Vec::new(), Sources::default());
        let mut unreadable = false;
        for path in &self.expanded(&mut unreadable) {
            let shown = path.display().to_string();
            match source::read(path) {
                Ok(text) => {
                    verdicts.extend(self.check(path, &text));
                    sources.insert(&shown, text);
                }
                Err(error) => {
                    eprintln!("Error: cannot read {shown}: {error}");
                    unreadable = true;
                }
            }
        }
        if output.is_data() {
            unless_closed(output.data(&verdicts))?;
        } else {
            let mut text = output.text();
            verdicts.iter().for_each(|verdict| verdict.show(&mut text, &mut sources));
            unless_closed(text.print())?;
            if verdicts.is_empty() && !unreadable {
                eprintln!("No policies found.");
            }
        }
        let accepted = !unreadable && verdicts.iter().all(|verdict| verdict.ok);
        Ok(if accepted { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }

    /// The files, with directories read as the daemon reads them.
    fn expanded(&self, unreadable: &mut bool) -> Vec<PathBuf> {
        let mut files = Vec::new();
        for path in &self.files {
            if !path.is_dir() {
                files.push(path.clone());
                continue;
            }
            let (below, problems) = kubernetes::manifests_below(path);
            files.extend(below);
            for problem in problems {
                eprintln!("Error: {problem}");
                *unreadable = true;
            }
        }
        files
    }

    fn check(&self, path: &Path, text: &str) -> Vec<Verdict> {
        let file = Arc::from(path);
        let options = Options {
            selector_scope: self.selector_scope.into(),
            l7: !self.without_l7,
            ..Options::default()
        };
        let reports = policy::check(&file, text, options).into_iter();
        let relevant = reports.filter(|report| report.is_policy || !report.is_accepted());
        relevant.map(|report| Verdict::new(path, report)).collect()
    }
}

impl From<Scope> for SelectorScope {
    fn from(own: Scope) -> Self {
        match own {
            Scope::PolicyNamespace => Self::PolicyNamespace,
            Scope::AllNamespaces => Self::AllNamespaces,
        }
    }
}

impl Verdict {
    fn new(path: &Path, report: Report) -> Self {
        let findings = |problems: &[Problem]| problems.iter().map(Finding::new).collect();
        Self {
            file: path.display().to_string(),
            document: report.document,
            ok: report.is_accepted(),
            audited: report.policy.as_ref().is_some_and(|policy| policy.audited),
            errors: findings(&report.problems),
            warnings: findings(&report.warnings),
            kind: report.kind,
            namespace: report.namespace.unwrap_or_default(),
            name: report.name,
        }
    }

    fn show(&self, text: &mut Text, sources: &mut Sources) {
        let Self { file, document, kind, namespace, name, .. } = self;
        match self.ok {
            true => text.put(Tone::Good, "ok      "),
            false => text.put(Tone::Bad, "rejected"),
        };
        let slash = if namespace.is_empty() { "" } else { "/" };
        let kind = if kind.is_empty() { "document" } else { kind };
        text.plain(format!("  {file}#{document}  {kind} {namespace}{slash}{name}").trim_end());
        if self.audited {
            text.plain("  ").put(Tone::Warning, "audited: it drops nothing");
        }
        text.plain("\n");
        let errors = self.errors.iter().map(|own| (Tone::Bad, "error", own));
        let warnings = self.warnings.iter().map(|own| (Tone::Warning, "warning", own));
        for (tone, word, finding) in errors.chain(warnings) {
            text.put(tone, word).plain(format!(": {}\n", finding.message));
            let place = Place { line: finding.line, column: finding.column, label: &finding.field };
            sources.show(text, file, &[place]);
        }
    }
}

impl Finding {
    fn new(problem: &Problem) -> Self {
        let Problem { file: _, line, column, field, message } = problem;
        let (field, message) = (field.clone(), message.clone());
        Self { line: *line, column: *column, field, message }
    }
}
