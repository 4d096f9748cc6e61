//! The few routing changes that capture needs, by rtnetlink: the image needs no `ip` program.

use std::{io, os::fd::AsRawFd as _};

use nix::{
    errno::Errno,
    sys::socket::{
        AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, recv, send,
        socket,
    },
};

use super::config::Family;

// linux/rtnetlink.h, linux/netlink.h, linux/fib_rules.h, linux/if_addr.h
const NLM_F_REQUEST: u16 = 1;
const NLM_F_ACK: u16 = 4;
const NLM_F_EXCL: u16 = 0x200;
const NLM_F_CREATE: u16 = 0x400;
const NLMSG_ERROR: u16 = 2;
const RTM_NEWADDR: u16 = 20;
const RTM_DELADDR: u16 = 21;
const RTM_NEWROUTE: u16 = 24;
const RTM_DELROUTE: u16 = 25;
const RTM_NEWRULE: u16 = 32;
const RTM_DELRULE: u16 = 33;
const RTA_OIF: u16 = 4;
const RTA_TABLE: u16 = 15;
const FRA_PRIORITY: u16 = 6;
const FRA_FWMARK: u16 = 10;
const FRA_TABLE: u16 = 15;
const IFA_ADDRESS: u16 = 1;
const IFA_LOCAL: u16 = 2;
const FR_ACT_TO_TBL: u8 = 1;
const RTPROT_BOOT: u8 = 3;
const RT_SCOPE_HOST: u8 = 254;
const RTN_LOCAL: u8 = 2;
const LOOPBACK_INDEX: u32 = 1;
/// Just before the main table. Without an explicit priority the kernel accepts duplicates of a
/// rule.
const RULE_PRIORITY: u32 = 32765;
/// Maximum number of equal rules that a clean-up removes.
const MAX_DUPLICATES: usize = 64;
/// `::6`, the source address of the proxy's inbound connections.
const OWN_SOURCE_V6: [u8; 16] = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 6];

/// Add or remove.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// Add, unless it exists.
    Add,
    /// Remove, if it exists.
    Remove,
}

/// Rule `fwmark MARK lookup TABLE`.
///
/// # Errors
/// If the kernel refuses, except because the state is reached already.
pub fn mark_rule(change: Change, family: Family, mark: u32, table: u32) -> io::Result<()> {
    let header = [
        family_number(family),
        0,
        0,
        0,
        small_table(table),
        0,
        0,
        FR_ACT_TO_TBL,
    ];
    let mut body = header.to_vec();
    body.extend_from_slice(&0u32.to_ne_bytes());
    attribute(&mut body, FRA_FWMARK, &mark.to_ne_bytes());
    attribute(&mut body, FRA_TABLE, &table.to_ne_bytes());
    match change {
        Change::Add => {
            attribute(&mut body, FRA_PRIORITY, &RULE_PRIORITY.to_ne_bytes());
            add(RTM_NEWRULE, &body)
        }
        // With any priority, and repeatedly in case of duplicates.
        Change::Remove => {
            for _ in 0..MAX_DUPLICATES {
                match request(RTM_DELRULE, NLM_F_REQUEST | NLM_F_ACK, &body) {
                    Ok(()) => {}
                    Err(error) if is_gone(&error) => return Ok(()),
                    Err(error) => return Err(error),
                }
            }
            Ok(())
        }
    }
}

/// Route `local default dev lo table TABLE`.
///
/// # Errors
/// As [`mark_rule`].
pub fn local_route(change: Change, family: Family, table: u32) -> io::Result<()> {
    let header = [
        family_number(family),
        0,
        0,
        0,
        small_table(table),
        RTPROT_BOOT,
        RT_SCOPE_HOST,
        RTN_LOCAL,
    ];
    let mut body = header.to_vec();
    body.extend_from_slice(&0u32.to_ne_bytes());
    attribute(&mut body, RTA_TABLE, &table.to_ne_bytes());
    attribute(&mut body, RTA_OIF, &LOOPBACK_INDEX.to_ne_bytes());
    once(change, RTM_NEWROUTE, RTM_DELROUTE, &body)
}

