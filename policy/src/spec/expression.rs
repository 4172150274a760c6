//! Regular expressions in the dialect that Cilium reads, RE2, as the proxy here reads them.
//!
//! What comes out matches what RE2 matches: `[a&&b]` is a set of three characters, `\d` are ten
//! digits, a brace that counts nothing is itself. What RE2 refuses is refused. The structure, such as
//! groups that are closed, is left to the parser that reads the result.

use std::iter::Peekable;
use std::str::Chars;

use regex_syntax::ast::parse::Parser;
use thiserror::Error;

mod unicode;

/// The most that a repetition may count.
const MAX_COUNT: u32 = 1000;
/// The names of sets in brackets and colons.
const NAMED: &[&str] = &[
    "alnum", "alpha", "ascii", "blank", "cntrl", "digit", "graph", "lower", "print", "punct",
    "space", "upper", "word", "xdigit",
];

/// Why a text is no regular expression.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub(super) enum ExpressionError {
    #[error("unknown escape `\\{0}`")]
    Escape(String),
    #[error("a repetition of a repetition")]
    Nested,
    #[error("a repetition counts to {MAX_COUNT} at most")]
    Count,
    #[error("unknown group `(?{0}`")]
    Group(String),
    #[error("unknown set `[:{0}:]`")]
    Set(String),
    #[error(
        "unknown set `\\p{{{0}}}`: there are general categories such as `Lu`, and scripts such as `Greek`"
    )]
    Unicode(String),
    #[error("a range that ends before it begins")]
    Range,
    #[error("unclosed `[`")]
    Unclosed,
    #[error("{0}")]
    Structure(String),
}

/// The same expression as the proxy reads it.
pub(super) fn translate(text: &str) -> Result<String, ExpressionError> {
    let mut translator = Translator { rest: text.chars().peekable(), out: String::new() };
    translator.expression()?;
    if translator.out.is_empty() {
        // No text at all would be taken for an expression that is absent.
        translator.out.push_str("(?:)");
    }
    match Parser::new().parse(&translator.out) {
        Ok(_) => Ok(translator.out),
        Err(error) => Err(ExpressionError::Structure(error.kind().to_string())),
    }
}

struct Translator<'t> {
    rest: Peekable<Chars<'t>>,
    out: String,
}

/// What an escape stands for.
enum Escape {
    Char(char),
    /// A set of characters, as it stands within brackets; and whether all others are meant.
    Set(&'static str, bool),
    /// A set by a Unicode name, written out.
    Unicode(String),
}

impl Translator<'_> {
    fn expression(&mut self) -> Result<(), ExpressionError> {
        let mut repeated = false;
        while let Some(c) = self.rest.next() {
            let repeats = match c {
                '*' | '+' | '?' => Some(c.to_string()),
                '{' => self.count()?,
                _ => None,
            };
            if let Some(repeats) = &repeats {
                if repeated {
                    return Err(ExpressionError::Nested);
                }
                self.out.push_str(repeats);
                if self.rest.next_if_eq(&'?').is_some() {
                    self.out.push('?');
                }
            } else {
                self.other(c)?;
            }
            repeated = repeats.is_some();
        }
        Ok(())
    }

    fn other(&mut self, c: char) -> Result<(), ExpressionError> {
        match c {
            '\\' => self.outside(),
            '[' => self.class(),
            '(' if self.rest.next_if_eq(&'?').is_some() => self.group(),
            '{' | '}' | ']' => {
                self.out.push('\\');
                self.out.push(c);
                Ok(())
            }
            _ => {
                self.out.push(c);
                Ok(())
            }
        }
    }

    /// A repetition behind its brace; none if the brace is itself.
    fn count(&mut self) -> Result<Option<String>, ExpressionError> {
        let ahead: String = self.rest.clone().take_while(|c| *c != '}').take(64).collect();
        let (low, high) = ahead.split_once(',').unwrap_or((&ahead, &ahead));
        let is_number = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        let closed = self.rest.clone().nth(ahead.chars().count()) == Some('}');
        if !closed || !is_number(low) || !(high.is_empty() || is_number(high)) {
            return Ok(None);
        }
        let counted = |text: &str| text.parse().is_ok_and(|count: u32| count <= MAX_COUNT);
        if !counted(low) || !(high.is_empty() || counted(high)) {
            return Err(ExpressionError::Count);
        }
        self.rest.nth(ahead.chars().count());
        Ok(Some(format!("{{{ahead}}}")))
    }

    /// A group behind `(?`: with flags, or a name, which nothing here asks for.
    fn group(&mut self) -> Result<(), ExpressionError> {
        let head: String =
            self.rest.clone().take_while(|c| !matches!(c, ')' | ':' | '>')).take(64).collect();
        let end = self.rest.clone().nth(head.chars().count());
        let named = head.strip_prefix("P<").or_else(|| head.strip_prefix('<'));
        let is_flags = head.bytes().all(|b| matches!(b, b'i' | b'm' | b's' | b'U' | b'-'));
        match (named, end) {
            (Some(name), Some('>')) if is_group_name(name) => self.out.push('('),
            (None, Some(end @ (')' | ':'))) if is_flags => {
                self.out.push_str("(?");
                self.out.push_str(&head);
                self.out.push(end);
            }
            _ => return Err(ExpressionError::Group(head)),
        }
        self.rest.nth(head.chars().count());
        Ok(())
    }

