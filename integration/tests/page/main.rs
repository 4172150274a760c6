//! The page in a real browser: what it shows of a real run, by keyboard, in light and dark, wide
//! and narrow; and whom its server answers.
//!
//! `FQDND_SCREENSHOTS=DIR` keeps what was seen.

mod audit;
mod requests;
mod server;

use std::{
    env, fs,
    net::{IpAddr, Ipv4Addr},
    path::Path,
    time::Duration,
};

use hickory_proto::rr::RecordType;
use integration::{
    Browser, Daemon, DnsStream, Lab, LabOptions, ONE_NAME, Reach, Resolver, query, soon, wait_until,
};
use serde_json::Value;

const CLIENT: &str = "default/client";
const OTHER: &str = "default/other";
const SOON: Duration = Duration::from_secs(60);
/// Where the daemon serves the page, inside the lab's node.
const LISTEN: &str = "127.0.0.1:9966";

const WWW: IpAddr = IpAddr::V4(Ipv4Addr::new(203, 0, 113, 10));
const UNKNOWN: IpAddr = IpAddr::V4(Ipv4Addr::new(203, 0, 113, 12));
/// A name that would do harm where it is taken for markup.
const HOSTILE: &str = "<svg/onload=alert(1)>.example.org";

const VIEWS: [&str; 6] = ["map", "flows", "drops", "cache", "policies", "node"];

fn begin() -> (Lab, Daemon) {
    let lab = Lab::new(LabOptions::default()).unwrap();
    lab.policy("one-name", ONE_NAME).unwrap();
    let daemon = Daemon::start(&lab, &["--page-listen", LISTEN]).unwrap();
    (lab, daemon)
}

/// A name that resolves and one that must not; a connection to the name at an allowed port and at
/// another, one to an address that was never resolved, and one of a pod without policies.
fn tell_a_story(lab: &Lab) {
    let (client, resolver) = (lab.pod(CLIENT), Resolver::new(lab.dns_service()[0]));
    assert_eq!(client.ask(resolver, "www.example.com", RecordType::A).addresses, [WWW]);
    let mut stream = DnsStream::connect(client.namespace(), lab.dns_service()[0]).unwrap();
    stream.exchange(&query(7, HOSTILE, 1, 1)).unwrap();
    assert_eq!(client.connect(WWW, 80), Reach::Open);
    assert_eq!(client.connect(WWW, 8443), Reach::Silent);
    assert_eq!(client.connect(UNKNOWN, 80), Reach::Silent);
    assert_eq!(lab.pod(OTHER).connect(WWW, 80), Reach::Open);
}

/// A browser with the page.
struct Page {
    browser: Browser,
    /// Distinguishes addresses, so that each is loaded anew.
    loads: u32,
}

impl Page {
    fn new(lab: &Lab) -> Self {
        let browser = Browser::start(lab.node(), &lab.directory().join("browser")).unwrap();
        let mut page = Self { browser, loads: 0 };
        page.browser.resize(1280, 900, false).unwrap();
        page
    }

    fn open(&mut self, view: &str) {
        self.loads += 1;
        self.browser.open(&format!("http://{LISTEN}/?{}#{view}", self.loads)).unwrap();
    }

    fn evaluate(&mut self, script: &str) -> Value {
        self.browser.evaluate(script).unwrap()
    }

    /// Waits until a script comes to true. While a page is being loaded there may be nobody to ask.
    fn wait(&mut self, script: &str) {
        let holds = || self.browser.evaluate(script).is_ok_and(|value| value == true);
        if let Err(error) = wait_until(script, SOON, holds) {
            let text = self.browser.evaluate("document.body.innerText");
            panic!("{error}; the page says {text:?}, complaints {:?}", self.browser.complaints());
        }
    }

    /// Waits until an element has this text.
    fn wait_for(&mut self, selector: &str, text: &str) {
        let (selector, text) = (Value::from(selector), Value::from(text));
        self.wait(&format!(
            "[...document.querySelectorAll({selector})].some(own => own.textContent.includes({text}))"
        ));
    }

    fn press(&mut self, keys: &[&str]) {
        keys.iter().for_each(|key| self.browser.press(key).unwrap());
    }

