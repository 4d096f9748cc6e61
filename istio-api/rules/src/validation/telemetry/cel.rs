//! Whether a text is a CEL expression, by the grammar alone.

/// Limit of nested expressions, so that parsing never overflows the stack.
const MAX_DEPTH: usize = 250;

type Step<T = ()> = Result<T, String>;

/// Checks the syntax.
pub(super) fn check(text: &str) -> Step {
    let mut parser = Parser {
        rest: text,
        depth: 0,
    };
    parser.expression()?;
    parser.blanks();
    match parser.rest.chars().next() {
        None => Ok(()),
        Some(c) => Err(format!("unexpected {c:?}")),
    }
}

/// Reserved words, which are not names.
const RESERVED: [&str; 18] = [
    "as",
    "break",
    "const",
    "continue",
    "else",
    "for",
    "function",
    "if",
    "import",
    "in",
    "let",
    "loop",
    "namespace",
    "package",
    "return",
    "var",
    "void",
    "while",
];

struct Parser<'a> {
    rest: &'a str,
    depth: usize,
}

impl<'a> Parser<'a> {
    fn blanks(&mut self) {
        loop {
            self.rest = self
                .rest
                .trim_start_matches([' ', '\t', '\r', '\n', '\x0c']);
            match self.rest.strip_prefix("//") {
                Some(comment) => self.rest = comment.split_once('\n').map_or("", |(_, rest)| rest),
                None => return,
            }
        }
    }

    /// Consumes a sign if it is next.
    fn takes(&mut self, sign: &str) -> bool {
        self.blanks();
        match self.rest.strip_prefix(sign) {
            Some(rest) => {
                self.rest = rest;
                true
            }
            None => false,
        }
    }

    fn wants(&mut self, sign: &str) -> Step {
        if self.takes(sign) {
            return Ok(());
        }
        Err(match self.rest.chars().next() {
            None => format!("expected {sign:?} at the end"),
            Some(c) => format!("expected {sign:?}, found {c:?}"),
        })
    }

    /// The word that is next, without consuming it.
    fn word(&mut self) -> Option<&'a str> {
        self.blanks();
        let end = self
            .rest
            .find(|c: char| !(c.is_ascii_alphanumeric() || c == '_'))
            .unwrap_or(self.rest.len());
        self.rest
            .get(..end)
            .filter(|word| word.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_'))
    }

    fn skip(&mut self, length: usize) {
        self.rest = self.rest.get(length..).unwrap_or_default();
    }

