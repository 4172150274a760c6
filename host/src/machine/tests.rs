use super::*;
use crate::sandbox::in_own_namespace;

fn sound() -> Machine {
    Machine {
        kernel: "6.8.0-31-generic".to_owned(),
        capabilities: u64::MAX,
        nft: Ok("nftables v1.0.6".to_owned()),
        rules: Ok(()),
        ipv6: true,
        cgroup2: Some("/sys/fs/cgroup".into()),
        bpffs: Some("/sys/fs/bpf".into()),
        forwarding_v4: true,
        forwarding_v6: true,
        bridge_netfilter: Some(true),
    }
}

fn not_good(machine: &Machine) -> Vec<(&'static str, Severity)> {
    let findings = machine.findings().into_iter();
    findings.filter(|f| f.severity > Severity::Good).map(|f| (f.subject, f.severity)).collect()
}

#[test]
fn a_sound_machine_has_nothing_to_report() {
    assert_eq!(not_good(&sound()), []);
}

#[test]
fn what_makes_the_work_impossible_is_a_fault() {
    let old = Machine { kernel: "5.14.0-427.el9".to_owned(), ..sound() };
    assert_eq!(not_good(&old), [("kernel", Severity::Fault)]);
    let user = Machine { capabilities: 0, ..sound() };
    assert_eq!(not_good(&user), [("capabilities", Severity::Fault)]);
    let bare = Machine { nft: Err("the program `nft` is missing".to_owned()), ..sound() };
    assert_eq!(not_good(&bare), [("nftables", Severity::Fault)]);
    let simple = Machine { rules: Err("operation not supported".to_owned()), ..sound() };
    assert_eq!(not_good(&simple), [("routing rules", Severity::Fault)]);
}

#[test]
fn sys_admin_includes_bpf_and_perfmon() {
    let machine = Machine { capabilities: 1 << 12 | 1 << 13 | 1 << 21, ..sound() };
    assert_eq!(not_good(&machine), []);
    let machine = Machine { capabilities: 1 << 12 | 1 << 13 | 1 << 39, ..sound() };
    let findings = machine.findings();
    let text = &findings.iter().find(|f| f.subject == "capabilities").unwrap().text;
    assert_eq!(text, "missing CAP_PERFMON: run as root");
}

#[test]
fn without_ipv6_its_forwarding_is_not_missed() {
    let machine = Machine { ipv6: false, forwarding_v6: false, ..sound() };
    assert_eq!(not_good(&machine), [("IPv6", Severity::Note)]);
}

#[test]
fn reads_kernel_versions_of_all_sorts() {
    for (release, read) in [
        ("5.15.0", Some((5, 15))),
        ("6.1.0-18-amd64", Some((6, 1))),
        ("6.18-rc1", Some((6, 18))),
        ("6", None),
        ("", None),
    ] {
        assert_eq!(version(release), read, "{release}");
    }
}

#[test]
fn sees_this_machine() {
    in_own_namespace(|| async {
        let machine = Machine::observe().await;
        assert!(version(&machine.kernel).unwrap() >= OLDEST_KERNEL);
        assert_ne!(machine.capabilities, 0);
        assert_eq!(machine.rules, Ok(()));
        assert!(machine.nft.as_ref().is_ok_and(|text| text.contains("nftables")), "{machine:?}");
        assert!(!machine.forwarding_v4, "a new namespace forwards nothing");
    });
}
