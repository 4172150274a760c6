//! What is said of the commands themselves: help, manual pages, completions.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::daemon::Daemon;
use crate::{endpoints, fqdnctl, stderr, stdout};

#[test]
fn every_command_has_a_manual_page_with_an_example() {
    let directory = tempfile::tempdir().unwrap();
    let output = fqdnctl().arg("manual").arg(directory.path()).output().unwrap();
    assert!(output.status.success(), "{}", stderr(&output));
    let pages: Vec<_> = fs::read_dir(directory.path()).unwrap().map(Result::unwrap).collect();
    assert!(pages.len() > 25, "{pages:?}");
    for page in &pages {
        let text = fs::read_to_string(page.path()).unwrap();
        assert!(text.contains(".SH EXAMPLES\n.nf\n  "), "{:?}:\n{text}", page.file_name());
        assert!(text.contains("GLOBAL OPTIONS"), "{:?}:\n{text}", page.file_name());
    }
}

#[test]
fn every_command_line_in_the_manual_is_understood() {
    let directory = tempfile::tempdir().unwrap();
    std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_fqdnctl"), directory.path().join("fqdnctl"))
        .unwrap();
    let lines = command_lines();
    assert!(lines.len() > 80, "{lines:#?}");
    for line in lines {
        let mut command = Command::new("bash");
        command.args(["-c", &line]).current_dir(directory.path()).stdin(Stdio::null());
        let path = format!("{}:/usr/bin:/bin", directory.path().display());
        let output = command.env("PATH", path).env("FQDND_SOCKET", "none.sock").output().unwrap();
        // There is no daemon here, no terminal, no cluster, and none of the files.
        let said = stderr(&output);
        assert!(!said.starts_with("error:") && !said.starts_with("bash:"), "{line}: {said}");
    }
}

/// The command lines of fqdnctl in its manual pages, the user's manual and the README.
fn command_lines() -> Vec<String> {
    let directory = tempfile::tempdir().unwrap();
    fqdnctl().arg("manual").arg(directory.path()).status().unwrap();
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let files = |folder: &Path| fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let pages = files(directory.path()).map(|path| plain(&fs::read_to_string(path).unwrap()));
    let examples = pages.flat_map(|page| lines_of(&page, |line| line.starts_with("  ")));
    let documents = files(&root.join("docs")).chain([root.join("README.md")]);
    let documents = documents.filter(|path| path.extension().is_some_and(|own| own == "md"));
    let blocks = documents.flat_map(|path| {
        let text = plain(&fs::read_to_string(path).unwrap());
        let blocks = text.split("```").skip(1).step_by(2);
        blocks.flat_map(|block| lines_of(block, |_| true)).collect::<Vec<_>>()
    });
    examples.chain(blocks).collect()
}

fn lines_of(text: &str, is_code: impl Fn(&str) -> bool) -> Vec<String> {
    text.lines().filter(|line| is_code(line)).filter_map(command_line).collect()
}

/// A text without roff's escapes, in which a line that goes on in the next one is one.
fn plain(text: &str) -> String {
    let escapes = [("\\-", "-"), ("\\*(Aq", "'"), ("\\\\", "\\"), ("\\\n", " ")];
    escapes.iter().fold(text.to_owned(), |text, (escape, meant)| text.replace(escape, meant))
}

/// The line's first command without what stands behind it, if it is one of fqdnctl.
fn command_line(line: &str) -> Option<String> {
    let line = line.trim();
    let line = line.strip_prefix("$ ").unwrap_or(line);
    line.starts_with("fqdnctl ").then_some(())?;
    let ends = [" | ", " > ", " && ", "  # ", "   "].iter().filter_map(|end| line.find(end)).min();
    Some(line[..ends.unwrap_or(line.len())].to_owned())
}

#[test]
fn every_shell_gets_a_completion() {
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let output = fqdnctl().args(["completion", shell]).output().unwrap();
        assert!(output.status.success() && stdout(&output).contains("endpoint"), "{shell}");
        let asks = stdout(&output).contains(" complete -- ");
        assert_eq!(asks, ["bash", "zsh", "fish"].contains(&shell), "{shell}");
    }
}

