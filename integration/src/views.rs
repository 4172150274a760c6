//! What a test asks of pods and of the daemon in one line: look up, connect, read a counter.
//!
//! Whatever goes wrong on the way is the scenario's end: these panic and say what failed.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, SocketAddr},
    thread,
    time::Duration,
};

use hickory_proto::rr::RecordType;

use crate::{
    daemon::Daemon,
    dns_client::{Answer, Resolver},
    lab::Pod,
    probe::{Reach, Transfer},
    wait::wait_until,
    zones::fresh_addresses,
};

/// How long a test waits for what should take less than a second, on a machine that does much else.
const PATIENCE: Duration = Duration::from_secs(60);

impl Pod {
    /// The pod's answer to a question of its own.
    ///
    /// # Panics
    /// There is no answer.
    pub fn ask(&self, resolver: Resolver, name: &str, kind: RecordType) -> Answer {
        let answer = self.namespace().run(|| resolver.ask(name, kind));
        answer.expect("the pod's namespace").unwrap_or_else(|error| panic!("{error}"))
    }

    /// What comes of a TCP connection of the pod's.
    ///
    /// # Panics
    /// The pod's namespace is gone.
    pub fn connect(&self, address: IpAddr, port: u16) -> Reach {
        Reach::tcp(self.namespace(), SocketAddr::new(address, port)).expect("the pod's namespace")
    }

    /// What comes of TCP connections to all of these, begun at the same time.
    ///
    /// # Panics
    /// The pod's namespace is gone.
    pub fn connect_all(&self, addresses: &[IpAddr], port: u16) -> Vec<Reach> {
        thread::scope(|scope| {
            let begun: Vec<_> = addresses
                .iter()
                .map(|&address| scope.spawn(move || self.connect(address, port)))
                .collect();
            begun.into_iter().map(|reach| reach.join().expect("a probe's thread")).collect()
        })
    }

    /// What comes of a datagram of the pod's to an echo service.
    ///
    /// # Panics
    /// The pod's namespace is gone.
    pub fn echo(&self, address: IpAddr) -> Reach {
        Reach::udp(self.namespace(), address).expect("the pod's namespace")
    }

    /// What comes of an echo request of the pod's.
    ///
    /// # Panics
    /// The pod's namespace is gone.
    pub fn ping(&self, address: IpAddr) -> Reach {
        Reach::ping(self.namespace(), address).expect("the pod's namespace")
    }
}

impl Daemon {
    /// An endpoint, by `namespace/name`, as `fqdnctl endpoint list -o json` shows it.
    ///
    /// # Panics
    /// The daemon does not answer, or knows no such endpoint.
    pub fn endpoint(&self, path: &str) -> serde_json::Value {
        let list = self.ctl_json(&["endpoint", "list"]).unwrap_or_else(|error| panic!("{error}"));
        let endpoints = list.as_array().expect("a list of endpoints");
        let named = |own: &&serde_json::Value| {
            path.split_once('/').is_some_and(|(namespace, name)| {
                own["namespace"] == namespace && own["name"] == name
            })
        };
        endpoints.iter().find(named).unwrap_or_else(|| panic!("no endpoint {path}")).clone()
    }

    /// What an endpoint's packets were dropped for, and how many.
    ///
    /// # Panics
    /// As [`Daemon::endpoint`].
    pub fn drops(&self, path: &str) -> BTreeMap<String, u64> {
        let endpoint = self.endpoint(path);
        serde_json::from_value(endpoint["drops"].clone()).expect("drops by reason")
    }

    /// What an endpoint's packets would have been dropped for, were no policy audited, and how many.
    ///
    /// # Panics
    /// As [`Daemon::endpoint`].
    pub fn audits(&self, path: &str) -> BTreeMap<String, u64> {
        let audits = self.endpoint(path)["audits"].clone();
        serde_json::from_value::<Option<_>>(audits).expect("audits by reason").unwrap_or_default()
    }

