//! The cluster DNS: answers for Services from a table, on UDP port 53 of the bridge.
//!
//! Only what resolvers of Pods need: one question, A and AAAA (none: Pods are IPv4), no
//! forwarding. Short names work through the search list of each Pod's `resolv.conf`, so they
//! lead to the Pod's own namespace only.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::sync::Arc;

use anyhow::{Context, Result};
use tokio::net::UdpSocket;
use tokio::sync::watch;

use super::network::NODE_IP;

/// Fully qualified lower-case names without the last dot, and their addresses.
pub type Table = BTreeMap<String, Vec<Ipv4Addr>>;

/// Suffix of Service names.
pub const CLUSTER_DOMAIN: &str = "cluster.local";
/// Seconds for which an answer may be kept.
const TTL: u32 = 5;
/// Keeps every answer below the 512 bytes that any resolver accepts over UDP.
const MAX_ANSWERS: usize = 25;
const TYPE_A: u16 = 1;
const CLASS_IN: u16 = 1;

/// The `resolv.conf` of a Pod in `namespace`.
#[must_use]
pub fn resolv_conf(namespace: &str) -> String {
    format!(
        "nameserver {NODE_IP}\n\
         search {namespace}.svc.{CLUSTER_DOMAIN} svc.{CLUSTER_DOMAIN} {CLUSTER_DOMAIN}\n\
         options ndots:5 timeout:2 attempts:3\n"
    )
}

/// What a Pod of `namespace` finds for `name`, as its resolver would with the search list.
#[must_use]
pub fn resolve(table: &Table, namespace: &str, name: &str) -> Option<Ipv4Addr> {
    let name = name.trim_end_matches('.').to_ascii_lowercase();
    [
        format!("{name}.{namespace}.svc.{CLUSTER_DOMAIN}"),
        format!("{name}.svc.{CLUSTER_DOMAIN}"),
        format!("{name}.{CLUSTER_DOMAIN}"),
        name,
    ]
    .iter()
    .find_map(|candidate| table.get(candidate)?.first().copied())
}

/// Serves until the socket fails.
///
/// # Errors
/// When port 53 cannot be bound or the socket fails.
pub async fn serve(table: watch::Receiver<Arc<Table>>) -> Result<()> {
    let socket = UdpSocket::bind((NODE_IP, 53))
        .await
        .context("listen on the DNS port")?;
    let mut buffer = [0; 1500];
    let mut turn = 0_usize;
    loop {
        let (length, peer) = match socket.recv_from(&mut buffer).await {
            Ok(received) => received,
            // A resolver that went away before its answer came.
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionRefused => continue,
            Err(error) => return Err(error).context("receive a DNS question"),
        };
        turn = turn.wrapping_add(1);
        let current = Arc::clone(&table.borrow());
        let Some(reply) = buffer
            .get(..length)
            .and_then(|query| answer(query, &current, turn))
        else {
            continue;
        };
        if let Err(error) = socket.send_to(&reply, peer).await {
            tracing::debug!(%peer, %error, "a DNS answer was not sent");
        }
    }
}

/// The answer to `query`; `None` for what is not a question. `turn` rotates the addresses.
fn answer(query: &[u8], table: &Table, turn: usize) -> Option<Vec<u8>> {
    let word = |at: usize| Some(u16::from_be_bytes([*query.get(at)?, *query.get(at + 1)?]));
    let flags = word(2)?;
    let is_query = flags & 0xf800 == 0;
    if !is_query || word(4)? != 1 {
        return None;
    }
    let (name, end) = question_name(query)?;
    let (kind, class) = (word(end)?, word(end + 2)?);
    let addresses = table.get(&name);
    let code: u16 = if addresses.is_some() { 0 } else { 3 };
    let wanted = kind == TYPE_A && class == CLASS_IN;
    let found = addresses.filter(|_| wanted).map_or(&[][..], Vec::as_slice);
    let count = found.len().min(MAX_ANSWERS);
    let mut reply = Vec::with_capacity(end + 4 + count * 16);
    reply.extend_from_slice(query.get(..2)?);
    // Response, authoritative, recursion desired as asked and available.
    reply.extend_from_slice(&(0x8480 | (flags & 0x0100) | code).to_be_bytes());
    reply.extend_from_slice(&1_u16.to_be_bytes());
    reply.extend_from_slice(&u16::try_from(count).ok()?.to_be_bytes());
    reply.extend_from_slice(&[0; 4]);
    reply.extend_from_slice(query.get(12..end + 4)?);
    for address in found
        .iter()
        .cycle()
        .skip(turn % found.len().max(1))
        .take(count)
    {
        // A pointer to the question's name.
        reply.extend_from_slice(&[0xc0, 12]);
        reply.extend_from_slice(&TYPE_A.to_be_bytes());
        reply.extend_from_slice(&CLASS_IN.to_be_bytes());
        reply.extend_from_slice(&TTL.to_be_bytes());
        reply.extend_from_slice(&4_u16.to_be_bytes());
        reply.extend_from_slice(&address.octets());
    }
    Some(reply)
}

