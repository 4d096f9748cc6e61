mod random;

use prost::{Message, Name};
use serde_json::{Value, json};

use super::*;
use crate::any;
use crate::envoy::config::rbac::v3::Policy;
use crate::envoy::extensions::filters::http::rbac::v3::Rbac;
use crate::extensions::v1alpha1::WasmPlugin;
use crate::mesh::v1alpha1::{MeshConfig, ProxyConfig, mesh_config};
use crate::networking::v1alpha3::{
    DestinationRule, EnvoyFilter, Gateway, HttpBody, HttpRetry, Percent, PortSelector,
    ServiceEntry, StringMatch, VirtualService, http_body, load_balancer_settings, string_match,
};
use crate::security::v1beta1::PeerAuthentication;

fn refuse<T: Message + Name + Default>(value: Value) -> T {
    let (message, issues) = read(&value, Unknown::Refuse).unwrap();
    assert_eq!(issues, []);
    message
}

fn errors<T: Message + Name + Default + std::fmt::Debug>(value: Value) -> Vec<String> {
    read::<T>(&value, Unknown::Prune)
        .unwrap_err()
        .iter()
        .map(ToString::to_string)
        .collect()
}

#[test]
fn a_virtual_service_is_read_and_written() {
    let value = json!({
        "hosts": ["reviews"],
        "http": [{
            "match": [{"headers": {"end-user": {"exact": "jason"}}, "port": 8080, "ignoreUriCase": true}],
            "route": [{"destination": {"host": "reviews", "subset": "v2"}, "weight": 80}],
            "timeout": "1m30s",
            "retries": {"attempts": 3, "retryRemoteLocalities": false},
            "fault": {"delay": {"fixedDelay": "7s", "percentage": {"value": 0.5}}}
        }]
    });
    let message: VirtualService = refuse(value.clone());
    let http = &message.http[0];
    assert_eq!(
        http.timeout,
        Some(prost_types::Duration {
            seconds: 90,
            nanos: 0
        })
    );
    assert_eq!(
        http.retries.as_ref().unwrap().retry_remote_localities,
        Some(false)
    );
    assert_eq!(
        http.r#match[0].headers["end-user"].match_type,
        Some(string_match::MatchType::Exact("jason".into()))
    );
    let mut written = value;
    written["http"][0]["timeout"] = json!("90s");
    assert_eq!(write_message(&message).unwrap(), written);
}

#[test]
fn both_spellings_are_read_and_the_json_name_counts() {
    assert_eq!(
        refuse::<VirtualService>(json!({"export_to": ["."]})).export_to,
        ["."]
    );
    assert_eq!(
        refuse::<VirtualService>(json!({"export_to": ["a"], "exportTo": ["b"]})).export_to,
        ["b"]
    );
    assert_eq!(
        refuse::<VirtualService>(json!({"exportTo": ["b"], "export_to": ["a"]})).export_to,
        ["b"]
    );
    let route: VirtualService = refuse(json!({"http": [{"mirror_percent": 5}]}));
    assert_eq!(route.http[0].mirror_percent, Some(5));
    let mesh: MeshConfig = refuse(json!({"meshMTLS": {"minProtocolVersion": "TLSV1_3"}}));
    assert!(mesh.mesh_m_tls.is_some());
}

#[test]
fn null_is_absent() {
    assert_eq!(refuse::<Gateway>(Value::Null), Gateway::default());
    let message: VirtualService =
        refuse(json!({"hosts": null, "http": [{"timeout": null, "retries": null}]}));
    assert_eq!(message.http[0], Default::default());
}

#[test]
fn null_elements_are_empty_and_reported() {
    let (message, issues) =
        read::<VirtualService>(&json!({"hosts": ["a", null]}), Unknown::Refuse).unwrap();
    assert_eq!(message.hosts, ["a", ""]);
    assert_eq!(issues[0].path, "hosts[1]");
}

