//! Validation of the command line: contradictions end the process before anything is opened.

use std::collections::BTreeMap;

use anyhow::{Context, Result, bail};
use mesh_common::args::KubeArgs;
use mesh_core::spiffe::TrustDomain;

use crate::args::{Args, AuthorityArgs};
use crate::authenticate::{Domains, TokenOptions};
use crate::ca::{Kind, TtlPolicy};
use crate::store::StoreError;
use crate::store::plugged::{self, Plugged};
use crate::store::self_signed::{self, SelfSigned};

/// Directory of the self-signed root without a cluster.
const SELF_SIGNED_DIR: &str = "./etc/self-signed-ca";

/// Default trust domain.
const TRUST_DOMAIN: &str = "cluster.local";

/// Validated settings.
#[derive(Debug)]
pub(crate) struct Settings {
    pub(crate) domains: Domains,
    pub(crate) ttl: TtlPolicy,
    /// The cluster, if there is one.
    pub(crate) cluster: Option<KubeArgs>,
    /// Accepted audiences; a token must name at least one of them.
    pub(crate) audiences: Vec<String>,
    pub(crate) tokens: Option<TokenOptions>,
    pub(crate) custom_names: CustomNames,
}

/// Additional DNS names, by `(namespace, service account)`.
pub(crate) type CustomNames = BTreeMap<(String, String), Vec<String>>;

