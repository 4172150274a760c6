//! `fqdnctl top` in a terminal, and once for scripts.

use std::{
    net::{IpAddr, Ipv4Addr},
    path::Path,
    time::Duration,
};

use hickory_proto::rr::RecordType;
use integration::{Daemon, Lab, LabOptions, Left, ONE_NAME, Reach, Resolver, Terminal, wait_until};
use nix::sys::signal::Signal;
use serde_json::{Value, json};

const CLIENT: &str = "default/client";
const SOON: Duration = Duration::from_secs(60);
const SMALL: (u16, u16) = (80, 24);

/// What [`ONE_NAME`] is without: 203.0.113.40 is denied by a rule.
const DENIAL: &str = "  egressDeny:\n  - toCIDR: [203.0.113.40/32]\n";

const WWW: IpAddr = IpAddr::V4(Ipv4Addr::new(203, 0, 113, 10));
const FORBIDDEN: IpAddr = IpAddr::V4(Ipv4Addr::new(203, 0, 113, 40));
/// How a program should leave a terminal.
const WELL: Left = Left { code: 0, has_its_settings: true, has_its_screen: true };

fn begin() -> (Lab, Daemon) {
    let lab = Lab::new(LabOptions::default()).unwrap();
    lab.policy("one-name", &[ONE_NAME, DENIAL].concat()).unwrap();
    let daemon = Daemon::start(&lab, &[]).unwrap();
    (lab, daemon)
}

/// A name that resolves and one that must not; a connection to the name, and one that is denied.
fn happen(lab: &Lab) {
    let (client, resolver) = (lab.pod(CLIENT), Resolver::new(lab.dns_service()[0]));
    assert_eq!(client.ask(resolver, "www.example.com", RecordType::A).addresses, [WWW]);
    client.ask(resolver, "secret.example.org", RecordType::A);
    assert_eq!(client.connect(WWW, 80), Reach::Open);
    assert_eq!(client.connect(FORBIDDEN, 443), Reach::Silent);
}

fn top(lab: &Lab, daemon: &Daemon, flags: &[&str]) -> Terminal {
    let mut program = daemon.ctl_command().unwrap();
    program.args(["top", "--interval", "200ms"]).args(flags);
    let script = daemon.command_inside(Path::new("script"));
    Terminal::open(script, &program, lab.directory(), SMALL)
}

/// The words of the line that begins like this.
fn words<'a>(screen: &'a str, beginning: &str) -> Option<Vec<&'a str>> {
    let line = screen.lines().find(|line| line.starts_with(beginning))?;
    Some(line.split_whitespace().collect())
}

#[test]
fn what_pods_do_is_seen_on_80_columns_and_an_endpoint_can_be_opened() {
    let (lab, daemon) = begin();
    let mut top = top(&lab, &daemon, &[]);
    // From here on its counters are watched.
    top.wait_for_text(CLIENT);
    top.wait_for("queries, connections and drops", |screen| {
        let is_seen = words(screen, CLIENT).is_some_and(|client| {
            client[1] == "enforced" && client[2..5].iter().all(|rate| *rate != "0.0")
        });
        // What is long ago on a busy machine happens again.
        is_seen && words(screen, "www.example.com").is_some() || {
            happen(&lab);
            false
        }
    });
    top.wait_for("what was dropped, and why", |screen| {
        let denied = |line: &str| {
            [CLIENT, "203.0.113.40:443/TCP", "deny-rule"].iter().all(|part| line.contains(part))
        };
        let refused = |line: &str| line.contains("A secret.example.org  policy-denied");
        screen.lines().any(denied) && screen.lines().any(|line| refused(&squeezed(line)))
    });
    let screen = top.screen();
    assert!(screen.contains("1 enforced, 3 open, 0 denied"), "{screen}");
    assert!(screen.lines().all(|line| line.chars().count() <= 80), "{screen}");

    top.press("/client\r");
    top.wait_for("the filter", |screen| !screen.contains("default/other"));
    top.press("\r");
    top.wait_for_text("CACHE (1)");
    for part in [
        "default/one-name",
        "policy-one-name.yaml",
        "line 8: for",
        "toFQDNs www.example.com",
        "203.0.113.10",
        "leased",
        "deny-rule x",
    ] {
        top.wait_for_text(part);
    }
    top.press("?");
    top.wait_for_text("any key goes back");
    top.press("x");
    top.resize((120, 40));
    let is_wide = |screen: &str| screen.lines().any(|line| line.chars().count() > 80);
    top.wait_for("all of the wider terminal is used", is_wide);
    top.press("\u{1b}");
    top.wait_for_text("ADDRESSES");
    top.press("q");
    assert_eq!(top.end(), WELL);
}

fn squeezed(line: &str) -> String {
    line.split("  ").filter(|part| !part.is_empty()).map(str::trim).collect::<Vec<_>>().join("  ")
}

#[test]
fn however_it_ends_the_terminal_is_given_back() {
    let (lab, daemon) = begin();
    let begin = || {
        let top = top(&lab, &daemon, &[]);
        top.wait_for_text(CLIENT);
        assert!(top.is_on_other_screen() && !top.has_its_settings());
        top
    };
    for signal in [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP] {
        let top = begin();
        top.signal(signal);
        assert_eq!(top.end(), WELL, "{signal}");
    }
    let mut top = begin();
    top.press("\u{3}");
    assert_eq!(top.end(), WELL, "Ctrl-C");

    let mut top = begin();
    for stop in ["a signal", "Ctrl-Z"] {
        match stop {
            "a signal" => top.signal(Signal::SIGTSTP),
            _ => top.press("\u{1a}"),
        }
        top.wait_until_stopped();
        wait_until("the screen from before", SOON, || !top.is_on_other_screen()).unwrap();
        assert!(top.has_its_settings(), "{stop}");
        top.signal(Signal::SIGCONT);
        wait_until("its own screen", SOON, || top.is_on_other_screen()).unwrap();
        top.wait_for_text(CLIENT);
        wait_until("its own settings", SOON, || !top.has_its_settings()).unwrap();
    }
    top.press("q");
    assert_eq!(top.end(), WELL);
}