#[test]
fn unknown_members_are_refused_or_pruned() {
    let value = json!({"hosts": ["a"], "http": [{"retries": {"atempts": 3, "attempts": 2}}], "x": {"y": 1}});
    let mut refused: Vec<_> = read::<VirtualService>(&value, Unknown::Refuse)
        .unwrap_err()
        .iter()
        .map(ToString::to_string)
        .collect();
    refused.sort();
    assert_eq!(
        refused,
        [
            "http[0].retries.atempts: unknown field \"atempts\" in istio.networking.v1alpha3.HTTPRetry",
            "x: unknown field \"x\" in istio.networking.v1alpha3.VirtualService",
        ]
    );
    let (message, issues) = read::<VirtualService>(&value, Unknown::Prune).unwrap();
    assert_eq!(message.http[0].retries.as_ref().unwrap().attempts, 2);
    assert_eq!(issues.len(), 2);
}

#[test]
fn every_error_is_listed_with_its_path() {
    let mut found = errors::<VirtualService>(json!({
        "hosts": "a",
        "http": [
            {"timeout": "5"},
            {"route": [{"weight": 1}, {"weight": "heavy"}], "match": [{"headers": {"x-user": {"exact": 5}}}]}
        ],
        "tcp": {"a": 1}
    }));
    found.sort();
    assert_eq!(
        found,
        [
            "hosts: want array, got string \"a\"",
            "http[0].timeout: invalid duration \"5\": want a number with a unit (ns, us, ms, s, m or h), such as 5s",
            "http[1].match[0].headers[x-user].exact: want string, got number 5",
            "http[1].route[1].weight: want integer from -2147483648 to 2147483647, got string \"heavy\"",
            "tcp: want array, got object",
        ]
    );
    assert_eq!(
        errors::<Gateway>(json!([1])),
        ["want object (Gateway), got array"]
    );
    let unit = errors::<HttpRetry>(json!({"perTryTimeout": 5}));
    assert_eq!(
        unit,
        ["perTryTimeout: want duration such as \"1.5s\", got number 5"]
    );
}

#[test]
fn integers_are_checked_against_their_range() {
    for good in [json!(80), json!("80"), json!(80.0), json!("8e1")] {
        assert_eq!(refuse::<PortSelector>(json!({"number": good})).number, 80);
    }
    for bad in [
        json!(-1),
        json!(4_294_967_296_u64),
        json!(1.5),
        json!("x"),
        json!(true),
        json!(1e300),
        json!(""),
    ] {
        let found = errors::<PortSelector>(json!({"number": bad}));
        assert!(
            found[0].starts_with("number: want integer from 0 to 4294967295, got"),
            "{found:?}"
        );
    }
    let big: PeerAuthentication = refuse(json!({"portLevelMtls": {"8080": {"mode": "STRICT"}}}));
    assert!(big.port_level_mtls.contains_key(&8080));
    let found = errors::<PeerAuthentication>(json!({"portLevelMtls": {"http": {}}}));
    assert_eq!(
        found,
        ["portLevelMtls[http]: want key that is an integer from 0 to 4294967295, got \"http\""]
    );
}

#[test]
fn wide_integers_are_strings_when_written() {
    let value = json!({"trafficPolicy": {"loadBalancer": {"consistentHash": {
        "ringHash": {"minimumRingSize": "18446744073709551615"}, "useSourceIp": true}}}});
    let message: DestinationRule = refuse(value.clone());
    assert_eq!(write_message(&message).unwrap(), value);
}

#[test]
fn doubles_take_numbers_and_the_special_words() {
    for (text, want) in [
        (json!(1), 1.0),
        (json!("0.5"), 0.5),
        (json!("-Infinity"), f64::NEG_INFINITY),
    ] {
        assert_eq!(refuse::<Percent>(json!({"value": text})).value, want);
    }
    assert!(refuse::<Percent>(json!({"value": "NaN"})).value.is_nan());
    assert_eq!(
        write_message(&Percent { value: 50.0 }).unwrap(),
        json!({"value": 50})
    );
    assert_eq!(
        write_message(&Percent { value: f64::NAN }).unwrap(),
        json!({"value": "NaN"})
    );
    assert_eq!(errors::<Percent>(json!({"value": "inf"})).len(), 1);
}

