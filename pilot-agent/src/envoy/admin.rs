//! Envoy's admin interface.

use std::time::Duration;

use bytes::Bytes;

use crate::http_client::{self, Error};

/// Maximum size of a response.
const MAX_BODY: usize = 4 << 20;

/// Client of Envoy's admin interface in this Pod.
#[derive(Debug, Clone, Copy)]
pub struct Admin {
    /// Its port on the loopback address.
    pub port: u16,
}

impl Admin {
    /// Statistics whose names match the expression, one `name: value` per line.
    ///
    /// # Errors
    /// If Envoy does not respond with 200 in time; the message says what happened.
    pub async fn stats(&self, filter: &str, limit: Duration) -> Result<String, String> {
        let path = format!("stats?usedonly&filter={}", encode(filter));
        self.call("GET", &path, limit).await
    }

    /// Starts draining the inbound or all listeners. With `skip_exit` they are never closed.
    /// # Errors
    /// As [`stats`](Self::stats).
    pub async fn drain_listeners(
        &self,
        inbound_only: bool,
        skip_exit: bool,
        limit: Duration,
    ) -> Result<(), String> {
        let mut path = String::from("drain_listeners?graceful");
        if inbound_only {
            path.push_str("&inboundonly");
        }
        if skip_exit {
            path.push_str("&skip_exit");
        }
        self.call("POST", &path, limit).await.map(drop)
    }

    async fn call(&self, method: &str, path: &str, limit: Duration) -> Result<String, String> {
        let failed =
            |error: &dyn std::fmt::Display| format!("Envoy's admin port {}: {error}", self.port);
        let answer = http_client::local(self.port, method, path, Bytes::new(), limit, MAX_BODY)
            .await
            .map_err(|error: Error| failed(&error))?;
        let text = String::from_utf8_lossy(&answer.body).into_owned();
        if answer.status.is_success() {
            Ok(text)
        } else {
            Err(failed(&format!("{}: {}", answer.status, text.trim())))
        }
    }
}

/// Percent-encodes characters with a special meaning in a query.
fn encode(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-' | b'~') {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

/// The lines `name: value` whose value is an integer.
pub fn values(text: &str) -> impl Iterator<Item = (&str, u64)> {
    text.lines().filter_map(|line| {
        let (name, value) = line.rsplit_once(": ")?;
        Some((name, value.trim().parse().ok()?))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn expressions_survive_the_query_and_values_are_read() {
        assert_eq!(encode("^(a|b)\\.c$"), "%5E%28a%7Cb%29%5C.c%24");
        let text =
            "server.state: 0\nhistogram: P0(1,2)\nlistener.0.0.0.0_80.downstream_cx_active: 3\n";
        let found: Vec<_> = values(text).collect();
        assert_eq!(
            found,
            [
                ("server.state", 0),
                ("listener.0.0.0.0_80.downstream_cx_active", 3)
            ]
        );
    }
}
