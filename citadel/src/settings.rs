//! The command line, checked: contradictions end the process before anything is opened.

use std::collections::BTreeMap;
use std::time::SystemTime;

use anyhow::{Context, Result, bail};
use mesh_common::spiffe::TrustDomain;

use crate::args::{Args, AuthorityArgs};
use crate::authenticate::{Domains, TokenOptions};
use crate::ca::{Kind, TtlPolicy};
use crate::store::StoreError;
use crate::store::plugged::{self, Plugged};
use crate::store::self_signed::{self, SelfSigned};

/// Trust domain when none is given.
const TRUST_DOMAIN: &str = "cluster.local";

/// What follows from the flags.
#[derive(Debug)]
pub(crate) struct Settings {
    pub(crate) domains: Domains,
    pub(crate) ttl: TtlPolicy,
    pub(crate) tokens: Option<TokenOptions>,
    pub(crate) custom_names: CustomNames,
}

/// Further DNS names by `(namespace, service account)`.
pub(crate) type CustomNames = BTreeMap<(String, String), Vec<String>>;

/// Where the authority is kept.
#[derive(Debug)]
pub(crate) enum Source {
    /// In a directory of our own.
    SelfSigned(SelfSigned),
    /// In files of others.
    Plugged(Plugged),
}

impl Settings {
    pub(crate) fn new(args: &Args) -> Result<Self> {
        let unused = &args.unused;
        if unused.sign_ca_certs {
            bail!("--sign-ca-certs is not supported: it would make every workload an authority");
        }
        if !unused.upstream_ca_address.is_empty() {
            bail!(
                "--upstream-ca-address is not supported: provide the certificates in --root-ca-dir"
            );
        }
        if !unused.server_only {
            bail!("--server-only=false is not supported: certificates reach workloads over SDS");
        }
        if !args.issuance.ca_trusted_node_accounts.is_empty() {
            bail!(
                "CA_TRUSTED_NODE_ACCOUNTS is not supported: impersonation needs the Pods of a cluster"
            );
        }
        if args.serving.grpc_port <= 0 {
            bail!(
                "--grpc-port={} leaves nothing to serve",
                args.serving.grpc_port
            );
        }
        let ttl = TtlPolicy {
            default: args.issuance.workload_cert_ttl,
            max: args.issuance.max_workload_cert_ttl,
            min: args.issuance.min_workload_cert_ttl,
        };
        if ttl.default.is_zero() || ttl.default > ttl.max || ttl.min > ttl.default {
            bail!(
                "--workload-cert-ttl must be above zero and between --min-workload-cert-ttl and --max-workload-cert-ttl"
            );
        }
        Ok(Self {
            domains: domains(args)?,
            ttl,
            tokens: tokens(args)?,
            custom_names: custom_names(&args.serving.custom_dns_names)?,
        })
    }
}

fn domains(args: &Args) -> Result<Domains> {
    let name = match args.issuance.trust_domain.as_str() {
        "" => TRUST_DOMAIN,
        name => name,
    };
    Ok(Domains {
        own: TrustDomain::new(name).context("--trust-domain")?,
        aliases: args
            .issuance
            .trust_domain_aliases
            .iter()
            .map(|alias| TrustDomain::new(alias).context("--trust-domain-aliases"))
            .collect::<Result<_>>()?,
    })
}

fn tokens(args: &Args) -> Result<Option<TokenOptions>> {
    let Some(keys) = args.issuance.jwks_file.clone() else {
        return Ok(None);
    };
    if args.issuance.jwt_issuer.is_empty() {
        bail!("--jwks-file needs --jwt-issuer: the issuer that tokens must name");
    }
    let audiences: Vec<String> = args
        .issuance
        .token_audiences
        .iter()
        .filter(|name| !name.is_empty())
        .cloned()
        .collect();
    if audiences.is_empty() {
        bail!("--token-audiences must name at least one audience");
    }
    Ok(Some(TokenOptions {
        issuer: args.issuance.jwt_issuer.clone(),
        audiences,
        keys,
    }))
}

/// Reads `ACCOUNT.NAMESPACE:DOMAIN,…`. A namespace has no dots, an account may have.
fn custom_names(text: &str) -> Result<CustomNames> {
    let mut names = CustomNames::new();
    for item in text.split(',').filter(|item| !item.is_empty()) {
        let parts = item.split_once(':').and_then(|(account, name)| {
            account
                .rsplit_once('.')
                .map(|(account, namespace)| (account, namespace, name))
        });
        let Some((account, namespace, name)) = parts else {
            bail!("--custom-dns-names: {item:?} is not of the form ACCOUNT.NAMESPACE:DOMAIN");
        };
        names
            .entry((namespace.to_owned(), account.to_owned()))
            .or_default()
            .push(name.to_owned());
    }
    Ok(names)
}

