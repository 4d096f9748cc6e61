//! Settings of `proxy` from the environment, typed and validated at startup.

use std::{net::IpAddr, path::PathBuf, time::Duration};

use crate::{
    env::{self, Env},
    secret::key::Algorithm,
};

/// Locations of well-known files. The default is that of the images; tests use a temporary
/// directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Paths {
    root: PathBuf,
}

impl Default for Paths {
    fn default() -> Self {
        Self {
            root: PathBuf::from("/"),
        }
    }
}

impl Paths {
    /// All well-known paths below `root`.
    #[must_use]
    pub fn below(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    fn at(&self, path: &str) -> PathBuf {
        self.root.join(path)
    }

    /// Directory of the secret discovery socket.
    #[must_use]
    pub fn socket_directory(&self) -> PathBuf {
        self.at("var/run/secrets/workload-spiffe-uds")
    }

    /// Directory of certificates that another program provides for this workload.
    #[must_use]
    pub fn mounted_credentials(&self) -> PathBuf {
        self.at("var/run/secrets/workload-spiffe-credentials")
    }

    /// Directory of certificate files in 1.1.
    #[must_use]
    pub fn certificates(&self) -> PathBuf {
        self.at("etc/certs")
    }

    /// The mounted mesh root.
    #[must_use]
    pub fn mesh_root(&self) -> PathBuf {
        self.at("var/run/secrets/istio/root-cert.pem")
    }

    /// The mounted revocation list.
    #[must_use]
    pub fn revocation_list(&self) -> PathBuf {
        self.at("var/run/secrets/istio/crl/ca-crl.pem")
    }

    /// The Pod's token.
    #[must_use]
    pub fn token(&self) -> PathBuf {
        self.at("var/run/secrets/tokens/istio-token")
    }

    /// Labels or annotations of the downward API.
    #[must_use]
    pub fn pod_info(&self, file: &str) -> PathBuf {
        self.at("etc/istio/pod").join(file)
    }
}

/// How Envoy authenticates to pilot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum XdsMode {
    /// The workload certificate.
    Direct,
    /// The Pod's token.
    DirectToken,
}

/// Settings other than the proxy configuration.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Namespace of the Pod.
    pub namespace: String,
    /// Service account of the Pod.
    pub service_account: String,
    /// Address of the Pod.
    pub instance_ip: Option<IpAddr>,
    /// Address of the node.
    pub host_ip: Option<String>,
    /// CPU limit in whole CPUs; 0 for none.
    pub cpu_limit: u32,
    /// SPIFFE trust domain.
    pub trust_domain: String,
    /// How Envoy authenticates to pilot.
    pub xds_mode: XdsMode,
    /// Delta xDS.
    pub delta: bool,
    /// File with the roots that verify pilot.
    pub xds_root: Option<String>,
    /// Name in pilot's certificate, if it differs from the host name.
    pub pilot_san: Option<String>,
    /// Drain time at termination; overrides that of the proxy configuration.
    pub termination_drain: Option<Duration>,
    /// Minimum drain time before connections are counted.
    pub minimum_drain: Duration,
    /// Terminate as soon as no connection is open.
    pub exit_on_zero_connections: bool,
    /// Port of Envoy's health listener.
    pub envoy_status_port: u16,
    /// Port of Envoy's metrics listener.
    pub envoy_prometheus_port: u16,
    /// Accept the PROXY protocol on the health listener.
    pub status_proxy_protocol: bool,
    /// Do not log uses of deprecated fields.
    pub skip_deprecated_logs: bool,
    /// Enable core dumps of Envoy.
    pub core_dump: bool,
    /// Use both address families.
    pub dual_stack: bool,
    /// Serve metrics to this Pod only.
    pub metrics_local_only: bool,
    /// Merge Envoy's metrics into those of the status port.
    pub merge_envoy_stats: bool,
    /// Rewritten probes, as JSON.
    pub app_probers: Option<String>,
    /// Scrape annotations of the application, as JSON.
    pub prometheus_annotations: Option<String>,
    /// Offer HTTP/2 in https probes.
    pub http2_probing: bool,
    /// Reuse probe connections.
    pub probe_keepalive: bool,
    /// Send probes to localhost.
    pub legacy_localhost_probes: bool,
    /// File with a custom bootstrap template.
    pub bootstrap_template: Option<String>,
    /// File to merge into the bootstrap.
    pub bootstrap_override: Option<String>,
    /// Mark of the proxy's sockets.
    pub socket_mark: Option<u32>,
    /// Settings of the workload certificate.
    pub certificates: Certificates,
}

