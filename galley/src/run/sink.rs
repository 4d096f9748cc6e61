//! A sink that is called (`--sinkAddress`).

use anyhow::{Context as _, bail};
use mesh_common::mcp::source::{Client, ClientOptions, Server};
use mesh_common::mcp::{AddressError, Dial};
use mesh_common::metrics::Registry;
use mesh_common::tls::ClientFiles;

use crate::args::{ServerArgs, SinkAuth};

/// Checks the flags of the sink.
pub(super) fn check(args: &ServerArgs) -> anyhow::Result<()> {
    let (address, mode) = (&args.sink.sink_address, args.sink.sink_auth_mode);
    if address.is_empty() {
        if mode.is_some() || !args.sink.sink_meta.is_empty() {
            bail!("--sinkAuthMode and --sinkMeta are of no use without --sinkAddress");
        }
        return Ok(());
    }
    if !args.enable_server {
        bail!("--sinkAddress={address} needs --enable-server: there is nothing to push");
    }
    let is_tls = match mode {
        Some(mode) => mode == SinkAuth::MutualTls,
        None => bail!("--sinkAddress={address}: want --sinkAuthMode=NONE or MUTUAL_TLS"),
    };
    if is_tls && address.starts_with("unix://") {
        bail!("--sinkAddress={address}: a Unix socket is plain text, want --sinkAuthMode=NONE");
    }
    let scheme = address.split_once("://").map(|(scheme, _)| scheme);
    if scheme == Some(if is_tls { "mcp" } else { "mcps" }) {
        bail!("--sinkAddress={address}: the scheme and --sinkAuthMode contradict each other");
    }
    dial(args).context("--sinkAddress")?;
    Ok(())
}

/// The way to the sink, with the certificates that are there when it is called.
fn dial(args: &ServerArgs) -> Result<Dial, AddressError> {
    let files = (args.sink.sink_auth_mode == Some(SinkAuth::MutualTls)).then(|| ClientFiles {
        root: args.ca_cert_file.clone(),
        pair: Some((args.tls_cert_file.clone(), args.tls_key_file.clone())),
    });
    Dial::reading(&args.sink.sink_address, files, None)
}

/// The client of the sink, if there is one.
pub(super) fn client(
    args: &ServerArgs,
    server: &Server,
    registry: &Registry,
) -> anyhow::Result<Option<Client>> {
    let sink = args.sink.sink_address.clone();
    if sink.is_empty() {
        return Ok(None);
    }
    let options = ClientOptions {
        sink,
        metadata: args.sink.metadata(),
        max_request_bytes: args.max_received_message_size,
        ping_interval: args.keepalive_interval,
        is_optional: false,
    };
    let reconnections = Client::counter(registry, "galley");
    Ok(Some(Client::new(
        server.source(),
        options,
        dial(args)?,
        reconnections,
    )))
}
