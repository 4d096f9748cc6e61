//! Flags of a sink that galley calls, rather than the other way round.

use std::str::FromStr as _;

use clap::{Args, ValueEnum};
use tonic::metadata::{AsciiMetadataKey, AsciiMetadataValue, MetadataMap};

/// How galley and the sink authenticate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum SinkAuth {
    /// Plaintext, without authentication.
    #[value(name = "NONE")]
    None,
    /// Mutual TLS with the server's certificate and trust anchors; the sink's certificate must
    /// match the host in the address.
    #[value(name = "MUTUAL_TLS")]
    MutualTls,
}

/// Flags of a sink that galley calls, rather than the other way round.
#[derive(Debug, Clone, Args)]
pub struct SinkArgs {
    /// Sink to which a stream is kept open: host:port, or unix:///path; empty for none.
    #[arg(long = "sinkAddress", default_value = "", hide_default_value = true)]
    pub sink_address: String,
    /// How galley and the sink authenticate; required with --sinkAddress.
    #[arg(long = "sinkAuthMode", ignore_case = true)]
    pub sink_auth_mode: Option<SinkAuth>,
    /// Metadata to send with the call: name=value, comma separated.
    #[arg(long = "sinkMeta", value_delimiter = ',', value_parser = pair)]
    pub sink_meta: Vec<(AsciiMetadataKey, AsciiMetadataValue)>,
}

impl SinkArgs {
    /// The metadata of the call, in the order of the flags; names may repeat.
    #[must_use]
    pub fn metadata(&self) -> MetadataMap {
        let mut metadata = MetadataMap::new();
        for (name, value) in &self.sink_meta {
            metadata.append(name.clone(), value.clone());
        }
        metadata
    }
}

fn pair(text: &str) -> Result<(AsciiMetadataKey, AsciiMetadataValue), String> {
    let parts: Vec<&str> = text.split('=').collect();
    let [name, value] = parts.as_slice() else {
        return Err("want name=value with one \"=\"".to_owned());
    };
    if name.is_empty() || value.is_empty() {
        return Err("want name=value, both not empty".to_owned());
    }
    // gRPC would overwrite the former and HTTP/2 reject the latter.
    let lower = name.to_ascii_lowercase();
    if lower.starts_with("grpc-") || lower.starts_with(':') {
        return Err(format!("{name} is reserved by the protocol"));
    }
    let key = AsciiMetadataKey::from_str(&lower)
        .map_err(|_| format!("{name:?} is not a valid name of a text header"))?;
    let mut value = AsciiMetadataValue::from_str(value)
        .map_err(|_| format!("the value of {name} is not printable ASCII"))?;
    // Flags are logged, and the value may be a token.
    value.set_sensitive(true);
    Ok((key, value))
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        sink: SinkArgs,
    }

    fn parse(flags: &[&str]) -> Result<SinkArgs, String> {
        let line = Line::try_parse_from([&["galley"], flags].concat());
        line.map(|line| line.sink)
            .map_err(|error| error.to_string())
    }

    #[test]
    fn metadata_of_the_call() {
        let args = parse(&["--sinkMeta=cluster=one,Team=red", "--sinkMeta=team=blue"]).unwrap();
        let metadata = args.metadata();
        assert_eq!(metadata.get("cluster").unwrap(), "one");
        let teams: Vec<_> = metadata.get_all("team").iter().collect();
        assert_eq!(teams, ["red", "blue"]);
        assert!(
            !format!("{args:?} {metadata:?}").contains("red"),
            "it may be a secret"
        );
        assert!(parse(&[]).unwrap().metadata().is_empty());
    }

    #[test]
    fn metadata_that_is_none() {
        for (wrong, message) in [
            ("a", "want name=value with one"),
            ("a=b=c", "want name=value with one"),
            ("=b", "both not empty"),
            ("a=", "both not empty"),
            ("a b=c", "not a valid name"),
            ("key-bin=c", "not a valid name"),
            ("grpc-timeout=1S", "reserved by the protocol"),
            ("a=\u{7f}", "not printable ASCII"),
        ] {
            let error = parse(&["--sinkMeta", wrong]).unwrap_err();
            assert!(error.contains(message), "{wrong}: {error}");
        }
    }

    #[test]
    fn ways_to_trust() {
        let mode = |text: &str| parse(&["--sinkAuthMode", text]).map(|args| args.sink_auth_mode);
        assert_eq!(mode("NONE"), Ok(Some(SinkAuth::None)));
        assert_eq!(mode("MUTUAL_TLS"), Ok(Some(SinkAuth::MutualTls)));
        assert!(mode("GOOGLE").unwrap_err().contains("MUTUAL_TLS"));
        assert_eq!(parse(&[]).unwrap().sink_auth_mode, None);
    }
}
