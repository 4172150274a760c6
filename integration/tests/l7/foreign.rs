//! Clients and servers in Python that are not ours: librdkafka, a Kafka broker, WebSockets.

use std::{
    io::{BufRead, BufReader},
    net::IpAddr,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use integration::{Pod, python, take_over, wait_until};
use serde_json::Value;

/// Where a broker listens, behind the port of Kafka.
const BROKER: u16 = 29_092;

/// A process that is ended with its test.
pub struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // Already gone is as good.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// What one of our scripts prints, run by `command`, which names the Python.
pub fn script(mut command: Command, name: &str, arguments: &[&str]) -> Value {
    command.arg(repository().join("integration/clients").join(name)).args(arguments);
    let output = command.stdin(Stdio::null()).output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    let text = String::from_utf8_lossy(&output.stdout);
    let read = text.lines().last().map(serde_json::from_str);
    read.and_then(Result::ok).unwrap_or_else(|| panic!("{name} {arguments:?}: {text}{errors}"))
}

/// Starts a WebSocket server; it listens when this returns.
pub fn websocket_server(mut command: Command, port: u16) -> Running {
    let script = repository().join("integration/clients/websocket.py");
    command.arg(script).args(["serve", &port.to_string()]).stdout(Stdio::piped());
    let mut server = command.spawn().unwrap();
    let mut line = String::new();
    BufReader::new(server.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
    assert_eq!(line, "ready\n");
    Running(server)
}

/// Starts a broker in a pod, at the port of Kafka, with these topics.
pub fn broker(pod: &Pod, topics: &[&str]) -> Running {
    let address: IpAddr = pod.ipv4().into();
    let program = python().parent().unwrap().join("../lib");
    let program = find(&program, "tansu").expect("the broker's program");
    let mut command = pod.namespace().command(program);
    command.args(["broker", "--listener-url", &format!("tcp://0.0.0.0:{BROKER}")]);
    command.args(["--advertised-listener-url", &format!("tcp://{address}:9092")]);
    command.args(["--storage-engine", "memory://tansu/", "--kafka-cluster-id", "lab"]);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let running = Running(command.spawn().unwrap());
    take_over(pod.namespace(), 9092, BROKER).unwrap();
    let own = format!("127.0.0.1:{BROKER}");
    for topic in topics {
        let made =
            || script(pod.namespace().command(python()), "kafka.py", &[&own, "create", topic]);
        let made = wait_until("the broker", Duration::from_secs(60), || {
            let outcome = made();
            outcome["error"].is_null() || outcome["error"] == "TOPIC_ALREADY_EXISTS"
        });
        made.unwrap();
    }
    running
}

fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace's own directory")
}

fn find(directory: &Path, name: &str) -> Option<PathBuf> {
    let entries = std::fs::read_dir(directory).ok()?.flatten();
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.path()).collect();
    paths.sort();
    let file = paths.iter().find(|path| path.is_file() && path.ends_with(name));
    file.cloned()
        .or_else(|| paths.iter().filter(|path| path.is_dir()).find_map(|own| find(own, name)))
}