#[test]
fn yaml_words_are_booleans_only_where_a_boolean_is_wanted() {
    for (word, want) in [
        ("yes", true),
        ("On", true),
        ("Y", true),
        ("no", false),
        ("OFF", false),
        ("false", false),
    ] {
        assert_eq!(
            refuse::<MeshConfig>(json!({"enableTracing": word})).enable_tracing,
            want,
            "{word}"
        );
    }
    assert_eq!(
        refuse::<MeshConfig>(json!({"enableAutoMtls": "no"})).enable_auto_mtls,
        Some(false)
    );
    for word in ["yEs", "oN", "", "1", "enabled"] {
        assert_eq!(
            errors::<MeshConfig>(json!({"enableTracing": word})).len(),
            1,
            "{word}"
        );
    }
    let entry: ServiceEntry = refuse(json!({"hosts": ["on"]}));
    assert_eq!(entry.hosts, ["on"]);
}

#[test]
fn enums_take_names_and_numbers() {
    let by_name: MeshConfig = refuse(json!({"ingressControllerMode": "OFF"}));
    assert_eq!(
        by_name.ingress_controller_mode(),
        mesh_config::IngressControllerMode::Off
    );
    let by_number: MeshConfig = refuse(json!({"ingressControllerMode": 1}));
    assert_eq!(by_name, by_number);
    let open: MeshConfig = refuse(json!({"ingressControllerMode": 77}));
    assert_eq!(
        write_message(&open).unwrap(),
        json!({"ingressControllerMode": 77})
    );
    assert_eq!(
        errors::<MeshConfig>(json!({"accessLogEncoding": "json"})),
        ["accessLogEncoding: want one of TEXT, JSON, got string \"json\""]
    );
}

#[test]
fn the_last_member_of_a_oneof_wins() {
    let both: StringMatch = refuse(json!({"regex": "a", "exact": "b"}));
    assert_eq!(
        both.match_type,
        Some(string_match::MatchType::Regex("a".into()))
    );
    let found = errors::<StringMatch>(json!({"regex": "a", "exact": 5}));
    assert_eq!(found, ["exact: want string, got number 5"]);
    let simple: DestinationRule =
        refuse(json!({"trafficPolicy": {"loadBalancer": {"simple": "UNSPECIFIED"}}}));
    let policy = simple
        .traffic_policy
        .unwrap()
        .load_balancer
        .unwrap()
        .lb_policy;
    assert_eq!(policy, Some(load_balancer_settings::LbPolicy::Simple(0)));
}

#[test]
fn bytes_take_both_alphabets() {
    for text in ["+/8=", "-_8=", "+/8", "-_8"] {
        let body: HttpBody = refuse(json!({"bytes": text}));
        assert_eq!(
            body.specifier,
            Some(http_body::Specifier::Bytes(vec![0xfb, 0xff].into())),
            "{text}"
        );
        assert_eq!(write_message(&body).unwrap(), json!({"bytes": "+/8="}));
    }
    assert_eq!(errors::<HttpBody>(json!({"bytes": "?"})).len(), 1);
}

#[test]
fn times_are_rfc_3339() {
    let read_time = |text: &str| read::<prost_types::Timestamp>(&json!(text), Unknown::Refuse);
    let (time, _) = read_time("2024-02-29T12:00:00.5+02:00").unwrap();
    assert_eq!(
        write_message(&time).unwrap(),
        json!("2024-02-29T10:00:00.500Z")
    );
    for bad in [
        "2024-02-29",
        "2024-02-30T00:00:00Z",
        "yesterday morning",
        "+12024-02-29T00:00:00Z",
        "",
    ] {
        assert!(read_time(bad).is_err(), "{bad}");
    }
}

