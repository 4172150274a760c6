use super::*;

/// An answer to `question`, its records written as zone files have them, without compression.
/// Lines after `;; additional` stand in that section.
fn message(question: &str, zone: &str) -> Vec<u8> {
    let (answers, additionals) = zone.split_once(";; additional").unwrap_or((zone, ""));
    let records = |text: &str| -> Vec<Vec<u8>> {
        text.lines().map(str::trim).filter(|line| !line.is_empty()).map(record).collect()
    };
    let (answers, additionals) = (records(answers), records(additionals));
    let counts = [1, answers.len() as u16, 0, additionals.len() as u16];
    let mut bytes = b"\x12\x34\x81\x80".to_vec();
    bytes.extend(counts.iter().flat_map(|count| count.to_be_bytes()));
    bytes.extend(name(question));
    bytes.extend(b"\0\x01\0\x01");
    bytes.extend(answers.concat());
    bytes.extend(additionals.concat());
    bytes
}

fn name(text: &str) -> Vec<u8> {
    text.parse::<NameBuf>().unwrap().as_ref().as_wire().to_vec()
}

fn record(line: &str) -> Vec<u8> {
    let fields: Vec<_> = line.split_whitespace().collect();
    let [owner, ttl, class, kind, data @ ..] = &fields[..] else { panic!("{line}") };
    let (kind, data): (u16, Vec<u8>) = match *kind {
        "A" => (kind::A, data[0].parse::<Ipv4Addr>().unwrap().octets().to_vec()),
        "AAAA" => (kind::AAAA, data[0].parse::<Ipv6Addr>().unwrap().octets().to_vec()),
        "CNAME" => (kind::CNAME, name(data[0])),
        "DNAME" => (kind::DNAME, name(data[0])),
        "PTR" => (12, name(data[0])),
        "HTTPS" => (kind::HTTPS, service(data)),
        "OPT" => (kind::OPT, Vec::new()),
        "RAW" => (data[0].parse().unwrap(), vec![7; data[1].parse().unwrap()]),
        other => panic!("{other}"),
    };
    let class: u16 = if *class == "IN" { CLASS_IN } else { class.parse().unwrap() };
    let mut bytes = name(owner);
    bytes.extend(kind.to_be_bytes());
    bytes.extend(class.to_be_bytes());
    bytes.extend(ttl.parse::<u32>().unwrap().to_be_bytes());
    bytes.extend((data.len() as u16).to_be_bytes());
    bytes.extend(data);
    bytes
}

/// `priority target hints...`
fn service(data: &[&str]) -> Vec<u8> {
    let mut bytes = data[0].parse::<u16>().unwrap().to_be_bytes().to_vec();
    bytes.extend(name(data[1]));
    for hint in &data[2..] {
        let (key, value) = match hint.parse().unwrap() {
            IpAddr::V4(ip) => (IPV4_HINT, ip.octets().to_vec()),
            IpAddr::V6(ip) => (IPV6_HINT, ip.octets().to_vec()),
        };
        bytes.extend(key.to_be_bytes());
        bytes.extend((value.len() as u16).to_be_bytes());
        bytes.extend(value);
    }
    bytes
}

/// Reads a message whose TTLs stay as they are.
fn read(answer: &mut Answer, bytes: &[u8]) -> Result<(), Malformed> {
    answer.read(&mut bytes.to_vec(), u32::MAX)
}

/// The addresses that the records give to `www.example.`, as `address ttl`.
fn addresses(zone: &str) -> Vec<String> {
    let mut answer = Answer::default();
    read(&mut answer, &message("www.example", zone)).unwrap();
    answer.addresses.iter().map(|address| format!("{} {}", address.ip, address.ttl)).collect()
}

#[test]
fn takes_the_addresses_of_the_question_in_their_order() {
    let zone = "www.example 60 IN A 192.0.2.2
        WWW.Example 30 IN A 192.0.2.1
        www.example 90 IN AAAA 2001:db8::1";
    assert_eq!(addresses(zone), ["192.0.2.2 60", "192.0.2.1 30", "2001:db8::1 90"]);
}

#[test]
fn follows_aliases_whatever_the_order_of_the_records() {
    let zone = "c.example 60 IN A 192.0.2.1
        b.example 40 IN CNAME c.example
        www.example 50 IN CNAME b.example";
    assert_eq!(addresses(zone), ["192.0.2.1 40"]);
}

#[test]
fn tells_the_aliases_that_were_followed() {
    let zone = "www.example 50 IN CNAME b.example
        other.example 50 IN CNAME c.example
        b.example 40 IN CNAME D.example
        d.example 60 IN A 192.0.2.1";
    let mut message = message("www.example", zone);
    let mut answer = Answer::default();
    answer.read(&mut message, u32::MAX).unwrap();
    let names = answer.cnames(&message).map(|name| name.as_ref().to_string());
    assert_eq!(names.collect::<Vec<_>>(), ["b.example.", "d.example."]);
}

#[test]
fn the_ttl_is_the_least_of_the_chain() {
    let zone = "www.example 5 IN CNAME a.example
        a.example 600 IN A 192.0.2.1
        a.example 3 IN A 192.0.2.2
        a.example 2147483648 IN A 192.0.2.3";
    assert_eq!(addresses(zone), ["192.0.2.1 5", "192.0.2.2 3", "192.0.2.3 0"]);
}

#[test]
fn follows_dname_from_below_its_owner_only() {
    let zone = "example 20 IN DNAME other.test
        www.other.test 60 IN A 192.0.2.1";
    assert_eq!(addresses(zone), ["192.0.2.1 20"]);
    let own = "www.example 20 IN DNAME other.test
        other.test 60 IN A 192.0.2.1";
    assert_eq!(addresses(own), Vec::<String>::new());
}