    /// Goes on by the tabulator until a script comes to true.
    fn tab_to(&mut self, script: &str) {
        for _ in 0..30 {
            if self.evaluate(script) == true {
                return;
            }
            self.press(&["Tab"]);
        }
        panic!("the tabulator does not lead to {script}");
    }

    fn keep(&mut self, name: &str) {
        let image = self.browser.screenshot().unwrap();
        assert!(image.len() > 6_000, "{name}: hardly anything was drawn");
        if let Some(directory) = env::var_os("FQDND_SCREENSHOTS") {
            let path = Path::new(&directory).join(format!("{name}.png"));
            fs::write(path, image).unwrap();
        }
    }

    /// Nothing went wrong, nothing of the pods' was taken for markup, and nobody else was asked.
    fn is_sound(&mut self) {
        assert_eq!(self.browser.complaints(), [""; 0]);
        assert_eq!(
            self.evaluate("document.querySelectorAll('img:not([src=\"/icon.svg\"])').length"),
            0
        );
        let home = format!("http://{LISTEN}/");
        let elsewhere = |url: &&str| !url.starts_with(&home) && *url != "about:blank";
        assert_eq!(self.browser.requested().into_iter().find(elsewhere), None);
    }
}

#[test]
fn what_happens_is_shown_and_everything_is_reached_by_keyboard() {
    let (lab, _daemon) = begin();
    let mut page = Page::new(&lab);
    page.open("map");
    page.wait_for("main", "Nothing was seen yet");
    tell_a_story(&lab);

    let ribbon = |text: &str| format!("!!document.querySelector('.ribbon[aria-label=\"{text}\"]')");
    page.wait(&ribbon("default/client to www.example.com: 2 allowed"));
    page.wait(&ribbon("default/client to www.example.com: 1 dropped"));
    page.wait(&ribbon("default/client to 203.0.113.12: 1 dropped"));
    page.wait(&ribbon("default/other to 203.0.113.10: 1 allowed"));
    page.wait_for(".node title", HOSTILE);
    page.tab_to("document.activeElement.classList.contains('ribbon')");
    let told = page.evaluate("document.querySelector('.told').textContent");
    page.press(&["ArrowDown"]);
    page.wait(&format!("document.querySelector('.told').textContent !== {told}"));
    page.press(&["Enter"]);
    page.wait("document.getElementById('detail').open");
    page.wait_for("#detail .facts dt", "Last");
    page.press(&["Escape"]);
    page.wait("!document.getElementById('detail').open");

    page.press(&["2"]);
    page.wait("document.title.startsWith('Flows')");
    page.wait_for(".flows tr .to", "203.0.113.12:80");
    page.wait_for(".flows tr .by", "default/one-name");
    lab.pod(CLIENT).ping(UNKNOWN);
    page.wait_for(".flows tr .what", "ICMPv4type 8 code 0");
    page.wait(
        "[...document.querySelectorAll('.flows tbody tr')].find(own => \
         own.querySelector('.what').textContent.includes('ICMP')).querySelector('.to').textContent \
         === '203.0.113.12'",
    );
    let lines = "(() => { const range = document.createRange(); \
                 range.selectNodeContents(document.querySelector('.flows .time')); \
                 return range.getClientRects().length; })()";
    assert_eq!(page.evaluate(lines), 1, "a time stands on one line");
    lab.pod(CLIENT).connect(UNKNOWN, 443);
    page.wait_for(".flows tr .to", "203.0.113.12:443");
    page.press(&["/"]);
    page.browser.type_text("other").unwrap();
    let rows = "[...document.querySelectorAll('.flows tbody .from')].map(own => own.textContent)";
    page.wait(&format!("{rows}.length > 0 && {rows}.every(own => own === 'default/other')"));
    page.wait("location.hash === '#flows?pod=other'");
    page.tab_to("document.activeElement.matches('.flows tbody tr')");
    page.press(&["Enter"]);
    page.wait_for("#detail .why", "No policy selects the pod");
    page.press(&["Escape"]);

    page.press(&["3"]);
    page.wait_for(".chips", "policy-denied");
    page.wait_for(".drops .line", "www.example.com 8443/TCP");
    page.tab_to(
        "document.activeElement.textContent.includes('www.example.com 8443/TCP') \
                 && document.activeElement.matches('.fold')",
    );
    page.press(&["Enter"]);
    page.wait_for(".body .why", "The smallest change that would let it pass");
    page.wait_for(".body .yaml", "8443");
    page.keep("drops-explained");
    page.tab_to("document.activeElement.matches('.why .place')");
    page.press(&["Enter"]);
    page.wait_for(".code .marked code", "toFQDNs");
    page.is_sound();
}