/// Storage of the authority.
#[derive(Debug)]
pub(crate) enum Source {
    /// A directory that citadel maintains.
    SelfSigned(SelfSigned),
    /// A Secret that citadel maintains.
    Secret(self_signed::Options),
    /// Provided files.
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
                "CA_TRUSTED_NODE_ACCOUNTS is not supported: impersonation needs access to all \
                 Pods of the cluster"
            );
        }
        if args.serving.grpc_port <= 0 {
            bail!(
                "--grpc-port={} disables the only service",
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
                "invalid --workload-cert-ttl: want more than zero, between --min-workload-cert-ttl \
                 and --max-workload-cert-ttl"
            );
        }
        let cluster = cluster(args)?;
        let audiences = audiences(args);
        if audiences.is_empty() && (cluster.is_some() || args.issuance.jwks_file.is_some()) {
            bail!("--token-audiences must name at least one audience");
        }
        check_name(&args.cluster.root_cert_configmap).context("--root-cert-configmap")?;
        Ok(Self {
            domains: domains(args)?,
            ttl,
            tokens: tokens(args, &audiences)?,
            audiences,
            cluster,
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

/// Whether a cluster is used: when a kubeconfig is given or the process runs in a Pod, unless a
/// directory is given for the data that the cluster would hold.
fn cluster(args: &Args) -> Result<Option<KubeArgs>> {
    let (new, old) = (&args.kube.kubeconfig, &args.cluster.kube_config);
    if !new.is_empty() && !old.is_empty() && new != old {
        bail!("--kubeconfig and --kube-config name different files");
    }
    let kubeconfig = if new.is_empty() { old } else { new }.clone();
    let is_container = !args.cluster.kubernetes_service_host.is_empty();
    let has_files = args.authority.self_signed_ca_dir.is_some()
        || args.serving.control_plane_certs_dir.is_some();
    let is_there = !kubeconfig.is_empty() || (is_container && !has_files);
    Ok(is_there.then_some(KubeArgs { kubeconfig }))
}

/// ConfigMap names must be DNS names.
fn check_name(name: &str) -> Result<()> {
    let is_good = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "-.".contains(c);
    if name.is_empty() || name.len() > 253 || !name.chars().all(is_good) {
        bail!("{name:?} is not a valid ConfigMap name: want lower-case letters, digits, - and .");
    }
    Ok(())
}

fn audiences(args: &Args) -> Vec<String> {
    let names = args.issuance.token_audiences.iter();
    names.filter(|name| !name.is_empty()).cloned().collect()
}

fn tokens(args: &Args, audiences: &[String]) -> Result<Option<TokenOptions>> {
    let Some(keys) = args.issuance.jwks_file.clone() else {
        return Ok(None);
    };
    if args.issuance.jwt_issuer.is_empty() {
        bail!("--jwks-file needs --jwt-issuer, the issuer that tokens must name");
    }
    Ok(Some(TokenOptions {
        issuer: args.issuance.jwt_issuer.clone(),
        audiences: audiences.to_vec(),
        keys,
    }))
}

/// Parses `ACCOUNT.NAMESPACE:DOMAIN,…`. A namespace has no dots; an account may have some.
fn custom_names(text: &str) -> Result<CustomNames> {
    let mut names = CustomNames::new();
    for item in text.split(',').filter(|item| !item.is_empty()) {
        let parts = item.split_once(':').and_then(|(account, name)| {
            account
                .rsplit_once('.')
                .map(|(account, namespace)| (account, namespace, name))
        });
        let Some((account, namespace, name)) = parts else {
            bail!("invalid entry {item:?} in --custom-dns-names: want ACCOUNT.NAMESPACE:DOMAIN");
        };
        names
            .entry((namespace.to_owned(), account.to_owned()))
            .or_default()
            .push(name.to_owned());
    }
    Ok(names)
}

impl Source {
    /// Chooses files named by flags, else files in --root-ca-dir, else a self-signed root.
    pub(crate) fn choose(
        args: &AuthorityArgs,
        domain: &TrustDomain,
        has_cluster: bool,
    ) -> Result<Self, StoreError> {
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
                "no certificate authority: set --self-signed-ca=true, or --signing-cert, \
                 --signing-key and --root-cert, or put files into {}",
                args.root_ca_dir.display()
            )));
        }
        let options = self_signed::Options {
            trust_domain: domain.clone(),
            kind: Kind::parse(&args.self_signed_ca_key).ok_or_else(|| {
                StoreError::Refused(format!("unknown key type {:?}", args.self_signed_ca_key))
            })?,
            lifetime: args.self_signed_ca_cert_ttl,
            grace_percent: args.root_cert_grace_percent,
            extra_roots: plugged::extra_roots(&args.root_ca_dir)?,
            read_only: args.read_signing_cert_only,
        };
        let dir = match &args.self_signed_ca_dir {
            None if has_cluster => return Ok(Self::Secret(options)),
            None => SELF_SIGNED_DIR.into(),
            Some(dir) => dir.clone(),
        };
        Ok(Self::SelfSigned(SelfSigned::new(dir, options)))
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
            (
                &["--kubeconfig=x", "--token-audiences="],
                "--token-audiences",
            ),
            (&["--kubeconfig=x", "--kube-config=y"], "--kube-config"),
            (&["--root-cert-configmap=a/b"], "--root-cert-configmap"),
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
    fn when_there_is_a_cluster() {
        let found = |flags: &[&str]| {
            let flags: Vec<_> = flags.iter().map(|flag| format!("--{flag}")).collect();
            let flags: Vec<_> = flags.iter().map(String::as_str).collect();
            let cluster = settings(&flags).unwrap().cluster;
            cluster.map(|kube| kube.kubeconfig)
        };
        let container = "kubernetes-service-host=10.0.0.1";
        let nowhere = "kubernetes-service-host=";
        assert_eq!(found(&[nowhere]), None);
        assert_eq!(found(&[container]).as_deref(), Some(""));
        assert_eq!(found(&[nowhere, "kubeconfig=x"]).as_deref(), Some("x"));
        assert_eq!(found(&[nowhere, "kube-config=x"]).as_deref(), Some("x"));
        // With files for everything, a cluster is used only when asked for.
        for dir in ["self-signed-ca-dir=d", "control-plane-certs-dir=d"] {
            assert_eq!(found(&[container, dir]), None);
            assert_eq!(found(&[dir, "kubeconfig=x"]).as_deref(), Some("x"));
        }
    }

    #[test]
    fn where_an_own_root_is_kept() {
        let choose = |flags: &[&str], has_cluster| {
            let flags = ["citadel", "--self-signed-ca", "--root-ca-dir=/nonexistent"]
                .iter()
                .chain(flags);
            let args = Args::parse_from(flags);
            let domain = TrustDomain::new("a").unwrap();
            Source::choose(&args.authority, &domain, has_cluster).unwrap()
        };
        assert!(matches!(choose(&[], false), Source::SelfSigned(_)));
        assert!(matches!(choose(&[], true), Source::Secret(_)));
        let dir = ["--self-signed-ca-dir=d"];
        assert!(matches!(choose(&dir, true), Source::SelfSigned(_)));
    }

    #[test]
    fn no_authority_is_an_error() {
        let args = Args::parse_from(["citadel", "--root-ca-dir=/nonexistent"]);
        let domain = TrustDomain::new("a").unwrap();
        let error = Source::choose(&args.authority, &domain, true).unwrap_err();
        assert!(
            error.to_string().contains("--self-signed-ca=true"),
            "{error}"
        );
    }
}
