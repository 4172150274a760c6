//! A headless Chromium inside a namespace, driven by its DevTools protocol over two pipes: no port,
//! and no client but this one.
//!
//! - Its profile, caches and temporary files lie in one directory of the lab's.
//! - Whatever a page complains about, an exception, a violation of its policy, a failed request, is
//!   kept: a test asks for it at its end.

use std::{
    collections::VecDeque,
    fs::{self, File},
    io::{self, BufRead, BufReader, Write},
    path::Path,
    process::{Child, ChildStdin, ChildStdout, Stdio},
    sync::mpsc::{self, Receiver, RecvTimeoutError},
    thread::{self, JoinHandle},
    time::Duration,
};

use base64::prelude::{BASE64_STANDARD, Engine as _};
use serde_json::{Value, json};

use crate::{namespace::Namespace, wait::wait_until};

/// How long a busy machine may take for one command, the first of them included.
const PATIENCE: Duration = Duration::from_secs(60);
const END: Duration = Duration::from_secs(10);
/// Its ends of the pipes are descriptors 3 and 4.
const START: &str = r#"exec chromium "$@" 3<&0 4>&1 </dev/null >/dev/null"#;
const FLAGS: [&str; 11] = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
    "--hide-scrollbars",
    "--remote-debugging-pipe",
];

/// A browser with one page; dropping it ends it.
#[derive(Debug)]
pub struct Browser {
    child: Child,
    commands: Option<ChildStdin>,
    messages: Receiver<Value>,
    reader: Option<JoinHandle<()>>,
    last: u64,
    session: Option<String>,
    events: VecDeque<Value>,
}

impl Browser {
    /// Starts one inside `namespace`; `directory` must not be there yet.
    pub fn start(namespace: &Namespace, directory: &Path) -> io::Result<Browser> {
        fs::create_dir(directory)?;
        let mut command = namespace.command("sh");
        command.args(["-c", START, "sh"]).args(FLAGS);
        command.arg(format!("--user-data-dir={}", directory.join("profile").display()));
        for variable in ["HOME", "TMPDIR", "XDG_CACHE_HOME", "XDG_CONFIG_HOME", "XDG_RUNTIME_DIR"] {
            command.env(variable, directory);
        }
        let log = File::create(directory.join("chromium.log"))?;
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(log).spawn()?;
        let (commands, answers) = (child.stdin.take(), child.stdout.take());
        let (sender, messages) = mpsc::channel();
        let reader = thread::spawn(move || {
            let Some(answers) = answers else { return };
            // Nobody listens any more where the browser is being dropped.
            read(answers).take_while(|message| sender.send(message.clone()).is_ok()).for_each(drop);
        });
        let (last, session, events) = (0, None, VecDeque::new());
        let reader = Some(reader);
        let mut browser = Browser { child, commands, messages, reader, last, session, events };
        browser.attach()?;
        Ok(browser)
    }

    fn attach(&mut self) -> io::Result<()> {
        let target = self.call("Target.createTarget", &json!({"url": "about:blank"}))?;
        let attach = json!({"targetId": target["targetId"], "flatten": true});
        let attached = self.call("Target.attachToTarget", &attach)?;
        self.session = attached["sessionId"].as_str().map(str::to_owned);
        for domain in ["Page", "Runtime", "Log", "Network"] {
            self.call(&format!("{domain}.enable"), &json!({}))?;
        }
        self.call("Emulation.setFocusEmulationEnabled", &json!({"enabled": true}))?;
        Ok(())
    }

    /// Shows a page, in place of the one before.
    pub fn open(&mut self, url: &str) -> io::Result<()> {
        self.call("Page.navigate", &json!({"url": url})).map(drop)
    }

    /// Gives the page a size, and says which colours the system prefers.
    pub fn resize(&mut self, width: u32, height: u32, dark: bool) -> io::Result<()> {
        let size =
            json!({"width": width, "height": height, "deviceScaleFactor": 1, "mobile": false});
        self.call("Emulation.setDeviceMetricsOverride", &size)?;
        let scheme = if dark { "dark" } else { "light" };
        let media = json!({"features": [{"name": "prefers-color-scheme", "value": scheme}]});
        self.call("Emulation.setEmulatedMedia", &media).map(drop)
    }

    /// What a script comes to. One that throws is an error.
    pub fn evaluate(&mut self, script: &str) -> io::Result<Value> {
        let arguments = json!({"expression": script, "returnByValue": true, "awaitPromise": true});
        let mut outcome = self.call("Runtime.evaluate", &arguments)?;
        match outcome.get("exceptionDetails") {
            Some(details) => Err(io::Error::other(format!("{script}: {details}"))),
            None => Ok(outcome["result"]["value"].take()),
        }
    }