    fn expression(&mut self) -> Step {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return Err(format!("expressions are nested more than {MAX_DEPTH} deep"));
        }
        self.operators()?;
        // The last part of a condition may be a condition.
        while self.takes("?") {
            self.operators()?;
            self.wants(":")?;
            self.operators()?;
        }
        self.depth -= 1;
        Ok(())
    }

    /// Operands with operators between them; their precedence does not matter here.
    fn operators(&mut self) -> Step {
        loop {
            self.unary()?;
            if self.word() == Some("in") {
                self.skip("in".len());
                continue;
            }
            let signs = [
                "||", "&&", "<=", ">=", "==", "!=", "<", ">", "+", "-", "*", "/", "%",
            ];
            if !signs.iter().any(|sign| self.takes(sign)) {
                return Ok(());
            }
        }
    }

    fn unary(&mut self) -> Step {
        if self.takes("!") {
            while self.takes("!") {}
            // A sign may still belong to a number.
            let negative = self.rest.strip_prefix('-').map(str::trim_start);
            if let Some(number) =
                negative.filter(|rest| rest.starts_with(|c: char| c.is_ascii_digit()))
            {
                self.rest = number;
            }
        } else {
            while self.takes("-") {}
        }
        self.primary()?;
        loop {
            if self.takes(".") {
                let Some(name) = self.word().filter(|name| *name != "in") else {
                    return Err("expected a name after the dot".to_owned());
                };
                self.skip(name.len());
                if self.takes("(") {
                    self.list(")", Self::expression)?;
                }
            } else if self.takes("[") {
                self.expression()?;
                self.wants("]")?;
            } else if self.takes("{") {
                self.list("}", Self::field)?;
            } else {
                return Ok(());
            }
        }
    }

    fn primary(&mut self) -> Step {
        if self.literal()? {
            return Ok(());
        }
        if self.takes("(") {
            self.expression()?;
            return self.wants(")");
        }
        if self.takes("[") {
            return self.list("]", Self::expression);
        }
        if self.takes("{") {
            return self.list("}", Self::entry);
        }
        self.takes(".");
        let Some(word) = self.word() else {
            return Err(match self.rest.chars().next() {
                None => "expected a value at the end".to_owned(),
                Some(c) => format!("expected a value, found {c:?}"),
            });
        };
        if RESERVED.contains(&word) {
            return Err(format!("{word:?} is a reserved word"));
        }
        self.skip(word.len());
        if self.takes("(") {
            self.list(")", Self::expression)?;
        }
        Ok(())
    }

    /// Elements up to the closing sign. Lists and maps may end in a comma, arguments may not.
    fn list(&mut self, close: &str, element: fn(&mut Self) -> Step) -> Step {
        if self.takes(close) {
            return Ok(());
        }
        loop {
            element(self)?;
            if !self.takes(",") {
                return self.wants(close);
            }
            if close != ")" && self.takes(close) {
                return Ok(());
            }
        }
    }

    fn entry(&mut self) -> Step {
        self.expression()?;
        self.wants(":")?;
        self.expression()
    }

    fn field(&mut self) -> Step {
        let Some(name) = self.word() else {
            return Err("expected the name of a field".to_owned());
        };
        self.skip(name.len());
        self.wants(":")?;
        self.expression()
    }

    /// Consumes a number or a string if it is next.
    fn literal(&mut self) -> Step<bool> {
        self.blanks();
        let raw = self.rest.trim_start_matches(['r', 'R', 'b', 'B']);
        let prefix = self
            .rest
            .get(..self.rest.len() - raw.len())
            .unwrap_or_default();
        let is_text = raw.starts_with(['"', '\'']);
        // At most one letter of each kind.
        if is_text
            && matches!(
                prefix.to_ascii_lowercase().as_str(),
                "" | "r" | "b" | "br" | "rb"
            )
        {
            self.rest = raw;
            let unescaped = prefix.to_ascii_lowercase().contains('r');
            self.text(unescaped, prefix.to_ascii_lowercase().contains('b'))?;
            return Ok(true);
        }
        let digit = |text: &str| text.starts_with(|c: char| c.is_ascii_digit());
        let is_number = digit(self.rest) || self.rest.strip_prefix('.').is_some_and(digit);
        if is_number {
            self.number()?;
        }
        Ok(is_number)
    }

    fn digits(&mut self, wanted: fn(&char) -> bool) -> usize {
        let end = self
            .rest
            .find(|c: char| !wanted(&c))
            .unwrap_or(self.rest.len());
        self.skip(end);
        end
    }

    fn eats(&mut self, one_of: &[char]) -> bool {
        match self.rest.strip_prefix(one_of) {
            Some(rest) => {
                self.rest = rest;
                true
            }
            None => false,
        }
    }

    fn number(&mut self) -> Step {
        if let Some(rest) = self
            .rest
            .strip_prefix("0x")
            .filter(|rest| rest.starts_with(|c: char| c.is_ascii_hexdigit()))
        {
            self.rest = rest;
            self.digits(char::is_ascii_hexdigit);
            self.eats(&['u', 'U']);
            return Ok(());
        }
        self.digits(char::is_ascii_digit);
        let before = self.rest;
        let is_fraction = self.eats(&['.']) && self.digits(char::is_ascii_digit) > 0;
        if !is_fraction {
            self.rest = before;
        }
        let before = self.rest;
        if self.eats(&['e', 'E']) {
            self.eats(&['+', '-']);
            if self.digits(char::is_ascii_digit) > 0 {
                return Ok(());
            }
            self.rest = before;
        }
        if !is_fraction {
            self.eats(&['u', 'U']);
        }
        Ok(())
    }

    fn text(&mut self, raw: bool, bytes: bool) -> Step {
        let quote = ["\"\"\"", "'''", "\"", "'"]
            .into_iter()
            .find(|quote| self.rest.starts_with(quote))
            .unwrap_or("\"");
        self.skip(quote.len());
        loop {
            if let Some(rest) = self.rest.strip_prefix(quote) {
                self.rest = rest;
                return Ok(());
            }
            let Some(c) = self.rest.chars().next() else {
                return Err("a string is not closed".to_owned());
            };
            self.skip(c.len_utf8());
            match c {
                '\\' if !raw => self.escape(bytes)?,
                '\n' | '\r' if quote.len() == 1 => {
                    return Err("a string is not closed on its line".to_owned());
                }
                _ => {}
            }
        }
    }

    fn escape(&mut self, bytes: bool) -> Step {
        let wrong = || Err("an escape sequence in a string is unknown".to_owned());
        let Some(c) = self.rest.chars().next() else {
            return wrong();
        };
        let length = match c {
            'a' | 'b' | 'f' | 'n' | 'r' | 't' | 'v' | '\\' | '?' | '"' | '\'' | '`' => 0,
            'x' | 'X' => 2,
            'u' if !bytes => 4,
            'U' if !bytes => 8,
            '0'..='3' => {
                let octal = self
                    .rest
                    .get(..3)
                    .is_some_and(|digits| digits.bytes().all(|b| (b'0'..=b'7').contains(&b)));
                self.skip(3);
                return if octal { Ok(()) } else { wrong() };
            }
            _ => return wrong(),
        };
        self.skip(c.len_utf8());
        let right = self
            .rest
            .get(..length)
            .is_some_and(|digits| digits.bytes().all(|byte| byte.is_ascii_hexdigit()));
        self.skip(length);
        if right { Ok(()) } else { wrong() }
    }
}