impl Source {
    /// Chooses: files named by flags, else files in the directory for them, else self-signed.
    pub(crate) fn choose(args: &AuthorityArgs, domain: &TrustDomain) -> Result<Self, StoreError> {
        let named = [
            &args.signing_cert,
            &args.signing_key,
            &args.root_cert,
            &args.cert_chain,
        ];
        if named.iter().any(|value| !value.is_empty()) {
            let plugged = Plugged::from_flags(
                &args.signing_cert,
                &args.signing_key,
                &args.cert_chain,
                &args.root_cert,
            )?;
            return Ok(Self::Plugged(plugged));
        }
        if let Some(plugged) = Plugged::find(&args.root_ca_dir)? {
            return Ok(Self::Plugged(plugged));
        }
        if !args.self_signed_ca {
            return Err(StoreError::Refused(format!(
                "no certificate authority: give --self-signed-ca=true, or --signing-cert, --signing-key \
                 and --root-cert, or files in {}",
                args.root_ca_dir.display()
            )));
        }
        let options = self_signed::Options {
            trust_domain: domain.clone(),
            kind: Kind::parse(&args.self_signed_ca_key).ok_or_else(|| {
                StoreError::Refused(format!("unknown kind of key {:?}", args.self_signed_ca_key))
            })?,
            lifetime: args.self_signed_ca_cert_ttl,
            grace_percent: args.root_cert_grace_percent,
            extra_roots: plugged::extra_roots(&args.root_ca_dir)?,
            read_only: args.read_signing_cert_only,
        };
        Ok(Self::SelfSigned(SelfSigned::new(
            args.self_signed_ca_dir.clone(),
            options,
        )))
    }

    /// The bundle, if there is one yet.
    pub(crate) fn open(&self, now: SystemTime) -> Result<Option<crate::ca::Bundle>, StoreError> {
        match self {
            Self::SelfSigned(store) => store.open(now),
            Self::Plugged(plugged) => plugged.load(now).map(Some),
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    fn settings(flags: &[&str]) -> Result<Settings> {
        Settings::new(&Args::parse_from(["citadel"].iter().chain(flags)))
    }

    #[test]
    fn contradictions_are_refused() {
        for (flags, said) in [
            (&["--sign-ca-certs"][..], "every workload an authority"),
            (&["--upstream-ca-address=a:1"], "--upstream-ca-address"),
            (&["--server-only=false"], "--server-only"),
            (&["--grpc-port=-1"], "--grpc-port=-1"),
            (&["--jwks-file=x"], "--jwt-issuer"),
            (
                &["--jwks-file=x", "--jwt-issuer=y", "--token-audiences="],
                "--token-audiences",
            ),
            (&["--workload-cert-ttl=3000h"], "--workload-cert-ttl"),
            (&["--trust-domain=Bad!"], "--trust-domain"),
            (&["--custom-dns-names=a:b"], "ACCOUNT.NAMESPACE:DOMAIN"),
            (&["--ca-trusted-node-accounts=a/b"], "impersonation"),
        ] {
            let error = format!("{:#}", settings(flags).unwrap_err());
            assert!(error.contains(said), "{flags:?}: {error}");
        }
    }

    #[test]
    fn values_are_read() {
        let settings = settings(&[
            "--trust-domain=new",
            "--trust-domain-aliases=old,older",
            "--custom-dns-names=a.b.ns:x,a.b.ns:y,c.ns:z",
        ])
        .unwrap();
        assert_eq!(settings.domains.own.as_str(), "new");
        assert_eq!(settings.domains.aliases.len(), 2);
        let key = ("ns".to_owned(), "a.b".to_owned());
        assert_eq!(settings.custom_names[&key], ["x", "y"]);
        assert!(settings.tokens.is_none());
    }

    #[test]
    fn no_authority_is_an_error() {
        let args = Args::parse_from(["citadel", "--root-ca-dir=/nonexistent"]);
        let error = Source::choose(&args.authority, &TrustDomain::new("a").unwrap()).unwrap_err();
        assert!(
            error.to_string().contains("--self-signed-ca=true"),
            "{error}"
        );
    }
}
