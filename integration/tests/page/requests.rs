//! Requests that the L7 proxy judged, in the page.

use integration::{Daemon, Lab, LabOptions, WebServer};

use super::{CLIENT, LISTEN, Page, WWW};

/// GET below `/v1/` at www.example.com, and nothing else.
const RULES: &str = r#"apiVersion: cilium.io/v2
kind: CiliumNetworkPolicy
metadata: {name: requests, namespace: default}
spec:
  endpointSelector: {matchLabels: {app: client}}
  egress:
  - toCIDR: [203.0.113.10/32]
    toPorts:
    - ports: [{port: "8080", protocol: TCP}]
      rules: {http: [{method: GET, path: "/v1/.*"}]}
"#;

fn get(lab: &Lab, path: &str) -> String {
    let mut curl = lab.pod(CLIENT).command("curl");
    curl.args(["--silent", "--max-time", "20", "--output", "/dev/null", "--write-out"]);
    let url = format!("http://{WWW}:8080{path}");
    String::from_utf8(curl.args(["%{http_code}", &url]).output().unwrap().stdout).unwrap()
}

#[test]
fn requests_are_shown_with_their_url_and_answer_and_why_one_was_refused() {
    let lab = Lab::new(LabOptions::default()).unwrap();
    lab.policy("requests", RULES).unwrap();
    let _web = WebServer::start(lab.outside("web").namespace(), 8080, None).unwrap();
    let _daemon = Daemon::start(&lab, &["--page-listen", LISTEN]).unwrap();
    assert_eq!(get(&lab, "/v1/before"), "200");
    let mut page = Page::new(&lab);
    page.open("flows");
    page.wait_for(".flows .what", "/v1/before");

    // While somebody watches.
    assert_eq!(get(&lab, "/v1/users?all=1"), "200");
    assert_eq!(get(&lab, "/v2/users"), "403");
    let row = |what: &str, wanted: &str| {
        format!(
            "[...document.querySelectorAll('.flows tbody tr')].some(own => \
             own.querySelector('.what').textContent.includes('{what}') && {wanted})"
        )
    };
    let by = "own.querySelector('.by').textContent";
    page.wait(&row("/v1/users?all=1", &format!("{by} === 'default/requests'")));
    page.wait(&row("/v1/users?all=1", "own.querySelector('.kind').textContent === 'HTTP'"));
    page.wait(&row(
        "/v1/users?all=1",
        "own.querySelector('.badge').textContent.includes('forwarded')",
    ));
    page.wait(&row("/v2/users", "own.querySelector('.badge').textContent.includes('dropped')"));
    page.wait(&row("/v2/users", &format!("{by}.includes('default/requests')")));
    page.keep("requests");
    let open = "[...document.querySelectorAll('.flows tbody tr')].find(own => \
                own.querySelector('.what').textContent.includes('/v1/users')).click()";
    page.evaluate(open);
    page.wait_for("#detail h3", "HTTP");
    page.wait_for("#detail dd", "http://203.0.113.10:8080/v1/users?all=1");
    page.wait_for("#detail .why", "default/requests");
    page.keep("request");
    page.press(&["Escape"]);

    page.press(&["3"]);
    page.wait_for(".drops .line", "/v2/users");
    page.is_sound();
}
