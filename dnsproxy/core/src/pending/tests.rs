use super::*;

const SLOT: Slot = Slot(3);
const TIMEOUT: Duration = Duration::from_secs(4);
const POD: EndpointId = EndpointId(7);

fn table(total: usize, per_endpoint: usize) -> Pending {
    Pending::new(Limits { total, per_endpoint, timeout: TIMEOUT })
}

fn server() -> SocketAddr {
    "10.96.0.10:53".parse().unwrap()
}

fn client(port: u16, id: u16) -> Client {
    Client { address: SocketAddr::new([10, 0, 0, 5].into(), port), server: server(), id }
}

fn message(id: u16, flags: u16, name: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for word in [id, flags, 1, 0, 0, 0] {
        bytes.extend(word.to_be_bytes());
    }
    bytes.extend(name);
    bytes.extend(b"\0\0\x01\0\x01");
    bytes
}

fn query(id: u16) -> Vec<u8> {
    message(id, 0x0100, b"\x03wWw")
}

fn at(now: Moment) -> Course {
    Course { received: now, forwarded: now, breach: None }
}

fn admit(
    pending: &mut Pending,
    client: Client,
    endpoint: EndpointId,
    id: u16,
    now: Moment,
) -> Result<Key, Refused> {
    let query = query(client.id);
    let outline = Outline::read(&query).unwrap();
    pending.admit(client, endpoint, &outline, SLOT, || id, at(now))
}

#[test]
fn an_answer_that_fits_in_every_way_ends_the_wait() {
    let mut pending = table(8, 8);
    admit(&mut pending, client(1000, 5), POD, 77, Moment::ZERO).unwrap();
    let asked = pending.settle(SLOT, server(), &message(77, 0x8180, b"\x03wWw")).unwrap();
    assert_eq!((asked.client, asked.endpoint), (client(1000, 5), POD));
    assert_eq!(asked.question(), b"\x03wWw\0\0\x01\0\x01");
    assert_eq!(asked.outline(), Outline::read(&query(5)).unwrap());
    assert!(pending.is_empty() && pending.in_flight.is_empty() && pending.by_client.is_empty());
    let late = pending.settle(SLOT, server(), &message(77, 0x8180, b"\x03wWw"));
    assert_eq!(late.unwrap_err(), Unsolicited::Id);
}

#[test]
fn ignores_an_answer_to_a_question_never_asked() {
    let mut pending = table(8, 8);
    admit(&mut pending, client(1000, 5), POD, 77, Moment::ZERO).unwrap();
    let answer = message(77, 0x8180, b"\x03wWw");
    let mut settle = |slot, from: &str, message: &[u8]| {
        pending.settle(slot, from.parse().unwrap(), message).unwrap_err()
    };
    assert_eq!(settle(Slot(4), "10.96.0.10:53", &answer), Unsolicited::Id);
    assert_eq!(settle(SLOT, "10.96.0.11:53", &answer), Unsolicited::Server);
    assert_eq!(settle(SLOT, "10.96.0.10:54", &answer), Unsolicited::Server);
    assert_eq!(settle(SLOT, "10.96.0.10:53", &answer[..11]), Unsolicited::NoResponse);
    assert_eq!(settle(SLOT, "10.96.0.10:53", &query(77)), Unsolicited::NoResponse);
    let own = "10.96.0.10:53";
    assert_eq!(settle(SLOT, own, &message(78, 0x8180, b"\x03wWw")), Unsolicited::Id);
    assert_eq!(settle(SLOT, own, &message(77, 0x8180, b"\x03www")), Unsolicited::Question);
    assert_eq!(settle(SLOT, own, &message(77, 0x8180, b"\x01www")), Unsolicited::Question);
    assert_eq!(settle(SLOT, own, &message(77, 0xa980, b"\x03wWw")), Unsolicited::NoResponse);
    assert_eq!(settle(SLOT, own, &answer[..12]), Unsolicited::Question);
    assert_eq!(pending.len(), 1, "the query still waits for its own answer");
}

#[test]
fn bounds_the_queries_in_all_and_of_each_endpoint() {
    let mut pending = table(3, 2);
    let now = Moment::ZERO;
    admit(&mut pending, client(1, 0), POD, 1, now).unwrap();
    admit(&mut pending, client(2, 0), POD, 2, now).unwrap();
    assert_eq!(admit(&mut pending, client(3, 0), POD, 3, now), Err(Refused::Endpoint));
    let other = EndpointId(8);
    let key = admit(&mut pending, client(4, 0), other, 4, now).unwrap();
    assert_eq!(admit(&mut pending, client(5, 0), EndpointId(9), 5, now), Err(Refused::Total));
    assert!(pending.abandon(key).is_some());
    assert!(pending.abandon(key).is_none());
    admit(&mut pending, client(5, 0), other, 5, now).unwrap();
}

