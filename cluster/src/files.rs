//! Settings of the node's programs.

use std::fs;

use anyhow::{Context as _, Result};
use serde_json::{Value, json};

use crate::address::Number;
use crate::layout::Layout;
use crate::packages::CNI;

/// The user that the cluster's DNS is towards the API server.
pub(super) const DNS_USER: &str = "keelson-dns";
/// The image that holds a Pod's namespaces.
pub(super) const PAUSE_IMAGE: &str = "keelson.local/pause:1";

/// Writes them all.
///
/// # Errors
/// When a file cannot be written.
pub(super) fn write(layout: &Layout, number: Number) -> Result<()> {
    let directory = layout.config();
    let cni = directory.join("cni");
    fs::create_dir_all(&cni).with_context(|| format!("make {}", cni.display()))?;
    let pretty = |value: &Value| serde_json::to_string_pretty(value).context("encode settings");
    for (name, text) in [
        ("containerd.toml", containerd(layout)),
        ("cni/10-bridge.conflist", pretty(&bridge(number))?),
        ("kubelet.yaml", pretty(&kubelet(layout, number))?),
        ("Corefile", corefile(layout, number)),
        ("dns.yaml", pretty(&dns_objects(number))?),
        // Pods see the cluster's DNS only, never the host's.
        ("resolv.conf", String::new()),
    ] {
        let path = directory.join(name);
        fs::write(&path, text).with_context(|| format!("write {}", path.display()))?;
    }
    Ok(())
}

fn containerd(layout: &Layout) -> String {
    let cni = layout.config().join("cni");
    // The host may lack the right to lower the score by which the kernel chooses what to kill.
    format!(
        r#"version = 2
root = "/var/lib/containerd"
state = "/run/containerd"
oom_score = 0
disabled_plugins = [
  "io.containerd.snapshotter.v1.aufs",
  "io.containerd.snapshotter.v1.btrfs",
  "io.containerd.snapshotter.v1.devmapper",
  "io.containerd.snapshotter.v1.zfs",
  "io.containerd.internal.v1.tracing",
  "io.containerd.tracing.processor.v1.otlp",
]
[grpc]
  address = "{SOCKET}"
[plugins."io.containerd.internal.v1.opt"]
  path = "/var/lib/containerd/opt"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{PAUSE_IMAGE}"
  stream_server_address = "127.0.0.1"
  stream_server_port = "0"
  restrict_oom_score_adj = true
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "{CNI}"
    conf_dir = "{}"
  [plugins."io.containerd.grpc.v1.cri".containerd]
    snapshotter = "overlayfs"
    default_runtime_name = "runc"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
      runtime_type = "io.containerd.runc.v2"
      [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
        SystemdCgroup = false
"#,
        cni.display()
    )
}

/// Where containerd listens, in the node.
pub(super) const SOCKET: &str = "/run/containerd/containerd.sock";

fn bridge(number: Number) -> Value {
    json!({
        "cniVersion": "0.4.0",
        "name": "keelson",
        "plugins": [
            {
                "type": "bridge",
                "bridge": "cni0",
                "isGateway": true,
                "isDefaultGateway": true,
                "ipMasq": false,
                // A Pod reaches itself through its Service.
                "hairpinMode": true,
                "ipam": {"type": "host-local", "ranges": [[{"subnet": number.pods()}]]},
            },
            {"type": "portmap", "capabilities": {"portMappings": true}},
        ],
    })
}

fn kubelet(layout: &Layout, number: Number) -> Value {
    let pki = layout.pki();
    json!({
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "address": number.node(),
        "healthzBindAddress": "127.0.0.1",
        "authentication": {
            "anonymous": {"enabled": false},
            "webhook": {"enabled": true},
            "x509": {"clientCAFile": pki.join("ca.crt")},
        },
        "authorization": {"mode": "Webhook"},
        "tlsCertFile": pki.join("kubelet-server.crt"),
        "tlsPrivateKeyFile": pki.join("kubelet-server.key"),
        "containerRuntimeEndpoint": format!("unix://{SOCKET}"),
        "cgroupDriver": "cgroupfs",
        "cgroupRoot": format!("/{}", number.cgroup()),
        "failCgroupV1": false,
        "failSwapOn": false,
        "clusterDomain": "cluster.local",
        "clusterDNS": [number.dns()],
        "resolvConf": layout.config().join("resolv.conf"),
        "volumePluginDir": "/var/lib/kubelet/volume-plugins",
        "imageGCHighThresholdPercent": 100,
        "imageGCLowThresholdPercent": 99,
        // Zero is not "off" but refused.
        "evictionHard": {
            "memory.available": "1Mi",
            "nodefs.available": "1Mi",
            "imagefs.available": "1Mi",
        },
        "enforceNodeAllocatable": [],
        "nodeStatusUpdateFrequency": "5s",
        "syncFrequency": "10s",
        // Otherwise a mounted Secret that appears late is seen after a minute.
        "configMapAndSecretChangeDetectionStrategy": "Watch",
        "maxPods": 200,
        "serializeImagePulls": false,
        // Access logs of a test with load are read from their beginning.
        "containerLogMaxSize": "64Mi",
    })
}

fn corefile(layout: &Layout, number: Number) -> String {
    let node = number.node();
    let kubeconfig = layout.pki().join("coredns.conf");
    format!(
        "cluster.local:53 in-addr.arpa:53 ip6.arpa:53 {{
  bind {node}
  errors
  kubernetes cluster.local in-addr.arpa ip6.arpa {{
    kubeconfig {}
    pods insecure
    ttl 5
  }}
}}
.:53 {{
  bind {node}
  errors
  template ANY ANY . {{
    rcode NXDOMAIN
  }}
}}
",
        kubeconfig.display()
    )
}

/// DNS runs beside the kubelet, and is published like any Service.
fn dns_objects(number: Number) -> Value {
    let name = "keelson-dns";
    let ports = [("dns", "UDP"), ("dns-tcp", "TCP")]
        .map(|(name, protocol)| json!({"name": name, "port": 53, "protocol": protocol}));
    json!({"apiVersion": "v1", "kind": "List", "items": [
        {
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": "ClusterRole",
            "metadata": {"name": name},
            "rules": [
                {
                    "apiGroups": [""],
                    "resources": ["services", "pods", "namespaces"],
                    "verbs": ["list", "watch"],
                },
                {
                    "apiGroups": ["discovery.k8s.io"],
                    "resources": ["endpointslices"],
                    "verbs": ["list", "watch"],
                },
            ],
        },
        {
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": "ClusterRoleBinding",
            "metadata": {"name": name},
            "roleRef": {
                "apiGroup": "rbac.authorization.k8s.io",
                "kind": "ClusterRole",
                "name": name,
            },
            "subjects": [
                {"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": DNS_USER},
            ],
        },
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": "kube-dns", "namespace": "kube-system"},
            "spec": {"clusterIP": number.dns(), "ports": ports},
        },
        {
            "apiVersion": "discovery.k8s.io/v1",
            "kind": "EndpointSlice",
            "metadata": {
                "name": "kube-dns",
                "namespace": "kube-system",
                "labels": {"kubernetes.io/service-name": "kube-dns"},
            },
            "addressType": "IPv4",
            "endpoints": [{"addresses": [number.node()], "conditions": {"ready": true}}],
            "ports": ports,
        },
    ]})
}
