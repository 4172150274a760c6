//! What is said of the commands themselves: help, manual pages, completions.

use std::fs;
use std::process::Command;

use crate::{fqdnctl, stderr, stdout};

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
fn every_shell_gets_a_completion() {
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let output = fqdnctl().args(["completion", shell]).output().unwrap();
        assert!(output.status.success() && stdout(&output).contains("endpoint"), "{shell}");
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