    /// Presses a key as a keyboard does: by its name, such as `Tab`, or a character.
    pub fn press(&mut self, key: &str) -> io::Result<()> {
        let (code, text) = match key {
            "Tab" => (9, ""),
            "Enter" => (13, "\r"),
            "Escape" => (27, ""),
            "ArrowUp" => (38, ""),
            "ArrowDown" => (40, ""),
            other => (u32::from(other.bytes().next().unwrap_or(0)), other),
        };
        // A key without a text writes nothing.
        for kind in [if text.is_empty() { "rawKeyDown" } else { "keyDown" }, "keyUp"] {
            let event = json!({
                "type": kind, "key": key, "code": key, "windowsVirtualKeyCode": code, "text": text,
            });
            self.call("Input.dispatchKeyEvent", &event)?;
        }
        Ok(())
    }

    /// Types a text where the focus is.
    pub fn type_text(&mut self, text: &str) -> io::Result<()> {
        self.call("Input.insertText", &json!({"text": text})).map(drop)
    }

    /// The page as a PNG file's octets.
    pub fn screenshot(&mut self) -> io::Result<Vec<u8>> {
        let shot = self.call("Page.captureScreenshot", &json!({"format": "png"}))?;
        let image = shot["data"].as_str().unwrap_or_default();
        BASE64_STANDARD.decode(image).map_err(io::Error::other)
    }

    /// The page as a screen reader has it: role and name of each thing that can take the focus.
    pub fn focusable(&mut self) -> io::Result<Vec<(String, String)>> {
        let tree = self.call("Accessibility.getFullAXTree", &json!({}))?;
        let text = |node: &Value, key: &str| node[key]["value"].as_str().unwrap_or("").to_owned();
        let is_focusable = |node: &&Value| {
            let mut properties = node["properties"].as_array().into_iter().flatten();
            properties.any(|own| own["name"] == "focusable" && own["value"]["value"] == true)
        };
        let nodes = tree["nodes"].as_array().into_iter().flatten().filter(is_focusable);
        Ok(nodes.map(|node| (text(node, "role"), text(node, "name"))).collect())
    }

    /// Every address that was asked for something since the start.
    pub fn requested(&self) -> Vec<&str> {
        let sent = self.events.iter().filter(|own| own["method"] == "Network.requestWillBeSent");
        sent.filter_map(|own| own["params"]["request"]["url"].as_str()).collect()
    }

    /// What pages have complained about since the start.
    pub fn complaints(&self) -> Vec<String> {
        let is_one = |event: &&Value| match event["method"].as_str() {
            Some("Runtime.exceptionThrown" | "Log.entryAdded" | "Runtime.consoleAPICalled") => true,
            Some("Page.javascriptDialogOpening") => true,
            Some(_) | None => false,
        };
        self.events.iter().filter(is_one).map(|event| event["params"].to_string()).collect()
    }

    /// One command of the protocol, with its answer. Events that come before it are kept.
    fn call(&mut self, method: &str, parameters: &Value) -> io::Result<Value> {
        self.last += 1;
        let mut message = json!({"id": self.last, "method": method, "params": parameters});
        if let Some(session) = &self.session {
            message["sessionId"] = session.as_str().into();
        }
        let commands = self.commands.as_mut().ok_or(io::ErrorKind::BrokenPipe)?;
        commands.write_all(format!("{message}\0").as_bytes())?;
        loop {
            let mut answer = self.messages.recv_timeout(PATIENCE).map_err(|error| match error {
                RecvTimeoutError::Timeout => io::Error::other(format!("{method}: no answer")),
                RecvTimeoutError::Disconnected => io::Error::other("chromium has ended"),
            })?;
            if answer["id"] != self.last {
                self.events.push_back(answer);
            } else if let Some(error) = answer.get("error") {
                return Err(io::Error::other(format!("{method}: {error}")));
            } else {
                return Ok(answer["result"].take());
            }
        }
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        self.session = None;
        // One that does not listen is killed.
        let _ = self.call("Browser.close", &json!({}));
        drop(self.commands.take());
        let child = &mut self.child;
        if wait_until("chromium ends", END, || !matches!(child.try_wait(), Ok(None))).is_err() {
            let _ = child.kill();
        }
        let _ = child.wait();
        if let Some(reader) = self.reader.take() {
            let _ = reader.join();
        }
    }
}

/// Messages end with a zero octet.
fn read(answers: ChildStdout) -> impl Iterator<Item = Value> {
    let parts = BufReader::new(answers).split(0);
    parts.map_while(Result::ok).filter_map(|part| serde_json::from_slice(&part).ok())
}
