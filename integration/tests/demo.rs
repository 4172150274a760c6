//! The demo as a newcomer runs it: every step holds, a step that does not is told, and nothing
//! stays behind, whichever way it ends.

use std::{
    env, fs,
    io::{BufRead, BufReader, Read},
    os::unix::{fs::PermissionsExt, process::ExitStatusExt},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    time::Instant,
};

const DEMO: &str = env!("CARGO_BIN_EXE_fqdnd-lab");
const STEPS: usize = 8;

#[test]
fn every_step_holds_over_routes() {
    passes(&["--topology", "routed"], "tcx");
}

#[test]
fn every_step_holds_on_a_bridge_and_by_clsact() {
    passes(&["--topology", "bridged", "--attach", "clsact"], "clsact");
}

#[test]
fn a_step_that_is_not_as_it_should_be_is_told_and_ends_it() {
    let liar = Liar::new();
    let run = Run::start(Command::new(DEMO).arg("demo").env("PATH", liar.path()));
    let ended = run.finish();
    assert_eq!(ended.status.code(), Some(1), "{}", ended.said);
    let told = "✗ `dig +short www.example.com` should say \"203.0.113.10\", and said \"192.0.2.1\"";
    assert!(ended.said.contains(told), "{}", ended.said);
    assert!(ended.said.contains("fqdnd last said:"), "{}", ended.said);
    assert!(ended.said.contains("fqdnd is ready"), "{}", ended.said);
    assert!(ended.erred.contains("step 1 is not as it should be"), "{}", ended.erred);
    assert!(!ended.said.contains("\n2  "), "{}", ended.said);
}

#[test]
fn nothing_stays_after_ctrl_c_in_the_middle() {
    // A shell's background job ignores Ctrl-C and hands that on: env undoes it.
    let mut run = Run::start(Command::new("env").args(["--default-signal=INT", DEMO, "demo"]));
    run.wait_for("2  A wildcard");
    assert!(!run.left().is_empty());
    let pid = run.child.id().to_string();
    assert!(Command::new("kill").args(["-s", "INT", &pid]).status().unwrap().success());
    assert_eq!(run.finish().status.signal(), Some(2));
}

fn passes(flags: &[&str], attached: &str) {
    let start = Instant::now();
    let ended = Run::start(Command::new(DEMO).arg("demo").args(flags)).finish();
    println!("{flags:?}: {:?}", start.elapsed());
    assert_eq!(ended.status.code(), Some(0), "{}{}", ended.said, ended.erred);
    assert_eq!(ended.said.matches("\n   ✓ ").count(), STEPS, "{}", ended.said);
    assert!(ended.said.contains(&format!("attached by {attached}")), "{}", ended.said);
    assert!(!ended.said.contains('\x1b'), "colour on a pipe: {:?}", ended.said);
    assert_eq!(ended.erred, "");
}

/// A demo that runs.
struct Run {
    child: Child,
    stdout: Box<dyn BufRead>,
    said: String,
}

/// One that has ended, and has left nothing.
struct Ended {
    status: ExitStatus,
    said: String,
    erred: String,
}

impl Run {
    fn start(command: &mut Command) -> Run {
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let stdout = Box::new(BufReader::new(child.stdout.take().unwrap()));
        Run { child, stdout, said: String::new() }
    }

    fn wait_for(&mut self, text: &str) {
        while !self.said.contains(text) {
            assert_ne!(self.stdout.read_line(&mut self.said).unwrap(), 0, "{}", self.said);
        }
    }

    fn finish(mut self) -> Ended {
        self.stdout.read_to_string(&mut self.said).unwrap();
        let mut erred = String::new();
        self.child.stderr.take().unwrap().read_to_string(&mut erred).unwrap();
        let status = self.child.wait().unwrap();
        assert_eq!(self.left(), Vec::<PathBuf>::new());
        assert_eq!(rules_of_ours(), "");
        Ended { status, said: self.said, erred }
    }

    /// Namespaces, pins, files and processes of this demo.
    fn left(&self) -> Vec<PathBuf> {
        let pid = self.child.id();
        let lab = format!("fqdnd-lab-{pid}-");
        let named = [
            (PathBuf::from("/run/netns"), format!("fqdnd-{pid}-")),
            (PathBuf::from("/sys/fs/bpf"), lab.clone()),
            (env::temp_dir(), lab.clone()),
        ];
        let mut left: Vec<_> =
            named.iter().flat_map(|(directory, prefix)| entries(directory, prefix)).collect();
        left.extend(entries(Path::new("/proc"), "").into_iter().filter(|process| {
            let line = fs::read(process.join("cmdline")).unwrap_or_default();
            String::from_utf8_lossy(&line).contains(&lab)
        }));
        left
    }
}

/// Rules of fqdnd's in the machine's own namespace, where there must never be any.
fn rules_of_ours() -> String {
    let mut found = String::new();
    for (program, arguments) in
        [("nft", ["list", "tables"]), ("ip", ["-4", "rule"]), ("ip", ["-6", "rule"])]
    {
        let output = Command::new(program).args(arguments).output().unwrap();
        assert!(output.status.success(), "{program} {arguments:?}");
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let ours = text.lines().filter(|line| line.contains("fqdnd") || line.contains("fwmark"));
        ours.for_each(|line| found.push_str(line));
    }
    found
}

fn entries(directory: &Path, prefix: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    entries
        .filter(|entry| entry.file_name().to_string_lossy().starts_with(prefix))
        .map(|entry| entry.path())
        .collect()
}

/// A directory with a `dig` that knows one answer to everything.
struct Liar(PathBuf);

impl Liar {
    fn new() -> Liar {
        let directory = env::temp_dir().join(format!("fqdnd-liar-{}", std::process::id()));
        fs::create_dir_all(&directory).unwrap();
        let dig = directory.join("dig");
        fs::write(&dig, "#!/bin/sh\necho 192.0.2.1\n").unwrap();
        fs::set_permissions(&dig, fs::Permissions::from_mode(0o755)).unwrap();
        Liar(directory)
    }

    fn path(&self) -> String {
        format!("{}:{}", self.0.display(), env::var("PATH").unwrap())
    }
}

impl Drop for Liar {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}