#[test]
fn struct_keeps_every_kind_of_value() {
    let value = json!({"pluginConfig": {"a": [1, "x", null, true, {"b": {}}], "n": null, "f": 1.5}, "url": "u"});
    let plugin: WasmPlugin = refuse(value.clone());
    assert_eq!(write_message(&plugin).unwrap(), value);
    let empty: WasmPlugin = refuse(json!({"pluginConfig": {}}));
    assert_eq!(write_message(&empty).unwrap(), json!({"pluginConfig": {}}));
}

#[test]
fn any_holds_envoy_messages() {
    let value = json!({
        "name": "envoy.filters.http.rbac",
        "typedConfig": {
            "@type": "type.googleapis.com/envoy.extensions.filters.http.rbac.v3.RBAC",
            "rules": {"policies": {"p": {"permissions": [{"any": true}], "principals": [{"any": true}]}}}
        }
    });
    let name = "envoy.config.core.v3.TypedExtensionConfig";
    let (bytes, _) = read_dynamic(name, &value, Unknown::Refuse).unwrap();
    let config =
        crate::envoy::config::core::v3::TypedExtensionConfig::decode(bytes.as_slice()).unwrap();
    let rbac: Rbac = any::unpack(config.typed_config.as_ref().unwrap()).unwrap();
    assert!(rbac.rules.unwrap().policies.contains_key("p"));
    assert_eq!(write(name, &bytes).unwrap(), value);
}

#[test]
fn any_of_well_known_types_has_a_value_member() {
    for value in [
        json!({"@type": "type.googleapis.com/google.protobuf.Duration", "value": "1.500s"}),
        json!({"@type": "type.googleapis.com/google.protobuf.Struct", "value": {"a": 1}}),
        json!({"@type": "type.googleapis.com/google.protobuf.Empty"}),
        json!({"@type": "type.googleapis.com/xds.type.v3.TypedStruct",
               "typeUrl": "type.googleapis.com/x.Y", "value": {"k": "v"}}),
    ] {
        let (any, _) = read::<prost_types::Any>(&value, Unknown::Refuse).unwrap();
        assert_eq!(write_message(&any).unwrap(), value);
    }
}

#[test]
fn any_without_a_known_type_is_refused_on_reading_only() {
    let found = errors::<prost_types::Any>(json!({"@type": "type.googleapis.com/x.Y"}));
    assert_eq!(found, ["@type: unknown message \"x.Y\""]);
    assert_eq!(errors::<prost_types::Any>(json!({"a": 1})).len(), 1);
    let any = prost_types::Any {
        type_url: "type.googleapis.com/x.Y".into(),
        value: vec![1],
    };
    assert_eq!(
        write_message(&any).unwrap(),
        json!({"@type": "type.googleapis.com/x.Y", "value": "AQ=="})
    );
}

#[test]
fn order_of_members_does_not_show_in_the_bytes() {
    let policy = |name: &str| {
        let inner = json!({"@type": "type.googleapis.com/envoy.config.rbac.v3.RBAC",
                           "policies": {(format!("{name}-b")): {}, (format!("{name}-a")): {}}});
        json!({"typedConfig": inner, "name": name})
    };
    let names: Vec<_> = (0..40).map(|n| format!("n{n}")).collect();
    let forward: serde_json::Map<_, _> = names.iter().map(|n| (n.clone(), policy(n))).collect();
    let backward: serde_json::Map<_, _> =
        names.iter().rev().map(|n| (n.clone(), policy(n))).collect();
    let encode = |map| {
        let value = json!({"matchTree": {"exactMatchMap": {"map": Value::Object(map)}}});
        // `action` is the one member of OnMatch that holds an extension.
        let value = wrap_actions(value);
        read_dynamic(
            "xds.type.matcher.v3.Matcher.MatcherTree",
            &value["matchTree"],
            Unknown::Refuse,
        )
        .unwrap()
        .0
    };
    let bytes = encode(forward);
    assert!((0..10).all(|_| encode(backward.clone()) == bytes));
}