    /// What stands behind a backslash that is in no brackets.
    fn outside(&mut self) -> Result<(), ExpressionError> {
        match self.rest.peek() {
            Some('Q') => {
                self.rest.next();
                self.quoted();
            }
            Some('A' | 'z') => {
                self.out.push('\\');
                self.out.extend(self.rest.next());
            }
            Some('b' | 'B') => {
                self.out.push_str("(?-u:\\");
                self.out.extend(self.rest.next());
                self.out.push(')');
            }
            _ => match self.escape()? {
                Escape::Char(c) => self.literal(c),
                Escape::Set(set, others) => {
                    self.out.push_str(if others { "[^" } else { "[" });
                    self.out.push_str(set);
                    self.out.push(']');
                }
                Escape::Unicode(name) => self.out.push_str(&name),
            },
        }
        Ok(())
    }

    /// Everything up to `\E`, as it stands there.
    fn quoted(&mut self) {
        while let Some(c) = self.rest.next() {
            if c == '\\' && self.rest.next_if_eq(&'E').is_some() {
                return;
            }
            self.literal(c);
        }
    }

    /// A set in brackets.
    fn class(&mut self) -> Result<(), ExpressionError> {
        self.out.push('[');
        if self.rest.next_if_eq(&'^').is_some() {
            self.out.push('^');
        }
        let mut first = true;
        loop {
            let c = self.rest.next().ok_or(ExpressionError::Unclosed)?;
            match c {
                ']' if !first => break,
                '[' if self.rest.peek() == Some(&':') => self.named()?,
                '\\' => match self.escape()? {
                    Escape::Char(low) => self.range(low)?,
                    Escape::Set(set, false) => self.out.push_str(set),
                    Escape::Set(set, true) => {
                        self.out.push_str("[^");
                        self.out.push_str(set);
                        self.out.push(']');
                    }
                    Escape::Unicode(name) => self.out.push_str(&name),
                },
                low => self.range(low)?,
            }
            first = false;
        }
        self.out.push(']');
        Ok(())
    }

    /// A set by its name, behind its bracket; the bracket itself if no name is closed.
    fn named(&mut self) -> Result<(), ExpressionError> {
        let ahead: String = self.rest.clone().skip(1).take_while(|c| *c != ':').take(16).collect();
        let behind = ahead.chars().count() + 2;
        if self.rest.clone().nth(behind) != Some(']') {
            return self.range('[');
        }
        if !NAMED.contains(&ahead.trim_start_matches('^')) {
            return Err(ExpressionError::Set(ahead));
        }
        self.rest.nth(behind);
        self.out.push_str("[:");
        self.out.push_str(&ahead);
        self.out.push_str(":]");
        Ok(())
    }

    /// A character of a set, or the range that begins with it.
    fn range(&mut self, low: char) -> Result<(), ExpressionError> {
        self.literal(low);
        let mut ahead = self.rest.clone();
        if ahead.next() != Some('-') || matches!(ahead.next(), Some(']') | None) {
            return Ok(());
        }
        self.rest.next();
        let high = match self.rest.next().ok_or(ExpressionError::Unclosed)? {
            '\\' => match self.escape()? {
                Escape::Char(high) => high,
                Escape::Set(..) | Escape::Unicode(_) => return Err(ExpressionError::Range),
            },
            high => high,
        };
        if high < low {
            return Err(ExpressionError::Range);
        }
        self.out.push('-');
        self.literal(high);
        Ok(())
    }

    /// What stands behind a backslash, within brackets or not.
    fn escape(&mut self) -> Result<Escape, ExpressionError> {
        let c = self.rest.next().ok_or_else(|| ExpressionError::Escape(String::new()))?;
        Ok(match c {
            'd' | 'D' => Escape::Set("0-9", c == 'D'),
            'w' | 'W' => Escape::Set("0-9A-Za-z_", c == 'W'),
            's' | 'S' => Escape::Set(r"\t\n\f\r ", c == 'S'),
            'p' | 'P' => Escape::Unicode(self.unicode(c)?),
            'a' => Escape::Char('\x07'),
            'f' => Escape::Char('\x0c'),
            'n' => Escape::Char('\n'),
            'r' => Escape::Char('\r'),
            't' => Escape::Char('\t'),
            'v' => Escape::Char('\x0b'),
            'x' => Escape::Char(self.hexadecimal()?),
            '0'..='7' => Escape::Char(self.octal(c)?),
            c if c.is_ascii() && !c.is_ascii_alphanumeric() => Escape::Char(c),
            c => return Err(ExpressionError::Escape(c.to_string())),
        })
    }

