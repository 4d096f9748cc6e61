//! Verification of the redirection: a connection to an unused address must arrive at the capture
//! ports.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    time::Duration,
};

use anyhow::{Context as _, anyhow};
use nix::{
    sys::socket::{getsockopt, sockopt},
    unistd::{Gid, Uid, geteuid, setgid, setgroups, setuid},
};
use tokio::{
    net::{TcpListener, TcpSocket, TcpStream},
    time::{Instant, sleep, timeout_at},
};

use super::config::{Config, Family};

/// Interval between two attempts.
const PERIOD: Duration = Duration::from_secs(1);

/// Connects to the probe port on the proxy's own source address and waits until the connection
/// arrives at a capture port with the probe port as its original destination. The rules redirect
/// only connections of the proxy's user this way, so a caller with uid 0 switches to that user for
/// the rest of the process.
///
/// # Errors
/// If the connection is not redirected within `limit`.
pub async fn run(config: &Config, probe_port: u16, limit: Duration) -> anyhow::Result<()> {
    if config.proxy_mark.is_none() {
        become_proxy(config)?;
    }
    for family in config.families() {
        check(config, family, probe_port, limit).await?;
    }
    Ok(())
}

fn become_proxy(config: &Config) -> anyhow::Result<()> {
    if !geteuid().is_root() {
        return Ok(());
    }
    let id = |ids: &[String]| ids.first().and_then(|id| id.parse::<u32>().ok());
    let (Some(uid), Some(gid)) = (id(&config.proxy_uids), id(&config.proxy_gids)) else {
        return Ok(());
    };
    if uid == 0 {
        return Ok(());
    }
    // A user namespace may deny the call even if there is no group to drop.
    if let Err(error) = setgroups(&[]) {
        tracing::debug!(%error, "cannot drop the supplementary groups");
    }
    setgid(Gid::from_raw(gid))
        .with_context(|| format!("cannot switch to group {gid} for the validation"))?;
    setuid(Uid::from_raw(uid))
        .with_context(|| format!("cannot switch to user {uid} for the validation"))
}

async fn check(
    config: &Config,
    family: Family,
    probe_port: u16,
    limit: Duration,
) -> anyhow::Result<()> {
    let (local, nowhere): (IpAddr, IpAddr) = match family {
        Family::V4 => (
            Ipv4Addr::LOCALHOST.into(),
            Ipv4Addr::new(127, 0, 0, 6).into(),
        ),
        Family::V6 => (
            Ipv6Addr::LOCALHOST.into(),
            Ipv6Addr::new(0, 0, 0, 0, 0, 0, 0, 6).into(),
        ),
    };
    let outbound = listen(local, config.proxy_port)?;
    let inbound = listen(local, config.inbound_port)?;
    let deadline = Instant::now() + limit;
    let connect = async {
        loop {
            let socket = match family {
                Family::V4 => TcpSocket::new_v4()?,
                Family::V6 => TcpSocket::new_v6()?,
            };
            socket.bind(SocketAddr::new(local, 0))?;
            if let Some(mark) = config.proxy_mark {
                nix::sys::socket::setsockopt(&socket, sockopt::Mark, &mark)?;
            }
            if let Err(error) = socket.connect(SocketAddr::new(nowhere, probe_port)).await {
                tracing::debug!(%error, "validation connection failed");
            }
            sleep(PERIOD).await;
        }
    };
    let accept = async {
        loop {
            let (stream, _) = tokio::select! {
                accepted = outbound.accept() => accepted?,
                accepted = inbound.accept() => accepted?,
            };
            match original_port(&stream, family) {
                Ok(port) if port == probe_port => return anyhow::Ok(()),
                Ok(port) => {
                    tracing::debug!(port, "ignoring a connection with another original port")
                }
                Err(error) => {
                    tracing::debug!(%error, "ignoring a connection without original destination")
                }
            }
        }
    };
    let connect = async {
        let ended: Result<std::convert::Infallible, anyhow::Error> = connect.await;
        ended
    };
    let both = async {
        tokio::select! {
            accepted = accept => accepted,
            failed = connect => match failed {
                Err(error) => Err(error),
                Ok(never) => match never {},
            },
        }
    };
    match timeout_at(deadline, both).await {
        Ok(result) => result.context("cannot validate the rules"),
        Err(_) => Err(anyhow!(
            "a connection to {nowhere} port {probe_port} was not redirected to port {} or {} \
             within {limit:?}: the rules are missing or have no effect",
            config.inbound_port,
            config.proxy_port,
        )),
    }
}

fn listen(address: IpAddr, port: u16) -> anyhow::Result<TcpListener> {
    let socket = if address.is_ipv4() {
        TcpSocket::new_v4()?
    } else {
        TcpSocket::new_v6()?
    };
    socket.set_reuseaddr(true)?;
    let at = SocketAddr::new(address, port);
    socket
        .bind(at)
        .with_context(|| format!("cannot listen on {at} for the validation"))?;
    Ok(socket.listen(16)?)
}

fn original_port(stream: &TcpStream, family: Family) -> nix::Result<u16> {
    Ok(match family {
        Family::V4 => u16::from_be(getsockopt(stream, sockopt::OriginalDst)?.sin_port),
        Family::V6 => u16::from_be(getsockopt(stream, sockopt::Ip6tOriginalDst)?.sin6_port),
    })
}
