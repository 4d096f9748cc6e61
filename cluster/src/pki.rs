//! Keys and certificates of a cluster that lives for a test: two authorities (the cluster's and
//! the front proxy's), leaves for each program, the key of ServiceAccount tokens.

use std::fs;
use std::net::IpAddr;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use anyhow::{Context as _, Result};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, SanType,
};
use serde_json::json;
use time::{Duration, OffsetDateTime};

use crate::address::Number;
use crate::layout::Layout;

const LIFETIME: Duration = Duration::days(365);

struct Authority {
    issuer: Issuer<'static, KeyPair>,
    certificate: String,
}

struct Leaf {
    certificate: String,
    key: String,
}

/// Who a client certificate is for, in Kubernetes' terms.
struct Client {
    /// File name below the folder of keys.
    file: &'static str,
    user: &'static str,
    group: Option<&'static str>,
}

/// Clients with a kubeconfig of their own, besides the administrator.
const CLIENTS: [Client; 5] = [
    Client {
        file: "controller-manager",
        user: "system:kube-controller-manager",
        group: None,
    },
    Client {
        file: "scheduler",
        user: "system:kube-scheduler",
        group: None,
    },
    Client {
        file: "kube-proxy",
        user: "system:kube-proxy",
        group: None,
    },
    Client {
        file: "kubelet",
        user: "system:node:node0",
        group: Some("system:nodes"),
    },
    Client {
        file: "coredns",
        user: crate::files::DNS_USER,
        group: None,
    },
];

/// Writes every key, certificate and kubeconfig.
///
/// # Errors
/// When a file cannot be written.
pub(super) fn write(layout: &Layout, number: Number) -> Result<()> {
    let directory = layout.pki();
    let cluster = authority("keelson-test-ca")?;
    let front = authority("keelson-test-front-ca")?;
    put(&directory.join("ca.crt"), &cluster.certificate)?;
    put(
        &directory.join("ca.key"),
        &cluster.issuer.key().serialize_pem(),
    )?;
    put(&directory.join("front-ca.crt"), &front.certificate)?;

    let node = IpAddr::V4(number.node());
    let api_names = [
        "localhost",
        "kubernetes",
        "kubernetes.default",
        "kubernetes.default.svc",
        "kubernetes.default.svc.cluster.local",
    ];
    let api_addresses = [
        node,
        IpAddr::V4(number.api_service()),
        IpAddr::V4(std::net::Ipv4Addr::LOCALHOST),
    ];
    for (file, name, names, addresses) in [
        (
            "apiserver",
            "kube-apiserver",
            api_names.as_slice(),
            api_addresses.as_slice(),
        ),
        ("kubelet-server", "node0", &["node0"], &[node]),
    ] {
        leaf(&cluster, name, None, names, addresses)?.put(&directory, file)?;
    }
    client(
        &cluster,
        "kube-apiserver-kubelet-client",
        Some("system:masters"),
    )?
    .put(&directory, "kubelet-client")?;
    client(&front, "front-proxy-client", None)?.put(&directory, "front")?;
    let tokens = KeyPair::generate().context("make the key of tokens")?;
    put(&directory.join("sa.key"), &tokens.serialize_pem())?;
    put(&directory.join("sa.pub"), &tokens.public_key_pem())?;

    for each in CLIENTS {
        let held = client(&cluster, each.user, each.group)?;
        let text = kubeconfig(&cluster.certificate, &held, number)?;
        put(&directory.join(each.file).with_extension("conf"), &text)?;
    }
    let admin = client(&cluster, "keelson-admin", Some("system:masters"))?;
    put(
        &layout.kubeconfig(),
        &kubeconfig(&cluster.certificate, &admin, number)?,
    )
}

fn authority(name: &str) -> Result<Authority> {
    let key = KeyPair::generate().context("make a key")?;
    let mut params = params(name, None);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let certificate = params.self_signed(&key).context("make an authority")?.pem();
    Ok(Authority {
        issuer: Issuer::new(params, key),
        certificate,
    })
}

fn params(name: &str, group: Option<&str>) -> CertificateParams {
    let mut params = CertificateParams::default();
    let now = OffsetDateTime::now_utc();
    params.not_before = now - Duration::minutes(5);
    params.not_after = now + LIFETIME;
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    if let Some(group) = group {
        params
            .distinguished_name
            .push(DnType::OrganizationName, group);
    }
    params
}

fn leaf(
    authority: &Authority,
    name: &str,
    group: Option<&str>,
    names: &[&str],
    addresses: &[IpAddr],
) -> Result<Leaf> {
    let key = KeyPair::generate().context("make a key")?;
    let mut params = params(name, group);
    for name in names {
        let name = (*name)
            .try_into()
            .with_context(|| format!("name {name:?}"))?;
        params.subject_alt_names.push(SanType::DnsName(name));
    }
    for address in addresses {
        params.subject_alt_names.push(SanType::IpAddress(*address));
    }
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![if names.is_empty() {
        ExtendedKeyUsagePurpose::ClientAuth
    } else {
        ExtendedKeyUsagePurpose::ServerAuth
    }];
    let certificate = params
        .signed_by(&key, &authority.issuer)
        .with_context(|| format!("sign {name}"))?
        .pem();
    Ok(Leaf {
        certificate,
        key: key.serialize_pem(),
    })
}

fn client(authority: &Authority, user: &str, group: Option<&str>) -> Result<Leaf> {
    leaf(authority, user, group, &[], &[])
}

impl Leaf {
    fn put(&self, directory: &Path, name: &str) -> Result<()> {
        put(
            &directory.join(name).with_extension("crt"),
            &self.certificate,
        )?;
        put(&directory.join(name).with_extension("key"), &self.key)
    }
}

fn put(path: &Path, text: &str) -> Result<()> {
    use std::io::Write as _;
    fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(path)
        .and_then(|mut file| file.write_all(text.as_bytes()))
        .with_context(|| format!("write {}", path.display()))
}

fn kubeconfig(authority: &str, client: &Leaf, number: Number) -> Result<String> {
    use base64::Engine as _;
    let encode = |text: &str| base64::engine::general_purpose::STANDARD.encode(text);
    let value = json!({
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "cluster", "cluster": {
            "server": format!("https://{}:6443", number.node()),
            "certificate-authority-data": encode(authority),
        }}],
        "users": [{"name": "user", "user": {
            "client-certificate-data": encode(&client.certificate),
            "client-key-data": encode(&client.key),
        }}],
        "contexts": [{"name": "cluster", "context": {"cluster": "cluster", "user": "user"}}],
        "current-context": "cluster",
    });
    // JSON is YAML.
    serde_json::to_string_pretty(&value).context("encode a kubeconfig")
}
