//! Files, flags and defaults, and what is refused.

use clap::{Args, Command};

use super::*;

fn flags(args: &[&str]) -> Keys {
    let command = Keys::augment_args(Command::new("fqdnd"));
    let matches = command.try_get_matches_from(std::iter::once(&"fqdnd").chain(args)).unwrap();
    <Keys as clap::FromArgMatches>::from_arg_matches(&matches).unwrap()
}

fn load(text: &str, args: &[&str]) -> Result<Config> {
    let file = tempfile::NamedTempFile::new()?;
    std::fs::write(file.path(), text)?;
    Config::load(Some(file.path()), flags(args))
}

#[test]
fn a_flag_beats_the_file_and_the_file_beats_the_default() {
    let config = load(
        "manifests: [/a]\ndns:\n  minTtl: 60\n  maxTtl: 5m\n",
        &["--dns-max-ttl", "10m", "--redirect-mark-mask", "0x300"],
    )
    .unwrap();
    assert_eq!(config.manifests, [PathBuf::from("/a")]);
    assert_eq!(config.dns.min_ttl, Span::seconds(60));
    assert_eq!(config.dns.max_ttl, Span::seconds(600));
    assert_eq!(config.dns.grace, Span::seconds(10));
    assert_eq!(config.redirect.mark_mask, 0x300);
    assert_eq!(config.socket, PathBuf::from(DEFAULT_SOCKET));
    assert_eq!(config.state_directory, PathBuf::from(DEFAULT_STATE_DIRECTORY));
    let config = load("stateDirectory: /a", &[]).unwrap();
    assert_eq!(config.state_directory, PathBuf::from("/a"));
    let config = load("stateDirectory: /a", &["--state-directory", "/b"]).unwrap();
    assert_eq!(config.state_directory, PathBuf::from("/b"));
}

#[test]
fn an_unknown_key_is_refused_with_its_place() {
    let error = format!("{:#}", load("dns:\n  minTtl: 60\n  maxtTl: 5m\n", &[]).unwrap_err());
    assert!(error.contains("maxtTl") && error.contains("line 3"), "{error}");
}

#[test]
fn values_that_cannot_be_are_refused() {
    let error = |text: &str| format!("{:#}", load(text, &[]).unwrap_err());
    assert!(error("dns: {minTtl: soon}").contains("`soon` is no length of time"));
    assert!(error("dns: {minTtl: 2h}").contains("is longer than maxTtl"));
    assert!(error("redirect: {markMask: 0x7000}").contains("must have two"));
    assert!(error("redirect: {markMask: 0xc000}").contains("kube-proxy"));
    assert!(error("cluster: {podPrefixes: [10.0.0.1]}").contains("has no `/`"));
}

#[test]
fn limits_on_queries_that_would_limit_nothing_or_all_are_refused() {
    let error = |text: &str| {
        let loaded = load(&format!("queryLimits: {{{text}}}"), &[]);
        loaded.err().map(|error| format!("{error:#}")).unwrap_or_default()
    };
    assert!(error("labelLength: 64").contains("more than any label has"));
    assert!(error("distinctNames: 65537").contains("more than 65536"));
    assert!(error("distinctNames: 9, window: 0").contains("needs a length of time"));
    assert!(error("burst: 9").contains("without a rate"));
    assert_eq!(error("rate: 9, burst: 5, labelLength: 63, distinctNames: 65536"), "");
}

#[test]
fn a_trusted_resolver_is_an_address_or_a_prefix() {
    let keys = "learning: {from: trusted, resolvers: [169.254.20.10, 'fd00::/64', 10.0.0.0/24]}";
    let shown: Vec<String> = load(keys, &[])
        .unwrap()
        .learning
        .resolvers
        .iter()
        .map(|server| server.0.to_string())
        .collect();
    assert_eq!(shown, ["169.254.20.10/32", "fd00::/64", "10.0.0.0/24"]);
    assert!(load("learning: {resolvers: [dns.example.com]}", &[]).is_err());
    let flags = load("", &["--learning-resolvers", "9.9.9.9,2620:fe::9"]).unwrap();
    assert_eq!(flags.learning.resolvers.len(), 2);
}

#[test]
fn flows_are_served_beyond_this_machine_only_to_clients_with_certificates() {
    let loads = |text: &str| load(text, &[]).map_err(|error| format!("{error:#}"));
    assert!(loads("hubble: {listen: ['127.0.0.1:4245', '[::1]:4245']}").is_ok());
    let error = loads("hubble: {listen: ['127.0.0.1:4245', '0.0.0.0:4244']}").unwrap_err();
    assert!(error.contains("0.0.0.0:4244 is not of the loopback"), "{error}");
    let error = loads("hubble: {tlsCertificate: /a, tlsKey: /b}").unwrap_err();
    assert!(error.contains("hubble.tlsClientCa is missing"), "{error}");
    let all = "{listen: ['0.0.0.0:4244'], tlsCertificate: /a, tlsKey: /b, tlsClientCa: /c}";
    assert!(loads(&format!("hubble: {all}")).is_ok());
}

#[test]
fn the_page_is_served_on_the_loopback_alone() {
    assert!(load("page: {listen: ['127.0.0.1:9966', '[::1]:9966']}", &[]).is_ok());
    for address in ["0.0.0.0:9966", "[::]:9966", "192.0.2.1:9966"] {
        let error = load("", &["--page-listen", address]).unwrap_err().to_string();
        assert!(error.contains(&format!("{address} is not of the loopback")), "{error}");
    }
}

#[test]
fn a_file_of_comments_sets_nothing() {
    assert!(load("# nothing\n\n", &[]).unwrap().manifests.is_empty());
}

/// The file that is shipped, with every key at its default.
const SHIPPED: &str = include_str!("../../../deploy/fqdnd.yaml");

#[test]
fn the_shipped_file_says_the_defaults() {
    let shipped = load(SHIPPED, &["--dns-workers", "1"]).unwrap();
    let defaults = load("manifests: [/etc/fqdnd/manifests]", &["--dns-workers", "1"]).unwrap();
    assert_eq!(format!("{shipped:#?}"), format!("{defaults:#?}"));
}

#[test]
fn the_shipped_file_has_every_key_that_is_a_flag() {
    let command = Keys::augment_args(Command::new("fqdnd"));
    for argument in command.get_arguments() {
        let (section, field) =
            argument.get_id().as_str().split_once('-').unwrap_or(("", argument.get_id().as_str()));
        let mut words = field.split('_');
        let mut key = words.next().unwrap().to_owned();
        for word in words {
            key.push_str(&word[..1].to_uppercase());
            key.push_str(&word[1..]);
        }
        let line = SHIPPED
            .lines()
            .find(|line| line.trim_start_matches([' ', '#']).starts_with(&format!("{key}:")));
        assert!(line.is_some(), "{section}.{key} is not in deploy/fqdnd.yaml");
    }
}

#[test]
fn the_manifests_for_a_cluster_have_a_configuration_that_is_taken() {
    let manifests = include_str!("../../../deploy/kubernetes/fqdnd.yaml");
    let (_, rest) = manifests.split_once("  fqdnd.yaml: |\n").unwrap();
    let lines: Vec<&str> = rest.lines().map_while(|line| line.strip_prefix("    ")).collect();
    let config = load(&lines.join("\n"), &["--kubernetes-node", "a"]).unwrap();
    assert!(config.wait && config.kubernetes.in_cluster);
    assert_eq!(config.kubernetes.runtime, "/run/containerd/containerd.sock");
}