/// The name of the first question, lower case, and the offset after it.
fn question_name(query: &[u8]) -> Option<(String, usize)> {
    let mut name = String::new();
    let mut at = 12;
    loop {
        let length = usize::from(*query.get(at)?);
        at += 1;
        if length == 0 {
            return Some((name, at));
        }
        if length > 63 {
            return None;
        }
        if !name.is_empty() {
            name.push('.');
        }
        name.push_str(
            &std::str::from_utf8(query.get(at..at + length)?)
                .ok()?
                .to_ascii_lowercase(),
        );
        at += length;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn query(name: &str, kind: u16) -> Vec<u8> {
        let mut bytes = vec![0xab, 0xcd, 0x01, 0, 0, 1, 0, 0, 0, 0, 0, 0];
        for label in name.split('.') {
            bytes.push(u8::try_from(label.len()).unwrap());
            bytes.extend_from_slice(label.as_bytes());
        }
        bytes.push(0);
        bytes.extend_from_slice(&kind.to_be_bytes());
        bytes.extend_from_slice(&1_u16.to_be_bytes());
        bytes
    }

    fn table() -> Table {
        Table::from([(
            "web.shop.svc.cluster.local".to_owned(),
            vec![Ipv4Addr::new(10, 244, 0, 7), Ipv4Addr::new(10, 244, 0, 8)],
        )])
    }

    #[test]
    fn an_address_is_found_whatever_the_case_and_rotates() {
        let reply = answer(&query("Web.shop.svc.cluster.local", 1), &table(), 1).unwrap();
        assert_eq!(reply[..4], [0xab, 0xcd, 0x85, 0x80]);
        assert_eq!(reply[7], 2);
        assert_eq!(reply[reply.len() - 4..], [10, 244, 0, 7]);
        let reply = answer(&query("web.shop.svc.cluster.local", 1), &table(), 2).unwrap();
        assert_eq!(reply[reply.len() - 4..], [10, 244, 0, 8]);
    }

    #[test]
    fn another_type_is_empty_and_another_name_does_not_exist() {
        let reply = answer(&query("web.shop.svc.cluster.local", 28), &table(), 0).unwrap();
        assert_eq!((reply[3] & 15, reply[7]), (0, 0));
        let reply = answer(&query("example.com", 1), &table(), 0).unwrap();
        assert_eq!((reply[3] & 15, reply[7]), (3, 0));
    }

    #[test]
    fn damaged_questions_are_not_answered() {
        for damaged in [&b""[..], &[0; 12], &query("a.b", 1)[..16], &[0xff; 40]] {
            assert_eq!(answer(damaged, &table(), 0), None);
        }
    }

    #[test]
    fn short_names_lead_to_the_own_namespace() {
        let found = Some(Ipv4Addr::new(10, 244, 0, 7));
        assert_eq!(resolve(&table(), "shop", "web"), found);
        assert_eq!(resolve(&table(), "other", "web"), None);
        assert_eq!(resolve(&table(), "other", "web.shop"), found);
        assert_eq!(
            resolve(&table(), "other", "web.shop.svc.cluster.local."),
            found
        );
    }
}
