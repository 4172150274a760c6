use super::*;

fn guard() -> Guard {
    Guard {
        internal_domains: vec!["cluster.local".parse().unwrap(), "corp.example".parse().unwrap()],
        cluster_prefixes: ["30.0.0.0/16", "2a00:1::/48"].map(|text| text.parse().unwrap()).into(),
        allow: Vec::new(),
    }
}

fn judge(guard: &Guard, name: &str, address: &str) -> Result<(), Inside> {
    let name: Name = name.parse().unwrap();
    guard.admits(name.as_ref(), address.parse().unwrap()).map_err(|rebinding| rebinding.kind)
}

#[test]
fn admits_addresses_of_the_internet() {
    for address in [
        "1.1.1.1",
        "93.184.216.34",
        "172.15.255.255",
        "172.32.0.0",
        "100.63.255.255",
        "100.128.0.0",
        "169.253.0.1",
        "223.255.255.255",
        "203.0.113.7",
        "2606:4700::1111",
        "2001:db8::1",
        "::ffff:1.1.1.1",
        "64:ff9b::1.1.1.1",
        "64:ff9b:1::1.1.1.1",
        "64:ff9b:1:808:8:800::",
        "2002:101:101::1",
    ] {
        assert_eq!(judge(&guard(), "example.com", address), Ok(()), "{address}");
    }
}

#[test]
fn refuses_addresses_close_to_the_pod() {
    for (address, kind) in [
        ("30.0.255.255", Inside::Cluster),
        ("2a00:1::5", Inside::Cluster),
        ("169.254.169.254", Inside::Metadata),
        ("169.254.170.2", Inside::Metadata),
        ("168.63.129.16", Inside::Metadata),
        ("fd00:ec2::254", Inside::Metadata),
        ("0.0.0.0", Inside::Unspecified),
        ("0.1.2.3", Inside::Unspecified),
        ("::", Inside::Unspecified),
        ("127.0.0.1", Inside::Loopback),
        ("127.255.255.254", Inside::Loopback),
        ("::1", Inside::Loopback),
        ("169.254.0.1", Inside::LinkLocal),
        ("fe80::1", Inside::LinkLocal),
        ("febf:ffff::1", Inside::LinkLocal),
        ("10.0.0.1", Inside::Private),
        ("172.16.0.1", Inside::Private),
        ("172.31.255.255", Inside::Private),
        ("192.168.1.1", Inside::Private),
        ("fec0::1", Inside::Private),
        ("fc00::1", Inside::UniqueLocal),
        ("fdff::1", Inside::UniqueLocal),
        ("100.64.0.1", Inside::SharedSpace),
        ("224.0.0.1", Inside::Multicast),
        ("ff02::1", Inside::Multicast),
        ("240.0.0.1", Inside::Reserved),
        ("255.255.255.255", Inside::Reserved),
    ] {
        assert_eq!(judge(&guard(), "example.com", address), Err(kind), "{address}");
    }
}

#[test]
fn sees_through_ipv6_forms_of_ipv4_addresses() {
    for (address, kind) in [
        ("::ffff:10.0.0.1", Inside::Private),
        ("::ffff:169.254.169.254", Inside::Metadata),
        ("::ffff:30.0.0.1", Inside::Cluster),
        ("::10.0.0.1", Inside::Private),
        ("::127.0.0.1", Inside::Loopback),
        ("::ffff:0:10.0.0.1", Inside::Private),
        ("64:ff9b::10.0.0.1", Inside::Private),
        ("64:ff9b::169.254.169.254", Inside::Metadata),
        ("64:ff9b:1::10.0.0.1", Inside::Private),
        ("64:ff9b:1:ffff::192.168.0.1", Inside::Private),
        ("64:ff9b:1:a00:0:100::", Inside::Private),
        ("64:ff9b:1:c0:a8:1::", Inside::Private),
        ("64:ff9b:1:2:a:0:100:0", Inside::Private),
        ("64:ff9b:1::", Inside::Unspecified),
        ("2002:a00:1::1", Inside::Private),
        ("2002:7f00:1::", Inside::Loopback),
        ("2001:0:a00:1::1", Inside::Private),
        ("2001:0:101:101:0:0:f5ff:fffe", Inside::Private),
        ("2606:4700::5efe:10.0.0.1", Inside::Private),
        ("2606:4700::200:5efe:10.0.0.1", Inside::Private),
    ] {
        assert_eq!(judge(&guard(), "example.com", address), Err(kind), "{address}");
    }
}

#[test]
fn lets_internal_names_have_any_address() {
    for name in ["cluster.local", "web.prod.svc.cluster.local", "db.corp.example"] {
        assert_eq!(judge(&guard(), name, "10.0.0.1"), Ok(()), "{name}");
    }
    for name in ["xcluster.local", "cluster.local.example.com", "example", "."] {
        assert_eq!(judge(&guard(), name, "10.0.0.1"), Err(Inside::Private), "{name}");
    }
}

#[test]
fn lets_every_name_have_what_is_allowed() {
    let guard = Guard { allow: vec!["10.1.0.0/16".parse().unwrap()], ..guard() };
    assert_eq!(judge(&guard, "example.com", "10.1.2.3"), Ok(()));
    assert_eq!(judge(&guard, "example.com", "::ffff:10.1.2.3"), Ok(()));
    assert_eq!(judge(&guard, "example.com", "10.2.0.1"), Err(Inside::Private));
    assert_eq!(judge(&guard, "example.com", "64:ff9b::10.2.0.1"), Err(Inside::Private));
}

#[test]
fn says_which_address_is_what() {
    let name: Name = "example.com".parse().unwrap();
    let address = "::ffff:127.0.0.1".parse().unwrap();
    let rebinding = guard().admits(name.as_ref(), address).unwrap_err();
    assert_eq!(rebinding.to_string(), "::ffff:127.0.0.1 is a loopback address");
}
