//! A Pod with the complete agent, a fake authority and a fake pilot.

use std::{
    net::{SocketAddr, TcpListener as StdListener},
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use clap::Parser as _;
use istio_api::{
    any,
    envoy::{
        config::{
            cluster::v3::{
                Cluster,
                cluster::{ClusterDiscoveryType, DiscoveryType},
            },
            core::v3::{
                Address, SocketAddress, TrafficDirection, address, socket_address::PortSpecifier,
            },
            endpoint::v3::{
                ClusterLoadAssignment, Endpoint, LbEndpoint, LocalityLbEndpoints,
                lb_endpoint::HostIdentifier,
            },
            listener::v3::{Filter, FilterChain, Listener, filter::ConfigType},
        },
        extensions::filters::network::tcp_proxy::v3::{TcpProxy, tcp_proxy::ClusterSpecifier},
    },
};
use pilot_agent::{Cli, args, env::Env, http_client, proxy::Surroundings, settings::Paths};
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    sync::{oneshot, watch},
    task::JoinHandle,
    time::timeout,
};

use crate::{authority::Authority, pilot};

pub(crate) const LIMIT: Duration = Duration::from_secs(30);
pub(crate) const POLL: Duration = Duration::from_millis(20);

/// Free local ports.
pub(crate) fn ports<const N: usize>() -> [u16; N] {
    let listeners: [StdListener; N] =
        std::array::from_fn(|_| StdListener::bind("127.0.0.1:0").unwrap());
    listeners.map(|listener| listener.local_addr().unwrap().port())
}

pub(crate) struct Pod {
    pub(crate) directory: TempDir,
    pub(crate) authority: Arc<Authority>,
    pub(crate) peers: watch::Receiver<Vec<(String, String)>>,
    pub(crate) status: u16,
    pub(crate) admin: u16,
    pub(crate) inbound: u16,
    pub(crate) prometheus: u16,
    arguments: Vec<String>,
    env: Vec<(String, String)>,
}

impl Pod {
    pub(crate) async fn new(binary: &Path, env: &[(&str, &str)]) -> Self {
        Self::with_authority(binary, env, None).await
    }

    pub(crate) async fn with_authority(
        binary: &Path,
        env: &[(&str, &str)],
        ca_port: Option<u16>,
    ) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let authority = Authority::new();
        let ca_port = match ca_port {
            Some(port) => port,
            None => authority.serve().await.port(),
        };
        let at = |path: &str| directory.path().join(path);
        authority.write_root(&at("var/run/secrets/istio/root-cert.pem"));
        std::fs::create_dir_all(at("var/run/secrets/tokens")).unwrap();
        std::fs::write(at("var/run/secrets/tokens/istio-token"), "token").unwrap();
        let echo = echo().await;
        let [status, admin, health, prometheus, inbound] = ports();
        let (pilot, peers) = pilot::Pilot::serve(
            &authority,
            vec![cluster("echo", echo)],
            vec![listener("in", inbound, "echo")],
        )
        .await;
        let arguments = [
            "pilot-agent",
            "proxy",
            "sidecar",
            "--domain",
            "shop.svc.cluster.local",
            "--proxyLogLevel=warning",
            "--discoveryAddress",
            &pilot.to_string(),
            "--proxyAdminPort",
            &admin.to_string(),
            "--statusPort",
            &status.to_string(),
            "--binaryPath",
            &binary.display().to_string(),
            "--configPath",
            &at("etc/istio/proxy").display().to_string(),
            "--concurrency",
            "1",
            "--meshConfig",
            &at("no/mesh").display().to_string(),
            "--drainDuration",
            "2s",
        ];
        let mut variables = vec![
            ("POD_NAME", "web-1"),
            ("POD_NAMESPACE", "shop"),
            ("SERVICE_ACCOUNT", "web"),
            ("INSTANCE_IP", "127.0.0.1"),
            ("ISTIOD_SAN", pilot::NAME),
        ]
        .into_iter()
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect::<Vec<_>>();
        let numbers = [
            ("CA_ADDR", format!("localhost:{ca_port}")),
            ("ENVOY_STATUS_PORT", health.to_string()),
            ("ENVOY_PROMETHEUS_PORT", prometheus.to_string()),
        ];
        variables.extend(numbers.map(|(name, value)| (name.to_owned(), value)));
        variables.extend(
            env.iter()
                .map(|(name, value)| ((*name).to_owned(), (*value).to_owned())),
        );
        Self {
            arguments: arguments.map(str::to_owned).to_vec(),
            env: variables,
            directory,
            authority,
            peers,
            status,
            admin,
            inbound,
            prometheus,
        }
    }

    /// Runs the agent in this process; sending on the first part of the result terminates it.
    pub(crate) fn start(&self) -> (oneshot::Sender<()>, JoinHandle<anyhow::Result<()>>) {
        let cli = Cli::try_parse_from(args::known(self.arguments.clone())).unwrap();
        let env = Env::from_pairs(
            self.env
                .iter()
                .map(|(name, value)| (name.as_str(), value.as_str())),
        );
        let surroundings = Surroundings {
            paths: Paths::below(self.directory.path()),
            ..Surroundings::default()
        };
        let (end, ended) = oneshot::channel::<()>();
        let run = tokio::spawn(async move {
            pilot_agent::run(cli, env, surroundings, async {
                // A dropped sender does not terminate the agent.
                if ended.await.is_err() {
                    std::future::pending().await
                }
            })
            .await
        });
        (end, run)
    }

    pub(crate) async fn get(
        &self,
        port: u16,
        method: &str,
        path: &str,
    ) -> Result<(u16, String), String> {
        let answer = http_client::local(port, method, path, bytes::Bytes::new(), LIMIT, 1 << 24)
            .await
            .map_err(|error| error.to_string())?;
        Ok((
            answer.status.as_u16(),
            String::from_utf8_lossy(&answer.body).into_owned(),
        ))
    }

    pub(crate) async fn wait_ready(&self) {
        self.wait_status(200).await;
    }

    pub(crate) async fn wait_status(&self, wanted: u16) {
        let mut last = String::new();
        let started = Instant::now();
        while started.elapsed() < LIMIT {
            match self.get(self.status, "GET", "healthz/ready").await {
                Ok((status, _)) if status == wanted => return,
                other => last = format!("{other:?}"),
            }
            tokio::time::sleep(POLL).await;
        }
        panic!("readiness is not {wanted}: {last}");
    }

    pub(crate) async fn envoy_pid(&self) -> i32 {
        // Linux lists the children of each process.
        let me = std::process::id();
        let tasks = std::fs::read_dir(format!("/proc/{me}/task")).unwrap();
        let pids = tasks.flat_map(|task| {
            let text =
                std::fs::read_to_string(task.unwrap().path().join("children")).unwrap_or_default();
            text.split_whitespace()
                .map(|pid| pid.parse::<i32>().unwrap())
                .collect::<Vec<_>>()
        });
        let port = self.admin.to_string();
        pids.into_iter()
            .find(|pid| {
                let path = self.directory.path().display().to_string();
                std::fs::read_to_string(format!("/proc/{pid}/cmdline"))
                    .is_ok_and(|line| line.contains(&path))
            })
            .unwrap_or_else(|| panic!("no Envoy with admin port {port}"))
    }

    pub(crate) async fn chain_serial(&self) -> Option<String> {
        let (_, text) = self.get(self.admin, "GET", "certs").await.ok()?;
        let value: serde_json::Value = serde_json::from_str(&text).ok()?;
        Some(
            value["certificates"][0]["cert_chain"][0]["serial_number"]
                .as_str()?
                .to_owned(),
        )
    }
}

