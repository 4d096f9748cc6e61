//! Labels and annotations of the Pod, from the files of the downward API.

use std::collections::BTreeMap;

/// A line that cannot be parsed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: the value of {key} is not a quoted string")]
pub struct Error {
    line: usize,
    key: String,
}

/// Parses lines of the form `key="value"`, the value quoted as Go does. Lines without `=` are skipped.
///
/// # Errors
/// If a value cannot be unquoted; one such value makes the whole file unusable.
pub fn parse(text: &str) -> Result<BTreeMap<String, String>, Error> {
    let mut found = BTreeMap::new();
    for (at, line) in text.lines().enumerate() {
        let Some((key, quoted)) = line.split_once('=') else {
            continue;
        };
        let value = unquote(quoted).ok_or_else(|| Error {
            line: at + 1,
            key: key.to_owned(),
        })?;
        found.insert(key.to_owned(), value);
    }
    Ok(found)
}

/// Go's `strconv.Unquote` for double-quoted strings.
fn unquote(quoted: &str) -> Option<String> {
    let inner = quoted.trim_end().strip_prefix('"')?.strip_suffix('"')?;
    // Escapes of single bytes may form one character together.
    let mut bytes = Vec::with_capacity(inner.len());
    let mut rest = inner.chars();
    while let Some(c) = rest.next() {
        let c = match c {
            '"' => return None,
            '\\' => match rest.next()? {
                'n' => '\n',
                't' => '\t',
                'r' => '\r',
                'a' => '\x07',
                'b' => '\x08',
                'f' => '\x0c',
                'v' => '\x0b',
                c @ ('\\' | '"') => c,
                'x' => {
                    bytes.push(u8::try_from(number(&mut rest, 2, 16)?).ok()?);
                    continue;
                }
                'u' => char::from_u32(number(&mut rest, 4, 16)?)?,
                'U' => char::from_u32(number(&mut rest, 8, 16)?)?,
                c @ '0'..='7' => {
                    let low = number(&mut rest, 2, 8)?;
                    bytes.push(u8::try_from(c.to_digit(8)? * 64 + low).ok()?);
                    continue;
                }
                _ => return None,
            },
            c => c,
        };
        bytes.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
    }
    String::from_utf8(bytes).ok()
}

fn number(rest: &mut std::str::Chars<'_>, digits: usize, base: u32) -> Option<u32> {
    (0..digits).try_fold(0u32, |sum, _| {
        sum.checked_mul(base)?
            .checked_add(rest.next()?.to_digit(base)?)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quoted_values_survive() {
        let text =
            "app=\"web\"\nnote=\"a\\nb \\\"c\\\" \\\\ \\u00e9 \\xc3\\xa9 =\"\nno equals sign\n";
        let found = parse(text).unwrap();
        assert_eq!(found["app"], "web");
        assert_eq!(found["note"], "a\nb \"c\" \\ é é =");
        assert_eq!(found.len(), 2);
    }

    #[test]
    fn a_bad_value_makes_the_file_unusable() {
        assert_eq!(
            parse("a=\"1\"\nb=2").unwrap_err().to_string(),
            "line 2: the value of b is not a quoted string"
        );
        assert!(parse("a=\"\\xff\"").is_err());
    }
}
