//! All variants of the bootstrap, read back as Envoy's message and passed to Envoy itself.

use std::{collections::BTreeMap, net::IpAddr, path::Path, process::Command};

use istio_api::{envoy::config::bootstrap::v3::Bootstrap, json};
use pilot_agent::{
    address::Families,
    args::Role,
    bootstrap::{self, Channel, HostPort, Inputs, San, template},
    env::Env,
    node,
    proxy_config::{Effective, Layers, effective},
};
use serde_json::Value;

use crate::{authority::Authority, envoy};

struct Variant {
    name: &'static str,
    config: &'static str,
    annotations: &'static [(&'static str, &'static str)],
    addresses: &'static [&'static str],
    change: fn(&mut Inputs<'_>, &Path),
}

const PLAIN: Variant = Variant {
    name: "sidecar",
    config: "",
    annotations: &[],
    addresses: &["10.1.0.5"],
    change: |_, _| {},
};

fn variants() -> Vec<Variant> {
    vec![
        PLAIN,
        Variant {
            name: "state_of_the_world",
            change: |inputs, _| inputs.delta = false,
            ..PLAIN
        },
        Variant {
            name: "plain_pilot",
            change: |inputs, _| inputs.channel = Channel::Plain,
            ..PLAIN
        },
        Variant {
            name: "address_instead_of_name",
            change: |inputs, _| {
                inputs.discovery = HostPort::parse("10.0.0.1:15012").unwrap();
                inputs.discovery_name = "10.0.0.1".to_owned();
            },
            ..PLAIN
        },
        Variant {
            name: "certificate_files",
            change: |inputs, directory| {
                let at = |name: &str| directory.join(name).display().to_string();
                inputs.channel = Channel::MtlsFiles {
                    chain: at("cert-chain.pem"),
                    key: at("key.pem"),
                    root: at("root-cert.pem"),
                };
            },
            ..PLAIN
        },
        Variant {
            name: "token",
            change: |inputs, directory| {
                let at = |name: &str| directory.join(name).display().to_string();
                inputs.channel = Channel::Token {
                    root: at("root-cert.pem"),
                    token: at("token"),
                };
            },
            ..PLAIN
        },
        Variant {
            name: "only_v6",
            addresses: &["fd00::5"],
            ..PLAIN
        },
        Variant {
            name: "dual_stack",
            addresses: &["10.1.0.5", "fd00::5"],
            ..PLAIN
        },
        Variant {
            name: "zipkin",
            config: "tracing: {zipkin: {address: 'zipkin.tracing:9411'}}",
            ..PLAIN
        },
        Variant {
            name: "datadog",
            config: "tracing: {datadog: {address: '$(HOST_IP):8126'}}",
            change: |inputs, _| inputs.host_ip = Some("fd00::1"),
            ..PLAIN
        },
        Variant {
            name: "statsd",
            change: |inputs, _| inputs.statsd = Some("10.0.0.9:8125".parse().unwrap()),
            ..PLAIN
        },
        Variant {
            name: "remote_services",
            config: "envoyMetricsService: {address: 'm:1'}\nenvoyAccessLogService: {address: 'a:2'}",
            ..PLAIN
        },
        Variant {
            name: "all_options",
            config: "runtimeValues: {re2.max_program_size.error_level: '', envoy.a: 'true', envoy.b: '7'}\n\
                     statsCompression: false\nextraStatTags: [one]\n\
                     proxyStatsMatcher: {inclusionPrefixes: [lost], inclusionRegexps: ['http.{pod_ip}_.*']}\n\
                     proxyMetadata: {ISTIO_META_GLOBAL_DOWNSTREAM_MAX_CONNECTIONS: '5000'}",
            annotations: &[
                (
                    "sidecar.istio.io/statsInclusionPrefixes",
                    "upstream, downstream",
                ),
                ("sidecar.istio.io/extraStatTags", "two,bad tag"),
                (
                    "sidecar.istio.io/statsHistogramBuckets",
                    "{\"istio\":[1,5,50],\"cluster.x\":[1,10]}",
                ),
                ("sidecar.istio.io/statsFlushInterval", "10s"),
                ("sidecar.istio.io/statsEvictionInterval", "20s"),
            ],
            change: |inputs, _| {
                inputs.count_connections = true;
                inputs.status_proxy_protocol = true;
                inputs.metrics_local_only = true;
                inputs.log_as_json = true;
                inputs.outlier_log_path = "/dev/stdout";
                inputs.socket_mark = Some(0x539);
            },
            ..PLAIN
        },
    ]
}