/// Echoes all data of every connection.
pub(crate) async fn echo() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            tokio::spawn(async move {
                let (mut read, mut write) = stream.split();
                tokio::io::copy(&mut read, &mut write).await
            });
        }
    });
    address
}

pub(crate) fn address(port: u16) -> Address {
    Address {
        address: Some(address::Address::SocketAddress(SocketAddress {
            address: "127.0.0.1".to_owned(),
            port_specifier: Some(PortSpecifier::PortValue(port.into())),
            ..SocketAddress::default()
        })),
    }
}

pub(crate) fn cluster(name: &str, to: SocketAddr) -> Cluster {
    let endpoint = LbEndpoint {
        host_identifier: Some(HostIdentifier::Endpoint(Endpoint {
            address: Some(address(to.port())),
            ..Endpoint::default()
        })),
        ..LbEndpoint::default()
    };
    Cluster {
        name: name.to_owned(),
        cluster_discovery_type: Some(ClusterDiscoveryType::Type(DiscoveryType::Static.into())),
        load_assignment: Some(ClusterLoadAssignment {
            cluster_name: name.to_owned(),
            endpoints: vec![LocalityLbEndpoints {
                lb_endpoints: vec![endpoint],
                ..LocalityLbEndpoints::default()
            }],
            ..ClusterLoadAssignment::default()
        }),
        ..Cluster::default()
    }
}

pub(crate) fn listener(name: &str, port: u16, cluster: &str) -> Listener {
    let proxy = TcpProxy {
        stat_prefix: name.to_owned(),
        cluster_specifier: Some(ClusterSpecifier::Cluster(cluster.to_owned())),
        ..TcpProxy::default()
    };
    Listener {
        name: name.to_owned(),
        address: Some(address(port)),
        traffic_direction: TrafficDirection::Inbound.into(),
        filter_chains: vec![FilterChain {
            filters: vec![Filter {
                name: "tcp".to_owned(),
                config_type: Some(ConfigType::TypedConfig(any::pack(&proxy))),
            }],
            ..FilterChain::default()
        }],
        ..Listener::default()
    }
}

pub(crate) async fn talk(stream: &mut TcpStream) {
    stream.write_all(b"hello").await.unwrap();
    let mut back = [0; 5];
    timeout(LIMIT, stream.read_exact(&mut back))
        .await
        .unwrap()
        .unwrap();
    assert_eq!(&back, b"hello");
}

pub(crate) async fn finished(run: JoinHandle<anyhow::Result<()>>) -> anyhow::Result<()> {
    timeout(LIMIT, run)
        .await
        .expect("the agent ends in time")
        .unwrap()
}
