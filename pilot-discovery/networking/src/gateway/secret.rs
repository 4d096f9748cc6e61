//! Secrets that pilot itself serves: credentials of gateway servers and for TLS origination.

use std::{collections::BTreeSet, sync::Arc};

use istio_api::{
    envoy::{
        config::core::v3::{DataSource, data_source::Specifier},
        extensions::transport_sockets::tls::v3::{
            CertificateValidationContext, Secret, TlsCertificate, secret::Type,
        },
    },
    networking::v1alpha3::{
        ServerTlsSettings, TrafficPolicy, server_tls_settings::TlSmode as TlsMode,
    },
};
use pilot_model::{
    class::Client,
    credential::{Credential, SecretAccess},
    gateway::{self as model, Tls},
    key::ObjectKey,
};

use crate::{
    resource::{Built, Resource, Skipped},
    tls::sds,
};

/// Metric that counts secrets that were requested and could not be sent.
pub const ERRORS: &str = "pilot_sds_certificate_errors_total";

/// Why a secret is not sent to the gateway.
enum Missing {
    /// It is not known yet whether the gateway may receive it.
    Pending,
    Reason(String),
}

/// All secrets that the resources of the gateway refer to and that it may receive; only from its
/// own namespace. A missing secret is left out of the response, and Envoy keeps waiting for it.
pub fn secrets(client: &Client<'_>) -> Built {
    let mut built = Built::default();
    for name in names(client) {
        match find(client, &name) {
            Ok((resource, fault)) => {
                built.resources.push(resource);
                built.skipped.extend(fault.map(|fault| {
                    left_out(format!(
                        "secret {name:?} is not updated: its new content is invalid: {fault}"
                    ))
                }));
            }
            Err(Missing::Pending) => {}
            Err(Missing::Reason(reason)) => built.skipped.push(left_out(reason)),
        }
    }
    built
}

fn left_out(reason: String) -> Skipped {
    Skipped {
        metric: ERRORS,
        reason,
        source: None,
    }
}

/// The secret, and the fault of a newer version that is invalid.
fn find(client: &Client<'_>, resource: &str) -> Result<(Resource, Option<Arc<str>>), Missing> {
    let own = &client.class.namespace;
    let reason = |text: String| Missing::Reason(text);
    let (namespace, name) = sds::parse_secret(resource).ok_or_else(|| {
        reason(format!(
            "secret {resource:?} is not of the form kubernetes://[<namespace>/]<name>"
        ))
    })?;
    if !namespace.is_empty() && namespace != &**own {
        return Err(reason(format!(
            "secret {resource:?} is not in the gateway's namespace {own:?}"
        )));
    }
    let (credential, content, needs) = match name.strip_suffix(sds::CA_SUFFIX) {
        Some(plain) => {
            let may = client.class.secret_access.roots();
            let credential = get(client, name, may)
                .or_else(|| get(client, plain, may))
                .ok_or_else(|| missing(client, &format!("{name:?} or {plain:?}")))?;
            (credential, roots(credential), "cacert or ca.crt")
        }
        None => {
            let may = client.class.secret_access.keys();
            let credential =
                get(client, name, may).ok_or_else(|| missing(client, &format!("{name:?}")))?;
            let needs = "tls.crt and tls.key, or cert and key";
            (credential, pair(credential), needs)
        }
    };
    let fault = credential.fault.clone();
    let content = content.ok_or_else(|| {
        let why = fault.as_deref();
        let why = why.map_or_else(|| format!("it needs the keys {needs}"), ToOwned::to_owned);
        reason(format!("secret {name:?} in namespace {own:?}: {why}"))
    })?;
    let message = Secret {
        name: resource.to_owned(),
        r#type: Some(content),
    };
    Ok((Resource::new(resource, &message, []), fault))
}