#[test]
fn an_alias_that_would_be_too_long_leads_nowhere() {
    let long = format!("{}test", "abcdefgh.".repeat(27));
    let zone = format!("example 20 IN DNAME {long}\nwww.example 60 IN A 192.0.2.1");
    assert_eq!(addresses(&zone), ["192.0.2.1 60"]);
}

#[test]
fn ignores_records_that_the_question_does_not_reach() {
    let zone = "other.example 60 IN A 192.0.2.1
        www.example 60 4 A 192.0.2.2
        www.example 60 IN PTR host.example
        host.example 60 IN A 192.0.2.3
        a.example 60 IN CNAME www.example
        ;; additional
        www.example 60 IN A 192.0.2.4";
    assert_eq!(addresses(zone), Vec::<String>::new());
}

#[test]
fn loops_end_and_give_each_address_once() {
    let zone = "www.example 60 IN CNAME a.example
        a.example 60 IN CNAME www.example
        www.example 60 IN A 192.0.2.1";
    assert_eq!(addresses(zone), ["192.0.2.1 60"]);
    assert_eq!(addresses("www.example 60 IN CNAME www.example"), Vec::<String>::new());
}

#[test]
fn a_chain_has_a_bound_and_says_when_it_bites() {
    let chain = |length: usize| {
        let links: Vec<_> =
            (0..length).map(|n| format!("c{n}.example 60 IN CNAME c{}.example", n + 1)).collect();
        format!("{}\nc{length}.example 60 IN A 192.0.2.1", links.join("\n"))
    };
    let mut answer = Answer::default();
    read(&mut answer, &message("c0.example", &chain(MAX_CHAIN))).unwrap();
    assert_eq!((answer.addresses.len(), answer.chain_cut), (1, false));
    read(&mut answer, &message("c0.example", &chain(MAX_CHAIN + 1))).unwrap();
    assert_eq!((answer.addresses.len(), answer.chain_cut), (0, true));
}

#[test]
fn takes_the_hints_of_service_records() {
    let zone = "www.example 30 IN CNAME cdn.example
        cdn.example 60 IN HTTPS 1 . 192.0.2.1 2001:db8::1
        cdn.example 60 IN HTTPS 0 alias.example 192.0.2.9
        other.example 60 IN HTTPS 1 . 192.0.2.8";
    assert_eq!(addresses(zone), ["192.0.2.1 30", "2001:db8::1 30"]);
}

#[test]
fn an_impossible_length_refuses_the_whole_answer() {
    for line in [
        "www.example 60 IN RAW 1 5",
        "www.example 60 IN RAW 28 4",
        "www.example 60 IN RAW 65 1",
        "www.example 60 IN RAW 65 30",
    ] {
        let mut answer = Answer::default();
        let zone = format!("www.example 60 IN A 192.0.2.1\n{line}");
        assert!(read(&mut answer, &message("www.example", &zone)).is_err(), "{line}");
        assert_eq!((answer.addresses.len(), answer.rcode), (0, Rcode::SERVFAIL), "{line}");
    }
}

#[test]
fn refuses_an_answer_cut_at_any_byte_or_with_bytes_behind() {
    let mut whole =
        message("www.example", "www.example 60 IN A 192.0.2.1\n;; additional\n. 0 4096 OPT");
    let mut answer = Answer::default();
    assert_eq!(read(&mut answer, &whole), Ok(()));
    for end in 0..whole.len() {
        assert!(read(&mut answer, &whole[..end]).is_err(), "cut at {end}");
    }
    whole.push(0);
    assert_eq!(read(&mut answer, &whole), Err(Malformed::Trailing));
}

#[test]
fn the_code_has_the_upper_bits_of_the_opt_record() {
    let mut answer = Answer::default();
    // Extended code 1 in the highest byte of the TTL, with NOERROR in the header, is BADVERS.
    let badvers = message("www.example", ";; additional\n. 16777216 4096 OPT");
    read(&mut answer, &badvers).unwrap();
    assert_eq!(answer.rcode, Rcode(16));
}

#[test]
fn caps_ttls_and_changes_nothing_else() {
    let zone = |ttls: [u32; 3]| {
        let [a, b, c] = ttls;
        message(
            "www.example",
            &format!(
                "www.example {a} IN A 192.0.2.1\nwww.example {b} IN RAW 99 7\n;; additional
                ns.example {c} IN AAAA ::1\n. 4026531840 4096 OPT\nkey.example 5000 255 RAW 250 9"
            ),
        )
    };
    let mut bytes = zone([60, 86400, 2_147_483_648]);
    let mut answer = Answer::default();
    answer.read(&mut bytes, 300).unwrap();
    assert_eq!(bytes, zone([60, 300, 0]));
}

#[test]
fn a_name_that_leads_through_a_ttl_is_judged_as_its_client_will_read_it() {
    // The TTL of the first record is `3www`, and what follows it a zero: as sent, the owner of the
    // address is the name that was asked for; capped, it is the root.
    let mut bytes = message("www", "other 58161015 IN RAW 99 1");
    let ttl_at = bytes.len() - 7;
    assert_eq!(bytes[ttl_at..ttl_at + 5], *b"\x03www\0");
    bytes.extend([0xc0, ttl_at as u8, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 192, 0, 2, 1]);
    bytes[7] = 2;
    let mut answer = Answer::default();
    answer.read(&mut bytes.clone(), 60_000_000).unwrap();
    assert_eq!(answer.addresses.len(), 1);
    answer.read(&mut bytes, 300).unwrap();
    assert_eq!(answer.addresses, []);
}