#[test]
fn a_terminal_that_takes_nothing_more_does_not_keep_it_from_ending() {
    let (lab, daemon) = begin();
    let top = top(&lab, &daemon, &[]);
    top.wait_for_text(CLIENT);
    top.freeze();
    // More than what a terminal holds for whoever reads it.
    for lines in 20..60 {
        top.resize((200, lines));
        std::thread::sleep(Duration::from_millis(20));
    }
    top.signal(Signal::SIGTERM);
    top.thaw_after_end();
    let left = top.end();
    // 0 where a busy machine has not drawn often enough to fill the terminal.
    assert!(matches!(left.code, 0 | 1) && left.has_its_settings, "{left:?}");
}

#[test]
fn a_daemon_that_is_away_is_told_of_and_seen_again_when_it_is_back() {
    let (lab, mut daemon) = begin();
    let mut top = top(&lab, &daemon, &[]);
    top.wait_for_text(CLIENT);
    daemon.stop().unwrap();
    top.wait_for_text("! cannot reach fqdnd at ");
    top.wait_for_text("! no queries, names and drops: ");
    assert!(top.screen().contains(CLIENT), "what it said last stays");
    daemon.restart().unwrap();
    top.wait_for("it is back", |screen| {
        let is_back = !screen.contains("! ") && words(screen, "www.example.com").is_some();
        is_back || {
            happen(&lab);
            false
        }
    });
    top.press("q");
    assert_eq!(top.end(), WELL);
}

#[test]
fn scripts_get_one_frame_as_text_or_json() {
    let (lab, daemon) = begin();
    happen(&lab);
    let seen = || {
        let top = daemon.ctl_json(&["top", "--once", "--interval", "200ms"]).unwrap();
        let named = |own: &&Value| own["name"] == "www.example.com";
        let is_whole = top["drops"].as_array().is_some_and(|drops| drops.len() >= 2)
            && top["names"].as_array().and_then(|names| names.iter().find(named)).is_some();
        is_whole.then_some(top)
    };
    let mut json = None;
    wait_until("the story is recorded", SOON, || {
        happen(&lab);
        json = seen();
        json.is_some()
    })
    .unwrap();
    let json = json.unwrap();
    let of = |list: &str, key: &str, value: &str| {
        let all = json[list].as_array().unwrap();
        all.iter()
            .find(|own| own[key] == value)
            .unwrap_or_else(|| panic!("{value}: {json:#}"))
            .clone()
    };
    let client = of("endpoints", "endpoint", CLIENT);
    assert_eq!((&client["enforcement"], &client["names"]), (&json!("enforced"), &json!(1)));
    assert!(client["queriesPerSecond"].as_f64().unwrap() > 0.0, "{client}");
    assert_eq!(client["dropped"]["deny-rule"].as_u64(), Some(daemon.dropped(CLIENT, "deny-rule")));
    assert_eq!(of("names", "name", "www.example.com")["endpoints"], json!([CLIENT]));
    let denied = of("drops", "target", "203.0.113.40:443/TCP");
    assert_eq!((&denied["endpoint"], &denied["reason"]), (&json!(CLIENT), &json!("deny-rule")));
    assert_eq!(denied["policies"], json!(["default/one-name (policy-one-name.yaml:25)"]));
    assert_eq!(of("drops", "target", "A secret.example.org")["reason"], "policy-denied");

    let text = daemon.ctl(&["top", "--once", "--interval", "100ms", "--sort", "drops"]).unwrap();
    assert!(text.lines().nth(1).unwrap().contains("DROPS/S\u{25be}"), "{text}");
    assert!(words(&text, CLIENT).is_some() && !text.contains('\u{1b}'), "{text}");
    let filter = ["top", "--once", "--interval", "100ms", "--filter", "prod/"];
    assert!(!daemon.ctl(&filter).unwrap().contains(CLIENT));

    for (flags, reason) in [
        (&["top"][..], "standard output is no terminal"),
        (&["top", "-o", "json"], "with -o json or yaml use --once"),
        (&["top", "--once", "--interval", "1h"], "write 100ms to 1m"),
        (&["top", "--once", "--sort", "colour"], "colour"),
    ] {
        let output = daemon.ctl_output(flags).unwrap();
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!((output.status.code(), error.contains(reason)), (Some(2), true), "{error}");
    }
}

#[test]
fn colours_are_left_out_where_they_are_not_wanted() {
    let (lab, daemon) = begin();
    let uses_color = |flags: &[&str], environment: Option<(&str, &str)>| {
        let mut program = daemon.ctl_command().unwrap();
        program.arg("top").args(flags).envs(environment);
        let script = daemon.command_inside(Path::new("script"));
        let mut top = Terminal::open(script, &program, lab.directory(), SMALL);
        top.wait_for_text("enforced");
        let uses_color = top.uses_color();
        top.press("q");
        assert_eq!(top.end(), WELL);
        uses_color
    };
    assert!(uses_color(&[], None));
    assert!(!uses_color(&["--color", "never"], None));
    assert!(!uses_color(&[], Some(("NO_COLOR", "1"))));
}