#[test]
fn draws_another_id_when_one_is_in_use_and_gives_up_in_the_end() {
    let mut pending = table(8, 8);
    admit(&mut pending, client(1, 0), POD, 1, Moment::ZERO).unwrap();
    assert_eq!(admit(&mut pending, client(2, 0), POD, 1, Moment::ZERO), Err(Refused::Total));
    let bytes = query(0);
    let outline = Outline::read(&bytes).unwrap();
    let mut ids = [1, 1, 9].into_iter();
    let draw = || ids.next().unwrap();
    let key = pending.admit(client(2, 0), POD, &outline, SLOT, draw, at(Moment::ZERO)).unwrap();
    assert_eq!(key, Key { slot: SLOT, id: 9 });
}

#[test]
fn knows_a_query_that_its_client_repeats() {
    let mut pending = table(8, 8);
    let key = admit(&mut pending, client(1000, 5), POD, 77, Moment::ZERO).unwrap();
    let question = query(5)[12..].to_vec();
    assert_eq!(pending.repeated(&client(1000, 5), &question), Some(key));
    assert_eq!(pending.repeated(&client(1001, 5), &question), None);
    assert_eq!(pending.repeated(&client(1000, 6), &question), None);
    assert_eq!(pending.repeated(&client(1000, 5), b"\x03www\0\0\x01\0\x01"), None);
    pending.abandon(key);
    assert_eq!(pending.repeated(&client(1000, 5), &question), None);
}

#[test]
fn queries_expire_in_the_order_of_their_arrival() {
    let mut pending = table(8, 8);
    for second in 1..=3 {
        let now = Moment::from_secs(second);
        admit(&mut pending, client(second as u16, 0), POD, second as u16, now).unwrap();
    }
    pending.abandon(Key { slot: SLOT, id: 2 });
    assert_eq!(pending.next_deadline(), Some(Moment::from_secs(5)));
    assert!(pending.poll_expired(Moment::from_secs(4)).is_none());
    let mut expired = || pending.poll_expired(Moment::from_secs(7)).map(|(key, _)| key.id);
    assert_eq!([expired(), expired(), expired()], [Some(1), Some(3), None]);
    assert_eq!(pending.next_deadline(), None);
}

/// Random admissions, answers and expiries against a plain list.
#[test]
fn behaves_like_a_plain_list() {
    let mut seed = 1u64;
    let mut random = move |bound: u64| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (seed >> 33) % bound
    };
    let mut pending = table(20, 8);
    let mut list: Vec<(Key, Client, EndpointId, Moment)> = Vec::new();
    let mut now = Moment::ZERO;
    for _ in 0..20_000 {
        now = now + Duration::from_millis(random(200));
        match random(3) {
            0 | 1 => {
                let client = client(random(40) as u16, random(3) as u16);
                let endpoint = EndpointId(random(4) as u32);
                let key = Key { slot: SLOT, id: random(64) as u16 };
                let mine = list.iter().filter(|entry| entry.2 == endpoint).count();
                let expected = if list.len() >= 20 {
                    Err(Refused::Total)
                } else if mine >= 8 {
                    Err(Refused::Endpoint)
                } else if list.iter().any(|entry| entry.0 == key) {
                    Err(Refused::Total)
                } else {
                    list.push((key, client, endpoint, now + TIMEOUT));
                    Ok(key)
                };
                assert_eq!(admit(&mut pending, client, endpoint, key.id, now), expected);
            }
            _ => {
                let id = random(64) as u16;
                let at = list.iter().position(|entry| entry.0.id == id);
                let settled = pending.settle(SLOT, server(), &message(id, 0x8180, b"\x03wWw"));
                assert_eq!(settled.ok().map(|asked| asked.client), at.map(|at| list.remove(at).1));
            }
        }
        while let Some((key, _)) = pending.poll_expired(now) {
            let at = list.iter().position(|entry| entry.0 == key).unwrap();
            assert!(at == 0 && list.remove(at).3 <= now);
        }
        assert!(list.first().is_none_or(|entry| entry.3 > now));
        assert_eq!(pending.len(), list.len());
        assert!(pending.entries.len() <= 20);
    }
}