    fn unicode(&mut self, kind: char) -> Result<String, ExpressionError> {
        let unknown = || ExpressionError::Escape(kind.to_string());
        let name = match self.rest.next().ok_or_else(unknown)? {
            '{' => self.braced().ok_or_else(unknown)?,
            letter => letter.to_string(),
        };
        unicode::set(&name, kind == 'P').ok_or(ExpressionError::Unicode(name))
    }

    fn hexadecimal(&mut self) -> Result<char, ExpressionError> {
        let digits = match self.rest.next_if_eq(&'{') {
            Some(_) => self.braced(),
            None => Some(self.rest.by_ref().take(2).collect()),
        };
        let unknown = || ExpressionError::Escape("x".to_owned());
        let digits = digits.filter(|text| text.bytes().all(|b| b.is_ascii_hexdigit()));
        let number = digits.and_then(|digits| u32::from_str_radix(&digits, 16).ok());
        number.and_then(char::from_u32).ok_or_else(unknown)
    }

    /// Everything up to a closing brace; none if there is no such brace.
    fn braced(&mut self) -> Option<String> {
        let mut text = String::new();
        loop {
            match self.rest.next()? {
                '}' => return Some(text),
                c => text.push(c),
            }
        }
    }

    /// Up to three digits; one alone other than zero would refer to a group.
    fn octal(&mut self, first: char) -> Result<char, ExpressionError> {
        let mut digits = String::from(first);
        while let Some(digit) = self.rest.next_if(|c| digits.len() < 3 && matches!(c, '0'..='7')) {
            digits.push(digit);
        }
        let refers = digits.len() == 1 && first != '0';
        let number = u32::from_str_radix(&digits, 8).ok().filter(|_| !refers);
        number.and_then(char::from_u32).ok_or(ExpressionError::Escape(digits))
    }

    /// A character that means itself, in brackets and outside.
    fn literal(&mut self, c: char) {
        self.out.push_str(&regex_syntax::escape(c.encode_utf8(&mut [0; 4])));
    }
}

fn is_group_name(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn ordinary_expressions_stay_as_they_are() {
        for text in ["/v1/.*", "GET|POST", "(?i)a{2,3}?", "^/[a-z0-9]+$", "[^a]|(?:b)*", r"\.a\-"] {
            assert_eq!(translate(text).unwrap().replace(r"\-", "-"), text.replace(r"\-", "-"));
        }
    }

    #[test]
    fn what_the_dialects_read_differently_is_written_out() {
        for (text, expected) in [
            (r"\d+\W", "[0-9]+[^0-9A-Za-z_]"),
            (r"[\D\s]", r"[[^0-9]\t\n\f\r ]"),
            ("[a&&b]", r"[a\&\&b]"),
            ("[[a]", r"[\[a]"),
            ("[]a]", r"[\]a]"),
            (r"[\d-z]", r"[0-9\-z]"),
            ("[+--]", r"[\+-\-]"),
            ("[[:^digit:]_]", "[[:^digit:]_]"),
            ("[[:a]", r"[\[:a]"),
            ("a{,2}}", r"a\{,2\}\}"),
            ("{", r"\{"),
            (r"\Qa.b\E.", r"a\.b."),
            (r"\<\_\/", r"<_/"),
            (r"\101\08", "A\08"),
            ("(?P<a>x)(?<a>y)", "(x)(y)"),
            (r"\bx", r"(?-u:\b)x"),
            (r"\x{41}\x2e", r"A\."),
            (r"\Q\E", "(?:)"),
            (r"\pN\P{Lu}", r"[\p{gc=N}][^\p{gc=Lu}]"),
            (r"[\p{^Greek}a-z]", r"[[^\p{sc=Greek}]a-z]"),
            (r"\P{^Greek}", r"[\p{sc=Greek}]"),
        ] {
            assert_eq!(translate(text).as_deref(), Ok(expected), "{text}");
        }
    }

    #[test]
    fn what_re2_refuses_is_refused() {
        for text in [
            "*",
            "a**",
            "a*{2}",
            "a{2}{3}",
            "a{1001}",
            "a{2,1}",
            "(",
            ")",
            "a)",
            "[",
            "[a",
            "[z-a]",
            r"[a-\d]",
            "[a--b]",
            "\\",
            r"\u0041",
            r"\y",
            r"\1",
            "(?x)a",
            "(?=a)",
            "(?#a)",
            "(?P=a)",
            "(?P<a-b>x)",
            "[[:foo:]]",
            r"\é",
            r"\x",
            r"\x{110000}",
            r"\p",
            r"\p{L",
            r"\pX",
            r"\p{Letter}",
            r"[\p{sc=Greek}]",
            "+a",
            "a|*",
        ] {
            assert!(translate(text).is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(text in r"(\[|\]|\\|\(|\?|\{|\}|:|,|-|\^|[QEpPxdb01aé]|\PC){0,30}") {
            if let Ok(translated) = translate(&text) {
                prop_assert!(Parser::new().parse(&translated).is_ok());
            }
        }
    }
}