/// Builds the inputs of a variant and passes them to `use_them`.
fn with_inputs<T>(
    variant: &Variant,
    directory: &Path,
    use_them: impl FnOnce(&Inputs<'_>) -> T,
) -> T {
    let Effective { config, json } = effective(&Layers {
        environment: Some(variant.config),
        ..Layers::default()
    })
    .unwrap();
    let addresses: Vec<IpAddr> = variant
        .addresses
        .iter()
        .map(|text| text.parse().unwrap())
        .collect();
    let annotations: BTreeMap<String, String> = variant
        .annotations
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
        .collect();
    let env = Env::from_pairs([
        ("POD_NAME", "web-7d9f-x2x"),
        ("POD_NAMESPACE", "shop"),
        ("SERVICE_ACCOUNT", "web"),
    ]);
    let sans = [
        San::Uri(
            "spiffe://cluster.local/ns/istio-system/sa/istio-pilot-service-account".to_owned(),
        ),
        San::Dns("istio-pilot.istio-system.svc".to_owned()),
    ];
    let node = node::build(&node::Inputs {
        role: Role::Sidecar,
        id: None,
        domain: None,
        service_cluster: None,
        env: &env,
        config: &config,
        config_json: &json,
        labels: &BTreeMap::from([
            ("istio-locality".to_owned(), "eu.eu-a".to_owned()),
            ("app".to_owned(), "web".to_owned()),
        ]),
        annotations: &annotations,
        addresses: &addresses,
        pilot_san: &["istio-pilot.istio-system.svc".to_owned()],
        version: "0.0.0",
        envoy_status_port: 15021,
        envoy_prometheus_port: 15090,
    });
    let mut inputs = Inputs {
        node: &node,
        config: &config,
        families: Families::of(&addresses, true),
        addresses: &addresses,
        annotations: &annotations,
        discovery: HostPort::parse(&config.discovery_address).unwrap(),
        discovery_name: "istio-pilot.istio-system.svc".to_owned(),
        discovery_sans: &sans,
        channel: Channel::Mtls,
        delta: true,
        sds_socket: "/var/run/secrets/workload-spiffe-uds/socket".to_owned(),
        status_port: 15020,
        envoy_status_port: 15021,
        envoy_prometheus_port: 15090,
        count_connections: false,
        status_proxy_protocol: false,
        metrics_local_only: false,
        log_as_json: false,
        outlier_log_path: "",
        statsd: None,
        host_ip: None,
        socket_mark: None,
    };
    (variant.change)(&mut inputs, directory);
    use_them(&inputs)
}

fn build(variant: &Variant, directory: &Path) -> (Value, Vec<String>) {
    with_inputs(variant, directory, |inputs| {
        bootstrap::build(inputs).unwrap()
    })
}

/// Files that some variants refer to.
fn write_certificates(directory: &Path) {
    let authority = Authority::new();
    let (chain, key) = authority.issue("spiffe://cluster.local/ns/shop/sa/web", &[]);
    for (name, text) in [
        ("cert-chain.pem", chain),
        ("key.pem", key),
        ("root-cert.pem", authority.root()),
        ("token", "t".to_owned()),
    ] {
        std::fs::write(directory.join(name), text).unwrap();
    }
}

#[test]
fn every_field_is_one_of_envoys() {
    for variant in variants() {
        let (value, _) = build(&variant, Path::new("/certs"));
        if let Err(issues) = json::read::<Bootstrap>(&value, json::Unknown::Refuse) {
            panic!("{}: {issues:?}", variant.name);
        }
        insta::assert_json_snapshot!(variant.name, value);
    }
}

#[test]
fn warnings_name_what_is_left_out() {
    let variant = variants().pop().unwrap();
    let (_, warnings) = build(&variant, Path::new("/certs"));
    assert_eq!(
        warnings,
        ["sidecar.istio.io/extraStatTags: \"bad tag\" is not a valid tag name and is ignored"]
    );
    let odd = Variant {
        annotations: &[("sidecar.istio.io/statsEvictionInterval", "7s")],
        ..PLAIN
    };
    assert!(
        build(&odd, Path::new("/"))
            .1
            .iter()
            .any(|warning| warning.contains("not a multiple"))
    );
}

#[test]
fn envoy_accepts_every_variant_without_a_warning() {
    let Some(binary) = envoy::binary("envoy_accepts_every_variant_without_a_warning") else {
        return;
    };
    let directory = tempfile::tempdir().unwrap();
    write_certificates(directory.path());
    for variant in variants() {
        let (value, _) = build(&variant, directory.path());
        let path = directory.path().join(format!("{}.json", variant.name));
        std::fs::write(&path, value.to_string()).unwrap();
        let output = Command::new(&binary)
            .args([
                "--mode",
                "validate",
                "--disable-hot-restart",
                "--allow-unknown-static-fields",
                "-l",
                "warning",
                "-c",
            ])
            .arg(&path)
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{}: {text}", variant.name);
        // Envoy prefers tracers in listeners, where pilot puts those of the Telemetry API; the
        // tracer of ProxyConfig has no other place.
        let known = |line: &str| line.contains("config.bootstrap.v3.Bootstrap.tracing");
        let bad =
            |line: &str| line.to_lowercase().contains("deprecat") || line.contains("unknown field");
        let warned = text.lines().any(|line| bad(line) && !known(line));
        assert!(!warned, "{}: {text}", variant.name);
    }
}

#[test]
fn a_template_gets_the_same_values() {
    let text = "node: {{ .node_id }}\nmeta: {{ .meta_json }}\npilot: {{ .discovery_host }}:{{ .discovery_port }}\n\
        {{- if .additional_wildcard }}\nsecond: {{ .additional_wildcard }}{{ end }}\nq: {{ toJSON .cluster }}\n";
    let variant = Variant {
        addresses: &["10.1.0.5", "fd00::5"],
        ..PLAIN
    };
    let rendered = with_inputs(&variant, Path::new("/"), |inputs| {
        template::render(text, inputs).unwrap()
    });
    assert!(
        rendered.starts_with("node: sidecar~10.1.0.5~web-7d9f-x2x.shop~shop.svc.cluster.local\n"),
        "{rendered}"
    );
    assert!(
        rendered.contains("pilot: istio-pilot.istio-system.svc:15012\nsecond: ::\nq: \"web.shop\""),
        "{rendered}"
    );
}