#[cfg(test)]
mod tests {
    use super::check;

    #[test]
    fn expressions() {
        for good in [
            "response.code >= 500",
            "a",
            ".a.b",
            "a ? b : c ? d : e",
            "!(a && b) || !!c",
            "-1 + --2 * 3.5e-3 % 7u",
            "'it' in ['a', \"b\",] // why",
            "{'a': 1, 'b': [1, 2]}['a']",
            "request.headers['x'].matches(r'\\d+') && has(a.b)",
            "a.exists(x, x > 0x1Fu)",
            "Type{field: 1, other: 2,}",
            "\"\"\"line\nline\"\"\" + b'\\x00' + '\\u00e9\\101'",
            "rb'a'",
            "index_of(a)",
            "xds.cluster_name == \"BlackHoleCluster\"",
            ".5 < 1.0",
            "!-1 == a",
        ] {
            assert_eq!(check(good), Ok(()), "{good}");
        }
    }

    #[test]
    fn what_is_none() {
        for bad in [
            "", " ", "a ==", "a b", "(a", "[1", "a ? b", "a.", "f(a,)", "'a", "'\\q'", "a = b",
            "for", "a.in", "1.x.", "1.", "{'a'}", "'a\nb'", "a &", "!-a", "'\\9'",
        ] {
            assert!(check(bad).is_err(), "{bad}");
        }
        assert!(check(&"(".repeat(100_000)).is_err());
        assert!(check(&"-".repeat(100_000)).is_err());
        let nested = format!("{}a{}", "(".repeat(240), ")".repeat(240));
        assert_eq!(check(&nested), Ok(()));
    }
}
