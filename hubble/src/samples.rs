//! Flows and a recording for this crate's tests.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use flows::{
    Capacity, Direction, Entry, EventKind, Flow, Layer4, LossSource, Lost, PolicyKind, PolicyRef,
    Ring, Side, TcpFlags, Time, Uuid, Verdict, Who,
};
use model::{DropReason, EndpointId, EndpointName, Identity, Interface, Label, Labels};
use tokio::sync::watch;

use crate::Recording;

/// A recording that a test writes.
pub(crate) struct Recorded {
    ring: Mutex<Ring>,
    added: watch::Sender<()>,
}

impl Recorded {
    pub fn new(capacity: usize, entries: impl IntoIterator<Item = Entry>) -> Arc<Self> {
        let ring = Ring::new(Capacity::at_least(capacity));
        let recorded = Self { ring: Mutex::new(ring), added: watch::Sender::new(()) };
        recorded.add(entries);
        Arc::new(recorded)
    }

    pub fn add(&self, entries: impl IntoIterator<Item = Entry>) {
        let mut ring = self.ring.lock().unwrap();
        entries.into_iter().for_each(|entry| ring.push(entry));
        self.added.send_replace(());
    }
}

impl Recording for Recorded {
    fn look<T>(&self, look: impl FnOnce(&Ring) -> T) -> T {
        look(&self.ring.lock().unwrap())
    }

    async fn catch_up(&self) {}

    fn added(&self) -> watch::Receiver<()> {
        self.added.subscribe()
    }

    fn node(&self) -> &str {
        "node-1"
    }

    fn uptime(&self) -> Duration {
        Duration::from_secs(5)
    }
}

/// A SYN of `shop/web-7` to api.example.com, dropped by a rule on line 12.
pub(crate) fn dropped(seconds: u64) -> Flow {
    let pod = EndpointName { namespace: "shop".to_owned(), name: "web-7".to_owned() };
    let mut labels = Labels::default();
    labels.insert(Label::kubernetes("app", "web"));
    let web = Who {
        endpoint: Some(EndpointId(7)),
        identity: Some(Identity(300)),
        pod: Some(pod),
        labels,
    };
    let world = Who { identity: Some(Identity::WORLD), ..Who::default() };
    Flow {
        time: Time::from_nanos(seconds * 1_000_000_000),
        uuid: Uuid::new(0, seconds),
        verdict: Verdict::Dropped,
        drop_reason: Some(DropReason::DenyRule),
        event: EventKind::Drop,
        direction: Some(Direction::Egress),
        is_reply: Some(false),
        source: Side {
            address: Some([10, 1, 0, 7].into()),
            who: Arc::new(web),
            names: Arc::default(),
        },
        destination: Side {
            address: Some([192, 0, 2, 9].into()),
            who: Arc::new(world),
            names: Arc::new(["api.example.com".parse().unwrap()]),
        },
        destination_service: None,
        l4: Some(Layer4::Tcp {
            source_port: 40_000,
            destination_port: 443,
            flags: Some(TcpFlags::SYN),
        }),
        l7: None,
        allowed_by: Arc::default(),
        denied_by: Arc::new([PolicyRef {
            kind: PolicyKind::Namespaced,
            namespace: "shop".to_owned(),
            name: "no-api".to_owned(),
            labels: Vec::new(),
            revision: 3,
            file: "policies/web.yaml".into(),
            line: 12,
        }]),
        interface: Some((Interface(9), Some("veth9".into()))),
        proxy_port: None,
        node: "node-1".into(),
    }
}

/// The same connection, let through.
pub(crate) fn forwarded(seconds: u64) -> Flow {
    Flow {
        verdict: Verdict::Forwarded,
        drop_reason: None,
        event: EventKind::PolicyVerdict,
        denied_by: Arc::default(),
        ..dropped(seconds)
    }
}

pub(crate) fn entry(flow: Flow) -> Entry {
    Entry::Flow(Arc::new(flow.into()))
}

pub(crate) fn lost(seconds: u64, source: LossSource, count: u64) -> Entry {
    Entry::Lost(Lost { source, count, time: Time::from_nanos(seconds * 1_000_000_000) })
}