/// Address `::6/128 dev lo`. IPv4 needs none: all of 127/8 is local.
///
/// # Errors
/// As [`mark_rule`].
pub fn own_source_v6(change: Change) -> io::Result<()> {
    let mut body = vec![family_number(Family::V6), 128, 0, RT_SCOPE_HOST];
    body.extend_from_slice(&LOOPBACK_INDEX.to_ne_bytes());
    attribute(&mut body, IFA_LOCAL, &OWN_SOURCE_V6);
    attribute(&mut body, IFA_ADDRESS, &OWN_SOURCE_V6);
    once(change, RTM_NEWADDR, RTM_DELADDR, &body)
}

const fn family_number(family: Family) -> u8 {
    match family {
        Family::V4 => 2,
        Family::V6 => 10,
    }
}

/// The one-byte table field; larger numbers are only in the attribute.
fn small_table(table: u32) -> u8 {
    u8::try_from(table).unwrap_or(0)
}

fn attribute(body: &mut Vec<u8>, kind: u16, value: &[u8]) {
    let length = u16::try_from(4 + value.len()).unwrap_or(u16::MAX);
    body.extend_from_slice(&length.to_ne_bytes());
    body.extend_from_slice(&kind.to_ne_bytes());
    body.extend_from_slice(value);
    body.resize(body.len().next_multiple_of(4), 0);
}

fn once(change: Change, add_kind: u16, remove_kind: u16, body: &[u8]) -> io::Result<()> {
    match change {
        Change::Add => add(add_kind, body),
        Change::Remove => match request(remove_kind, NLM_F_REQUEST | NLM_F_ACK, body) {
            Err(error) if is_gone(&error) => Ok(()),
            result => result,
        },
    }
}

fn add(kind: u16, body: &[u8]) -> io::Result<()> {
    let flags = NLM_F_REQUEST | NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL;
    match request(kind, flags, body) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        result => result,
    }
}

fn is_gone(error: &io::Error) -> bool {
    let errno = error.raw_os_error().map(Errno::from_raw);
    matches!(
        errno,
        Some(Errno::ENOENT | Errno::ESRCH | Errno::EADDRNOTAVAIL)
    )
}

fn request(kind: u16, flags: u16, body: &[u8]) -> io::Result<()> {
    let mut message = Vec::with_capacity(16 + body.len());
    message.extend_from_slice(
        &u32::try_from(16 + body.len())
            .unwrap_or(u32::MAX)
            .to_ne_bytes(),
    );
    message.extend_from_slice(&kind.to_ne_bytes());
    message.extend_from_slice(&flags.to_ne_bytes());
    message.extend_from_slice(&1u32.to_ne_bytes());
    message.extend_from_slice(&0u32.to_ne_bytes());
    message.extend_from_slice(body);

    let socket = socket(
        AddressFamily::Netlink,
        SockType::Raw,
        SockFlag::SOCK_CLOEXEC,
        SockProtocol::NetlinkRoute,
    )?;
    bind(socket.as_raw_fd(), &NetlinkAddr::new(0, 0))?;
    send(socket.as_raw_fd(), &message, MsgFlags::empty())?;
    let mut answer = [0u8; 4096];
    let length = recv(socket.as_raw_fd(), &mut answer, MsgFlags::empty())?;
    let answer = answer.get(..length).unwrap_or_default();
    match acknowledgement(answer) {
        Some(0) => Ok(()),
        Some(code) => Err(io::Error::from_raw_os_error(-code)),
        None => Err(io::Error::other(
            "cannot parse the kernel's response to a routing request",
        )),
    }
}

/// The error number in an acknowledgement: 0 or negative.
fn acknowledgement(answer: &[u8]) -> Option<i32> {
    let kind = u16::from_ne_bytes(answer.get(4..6)?.try_into().ok()?);
    let code = i32::from_ne_bytes(answer.get(16..20)?.try_into().ok()?);
    (kind == NLMSG_ERROR).then_some(code)
}
