//! A proxy with a daemon and a destination of the test's own.

use std::net::{IpAddr, SocketAddr, TcpListener};
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use l7proxy::{Dial, DialFuture, Options, Proxy};
use l7proxy_core::control::{Access, Asked, FromProxy, Inbox, Judgement, ToProxy, encode};
use l7proxy_core::{Fate, Reason, Unmatched};
use model::{EndpointId, L7Rules};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::timeout;

/// How long anything may take before a test fails.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// A running proxy.
pub struct Stage {
    /// Where clients connect.
    pub address: SocketAddr,
    daemon: Arc<Mutex<Daemon>>,
    changes: mpsc::UnboundedSender<ToProxy>,
    records: watch::Receiver<Vec<Access>>,
    tasks: Vec<JoinHandle<()>>,
}

/// What the daemon says of every connection.
struct Daemon {
    revision: u64,
    judgement: Result<Judgement, Reason>,
    asked: usize,
    silent: bool,
}

/// Reaches one place, whatever the destination.
struct Always(SocketAddr);

impl Dial for Always {
    fn dial(&self, _: SocketAddr, _: Option<IpAddr>) -> DialFuture {
        let place = self.0;
        Box::pin(async move {
            let stream = TcpStream::connect(place).await?;
            stream.set_nodelay(true)?;
            Ok(stream)
        })
    }
}

impl Stage {
    /// A proxy before this destination, with these rules.
    pub fn new(destination: SocketAddr, rules: L7Rules) -> Self {
        Self::with(destination, rules, Options::default())
    }

    pub fn with(destination: SocketAddr, rules: L7Rules, options: Options) -> Self {
        Self::start(destination, judgement(1, rules), options)
    }

    /// The same, where the rules are only audited.
    pub fn audited(destination: SocketAddr, rules: L7Rules) -> Self {
        Self::audited_with(destination, rules, Options::default())
    }

    pub fn audited_with(destination: SocketAddr, rules: L7Rules, options: Options) -> Self {
        Self::start(destination, audited(judgement(1, rules)), options)
    }

    fn start(destination: SocketAddr, judgement: Judgement, options: Options) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (ours, theirs) = UnixStream::pair().unwrap();
        let proxy = Proxy::new(options, theirs, vec![listener], Always(destination)).unwrap();
        let daemon = Daemon { revision: 1, judgement: Ok(judgement), asked: 0, silent: false };
        let daemon = Arc::new(Mutex::new(daemon));
        let (changes, outbox) = mpsc::unbounded_channel();
        let (sender, records) = watch::channel(Vec::new());
        let serving = tokio::spawn(async move { drop(proxy.run().await) });
        let speaking = tokio::spawn(speak(ours, Arc::clone(&daemon), outbox, sender));
        Self { address, daemon, changes, records, tasks: vec![serving, speaking] }
    }

    /// Other rules are in force.
    pub fn change(&self, rules: L7Rules) {
        self.judge(|revision| Ok(judgement(revision, rules)));
    }

    /// The same, and they are only audited.
    pub fn change_audited(&self, rules: L7Rules) {
        self.judge(|revision| Ok(audited(judgement(revision, rules))));
    }

    /// The daemon refuses.
    pub fn refuse(&self, reason: Reason) {
        self.judge(|_| Err(reason));
    }

    /// The pod resolved these names to the destination.
    pub fn resolve(&self, names: &[&str]) {
        let mut daemon = self.daemon.lock().unwrap();
        let judgement = daemon.judgement.as_mut().unwrap();
        judgement.resolved = Some(names.iter().map(|&name| name.to_owned()).collect());
    }

    /// The daemon answers no question any more.
    pub fn silence(&self) {
        self.daemon.lock().unwrap().silent = true;
    }

    fn judge(&self, judge: impl FnOnce(u64) -> Result<Judgement, Reason>) {
        let mut daemon = self.daemon.lock().unwrap();
        daemon.revision += 1;
        daemon.judgement = judge(daemon.revision);
        self.changes.send(ToProxy::Revision(daemon.revision)).unwrap();
    }

    /// How many questions the daemon was asked.
    pub fn asked(&self) -> usize {
        self.daemon.lock().unwrap().asked
    }

    /// A connection to the proxy.
    pub async fn connect(&self) -> Client {
        Client(TcpStream::connect(self.address).await.unwrap())
    }

    /// Waits for a record that fits.
    pub async fn record(&self, fits: impl Fn(&Access) -> bool) -> Access {
        let mut records = self.records.clone();
        let found = timeout(PATIENCE, async {
            let seen = records.wait_for(|records| records.iter().any(&fits)).await.unwrap();
            seen.iter().find(|record| fits(record)).unwrap().clone()
        });
        match found.await {
            Ok(record) => record,
            Err(_) => panic!("no such record among {:#?}", self.records.borrow()),
        }
    }

    /// Waits for a refusal for this reason.
    pub async fn refusal(&self, reason: Reason) -> Access {
        self.record(|record| record.fate == Fate::Refused(reason)).await
    }

    /// Waits for what passed and would have been refused for this reason.
    pub async fn audit(&self, reason: Reason) -> Access {
        self.record(|record| record.fate == Fate::Audited(reason)).await
    }

    /// Waits until so many records fit.
    pub async fn count(&self, wanted: usize, fits: impl Fn(&Access) -> bool) {
        let mut records = self.records.clone();
        let enough =
            |records: &Vec<Access>| records.iter().filter(|one| fits(one)).count() == wanted;
        let found = timeout(PATIENCE, records.wait_for(enough)).await;
        if found.is_err() {
            panic!("not {wanted} such records among {:#?}", self.records.borrow());
        }
    }

    /// The paths of the requests that passed so far.
    pub fn passed(&self) -> Vec<String> {
        passed(&self.records.borrow())
    }

    /// Waits until the requests that passed are those for these paths.
    pub async fn wait_for_passed(&self, paths: &[&str]) {
        let mut records = self.records.clone();
        let wanted = records.wait_for(|records| passed(records) == paths);
        if timeout(PATIENCE, wanted).await.is_err() {
            panic!("{:?} passed", self.passed());
        }
    }
}