#[test]
fn bash_completes_commands_and_values() {
    let script = r#"
        source <("$1" completion bash)
        complete -p fqdnctl > /dev/null || exit 1
        completed() {
            COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); COMPREPLY=()
            _fqdnctl fqdnctl "${COMP_WORDS[COMP_CWORD]}" "${COMP_WORDS[COMP_CWORD-1]}"
            echo "${COMPREPLY[@]}"
        }
        completed fqdnctl end
        completed fqdnctl cache l
        completed fqdnctl status -o y
    "#;
    let program = env!("CARGO_BIN_EXE_fqdnctl");
    let output = Command::new("bash").args(["-c", script, "bash", program]).output().unwrap();
    assert_eq!(
        (stdout(&output), stderr(&output)),
        ("endpoint\nlist\nyaml\n".into(), String::new())
    );
}

#[test]
fn bash_completes_names_that_the_daemon_knows_and_does_without_where_none_answers() {
    let script = r#"
        source <("$1" completion bash)
        [[ $(complete -p fqdnctl) == *" _fqdnctl_asking "* ]] || exit 1
        program=$1
        completed() {
            COMP_WORDS=("$program" "$@"); COMP_CWORD=$#; COMPREPLY=()
            _fqdnctl_asking "$program" "${COMP_WORDS[COMP_CWORD]}" "${COMP_WORDS[COMP_CWORD-1]}"
            echo "${COMPREPLY[@]}"
        }
        completed endpoint get prod/w
        completed cache list -e ""
        completed observe --namespace p
        completed endpoint get other/
        completed end
        completed --socket /nowhere/at/all endpoint get prod/w
    "#;
    let daemon = Daemon::answering(&endpoints());
    let program = env!("CARGO_BIN_EXE_fqdnctl");
    let mut bash = Command::new("bash");
    bash.args(["-c", script, "bash", program]).env("FQDND_SOCKET", daemon.socket());
    let completed = || {
        let output = bash.output().unwrap();
        (stdout(&output), stderr(&output))
    };
    let expected = "prod/web\nprod/db prod/web\nprod\n\nendpoint\n\n";
    // A machine that is busy with other tests can be too late for somebody who pressed a key.
    let found = std::iter::repeat_with(completed).take(50);
    let last = found.inspect(|own| assert_eq!(own.1, "")).find(|own| own.0 == expected);
    assert!(last.is_some(), "in none of 50 attempts");
}

#[test]
fn a_daemon_that_does_not_answer_keeps_nobody_waiting() {
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("silent.sock");
    let _listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
    let began = std::time::Instant::now();
    let words = ["complete", "--", "endpoint", "get", ""];
    let output = fqdnctl().arg("--socket").arg(&socket).args(words).output().unwrap();
    assert_eq!(
        (output.status.code(), stdout(&output), stderr(&output)),
        (Some(0), "".into(), "".into())
    );
    // Far from the 30 s that other commands wait.
    assert!(began.elapsed() < std::time::Duration::from_secs(10), "{:?}", began.elapsed());
}

#[test]
fn wrong_usage_names_the_value_and_has_an_exit_code_of_its_own() {
    for (arguments, reason) in [
        (&["cache", "list", "-e", "web"][..], "invalid value 'web' for '--endpoint"),
        (&["cache", "list", "-p", "a..b"], "invalid value 'a..b' for '--pattern"),
        (&["observe", "--verdict", "perhaps"], "invalid value 'perhaps' for '--verdict <VERDICT>'"),
        (&["endpoint", "list", "-o", "xml"], "[possible values: table, wide, json, yaml]"),
        (&["x"], "unrecognized subcommand 'x'"),
        (&["stats"], "a similar subcommand exists: 'status'"),
        (&[], "Usage: fqdnctl"),
    ] {
        let output = fqdnctl().args(arguments).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        assert!(stderr(&output).contains(reason), "{arguments:?}: {}", stderr(&output));
    }
}