/// From the directory, or from the cluster if the gateway may receive it.
fn get<'a>(client: &Client<'a>, name: &str, may: bool) -> Option<&'a Credential> {
    let key = ObjectKey::new(&client.class.namespace, name);
    let snapshot = client.snapshot;
    let cluster = || snapshot.cluster_secrets.credentials.get(&key);
    let found = snapshot.credentials.get(&key);
    found.or_else(|| may.then(cluster)?).map(|found| &**found)
}

/// Reveals nothing about what the gateway may not read, not even whether it exists.
fn missing(client: &Client<'_>, name: &str) -> Missing {
    let own = &client.class.namespace;
    let why = match client.class.secret_access {
        SecretAccess::Pending => return Missing::Pending,
        SecretAccess::NoCluster | SecretAccess::All => "",
        SecretAccess::Unknown => {
            ": a gateway without a certificate of the mesh is not sent Secrets of the cluster"
        }
        SecretAccess::Roots => ": the gateway's service account may not list Secrets there",
    };
    Missing::Reason(format!("no secret {name} in namespace {own:?}{why}"))
}

fn roots(credential: &Credential) -> Option<Type> {
    (!credential.ca.is_empty()).then(|| {
        Type::ValidationContext(CertificateValidationContext {
            trusted_ca: inline(&credential.ca),
            crl: inline(&credential.crl),
            ..Default::default()
        })
    })
}

fn pair(credential: &Credential) -> Option<Type> {
    (!credential.certificate.is_empty() && !credential.key.is_empty()).then(|| {
        Type::TlsCertificate(TlsCertificate {
            certificate_chain: inline(&credential.certificate),
            private_key: inline(&credential.key),
            ocsp_staple: inline(&credential.staple),
            ..Default::default()
        })
    })
}

fn inline(bytes: &bytes::Bytes) -> Option<DataSource> {
    (!bytes.is_empty()).then(|| DataSource {
        specifier: Some(Specifier::InlineBytes(bytes.clone())),
        ..Default::default()
    })
}

/// Names of the `kubernetes://` secrets in the listeners and clusters of the gateway, sorted.
fn names(client: &Client<'_>) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    let merged = model::merge(client);
    for server in merged.ports.iter().flat_map(|port| &port.servers) {
        if let Some(tls) = server
            .spec
            .tls
            .as_ref()
            .filter(|_| server.tls == Tls::Terminated)
        {
            of_server(tls, &mut names);
        }
    }
    for host in super::referenced_hosts(client) {
        let rule = client
            .service(&host)
            .and_then(|service| client.destination_rule(service));
        if let Some(rule) = rule {
            let subsets = rule
                .spec
                .subsets
                .iter()
                .filter_map(|s| s.traffic_policy.as_ref());
            for policy in rule.spec.traffic_policy.iter().chain(subsets) {
                of_policy(policy, &mut names);
            }
        }
    }
    names.retain(|name| sds::parse_secret(name).is_some());
    names
}

fn of_server(tls: &ServerTlsSettings, names: &mut BTreeSet<String>) {
    if tls.mode() == TlsMode::IstioMutual {
        return;
    }
    let single = Some(&tls.credential_name).filter(|name| !name.is_empty());
    let first = tls.credential_names.first().or(single);
    names.extend(
        tls.credential_names
            .iter()
            .chain(single)
            .map(|name| sds::resource_name(name)),
    );
    if matches!(tls.mode(), TlsMode::Mutual | TlsMode::OptionalMutual) {
        let root = Some(&tls.ca_cert_credential_name)
            .filter(|name| !name.is_empty())
            .or(first);
        names.extend(root.map(|name| sds::root_resource_name(name)));
    }
}

fn of_policy(policy: &TrafficPolicy, names: &mut BTreeSet<String>) {
    let ports = policy
        .port_level_settings
        .iter()
        .filter_map(|port| port.tls.as_ref());
    for tls in policy
        .tls
        .iter()
        .chain(ports)
        .filter(|tls| !tls.credential_name.is_empty())
    {
        names.insert(sds::resource_name(&tls.credential_name));
        names.insert(sds::root_resource_name(&tls.credential_name));
    }
}
