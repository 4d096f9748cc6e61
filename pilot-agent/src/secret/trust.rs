//! The trust bundle: a set of certificates with a stable text form.

use std::collections::BTreeSet;

use x509_parser::prelude::*;

/// Splits a PEM text into certificates, each trimmed. Other blocks and text in between are skipped;
/// certificates that cannot be parsed are left out and counted.
#[must_use]
pub fn split(pem: &str) -> (Vec<String>, usize) {
    const BEGIN: &str = "-----BEGIN CERTIFICATE-----";
    const END: &str = "-----END CERTIFICATE-----";
    let mut found = Vec::new();
    let mut bad = 0;
    let mut rest = pem;
    while let Some((_, after)) = rest.split_once(BEGIN) {
        let Some((body, after)) = after.split_once(END) else {
            bad += 1;
            break;
        };
        let block = format!("{BEGIN}\n{}\n{END}", body.trim().replace('\r', ""));
        if parse_one(&block).is_some() {
            found.push(block);
        } else {
            bad += 1;
        }
        rest = after;
    }
    (found, bad)
}

/// The first certificate of a PEM text, as DER.
#[must_use]
pub fn parse_one(pem: &str) -> Option<Vec<u8>> {
    let (_, block) = parse_x509_pem(pem.as_bytes()).ok()?;
    let usable = block.label == "CERTIFICATE" && X509Certificate::from_der(&block.contents).is_ok();
    usable.then_some(block.contents)
}

/// The union of all bundles: each certificate once, sorted by text, joined with newlines.
#[must_use]
pub fn union<'a>(bundles: impl IntoIterator<Item = &'a str>) -> String {
    let all: BTreeSet<String> = bundles
        .into_iter()
        .flat_map(|bundle| split(bundle).0)
        .collect();
    let mut text = all.into_iter().collect::<Vec<_>>().join("\n");
    if !text.is_empty() {
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn certificate() -> String {
        let key = rcgen::KeyPair::generate().unwrap();
        rcgen::CertificateParams::default()
            .self_signed(&key)
            .unwrap()
            .pem()
    }

    #[test]
    fn union_is_sorted_without_duplicates_and_skips_rubbish() {
        let (a, b) = (certificate(), certificate());
        let dirty = format!(
            "comment\r\n{}\n-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n{b}",
            a.replace('\n', "\r\n")
        );
        let expected = union([a.as_str(), b.as_str()]);
        assert_eq!(union([b.as_str(), dirty.as_str()]), expected);
        assert_eq!(expected.matches("BEGIN").count(), 2);
        assert_eq!(split(&dirty).1, 1);
        assert_eq!(union(["", "nothing here"]), "");
    }
}