fn passed(records: &[Access]) -> Vec<String> {
    let path = |record: &Access| match &record.request {
        Asked::Http { path, .. } if record.fate == Fate::Passed => Some(path.clone()),
        _ => None,
    };
    records.iter().filter_map(path).collect()
}

impl Drop for Stage {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

fn judgement(revision: u64, rules: L7Rules) -> Judgement {
    let endpoint = EndpointId(7);
    Judgement {
        revision,
        endpoint,
        rules,
        unmatched: Unmatched::Refused,
        resolved: None,
        from_pod_address: false,
    }
}

fn audited(judgement: Judgement) -> Judgement {
    Judgement { unmatched: Unmatched::Audited, ..judgement }
}

async fn speak(
    socket: UnixStream,
    daemon: Arc<Mutex<Daemon>>,
    mut outbox: mpsc::UnboundedReceiver<ToProxy>,
    records: watch::Sender<Vec<Access>>,
) {
    socket.set_nonblocking(true).unwrap();
    let (mut reader, mut writer) = tokio::net::UnixStream::from_std(socket).unwrap().into_split();
    let (mut inbox, mut buffer) = (Inbox::default(), vec![0; 65536]);
    loop {
        let answers = tokio::select! {
            Some(change) = outbox.recv() => vec![change],
            Ok(count) = reader.read(&mut buffer) => {
                if count == 0 {
                    return;
                }
                inbox.push(&buffer[..count]);
                let mut answers = Vec::new();
                while let Some(message) = inbox.take::<FromProxy>().unwrap() {
                    answers.extend(hear(message, &daemon, &records));
                }
                answers
            }
            else => return,
        };
        for answer in answers {
            writer.write_all(&encode(&answer).unwrap()).await.unwrap();
        }
    }
}

fn hear(
    message: FromProxy,
    daemon: &Mutex<Daemon>,
    records: &watch::Sender<Vec<Access>>,
) -> Option<ToProxy> {
    match message {
        FromProxy::Ask { question, .. } => {
            let mut daemon = daemon.lock().unwrap();
            daemon.asked += 1;
            let judgement = daemon.judgement.clone();
            (!daemon.silent).then_some(ToProxy::Judgement { question, judgement })
        }
        FromProxy::Access(access) => {
            records.send_modify(|records| records.push(access));
            None
        }
        FromProxy::Lost(_) | FromProxy::Tally(_) => None,
    }
}

/// A connection whose bytes the test writes and reads itself.
pub struct Client(pub TcpStream);

impl Client {
    pub async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.0.write_all(bytes.as_ref()).await.unwrap();
    }

    /// Reads until the text ends with `end`.
    pub async fn until(&mut self, end: &str) -> String {
        let mut text = Vec::new();
        let read = timeout(PATIENCE, async {
            while !text.ends_with(end.as_bytes()) {
                let byte = self.0.read_u8().await.unwrap_or_else(|error| {
                    panic!("{error} after {:?}", String::from_utf8_lossy(&text))
                });
                text.push(byte);
            }
        });
        if read.await.is_err() {
            panic!("nothing behind {:?}", String::from_utf8_lossy(&text));
        }
        String::from_utf8(text).unwrap()
    }

    /// Reads these bytes.
    pub async fn back(&mut self, bytes: &[u8]) {
        let mut back = vec![0; bytes.len()];
        timeout(PATIENCE, self.0.read_exact(&mut back)).await.expect("nothing").unwrap();
        assert_eq!(back, bytes);
    }

    /// Reads what comes until the connection ends.
    pub async fn rest(&mut self) -> String {
        let mut bytes = Vec::new();
        // A reset is an end too.
        let _ = timeout(PATIENCE, self.0.read_to_end(&mut bytes)).await.expect("no end");
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// Sends a request and reads its answer, whose length is told: the status line and the body.
    pub async fn ask(&mut self, request: impl AsRef<[u8]>) -> (String, String) {
        self.send(request).await;
        self.answer().await
    }

    /// Reads an answer whose length is told.
    pub async fn answer(&mut self) -> (String, String) {
        let head = self.until("\r\n\r\n").await;
        let length = head.lines().find_map(|line| {
            let (name, value) = line.split_once(": ")?;
            name.eq_ignore_ascii_case("content-length").then(|| value.parse::<usize>().unwrap())
        });
        let mut body = vec![0; length.unwrap_or(0)];
        timeout(PATIENCE, self.0.read_exact(&mut body)).await.unwrap().unwrap();
        (head.lines().next().unwrap().to_owned(), String::from_utf8(body).unwrap())
    }
}

/// A request without a body.
pub fn get(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: a.example\r\n\r\n")
}

/// What a command prints, and whether it succeeded.
pub async fn run(program: &str, arguments: &[&str]) -> (bool, String) {
    let mut command = tokio::process::Command::new(program);
    command.args(arguments).kill_on_drop(true).stdin(std::process::Stdio::null());
    let output = timeout(PATIENCE, command.output()).await.expect("still running").unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let errors = String::from_utf8_lossy(&output.stderr);
    (output.status.success(), format!("{text}{errors}"))
}
