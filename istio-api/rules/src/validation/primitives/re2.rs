//! Whether a text is a regular expression in RE2 syntax, by RE2's own grammar.
//!
//! Other engines differ in what they accept (`a{,3}`, `\Q..\E`, `[[]`, a lone `{`), and a valid
//! expression must never be refused.

mod class;

use std::collections::BTreeSet;

use super::super::report::quote;
use super::Outcome;

/// RE2 repeats at most this often, nested repetitions multiplied.
const MAX_REPEAT: u32 = 1000;

/// Checks the syntax.
pub(in super::super) fn check(pattern: &str) -> Outcome {
    let parser = Parser {
        rest: Rest(pattern),
        groups: vec![Group::default()],
        names: BTreeSet::new(),
    };
    parser.run().map_err(|problem| {
        format!(
            "{} is not a valid regular expression in RE2 syntax: {problem}",
            quote(pattern)
        )
    })
}

/// The input that is not read yet.
#[derive(Clone, Copy)]
struct Rest<'a>(&'a str);

impl Rest<'_> {
    fn peek(&self) -> Option<char> {
        self.0.chars().next()
    }

    fn next(&mut self) -> Option<char> {
        let mut chars = self.0.chars();
        let next = chars.next();
        self.0 = chars.as_str();
        next
    }

    fn next_if(&mut self, wanted: impl FnOnce(char) -> bool) -> Option<char> {
        if wanted(self.peek()?) {
            self.next()
        } else {
            None
        }
    }

    fn next_if_eq(&mut self, wanted: char) -> Option<char> {
        self.next_if(|c| c == wanted)
    }
}

type Step<T = ()> = Result<T, &'static str>;

/// The state of an open group.
#[derive(Default)]
struct Group {
    /// How often the most repeated part repeats.
    repeats: u32,
    /// The same for the last atom, which a repetition would apply to.
    atom: Option<u32>,
    /// The last thing was a repetition.
    repeated: bool,
}

struct Parser<'a> {
    rest: Rest<'a>,
    groups: Vec<Group>,
    names: BTreeSet<String>,
}

impl Parser<'_> {
    fn run(mut self) -> Step {
        while let Some(c) = self.rest.next() {
            match c {
                '(' => self.open()?,
                ')' => self.close()?,
                '|' => self.settle(None),
                '*' | '+' | '?' => self.repeat(1)?,
                '{' => match self.counts() {
                    Some((low, high)) => self.count(low, high)?,
                    None => self.atom(),
                },
                '[' => {
                    self.class()?;
                    self.atom();
                }
                '\\' => self.escape()?,
                _ => self.atom(),
            }
        }
        if self.groups.len() == 1 {
            Ok(())
        } else {
            Err("a parenthesis is not closed")
        }
    }

    fn group(&mut self) -> Step<&mut Group> {
        self.groups.last_mut().ok_or("a parenthesis is not opened")
    }

    fn atom(&mut self) {
        self.settle(Some(1));
    }

    fn settle(&mut self, atom: Option<u32>) {
        if let Some(group) = self.groups.last_mut() {
            group.repeats = group.repeats.max(group.atom.unwrap_or(1));
            group.atom = atom;
            group.repeated = false;
        }
    }

    fn open(&mut self) -> Step {
        if self.rest.next_if_eq('?').is_none() {
            self.groups.push(Group::default());
            return Ok(());
        }
        match self.rest.next() {
            Some('P') if self.rest.next_if_eq('<').is_some() => self.name()?,
            Some('<') if !matches!(self.rest.peek(), Some('=' | '!')) => self.name()?,
            Some('=' | '!' | '<') => {
                return Err("RE2 does not support look-ahead and look-behind");
            }
            first => return self.flags(first),
        }
        self.groups.push(Group::default());
        Ok(())
    }

    fn name(&mut self) -> Step {
        let mut name = String::new();
        loop {
            match self.rest.next() {
                Some('>') => break,
                Some(c) if c.is_ascii_alphanumeric() || c == '_' => name.push(c),
                _ => return Err("the name of a group is not valid"),
            }
        }
        if name.is_empty() || !self.names.insert(name) {
            return Err("the name of a group is empty or used twice");
        }
        Ok(())
    }

    fn flags(&mut self, first: Option<char>) -> Step {
        let (mut next, mut negative, mut seen) = (first, false, false);
        loop {
            match next {
                Some('i' | 'm' | 's' | 'U') => seen = true,
                Some('-') if !negative => (negative, seen) = (true, false),
                Some(end @ (':' | ')')) if seen || !negative => {
                    if end == ':' {
                        self.groups.push(Group::default());
                    } else if let Some(group) = self.groups.last_mut() {
                        group.repeated = false;
                    }
                    return Ok(());
                }
                _ => return Err("want one of the flags i, m, s, U after (?"),
            }
            next = self.rest.next();
        }
    }

    fn close(&mut self) -> Step {
        if self.groups.len() < 2 {
            return Err("a parenthesis is not opened");
        }
        let inner = self.groups.pop().unwrap_or_default();
        let repeats = inner.repeats.max(inner.atom.unwrap_or(1));
        self.settle(Some(repeats));
        Ok(())
    }

    fn count(&mut self, low: u32, high: Option<u32>) -> Step {
        if low > MAX_REPEAT || high.is_some_and(|high| high > MAX_REPEAT || low > high) {
            return Err("a repetition count is above 1000, or its minimum is above its maximum");
        }
        self.repeat(high.unwrap_or(low))
    }

    fn repeat(&mut self, times: u32) -> Step {
        self.rest.next_if_eq('?');
        let group = self.group()?;
        if group.repeated {
            return Err("a repetition follows a repetition");
        }
        let Some(atom) = group.atom else {
            return Err("there is nothing to repeat");
        };
        let product = atom.saturating_mul(times);
        if product > MAX_REPEAT {
            return Err("nested repetitions multiply to more than 1000");
        }
        group.atom = Some(product);
        group.repeated = true;
        Ok(())
    }

    /// `2}`, `2,}` or `2,3}`. Anything else makes the brace a literal.
    fn counts(&mut self) -> Option<(u32, Option<u32>)> {
        let mut rest = self.rest;
        let low = digits(&mut rest)?;
        let high = if rest.next_if_eq(',').is_none() {
            Some(low)
        } else if rest.peek() == Some('}') {
            None
        } else {
            Some(digits(&mut rest)?)
        };
        rest.next_if_eq('}')?;
        self.rest = rest;
        Some((low, high))
    }

    fn escape(&mut self) -> Step {
        match self.rest.peek() {
            Some('A' | 'b' | 'B' | 'z' | 'd' | 'D' | 's' | 'S' | 'w' | 'W') => {
                self.rest.next();
            }
            Some('Q') => {
                self.rest.next();
                return self.quoted();
            }
            Some('p' | 'P') => self.property()?,
            _ => {
                self.character()?;
            }
        }
        self.atom();
        Ok(())
    }

    fn quoted(&mut self) -> Step {
        while let Some(c) = self.rest.next() {
            if c == '\\' && self.rest.next_if_eq('E').is_some() {
                break;
            }
            self.atom();
        }
        Ok(())
    }
}

