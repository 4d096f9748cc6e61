//! PEM encoding of one certificate.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

const LINE: usize = 64;

/// The certificate as PEM, ending with one newline.
pub(crate) fn certificate(der: &[u8]) -> String {
    let text = STANDARD.encode(der);
    let mut out = String::with_capacity(text.len() + text.len() / LINE + 60);
    out.push_str("-----BEGIN CERTIFICATE-----\n");
    let mut rest = text.as_str();
    while !rest.is_empty() {
        let (line, after) = rest.split_at(rest.len().min(LINE));
        out.push_str(line);
        out.push('\n');
        rest = after;
    }
    out.push_str("-----END CERTIFICATE-----\n");
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_back() {
        for length in [1, 47, 48, 49, 1000] {
            let der: Vec<u8> = (0..length).map(|n| n as u8).collect();
            let pem = certificate(&der);
            assert!(pem.lines().all(|line| line.len() <= LINE) && pem.ends_with("-----\n"));
            let read = mesh_common::tls::certificates(pem.as_bytes()).unwrap();
            assert_eq!(read[0].as_ref(), der);
        }
    }
}
