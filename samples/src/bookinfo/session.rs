//! Sessions: the user name in a cookie that is signed by this process.

use http::HeaderMap;
use sha2::{Digest, Sha256};
use std::fmt::Write as _;

const NAME: &str = "session";
/// Maximum length of a user name, in bytes.
const MAX_USER: usize = 64;
const BLOCK: usize = 64;

/// Signs and verifies session cookies with a key that lives as long as the process.
#[derive(Clone)]
pub(super) struct Sessions {
    key: [u8; 32],
}

impl Sessions {
    pub(super) fn new() -> Self {
        Self {
            key: rand::random(),
        }
    }

    /// Value of `Set-Cookie` to sign `user` in; `None` if the name is empty, too long, or has
    /// characters that are not allowed in a header.
    pub(super) fn sign_in(&self, user: &str) -> Option<String> {
        let fits = !user.is_empty() && user.len() <= MAX_USER;
        if !fits || !user.bytes().all(|b| b.is_ascii_graphic() || b == b' ') {
            return None;
        }
        let user = hex(user.as_bytes());
        let mac = hex(&self.mac(user.as_bytes()));
        Some(format!(
            "{NAME}={user}.{mac}; Path=/; HttpOnly; SameSite=Lax"
        ))
    }

    /// Value of `Set-Cookie` to sign out.
    pub(super) fn sign_out() -> String {
        format!("{NAME}=; Path=/; Max-Age=0; HttpOnly; SameSite=Lax")
    }

    /// The signed-in user, if the cookie is valid.
    pub(super) fn user(&self, headers: &HeaderMap) -> Option<String> {
        let prefix = format!("{NAME}=");
        headers
            .get_all(http::header::COOKIE)
            .iter()
            .filter_map(|value| value.to_str().ok())
            .flat_map(|value| value.split(';'))
            .filter_map(|pair| pair.trim().strip_prefix(prefix.as_str()))
            .find_map(|value| {
                let (user, mac) = value.split_once('.')?;
                let expected = self.mac(user.as_bytes());
                let given = unhex(mac)?;
                // Compares all bytes, so that timing does not reveal the first difference.
                let differ = expected
                    .iter()
                    .zip(&given)
                    .fold(0, |sum, (a, b)| sum | (a ^ b));
                if given.len() != expected.len() || differ != 0 {
                    return None;
                }
                String::from_utf8(unhex(user)?).ok()
            })
    }

    /// HMAC-SHA256 (RFC 2104).
    fn mac(&self, message: &[u8]) -> [u8; 32] {
        let mut inner = [0x36; BLOCK];
        let mut outer = [0x5c; BLOCK];
        for ((i, o), k) in inner.iter_mut().zip(&mut outer).zip(&self.key) {
            *i ^= k;
            *o ^= k;
        }
        let inner = Sha256::new()
            .chain_update(inner)
            .chain_update(message)
            .finalize();
        Sha256::new()
            .chain_update(outer)
            .chain_update(inner)
            .finalize()
            .into()
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        // Writing to a String cannot fail.
        let _infallible = write!(text, "{byte:02x}");
        text
    })
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    if !text.is_ascii() || !text.len().is_multiple_of(2) {
        return None;
    }
    (0..text.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(text.get(at..at + 2)?, 16).ok())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with_cookie(cookie: &str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert("cookie", cookie.split(';').next().unwrap().parse().unwrap());
        headers
    }

    #[test]
    fn mac_agrees_with_rfc_4231_case_2_shape() {
        // Key "Jefe" padded with zeros is the same HMAC key as "Jefe".
        let mut key = [0; 32];
        key[..4].copy_from_slice(b"Jefe");
        let mac = Sessions { key }.mac(b"what do ya want for nothing?");
        assert_eq!(
            hex(&mac),
            "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"
        );
    }

    #[test]
    fn user_comes_back_from_own_cookie_only() {
        let ours = Sessions::new();
        let cookie = ours.sign_in("jason").unwrap();
        assert_eq!(ours.user(&with_cookie(&cookie)).as_deref(), Some("jason"));
        assert_eq!(Sessions::new().user(&with_cookie(&cookie)), None);
        assert_eq!(ours.user(&with_cookie("session=6a.00")), None);
        assert_eq!(ours.user(&with_cookie("session=nonsense")), None);
    }

    #[test]
    fn names_that_cannot_be_sent_are_refused() {
        let sessions = Sessions::new();
        for user in ["", "a\r\nb", "é", &"x".repeat(65)] {
            assert!(sessions.sign_in(user).is_none(), "{user:?}");
        }
    }
}