/// A number without leading zeros.
fn digits(rest: &mut Rest<'_>) -> Option<u32> {
    let mut text = String::new();
    while let Some(c) = rest.next_if(|c| c.is_ascii_digit()) {
        text.push(c);
    }
    if text.is_empty() || (text.len() > 1 && text.starts_with('0')) {
        return None;
    }
    Some(text.parse().unwrap_or(u32::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_re2_takes() {
        for good in [
            "^/v[0-9]+/.*",
            ".*\\.a\\.com",
            "a{2,3}",
            "a{2,}?",
            "a{,3}",
            "a{",
            "{a}",
            "x{1,2",
            "(?P<n>a)",
            "(?<n>a)",
            "(?i)a",
            "(?i-s:a)",
            "(?:a|b)*",
            "()",
            "(|a)",
            "[[]",
            "[]a]",
            "[^]a]",
            "[a-z&&b]",
            "[[:alpha:]_-]",
            "[[:^digit:]]",
            "[\\d\\-x]",
            "[a-\\x{ff}]",
            "\\Qa(b\\E*",
            "\\Q(",
            "\\pL\\p{Greek}\\P{^Lu}",
            "\\123",
            "\\0",
            "\\_\\-\\/",
            "a|*b".trim_end_matches("*b"),
            "(a{31}){32}",
            "^*",
            "\\bfoo\\b",
            "$",
            "é+",
            "[é-ü]",
            "[[:foo]",
            "a{0}",
            "[a-d-z]",
            "",
        ] {
            assert_eq!(check(good), Ok(()), "{good}");
        }
    }

    #[test]
    fn classes_of_characters_that_re2_knows() {
        let categories = [
            "C",
            "Cc",
            "Cf",
            "Co",
            "Cs",
            "L",
            "Ll",
            "Lm",
            "Lo",
            "Lt",
            "Lu",
            "M",
            "Mc",
            "Me",
            "Mn",
            "N",
            "Nd",
            "Nl",
            "No",
            "P",
            "Pc",
            "Pd",
            "Pe",
            "Pf",
            "Pi",
            "Po",
            "Ps",
            "S",
            "Sc",
            "Sk",
            "Sm",
            "So",
            "Z",
            "Zl",
            "Zp",
            "Zs",
            "Any",
            "Old_Italic",
            "Nko",
            "SignWriting",
            "Meroitic_Hieroglyphs",
            "Phags_Pa",
            "Kawi",
        ];
        for name in categories {
            assert_eq!(check(&format!("\\p{{{name}}}")), Ok(()), "{name}");
        }
    }

    #[test]
    fn what_re2_refuses() {
        for bad in [
            "(?=a)",
            "(?!a)",
            "(?<=a)",
            "(?<!a)",
            "[",
            "[a",
            "(",
            "a)",
            "*",
            "a|*",
            "(*)",
            "a**",
            "a{1001}",
            "a{3,2}",
            "a{2}{3}",
            "(a{100}){100}",
            "(a)\\1",
            "\\",
            "\\y",
            "\\Z",
            "\\C",
            "[b-a]",
            "[[:foo:]]",
            "[\\b]",
            "\\p{Foo}",
            "\\p{Greek",
            "\\x{110000}",
            "\\xg0",
            "(?P<a>x)(?P<a>y)",
            "(?P<>x)",
            "(?P=a)",
            "(?z)",
            "(?-)",
            "(?",
            "+a",
        ] {
            assert!(check(bad).is_err(), "{bad}");
        }
    }
}