fn wrap_actions(mut value: Value) -> Value {
    if let Some(map) = value["matchTree"]["exactMatchMap"]["map"].as_object_mut() {
        for action in map.values_mut() {
            *action = json!({"action": action.take()});
        }
    }
    value
}

#[test]
fn typed_maps_encode_like_the_reader_does() {
    let value = json!({"rules": {"policies": {"b": {}, "a": {}, "": {}}}});
    let (bytes, _) = read_dynamic(&Rbac::full_name(), &value, Unknown::Refuse).unwrap();
    let typed = Rbac::decode(bytes.as_slice()).unwrap();
    assert_eq!(
        typed.rules.as_ref().unwrap().policies[""],
        Policy::default()
    );
    assert_eq!(typed.encode_to_vec(), bytes);
}

#[test]
fn nesting_is_bounded() {
    let mut value = json!({});
    for _ in 0..30 {
        value = json!({"a": value});
    }
    let filter = |inner: Value| json!({"configPatches": [{"patch": {"value": inner}}]});
    assert!(read::<EnvoyFilter>(&filter(value.clone()), Unknown::Refuse).is_ok());
    for _ in 0..100 {
        value = json!({"a": value});
    }
    let found = errors::<EnvoyFilter>(filter(value));
    assert!(
        found[0].ends_with("want at most 100 nested messages"),
        "{}",
        found[0]
    );
}

#[test]
fn the_deepest_message_that_is_read_also_decodes() {
    let mut value = json!({"x": [1]});
    while let Ok((bytes, _)) = read_dynamic("google.protobuf.Struct", &value, Unknown::Refuse) {
        assert!(prost_types::Struct::decode(bytes.as_slice()).is_ok());
        value = json!({"a": value});
    }
}

#[test]
fn the_list_of_errors_is_bounded() {
    let hosts: Vec<_> = (0..100_000).collect();
    assert_eq!(
        errors::<VirtualService>(json!({"hosts": hosts})).len(),
        1_000
    );
}

#[test]
fn settings_of_1_1_are_read() {
    let mesh: MeshConfig = refuse(json!({
        "mixerCheckServer": "istio-policy.istio-system.svc.cluster.local:15004",
        "authPolicy": "MUTUAL_TLS", "rdsRefreshDelay": "10s", "sdsUdsPath": "",
        "defaultConfig": {"parentShutdownDuration": "1m0s", "connectTimeout": "10s", "concurrency": 2,
                          "tracing": {"lightstep": {"secure": true}}, "serviceCluster": "istio-proxy"}
    }));
    let proxy = mesh.default_config.unwrap();
    assert_eq!(proxy.concurrency, Some(2));
    let filter: EnvoyFilter = refuse(json!({
        "workloadLabels": {"app": "a"},
        "filters": [{"listenerMatch": {"listenerType": "SIDECAR_INBOUND"}, "filterType": "HTTP",
                     "insertPosition": {"index": "FIRST"}, "filterConfig": {"inlineCode": "x"}}]
    }));
    assert_eq!(filter.filters.len(), 1);
    let both: ProxyConfig =
        refuse(json!({"serviceCluster": "a", "tracingServiceName": "CANONICAL_NAME_ONLY"}));
    assert!(both.cluster_name.is_some());
}

#[test]
fn unknown_messages_are_named() {
    assert_eq!(
        read_dynamic("x.Y", &json!({}), Unknown::Prune).unwrap_err()[0].to_string(),
        "unknown message x.Y"
    );
    assert!(matches!(
        write("x.Y", &[]),
        Err(WriteError::UnknownMessage(_))
    ));
    assert!(matches!(
        write("istio.mesh.v1alpha1.MeshConfig", &[0xff]),
        Err(WriteError::Decode { .. })
    ));
}