/// Settings of the workload certificate.
#[derive(Debug, Clone)]
pub struct Certificates {
    /// host:port of the authority.
    pub ca_address: String,
    /// File with the roots that verify the authority; `SYSTEM` for the image's CA bundle.
    pub ca_root: Option<String>,
    /// `PILOT_CERT_PROVIDER`.
    pub provider: String,
    /// Directory with certificate files that authenticate to the authority.
    pub provisioned: Option<PathBuf>,
    /// Directory to which certificates are written.
    pub output: Option<PathBuf>,
    /// Mode of the written files: readable by group and others in a cluster.
    pub output_mode: u32,
    /// Use certificate files instead of the authority.
    pub file_mounted: bool,
    /// Send the token.
    pub use_token: bool,
    /// Requested lifetime.
    pub ttl: Duration,
    /// Share of the lifetime that is left at renewal.
    pub grace: f64,
    /// Random part of that share.
    pub grace_jitter: f64,
    /// Key type.
    pub algorithm: Algorithm,
    /// Time that changed files must stay unchanged before they are read.
    pub file_debounce: Duration,
    /// Name of the secret discovery socket.
    pub socket_name: String,
    /// `clusterid` in the metadata for the authority.
    pub cluster_id: String,
    /// `CertSigner` in the metadata for the authority.
    pub cert_signer: String,
    /// Additional metadata for the authority.
    pub headers: Vec<(String, String)>,
}

/// Default name of the socket.
pub const DEFAULT_SOCKET: &str = "socket";

/// An invalid setting.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The value cannot be parsed.
    #[error(transparent)]
    Syntax(#[from] env::Error),
    /// The value is not supported.
    #[error("invalid environment variable {0}")]
    Value(String),
}

impl Settings {
    /// Reads all settings; the flag `trust_domain` takes precedence over its variable.
    ///
    /// # Errors
    /// If a variable cannot be parsed or settings contradict each other.
    pub fn read(env: &Env, trust_domain: Option<&str>) -> Result<Self, Error> {
        let instance_ip = match env.get("INSTANCE_IP") {
            None => None,
            Some(text) => Some(text.parse().map_err(|_| {
                Error::Value(format!("INSTANCE_IP: {text:?} is not an IP address"))
            })?),
        };
        let xds_mode = match env.text("XDS_MODE", "direct").as_str() {
            "direct" => XdsMode::Direct,
            "direct-token" => XdsMode::DirectToken,
            other => {
                return Err(Error::Value(format!(
                    "XDS_MODE: {other:?} is neither direct nor direct-token"
                )));
            }
        };
        let mark: u32 = env.number("PROXY_MARK", 0)?;
        let termination_drain = match env.get("TERMINATION_DRAIN_DURATION_SECONDS") {
            None => None,
            Some(_) => Some(Duration::from_secs(
                env.number("TERMINATION_DRAIN_DURATION_SECONDS", 5)?,
            )),
        };
        Ok(Self {
            namespace: env.text("POD_NAMESPACE", ""),
            service_account: env.text("SERVICE_ACCOUNT", ""),
            instance_ip,
            host_ip: env.get("HOST_IP").map(str::to_owned),
            cpu_limit: env.number("ISTIO_CPU_LIMIT", 0)?,
            trust_domain: trust_domain
                .filter(|flag| !flag.is_empty())
                .map_or_else(|| env.text("TRUST_DOMAIN", "cluster.local"), str::to_owned),
            xds_mode,
            delta: env.bool("ISTIO_DELTA_XDS", true)?,
            xds_root: env.get("XDS_ROOT_CA").map(str::to_owned),
            pilot_san: env.get("ISTIOD_SAN").map(str::to_owned),
            termination_drain,
            minimum_drain: env.duration("MINIMUM_DRAIN_DURATION", Duration::from_secs(5))?,
            exit_on_zero_connections: env.bool("EXIT_ON_ZERO_ACTIVE_CONNECTIONS", false)?,
            envoy_status_port: env.number("ENVOY_STATUS_PORT", 15021)?,
            envoy_prometheus_port: env.number("ENVOY_PROMETHEUS_PORT", 15090)?,
            status_proxy_protocol: env.bool("ENVOY_STATUS_PORT_ENABLE_PROXY_PROTOCOL", false)?,
            skip_deprecated_logs: env.bool("ENVOY_SKIP_DEPRECATED_LOGS", true)?,
            core_dump: env.bool("ISTIO_ENVOY_ENABLE_CORE_DUMP", false)?,
            dual_stack: env.bool("ISTIO_DUAL_STACK", false)?,
            metrics_local_only: env.bool("METRICS_LOCALHOST_ACCESS_ONLY", false)?,
            merge_envoy_stats: env.bool("PILOT_AGENT_MERGE_ENVOY_STATS", true)?,
            app_probers: env.get("ISTIO_KUBE_APP_PROBERS").map(str::to_owned),
            prometheus_annotations: env.get("ISTIO_PROMETHEUS_ANNOTATIONS").map(str::to_owned),
            http2_probing: env.bool("ISTIO_ENABLE_HTTP2_PROBING", true)?,
            probe_keepalive: env.bool("ENABLE_PROBE_KEEPALIVE_CONNECTIONS", false)?,
            legacy_localhost_probes: env
                .bool("REWRITE_PROBE_LEGACY_LOCALHOST_DESTINATION", false)?,
            bootstrap_template: env.get("ISTIO_BOOTSTRAP").map(str::to_owned),
            bootstrap_override: env.get("ISTIO_BOOTSTRAP_OVERRIDE").map(str::to_owned),
            socket_mark: (mark != 0).then_some(mark),
            certificates: Certificates::read(env)?,
        })
    }
}

