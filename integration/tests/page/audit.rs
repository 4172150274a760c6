//! What is audited, in the page: among the drops, with why, and as what the node does.

use hickory_proto::rr::RecordType;
use integration::{Daemon, Lab, LabOptions, ONE_NAME, Reach, Resolver};

use super::{CLIENT, LISTEN, Page, UNKNOWN};

#[test]
fn what_is_audited_is_shown_beside_drops_and_a_node_that_audits_says_so() {
    let lab = Lab::new(LabOptions::default()).unwrap();
    lab.policy("one-name", ONE_NAME).unwrap();
    let _daemon = Daemon::start(&lab, &["--page-listen", LISTEN, "--audit"]).unwrap();
    let client = lab.pod(CLIENT);
    client.ask(Resolver::new(lab.dns_service()[0]), "secret.example.org", RecordType::A);
    assert_eq!(client.connect(UNKNOWN, 80), Reach::Open);

    let mut page = Page::new(&lab);
    page.open("map");
    page.wait("!!document.querySelector('.ribbon.audited[aria-label*=\"203.0.113.12\"]')");
    page.keep("map-audited");
    page.open("drops");
    page.wait_for("#health", "auditing 1 policy");
    page.wait_for(".chips", "audited policy-denied");
    page.wait_for(".drops .line .badge", "audit: policy-denied");
    page.wait_for(".drops .line", "secret.example.org");
    page.evaluate(
        "[...document.querySelectorAll('.drops .fold')].find(own => \
         own.textContent.includes('203.0.113.12')).click()",
    );
    page.wait_for(".body .why", "It passes all the same, because its policies are audited.");
    page.wait_for(".body .why", "The smallest change that would let it pass where it is enforced");
    page.keep("drops-audited");
    page.open("flows?verdict=audit");
    page.wait_for(".flows tr .badge", "audit");
    page.open("node");
    page.wait_for("main", "Every policy is audited: nothing is enforced.");
    page.wait_for("td .badge", "audited");
    page.is_sound();
}
