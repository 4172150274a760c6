//! What is shipped to look at the metrics with: alerts and a dashboard, each query of them tried on a
//! real Prometheus that follows a real run.

use std::{collections::BTreeSet, fs, process::Command};

use integration::wait_until;
use regex::Regex;
use serde_json::Value;

use crate::prometheus::Prometheus;
use crate::{SOON, begin, run, said, serving, tell_a_story};

/// The alerts that are shipped.
const RULES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../deploy/prometheus-rules.yaml");

fn rules() -> Vec<Value> {
    let text = fs::read_to_string(RULES).unwrap();
    let file: Value = serde_saphyr::from_str(&text).unwrap();
    file["groups"][0]["rules"].as_array().unwrap().clone()
}

/// The expression of each rule.
fn expressions() -> Vec<String> {
    rules().iter().map(|rule| rule["expr"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn a_real_prometheus_follows_a_real_run_shows_it_and_no_alert_fires() {
    let (lab, _daemon) = begin(&serving());
    let prometheus = Prometheus::start(&lab);
    prometheus.wait_for(r#"up{job="fqdnd"} == 1"#);
    tell_a_story(&lab);
    prometheus.wait_for(r#"increase(fqdnd_dns_verdicts_total{verdict="refused"}[5m]) > 0"#);
    prometheus.wait_for(r#"increase(fqdnd_dropped_packets_total{reason="policy-denied"}[5m]) > 0"#);
    panels().iter().for_each(|panel| panel.is_shown(&prometheus));
    let selector = Regex::new(r"fqdnd_[a-z0-9_]+(\{[^}]*\})?").unwrap();
    for expression in expressions() {
        let firing = prometheus.query(&expression).unwrap();
        // How long something takes is the machine's affair.
        let is_of_time = expression.contains("_seconds_bucket");
        assert!(is_of_time || firing.is_empty(), "{expression}: {firing:?}");
        for selected in selector.find_iter(&expression) {
            let series = prometheus.query(selected.as_str()).unwrap();
            assert!(!series.is_empty(), "{} selects nothing", selected.as_str());
        }
    }
}

/// The dashboard that is shipped.
const DASHBOARD: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../deploy/grafana-dashboard.json");

/// Panels of what is not in the story: nothing is audited in it, and no request is judged, so none is
/// refused or takes time.
const QUIET: [&str; 3] = ["Audits by reason", "Refusals by reason", "Time to the answer"];

/// One query of a panel.
struct Query {
    title: String,
    expression: String,
    /// The labels that the legend names.
    labels: Vec<String>,
}

fn dashboard() -> Value {
    serde_json::from_str(&fs::read_to_string(DASHBOARD).unwrap()).unwrap()
}

/// What Grafana asks for while all nodes are chosen.
fn asked(expression: &str) -> String {
    let asked = expression.replace("$instance", ".*").replace("$__rate_interval", "5m");
    asked.replace("$__range", "1h")
}

fn panels() -> Vec<Query> {
    let dashboard = dashboard();
    let label = Regex::new(r"\{\{(\w+)\}\}").unwrap();
    let mut queries = Vec::new();
    for panel in dashboard["panels"].as_array().unwrap() {
        for target in panel["targets"].as_array().into_iter().flatten() {
            let legend = target["legendFormat"].as_str().unwrap();
            queries.push(Query {
                title: panel["title"].as_str().unwrap().to_owned(),
                expression: asked(target["expr"].as_str().unwrap()),
                labels: label.captures_iter(legend).map(|found| found[1].to_owned()).collect(),
            });
        }
    }
    queries
}

impl Query {
    /// It gives numbers, with the labels that the legend names; nothing where nothing happened.
    fn is_shown(&self, prometheus: &Prometheus<'_>) {
        let Self { title, expression, labels } = self;
        if QUIET.contains(&title.as_str()) {
            prometheus.query(expression).unwrap_or_else(|error| panic!("{title}: {error}"));
            return;
        }
        let is_number = |found: &Value| found["value"][1].as_str() != Some("NaN");
        let found =
            || prometheus.query(expression).unwrap_or_else(|error| panic!("{title}: {error}"));
        let shown = || found().iter().any(is_number);
        wait_until(title, SOON, shown).unwrap_or_else(|error| {
            panic!("{error}: {expression} gives {:?}", found());
        });
        for series in found() {
            for label in labels {
                assert!(series["metric"][label].is_string(), "{title}: no {label} in {series}");
            }
        }
    }
}

#[test]
fn the_dashboards_panels_have_numbers_of_their_own_and_do_not_overlap() {
    let dashboard = dashboard();
    let (mut ids, mut places) = (BTreeSet::new(), BTreeSet::new());
    for panel in dashboard["panels"].as_array().unwrap() {
        assert!(ids.insert(panel["id"].as_u64().unwrap()), "{panel}");
        let at = |key: &str| panel["gridPos"][key].as_u64().unwrap();
        for (x, y) in (0..at("w")).flat_map(|x| (0..at("h")).map(move |y| (x, y))) {
            assert!(places.insert((at("x") + x, at("y") + y)), "{} overlaps", panel["title"]);
        }
        assert!(at("x") + at("w") <= 24, "{} is too wide", panel["title"]);
    }
}

#[test]
fn promtool_finds_nothing_in_the_alerts_and_they_fire_when_they_should() {
    let directory = tempfile::tempdir().unwrap();
    let tests = directory.path().join("tests.yaml");
    let text = format!(
        r#"
rule_files: ['{RULES}']
evaluation_interval: 1m
tests:
- interval: 1m
  input_series:
  - {{series: 'fqdnd_revision_planned{{instance="a"}}', values: '2+0x20'}}
  - {{series: 'fqdnd_revision_applied{{instance="a"}}', values: '1+0x20'}}
  - {{series: 'fqdnd_revision_planned{{instance="b"}}', values: '2+0x20'}}
  - {{series: 'fqdnd_revision_applied{{instance="b"}}', values: '2+0x20'}}
  - {{series: 'fqdnd_map_entries{{map="rows"}}', values: '81+0x20'}}
  - {{series: 'fqdnd_map_entries_limit{{map="rows"}}', values: '100+0x20'}}
  - {{series: 'fqdnd_map_entries{{map="settings"}}', values: '1+0x20'}}
  - {{series: 'fqdnd_map_entries_limit{{map="settings"}}', values: '1+0x20'}}
  - {{series: 'up{{job="fqdnd", instance="c"}}', values: '0+0x20'}}
  - {{series: 'fqdnd_reconcile_errors_total{{instance="c"}}', values: '0+1x20'}}
  - {{series: 'fqdnd_dns_learning_total{{instance="c", outcome="failed"}}', values: '0+1x20'}}
  - {{series: 'fqdnd_dns_failures_total{{instance="c", reason="upstream-timeout"}}', values: '0+6x20'}}
  - {{series: 'fqdnd_dns_verdicts_total{{instance="c", verdict="allowed"}}', values: '0+100x20'}}
  - {{series: 'fqdnd_dns_failures_total{{instance="d", reason="upstream-timeout"}}', values: '0+4x20'}}
  - {{series: 'fqdnd_dns_verdicts_total{{instance="d", verdict="allowed"}}', values: '0+100x20'}}
  - {{series: 'fqdnd_dns_latency_seconds_bucket{{instance="c", stage="kernel-write", le="0.05"}}', values: '0+98x20'}}
  - {{series: 'fqdnd_dns_latency_seconds_bucket{{instance="c", stage="kernel-write", le="+Inf"}}', values: '0+100x20'}}
  - {{series: 'fqdnd_dns_latency_seconds_bucket{{instance="d", stage="kernel-write", le="0.05"}}', values: '0+100x20'}}
  - {{series: 'fqdnd_dns_latency_seconds_bucket{{instance="d", stage="kernel-write", le="+Inf"}}', values: '0+100x20'}}
  - {{series: 'fqdnd_dns_datagrams_lost_total{{instance="c", reason="overrun"}}', values: '0+100x20'}}
  - {{series: 'fqdnd_endpoints{{instance="c", state="denied"}}', values: '1+0x20'}}
  - {{series: 'fqdnd_audit{{instance="c"}}', values: '1+0x20'}}
  - {{series: 'fqdnd_audit{{instance="d"}}', values: '0+0x20'}}
  - {{series: 'fqdnd_bypasses{{instance="c", kind="into-pod"}}', values: '1+0x20'}}
  - {{series: 'fqdnd_bypasses{{instance="d", kind="unread"}}', values: '1+0x20'}}
  - {{series: 'fqdnd_stale_manifest_files{{instance="c"}}', values: '1+0x20'}}
  - {{series: 'fqdnd_l7_restarts_total{{instance="c"}}', values: '0+1x20'}}
  - {{series: 'fqdnd_flow_records_lost_total{{instance="c", source="dns-queue"}}', values: '0+1x20'}}
  promql_expr_test:
  - expr: count by (alertname, instance, map) (ALERTS{{alertstate="firing"}})
    eval_time: 15m
    exp_samples:
    - {{labels: '{{alertname="FqdndDown", instance="c"}}', value: 1}}
    - {{labels: '{{alertname="FqdndRevisionPending", instance="a"}}', value: 1}}
    - {{labels: '{{alertname="FqdndReconcileErrors", instance="c"}}', value: 1}}
    - {{labels: '{{alertname="FqdndMapFilling", map="rows"}}', value: 1}}
    - {{labels: '{{alertname="FqdndAnswersHeldBack", instance="c"}}', value: 1}}
    - {{labels: '{{alertname="FqdndUpstreamFailing", instance="c"}}', value: 1}}
    - {{labels: '{{alertname="FqdndSlowKernelWrites", instance="c"}}', value: 1}}
    - {{labels: '{{alertname="FqdndQueriesLost", instance="c"}}', value: 1}}
    - {{labels: '{{alertname="FqdndL7ProxyRestarts", instance="c"}}', value: 1}}
    - {{labels: '{{alertname="FqdndEndpointDenied", instance="c"}}', value: 1}}
    - {{labels: '{{alertname="FqdndAuditsOnly", instance="c"}}', value: 1}}
    - {{labels: '{{alertname="FqdndBypassed", instance="c"}}', value: 1}}
    - {{labels: '{{alertname="FqdndBrokenManifests", instance="c"}}', value: 1}}
    - {{labels: '{{alertname="FqdndFlowRecordsLost", instance="c"}}', value: 1}}
"#
    );
    fs::write(&tests, &text).unwrap();
    for name in rules().iter().map(|rule| rule["alert"].as_str().unwrap().to_owned()) {
        assert!(text.contains(&format!("alertname=\"{name}\"")), "{name} is not made to fire");
    }
    for (action, file) in [("check", RULES), ("test", tests.to_str().unwrap())] {
        let output = run(Command::new("promtool").args([action, "rules", file]), "");
        assert!(output.status.success(), "{}", said(&output));
    }
}
