//! The programs of the node and their command lines.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::address::Number;
use crate::layout::Layout;
use crate::tools::Tools;

/// A program that runs as long as the node does.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Program {
    pub(super) name: String,
    pub(super) path: PathBuf,
    pub(super) arguments: Vec<String>,
}

/// Programs that end at once when the API server does not answer yet; they are started later.
pub(super) const LATE: [&str; 2] = ["kube-controller-manager", "kube-scheduler"];

/// Every program, in the order in which they are first started.
pub(super) fn all(tools: &Tools, layout: &Layout, number: Number) -> Vec<Program> {
    let pki = layout.pki();
    let config = layout.config();
    let flag = |name: &str, path: &Path| format!("--{name}={}", path.display());
    let fixed = |flags: &[&str]| {
        flags
            .iter()
            .map(|flag| (*flag).to_owned())
            .collect::<Vec<_>>()
    };
    let program = |name: &str, arguments: Vec<String>| Program {
        name: name.to_owned(),
        path: tools.program(name),
        arguments,
    };
    let credentials = |file: &str| {
        let path = pki.join(file);
        [
            "kubeconfig",
            "authentication-kubeconfig",
            "authorization-kubeconfig",
        ]
        .map(|name| flag(name, &path))
        .to_vec()
    };
    let node = number.node();
    vec![
        program("etcd", etcd()),
        Program {
            name: "containerd".to_owned(),
            path: "/usr/bin/containerd".into(),
            arguments: vec![
                "--config".to_owned(),
                config.join("containerd.toml").display().to_string(),
            ],
        },
        program("kube-apiserver", api_server(&pki, number)),
        program(
            "kubelet",
            vec![
                flag("config", &config.join("kubelet.yaml")),
                flag("kubeconfig", &pki.join("kubelet.conf")),
                format!("--node-ip={node}"),
                "--hostname-override=node0".to_owned(),
                "--v=2".to_owned(),
            ],
        ),
        program(
            "kube-proxy",
            vec![
                flag("kubeconfig", &pki.join("kube-proxy.conf")),
                "--proxy-mode=iptables".to_owned(),
                "--hostname-override=node0".to_owned(),
                format!("--cluster-cidr={}", number.pods()),
                format!("--bind-address={node}"),
                "--healthz-bind-address=127.0.0.1:10256".to_owned(),
                "--metrics-bind-address=127.0.0.1:10249".to_owned(),
                // Limits of connection tracking are the whole host's.
                "--conntrack-max-per-core=0".to_owned(),
                format!("--nodeport-addresses={node}/32"),
            ],
        ),
        program(
            "coredns",
            vec![
                "-conf".to_owned(),
                config.join("Corefile").display().to_string(),
            ],
        ),
        program(
            "kube-controller-manager",
            [
                credentials("controller-manager.conf"),
                vec![
                    flag("service-account-private-key-file", &pki.join("sa.key")),
                    flag("root-ca-file", &pki.join("ca.crt")),
                    flag("cluster-signing-cert-file", &pki.join("ca.crt")),
                    flag("cluster-signing-key-file", &pki.join("ca.key")),
                ],
                fixed(&[
                    "--bind-address=127.0.0.1",
                    "--use-service-account-credentials=true",
                    // As clusters have it: one that was cut off from the API server starts again, and so
                    // gives the node time to report before it calls all Pods unready.
                    "--leader-elect=true",
                    "--allocate-node-cidrs=false",
                    "--flex-volume-plugin-dir=/var/lib/kubelet/volume-plugins",
                    "--profiling=false",
                ]),
            ]
            .concat(),
        ),
        program(
            "kube-scheduler",
            [
                credentials("scheduler.conf"),
                fixed(&[
                    "--bind-address=127.0.0.1",
                    "--leader-elect=true",
                    "--profiling=false",
                ]),
            ]
            .concat(),
        ),
    ]
}

fn etcd() -> Vec<String> {
    let (clients, peers) = ("http://127.0.0.1:2379", "http://127.0.0.1:2380");
    [
        "--name=keelson",
        "--data-dir=/var/lib/etcd",
        // The data lives as long as the memory that it is in.
        "--unsafe-no-fsync",
        "--log-level=warn",
    ]
    .map(str::to_owned)
    .into_iter()
    .chain([
        format!("--listen-client-urls={clients}"),
        format!("--advertise-client-urls={clients}"),
        format!("--listen-peer-urls={peers}"),
        format!("--initial-advertise-peer-urls={peers}"),
        format!("--initial-cluster=keelson={peers}"),
    ])
    .collect()
}

fn api_server(pki: &Path, number: Number) -> Vec<String> {
    let node = number.node();
    let files = [
        ("client-ca-file", "ca.crt"),
        ("tls-cert-file", "apiserver.crt"),
        ("tls-private-key-file", "apiserver.key"),
        ("kubelet-certificate-authority", "ca.crt"),
        ("kubelet-client-certificate", "kubelet-client.crt"),
        ("kubelet-client-key", "kubelet-client.key"),
        ("service-account-signing-key-file", "sa.key"),
        ("service-account-key-file", "sa.pub"),
        ("requestheader-client-ca-file", "front-ca.crt"),
        ("proxy-client-cert-file", "front.crt"),
        ("proxy-client-key-file", "front.key"),
    ];
    [
        "--etcd-servers=http://127.0.0.1:2379",
        "--secure-port=6443",
        "--authorization-mode=Node,RBAC",
        "--enable-admission-plugins=NodeRestriction",
        "--allow-privileged=true",
        "--kubelet-preferred-address-types=InternalIP",
        "--service-account-issuer=https://kubernetes.default.svc.cluster.local",
        "--requestheader-allowed-names=front-proxy-client",
        "--requestheader-username-headers=X-Remote-User",
        "--requestheader-group-headers=X-Remote-Group",
        "--requestheader-extra-headers-prefix=X-Remote-Extra-",
        "--endpoint-reconciler-type=lease",
        "--profiling=false",
    ]
    .map(str::to_owned)
    .into_iter()
    .chain([
        format!("--bind-address={node}"),
        format!("--advertise-address={node}"),
        format!("--service-cluster-ip-range={}", number.services()),
    ])
    .chain(files.map(|(flag, file)| format!("--{flag}={}", pki.join(file).display())))
    .collect()
}
