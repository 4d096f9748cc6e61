//! Secrets that pilot itself serves: credentials of gateway servers and of TLS origination.

use std::collections::BTreeSet;

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
    gateway::{self as model, Tls},
    key::ObjectKey,
    snapshot::Credential,
};

use crate::{
    resource::{Built, Resource, Skipped},
    tls::sds,
};

/// Counts secrets that were asked for and could not be sent.
const ERRORS: &str = "pilot_sds_certificate_errors_total";

/// Every secret that the resources of the gateway name and that pilot holds.
pub fn secrets(client: &Client<'_>) -> Built {
    let mut built = Built::default();
    for name in names(client) {
        match find(client, &name) {
            Ok(resource) => built.resources.push(resource),
            Err(reason) => built.skipped.push(Skipped {
                metric: ERRORS,
                reason,
                source: None,
            }),
        }
    }
    built
}

/// The secret behind a resource name (`kubernetes://…`), from the namespace of the gateway only.
///
/// `None` when there is none: it is left out of the answer, and Envoy waits.
pub fn secret(client: &Client<'_>, name: &str) -> Option<Resource> {
    find(client, name).ok()
}

fn find(client: &Client<'_>, resource: &str) -> Result<Resource, String> {
    let own = &client.class.namespace;
    let (namespace, name) = sds::parse_secret(resource)
        .ok_or_else(|| format!("secret {resource:?} is not kubernetes://[<namespace>/]<name>"))?;
    if !namespace.is_empty() && namespace != &**own {
        return Err(format!(
            "secret {resource:?} is not in the gateway's namespace {own:?}"
        ));
    }
    let get = |name: &str| client.snapshot.credentials.get(&ObjectKey::new(own, name));
    let content = match name.strip_suffix(sds::CA_SUFFIX) {
        Some(plain) => {
            let credential = get(name)
                .or_else(|| get(plain))
                .ok_or_else(|| format!("no secret {name:?} or {plain:?} in namespace {own:?}"))?;
            roots(credential).ok_or_else(|| {
                format!("secret {name:?} in namespace {own:?} has no key cacert or ca.crt")
            })?
        }
        None => {
            let credential =
                get(name).ok_or_else(|| format!("no secret {name:?} in namespace {own:?}"))?;
            pair(credential).ok_or_else(|| {
                format!("secret {name:?} in namespace {own:?} needs keys tls.crt and tls.key")
            })?
        }
    };
    let message = Secret {
        name: resource.to_owned(),
        r#type: Some(content),
    };
    Ok(Resource::new(resource, &message, []))
}

fn roots(credential: &Credential) -> Option<Type> {
    // A Secret that exists for its CA only may hold it as its certificate.
    let bundle = if credential.ca.is_empty() && credential.key.is_empty() {
        &credential.certificate
    } else {
        &credential.ca
    };
    (!bundle.is_empty()).then(|| {
        Type::ValidationContext(CertificateValidationContext {
            trusted_ca: Some(inline(bundle)),
            ..Default::default()
        })
    })
}

fn pair(credential: &Credential) -> Option<Type> {
    (!credential.certificate.is_empty() && !credential.key.is_empty()).then(|| {
        Type::TlsCertificate(TlsCertificate {
            certificate_chain: Some(inline(&credential.certificate)),
            private_key: Some(inline(&credential.key)),
            ..Default::default()
        })
    })
}

fn inline(bytes: &bytes::Bytes) -> DataSource {
    DataSource {
        specifier: Some(Specifier::InlineBytes(bytes.clone())),
        ..Default::default()
    }
}

/// Names of `kubernetes://` secrets in the listeners and clusters of the gateway, sorted.
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
