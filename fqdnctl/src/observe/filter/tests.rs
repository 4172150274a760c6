use super::*;

use clap::Parser;

#[derive(Debug, Parser)]
struct Flags {
    #[command(flatten)]
    filters: Filters,
}

fn lists(flags: &[&str]) -> Result<(Vec<FlowFilter>, Vec<FlowFilter>), String> {
    let parsed = Flags::try_parse_from([&["observe"], flags].concat());
    parsed.map(|flags| flags.filters.into_lists()).map_err(|error| error.to_string())
}

fn allowed(flags: &[&str]) -> Vec<FlowFilter> {
    lists(flags).unwrap().0
}

fn texts(texts: &[&str]) -> Vec<String> {
    texts.iter().map(|&text| text.to_owned()).collect()
}

#[test]
fn without_flags_there_is_no_filter() {
    assert_eq!(lists(&[]), Ok((vec![], vec![])));
}

#[test]
fn a_filter_about_the_flow_is_one_and_takes_several_values() {
    let filter =
        FlowFilter { verdict: vec![2, 3], traffic_direction: vec![2], ..FlowFilter::default() };
    let flags = ["--verdict", "drop", "--verdict", "error", "--traffic-direction", "EGRESS"];
    assert_eq!(allowed(&flags), [filter]);
}

#[test]
fn a_filter_about_either_end_is_one_for_each() {
    let source = FlowFilter {
        source_pod: texts(&["shop/web"]),
        source_port: texts(&["80"]),
        ..FlowFilter::default()
    };
    let destination = FlowFilter {
        destination_pod: texts(&["shop/web"]),
        destination_port: texts(&["80"]),
        ..FlowFilter::default()
    };
    assert_eq!(allowed(&["--pod", "shop/web", "--port", "80"]), [source, destination]);
}

#[test]
fn a_filter_about_one_end_holds_whatever_the_other_filters_are_about() {
    let filter = FlowFilter {
        source_pod: texts(&["shop/web"]),
        destination_fqdn: texts(&["*.stripe.com"]),
        ..FlowFilter::default()
    };
    let one = ["--from-pod", "shop/web", "--to-fqdn", "*.stripe.com"];
    assert_eq!(allowed(&one), std::slice::from_ref(&filter));
    let both = allowed(&[&one[..], &["--identity", "host"]].concat());
    assert_eq!(
        both,
        [
            FlowFilter { source_identity: vec![1], ..filter.clone() },
            FlowFilter { destination_identity: vec![1], ..filter }
        ]
    );
}

#[test]
fn not_turns_the_next_filter_alone() {
    let (allow, deny) = lists(&["--not", "--verdict", "drop", "--protocol", "tcp"]).unwrap();
    assert_eq!(deny, [FlowFilter { verdict: vec![2], ..FlowFilter::default() }]);
    assert_eq!(allow, [FlowFilter { protocol: texts(&["tcp"]), ..FlowFilter::default() }]);
    let (allow, deny) =
        lists(&["-t", "l7", "--not", "-t", "drop", "-t", "policy-verdict"]).unwrap();
    assert_eq!((allow[0].event_type.len(), deny[0].event_type.len()), (2, 1));
}

#[test]
fn a_not_without_a_filter_is_refused() {
    assert!(lists(&["--verdict", "drop", "--not"]).unwrap_err().contains("--not"));
    assert!(lists(&["--not", "--not", "--verdict", "drop"]).unwrap_err().contains("--not"));
}

#[test]
fn a_namespace_is_of_pods_without_one_or_of_either_end() {
    let default = FlowFilter::default;
    let source = FlowFilter { source_pod: texts(&["shop/"]), ..default() };
    let destination = FlowFilter { destination_pod: texts(&["shop/"]), ..default() };
    assert_eq!(allowed(&["-n", "shop"]), [source, destination]);
    let to = FlowFilter { destination_pod: texts(&["shop/web", "prod/db"]), ..default() };
    assert_eq!(allowed(&["-n", "shop", "--to-pod", "web", "--to-pod", "prod/db"]), [to]);
    let any = FlowFilter { source_service: texts(&["/dns"]), ..default() };
    assert_eq!(allowed(&["--from-service", "dns", "-A"]), [any]);
}

#[test]
fn a_namespace_of_one_end_is_of_its_pods_without_one_or_of_that_end() {
    let default = FlowFilter::default;
    let from = FlowFilter { source_pod: texts(&["shop/"]), ..default() };
    assert_eq!(allowed(&["--from-namespace", "shop"]), [from]);
    let both = FlowFilter {
        source_pod: texts(&["shop/web"]),
        destination_service: texts(&["data/db"]),
        ..default()
    };
    let flags = [
        "--from-pod",
        "web",
        "--from-namespace",
        "shop",
        "--to-namespace",
        "data",
        "--to-service",
        "db",
    ];
    assert_eq!(allowed(&flags), [both]);
}

#[test]
fn a_value_that_is_none_is_named_with_its_flag() {
    let error = lists(&["--verdict", "perhaps"]).unwrap_err();
    assert!(
        error.contains("'perhaps' for '--verdict <VERDICT>'") && error.contains("dropped"),
        "{error}"
    );
}

#[test]
fn short_flags_and_all_namespaces_mean_what_hubbles_do() {
    let v4 = FlowFilter { ip_version: vec![1], ..FlowFilter::default() };
    assert_eq!(allowed(&["-4"]), [v4]);
    let both = FlowFilter { ip_version: vec![1, 2], ..FlowFilter::default() };
    assert_eq!(allowed(&["--ipv4", "--ipv6"]), [both]);
    let from = FlowFilter { source_pod: texts(&["/"]), ..FlowFilter::default() };
    assert_eq!(allowed(&["--from-all-namespaces"]), [from]);
    let to = FlowFilter { destination_pod: texts(&["/web"]), ..FlowFilter::default() };
    assert_eq!(allowed(&["--to-all-namespaces", "--to-pod", "web"]), [to]);
    let cluster = FlowFilter { source_cluster_name: texts(&["east"]), ..FlowFilter::default() };
    assert_eq!(allowed(&["--from-cluster", "east"]), [cluster]);
}