impl Certificates {
    fn read(env: &Env) -> Result<Self, Error> {
        let provider = env.text("CA_PROVIDER", "Citadel");
        if provider != "Citadel" {
            return Err(Error::Value(format!(
                "CA_PROVIDER: {provider:?} is not supported: want Citadel"
            )));
        }
        let fetcher = env.text("CREDENTIAL_FETCHER_TYPE", "JWT");
        if fetcher != "JWT" {
            return Err(Error::Value(format!(
                "CREDENTIAL_FETCHER_TYPE: {fetcher:?} is not supported: want JWT"
            )));
        }
        let provisioned = env.get("PROV_CERT").map(PathBuf::from);
        let file_mounted = env.bool("FILE_MOUNTED_CERTS", false)?;
        if file_mounted && provisioned.is_some() {
            return Err(Error::Value(
                "FILE_MOUNTED_CERTS: it cannot be combined with PROV_CERT".to_owned(),
            ));
        }
        let socket_name = env.text("WORKLOAD_IDENTITY_SOCKET_FILE", DEFAULT_SOCKET);
        if socket_name.contains('/') || socket_name == ".." {
            return Err(Error::Value(format!(
                "WORKLOAD_IDENTITY_SOCKET_FILE: {socket_name:?} is not a file name without \
                 a directory"
            )));
        }
        let share = |name: &str, default: f64| -> Result<f64, Error> {
            let share = env.number(name, default)?;
            if (0.0..=1.0).contains(&share) {
                Ok(share)
            } else {
                Err(Error::Value(format!(
                    "{name}: {share} is not between 0 and 1"
                )))
            }
        };
        let policy = env.text("JWT_POLICY", "third-party-jwt");
        if policy == "first-party-jwt" {
            tracing::warn!(
                "JWT_POLICY=first-party-jwt is not supported: using the projected token"
            );
        }
        Ok(Self {
            ca_address: env.text("CA_ADDR", "istio-citadel.istio-system.svc:8060"),
            ca_root: env.get("CA_ROOT_CA").map(str::to_owned),
            provider: env.text("PILOT_CERT_PROVIDER", "citadel"),
            provisioned,
            output: env.get("OUTPUT_CERTS").map(PathBuf::from),
            output_mode: if env.get("KUBERNETES_SERVICE_HOST").is_some() {
                0o644
            } else {
                0o600
            },
            file_mounted,
            use_token: matches!(policy.as_str(), "third-party-jwt" | "first-party-jwt"),
            ttl: env.duration("SECRET_TTL", Duration::from_secs(24 * 3600))?,
            grace: share("SECRET_GRACE_PERIOD_RATIO", 0.5)?,
            grace_jitter: share("SECRET_GRACE_PERIOD_RATIO_JITTER", 0.01)?,
            algorithm: Algorithm::parse(
                &env.text("ECC_SIGNATURE_ALGORITHM", "ECDSA"),
                &env.text("ECC_CURVE", "P256"),
                env.get("WORKLOAD_RSA_KEY_SIZE"),
            )
            .map_err(Error::Value)?,
            file_debounce: env.duration("FILE_DEBOUNCE_DURATION", Duration::from_millis(100))?,
            socket_name,
            cluster_id: env.text("ISTIO_META_CLUSTER_ID", ""),
            cert_signer: env.text("ISTIO_META_CERT_SIGNER", ""),
            headers: env
                .with_prefix("CA_HEADER_")
                .map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned()))
                .collect(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_are_those_of_the_project() {
        let settings = Settings::read(&Env::default(), None).unwrap();
        assert_eq!(
            settings.certificates.ca_address,
            "istio-citadel.istio-system.svc:8060"
        );
        assert_eq!(settings.certificates.algorithm, Algorithm::EcdsaP256);
        assert_eq!(settings.trust_domain, "cluster.local");
        assert!(settings.delta);
        assert_eq!(settings.termination_drain, None);
    }

    #[test]
    fn bad_combinations_and_values_are_told() {
        let of = |pairs: &[(&str, &str)]| {
            Settings::read(&Env::from_pairs(pairs.iter().copied()), None)
                .map(|_| ())
                .unwrap_err()
                .to_string()
        };
        assert!(of(&[("FILE_MOUNTED_CERTS", "true"), ("PROV_CERT", "/x")]).contains("PROV_CERT"));
        assert!(of(&[("WORKLOAD_IDENTITY_SOCKET_FILE", "../x")]).contains("without a directory"));
        assert!(of(&[("XDS_MODE", "proxy")]).contains("direct-token"));
        assert!(of(&[("SECRET_GRACE_PERIOD_RATIO", "1.5")]).contains("between 0 and 1"));
        assert!(of(&[("ISTIO_DELTA_XDS", "maybe")]).contains("ISTIO_DELTA_XDS"));
        assert!(of(&[("CA_PROVIDER", "Other")]).contains("want Citadel"));
    }
}