    /// The addresses that an endpoint has learned, with the names they were learned for.
    ///
    /// # Panics
    /// The daemon does not answer, or knows no such endpoint.
    pub fn learned(&self, path: &str) -> BTreeSet<(String, IpAddr)> {
        let list = self.ctl_json(&["cache", "list", "-e", path]);
        let list = list.unwrap_or_else(|error| panic!("{error}"));
        let entry = |own: &serde_json::Value| {
            let name = own["name"].as_str()?.to_owned();
            Some((name, own["address"].as_str()?.parse().ok()?))
        };
        let entries = list.as_array().expect("a list of addresses");
        entries.iter().map(|own| entry(own).expect("a name and an address")).collect()
    }

    /// A counter of `fqdnctl status -o json`: of `dns`, `limits` or `drops`. Limits and reasons
    /// that never counted are not shown, and 0.
    ///
    /// # Panics
    /// The daemon does not answer, or its DNS proxy has no such counter.
    pub fn count(&self, kind: &str, name: &str) -> u64 {
        let status = self.ctl_json(&["status"]).unwrap_or_else(|error| panic!("{error}"));
        let count = status[kind][name].as_u64();
        assert!(count.is_some() || kind != "dns", "the DNS proxy does not count {name}");
        count.unwrap_or(0)
    }

    /// Makes a change of the manifests and waits until it is in force; says how long that took.
    ///
    /// # Panics
    /// The daemon does not answer, or does not take the change up within a minute.
    pub fn settle(&self, what: &str, change: impl FnOnce()) -> Duration {
        let (before, _) = self.read_revision();
        change();
        soon(what, || matches!(self.read_revision(), (read, true) if read > before))
    }

    /// The revision of what was read, and whether all of it is in force. The node's own links make
    /// policy revisions too, so those do not tell that a change was read.
    fn read_revision(&self) -> (u64, bool) {
        let status = self.ctl_json(&["status"]).unwrap_or_else(|error| panic!("{error}"));
        let is_in_force = status["policyRevision"] == status["appliedRevision"];
        (status["readRevision"].as_u64().expect("a revision"), is_in_force)
    }

    /// The rows of these maps, as `fqdnctl map dump` shows them.
    ///
    /// # Panics
    /// The daemon does not answer, or knows no such map.
    pub fn maps(&self, names: &[&str]) -> BTreeMap<String, Vec<(String, String)>> {
        let rows = |name: &str| {
            let rows = self.ctl_json(&["map", "dump", name]);
            let rows = rows.unwrap_or_else(|error| panic!("{error}"));
            let text = |value: &serde_json::Value| value.as_str().expect("text").to_owned();
            let rows = rows.as_array().expect("a list of rows");
            rows.iter().map(|row| (text(&row["key"]), text(&row["value"]))).collect()
        };
        names.iter().map(|&name| (name.to_owned(), rows(name))).collect()
    }
}

/// Waits for what should happen within a second, and prints how long it took.
///
/// # Panics
/// It does not happen within a minute.
pub fn soon(what: &str, condition: impl FnMut() -> bool) -> Duration {
    let took = wait_until(what, PATIENCE, condition).unwrap_or_else(|error| panic!("{error}"));
    println!("{what}: after {took:?}");
    took
}

/// An address by its text.
///
/// # Panics
/// It is none.
pub fn ip(text: &str) -> IpAddr {
    text.parse().unwrap_or_else(|error| panic!("{text}: {error}"))
}

/// The IPv4 address of a fresh name.
pub fn fresh_address(number: u32) -> IpAddr {
    fresh_addresses(number).0.into()
}

/// Both addresses of a fresh name, IPv4 first.
pub fn fresh_pair(number: u32) -> [IpAddr; 2] {
    let (v4, v6) = fresh_addresses(number);
    [v4.into(), v6.into()]
}

/// A transfer to a pod that is under way.
///
/// # Panics
/// It does not begin, or stands still.
pub fn begun(pod: &Pod, from: IpAddr) -> Transfer {
    let transfer = Transfer::start(pod.namespace(), from)
        .unwrap_or_else(|error| panic!("a transfer from {from}: {error}"));
    go_on(std::slice::from_ref(&transfer));
    transfer
}

/// All of them go on.
///
/// # Panics
/// One does not.
pub fn go_on(transfers: &[Transfer]) {
    for transfer in transfers {
        transfer.goes_on().unwrap_or_else(|error| panic!("a transfer: {error}"));
    }
}