#[test]
fn every_view_is_whole_in_light_and_dark_wide_and_narrow() {
    let (lab, _daemon) = begin();
    tell_a_story(&lab);
    let mut page = Page::new(&lab);
    let shown = [
        ("map", ".ribbon", ""),
        ("flows", ".flows tr .to", "203.0.113.12"),
        ("drops", ".drops .line", "203.0.113.12"),
        ("cache", ".cache tr", "203.0.113.10"),
        ("policies", ".code", "matchName: www.example.com"),
        ("node", "td", "prod/backend"),
    ];
    for (width, height) in [(1280, 900), (400, 850)] {
        for dark in [false, true] {
            page.browser.resize(width, height, dark).unwrap();
            page.open("map");
            page.wait("document.querySelectorAll('#views a').length === 6");
            for (number, view) in VIEWS.iter().enumerate() {
                let (_, selector, text) = shown[number];
                page.press(&[&(number + 1).to_string()]);
                page.wait_for(selector, text);
                fits(&mut page, view);
                let scheme = if dark { "dark" } else { "light" };
                page.keep(&format!("{view}-{width}-{scheme}"));
            }
            is_legible(&mut page, dark);
        }
    }
    page.press(&["1"]);
    let button = "document.getElementById('theme')";
    page.wait(&format!("{button}.getAttribute('aria-label').includes('auto')"));
    page.evaluate(&format!("{button}.click()"));
    page.wait("getComputedStyle(document.documentElement).colorScheme === 'light'");
    is_legible(&mut page, false);
    page.is_sound();
}

/// Nothing sticks out at the side, and whatever takes the focus has a name.
fn fits(page: &mut Page, view: &str) {
    let over = "document.documentElement.scrollWidth - document.documentElement.clientWidth";
    assert_eq!(page.evaluate(over), 0, "{view} is too wide");
    let unnamed = |(role, name): &&(String, String)| name.is_empty() && role != "main";
    // What screen readers get follows what is drawn, a moment later.
    soon("whatever takes the focus has a name", || {
        let focusable = page.browser.focusable().unwrap();
        assert!(focusable.len() > 8, "{view}: {focusable:?}");
        let nameless = focusable.iter().find(unnamed);
        if let Some((role, _)) = nameless {
            println!("{view}: a {role} without a name");
        }
        nameless.is_none()
    });
}

/// Every colour of text against every background, as WCAG counts contrast: at least 4.5.
fn is_legible(page: &mut Page, dark: bool) {
    let script = r"(() => {
        const probe = document.body.appendChild(document.createElement('i'));
        const canvas = new OffscreenCanvas(1, 1).getContext('2d', { willReadFrequently: true });
        const light = (name) => {
            probe.style.color = `var(--${name})`;
            canvas.fillStyle = getComputedStyle(probe).color;
            canvas.fillRect(0, 0, 1, 1);
            const [r, g, b] = [...canvas.getImageData(0, 0, 1, 1).data].slice(0, 3)
                .map((own) => own / 255)
                .map((own) => own <= 0.04045 ? own / 12.92 : ((own + 0.055) / 1.055) ** 2.4);
            return 0.2126 * r + 0.7152 * g + 0.0722 * b;
        };
        const least = Math.min(...['ink', 'soft', 'accent', 'good', 'proxy', 'bad', 'warn'].flatMap((text) =>
            ['page', 'card', 'sunk'].map((back) => {
                const [one, other] = [light(text), light(back)].sort((a, b) => b - a);
                return (one + 0.05) / (other + 0.05);
            })));
        const page = light('page');
        probe.remove();
        return [least, page];
    })()";
    let measured = page.evaluate(script);
    assert!(measured[0].as_f64().unwrap() >= 4.5, "dark {dark}: {measured}");
    assert_eq!(measured[1].as_f64().unwrap() < 0.2, dark, "{measured}");
}
