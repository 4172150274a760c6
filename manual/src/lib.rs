//! Manual pages out of what a program says with `--help`.
//!
//! One page for the program and for each of its commands. What stands behind the options in the
//! help is a section of the page by its heading: a line without indentation that ends with a colon.
//! What stands before the first heading is notes. Indented lines stay as they are.
#![forbid(unsafe_code)]

use std::path::Path;
use std::{fs, io};

use clap::Command;
use clap_mangen::Man;
use clap_mangen::roff::{Roff, roman};

/// The section of commands that everybody uses, by the manual's numbers.
pub const COMMANDS: &str = "1";
/// The section of daemons, and of commands for administrators.
pub const DAEMONS: &str = "8";

/// A manual page.
struct Page {
    /// The name of its file, such as `fqdnctl-status.1`.
    file: String,
    text: String,
}

/// Writes the pages of a program and of its commands into a directory.
pub fn write(program: Command, section: &str, directory: &Path) -> io::Result<()> {
    let mut pages = pages(program, section)?.into_iter();
    pages.try_for_each(|page| fs::write(directory.join(page.file), page.text))
}

fn pages(program: Command, section: &str) -> io::Result<Vec<Page>> {
    let mut program = program.disable_help_subcommand(true);
    let version = program.get_version().unwrap_or_default().to_owned();
    let source = format!("{} {version}", program.get_name());
    program.build();
    let mut pages = Vec::new();
    add(&mut pages, &program, section, &source)?;
    Ok(pages)
}

fn add(pages: &mut Vec<Page>, command: &Command, section: &str, source: &str) -> io::Result<()> {
    pages.push(page(command, section, source)?);
    let mut shown = command.get_subcommands().filter(|own| !own.is_hide_set());
    shown.try_for_each(|own| add(pages, own, section, source))
}

fn page(command: &Command, section: &str, source: &str) -> io::Result<Page> {
    // As the help has it: with its options left out, of which there may be a hundred.
    let usage = command.clone().render_usage().to_string();
    let usage = usage.trim_start_matches("Usage: ").to_owned();
    let man = Man::new(command.clone().override_usage(usage))
        .section(section)
        .date(" ")
        .source(source)
        .manual("fqdnd");
    let mut text = Vec::new();
    man.render_title(&mut text)?;
    man.render_name_section(&mut text)?;
    man.render_synopsis_section(&mut text)?;
    man.render_description_section(&mut text)?;
    if command.get_arguments().any(|own| !own.is_hide_set()) {
        man.render_options_section(&mut text)?;
    }
    if command.get_subcommands().any(|own| !own.is_hide_set()) {
        man.render_subcommands_section(&mut text)?;
    }
    if let Some(more) = command.get_after_long_help() {
        sections(&more.to_string()).to_writer(&mut text)?;
    }
    let text = String::from_utf8(text).map_err(io::Error::other)?;
    Ok(Page { file: man.get_filename(), text: with_one_preamble(&text) })
}

/// Each part is written as if it were a page; what a page begins with is wanted once.
fn with_one_preamble(text: &str) -> String {
    let (preamble, page) = text.split_at(text.find(".TH").unwrap_or_default());
    if preamble.is_empty() {
        return page.to_owned();
    }
    format!("{preamble}{}", page.replace(preamble, ""))
}

/// What stands behind the options, section by section.
fn sections(text: &str) -> Roff {
    let mut page = Roff::new();
    let mut is_verbatim = false;
    if !text.lines().next().is_some_and(is_heading) {
        page.control("SH", ["NOTES"]);
    }
    for line in text.lines() {
        let indented = line.starts_with(' ');
        if indented != is_verbatim && !line.is_empty() {
            page.control(if indented { "nf" } else { "fi" }, []);
            is_verbatim = indented;
        }
        match line {
            "" => page.control("PP", []),
            _ if is_heading(line) => {
                page.control("SH", [line.trim_end_matches(':').to_uppercase().as_str()])
            }
            _ => page.text([roman(line)]),
        };
    }
    if is_verbatim {
        page.control("fi", []);
    }
    page
}

fn is_heading(line: &str) -> bool {
    line.ends_with(':') && !line.starts_with(' ')
}

#[cfg(test)]
mod tests {
    use clap::Arg;

    use super::*;

    fn program() -> Command {
        let status = Command::new("status").about("Show how it fares").after_long_help(
            "Read it slowly.\n\nExamples:\n  well status\n  well status | head\n\nExit codes:\n  0  well",
        );
        Command::new("well")
            .version("1.2.3")
            .about("Tell whether all is well")
            .arg(Arg::new("socket").long("socket").value_name("PATH").global(true).help("Where"))
            .subcommand(status)
            .subcommand(Command::new("manual").hide(true))
    }

    #[test]
    fn every_command_that_is_shown_has_a_page() {
        let pages = pages(program(), DAEMONS).unwrap();
        let files: Vec<&str> = pages.iter().map(|page| page.file.as_str()).collect();
        assert_eq!(files, ["well.8", "well-status.8"]);
        assert!(pages[0].text.contains(".TH well 8 \" \" \"well 1.2.3\" fqdnd\n.SH NAME\n"));
        assert!(pages[0].text.contains("well\\-status(8)"), "{}", pages[0].text);
        assert!(pages[0].text.contains(".SH SYNOPSIS\n\\fBwell\\fR [OPTIONS] [COMMAND]\n"));
        assert!(pages[1].text.contains("\\-\\-socket"), "{}", pages[1].text);
    }

    #[test]
    fn what_stands_behind_the_options_is_sections_with_their_lines_as_they_are() {
        let pages = pages(program(), COMMANDS).unwrap();
        let (_, end) = pages[1].text.split_once(".SH NOTES\n").unwrap();
        assert_eq!(
            end,
            "Read it slowly.\n.PP\n.SH EXAMPLES\n.nf\n  well status\n  well status | head\n.PP\n.fi\n\
             .SH \"EXIT CODES\"\n.nf\n  0  well\n.fi\n"
        );
    }
}
