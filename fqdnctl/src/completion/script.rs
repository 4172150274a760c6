//! The scripts with what asks for names. It comes before what clap wrote, and gives way to that
//! where there are none.

use std::collections::BTreeSet;

use clap::Command;
use clap_complete::Shell;

use super::names::Names;

const BASH: &str = r#"
_fqdnctl_asking() {
    mapfile -t COMPREPLY < <("$1" complete -- "${COMP_WORDS[@]:1:COMP_CWORD}" 2>/dev/null)
    [[ ${#COMPREPLY[@]} -gt 0 ]] || _fqdnctl "$@"
}
complete -F _fqdnctl_asking -o bashdefault -o default fqdnctl
"#;

const ZSH: &str = r#"
    local -a names
    names=(${(f)"$($words[1] complete -- "${(@)words[2,CURRENT]}" 2>/dev/null)"})
    if (( $#names )); then
        [[ $words[CURRENT] == --*=* ]] && compset -P '*='
        compadd -a names
        return
    fi
"#;

const FISH: &str = r#"
function __fish_fqdnctl_names
    set -l words (commandline -opc)
    set -l last (commandline -ct)
    fqdnctl complete -- $words[2..] "$last" 2>/dev/null
end
complete -c fqdnctl -a '(__fish_fqdnctl_names)'
"#;

/// What zsh's function begins with.
const ZSH_BEGIN: &str = "_fqdnctl() {\n";

/// A shell's script, with names where it can have them.
pub(super) fn asking(shell: Shell, script: &str, root: &Command) -> String {
    match shell {
        Shell::Bash => format!("{script}{BASH}"),
        Shell::Zsh => script.replacen(ZSH_BEGIN, &format!("{ZSH_BEGIN}{}", &ZSH[1..]), 1),
        Shell::Fish => {
            let mut options = BTreeSet::new();
            collect(root, &mut options);
            let option =
                |flags| format!("complete -c fqdnctl {flags} -xa '(__fish_fqdnctl_names)'\n");
            let options: String = options.into_iter().map(option).collect();
            format!("{script}{FISH}{options}")
        }
        _ => script.to_owned(),
    }
}

/// The options of a command and those below it that take names, as fish is told of them.
fn collect(command: &Command, options: &mut BTreeSet<String>) {
    let own = command.get_arguments().filter(|arg| Names::of(arg).is_some());
    options.extend(own.filter_map(|arg| {
        let short = arg.get_short().map_or_else(String::new, |short| format!("-s {short} "));
        Some(format!("{short}-l {}", arg.get_long()?))
    }));
    command.get_subcommands().for_each(|command| collect(command, options));
}
