use super::*;
use crate::config::{Config, Settings};

fn config(templates: &str) -> Config {
    Config::parse(templates, "", "", Settings::default()).unwrap()
}

fn data(pod: &Value, workload: &Workload, proxy_config: &Value, config: &Config, id: i64) -> Data {
    Data::new(&Input {
        pod,
        workload,
        proxy_config,
        mesh: &config.mesh,
        values: &config.values,
        revision: config.revision_name(),
        native_sidecars: config.settings.native_sidecars,
        proxy_image: &config.proxy_image(None),
        proxy_init_image: &config.proxy_init_image(None),
        uid: id,
        gid: id,
    })
}

fn rendered(template: &str, annotations: Value) -> Result<String, String> {
    let pod = json!({"metadata": {"name": "p", "annotations": annotations},
        "spec": {"containers": [{"name": "a", "ports": [{"containerPort": 80, "name": "http"}]}]}});
    let config = config("{policy: enabled, templates: {sidecar: ''}}");
    let workload = Workload::of(&pod, "shop");
    let proxy_config = config.mesh.proxy_config(None).unwrap();
    let data = data(&pod, &workload, &proxy_config, &config, 1337);
    Template::parse("t", template).and_then(|template| template.render_text(&data))
}

#[test]
fn functions_do_what_istio_templates_expect() {
    let annotations = json!({"a": "x", "empty": ""});
    for (template, expected) in [
        (r#"{{ annotation .ObjectMeta "a" "d" }}"#, "x"),
        (r#"{{ annotation .ObjectMeta "b" 5 }}"#, "5"),
        (r#"{{ annotation .ObjectMeta "empty" "d" }}"#, ""),
        (
            r#"{{ isset .ObjectMeta.Annotations "a" }}{{ isset .ObjectMeta.Annotations "b" }}"#,
            "truefalse",
        ),
        (
            r#"{{ valueOrDefault "" "d" }}{{ valueOrDefault .Values.nope "e" }}"#,
            "de",
        ),
        (
            r#"{{ excludeInboundPort "15020" "9000, 15020" }}"#,
            "9000,15020",
        ),
        (r#"{{ excludeInboundPort 15020 "" }}"#, "15020"),
        (r#"{{ excludeInboundPort "0" "80" }}"#, "80"),
        (r#"{{ includeInboundPorts .Spec.Containers }}"#, "80"),
        (
            r#"{{ toJSON .ObjectMeta.Annotations }}"#,
            r#"{"a":"x","empty":""}"#,
        ),
        (
            r#"{{ structToJSON (index .Spec.Containers 0) }}"#,
            r#"{"image":"","name":"a","ports":[{"containerPort":80,"name":"http"}]}"#,
        ),
        (
            r#"{{ podPorts .Spec }}"#,
            r#"[{"name":"http","containerPort":80,"protocol":"TCP"}]"#,
        ),
        (r#"{{ protoToJSON .ProxyConfig }}"#, "{}"),
        (r#"{{ .ProxyConfig.InterceptionMode.String }}"#, "REDIRECT"),
        (
            r#"{{ if .ProxyConfig.GetHoldApplicationUntilProxyStarts.GetValue }}y{{ else }}n{{ end }}"#,
            "n",
        ),
        (
            r#"{{ range $k, $v := .Values.nope.nothing }}x{{ else }}none{{ end }}"#,
            "none",
        ),
        (
            r#"{{ range .Spec.Containers -}} {{ .Name }} {{- end }}"#,
            "a",
        ),
        (
            r#"{{ toYaml .Values.global.sds | indent 2 }}"#,
            "token:\n    aud: istio-ca",
        ),
        (
            r#"{{ directory "/a/b" }}{{ contains "b" "abc" }}"#,
            "/a/true",
        ),
        (
            r#"{{ "abc-" | trunc 4 | trimSuffix "-" | quote }}"#,
            r#""abc""#,
        ),
        (
            r#"{{ toJsonMap (strdict "a" "1") (strdict "b" "2") }}"#,
            r#"{"a":"1","b":"2"}"#,
        ),
        (
            r#"{{ appendMultusNetwork "" "cni" }}|{{ appendMultusNetwork "x" "cni" }}|{{ appendMultusNetwork `[{"name":"x"}]` "cni" }}"#,
            r#"cni|x, cni|[{"name":"x"},{"name":"cni"}]"#,
        ),
        (
            r#"{{ omit (dict "a" 1 "b" 2) "a" | toJSON }}"#,
            r#"{"b":2}"#,
        ),
        (
            r#"{{ .TypeMeta.APIVersion }}/{{ .DeploymentMeta.Name }}/{{ .ProxyUID }}"#,
            "v1/p/1337",
        ),
    ] {
        assert_eq!(
            rendered(template, annotations.clone()).as_deref(),
            Ok(expected),
            "{template}"
        );
    }
}

#[test]
fn quote_keeps_structure_whatever_the_text() {
    for text in [
        "a\": b\n- c",
        "{{ .Values }}",
        "\u{85}\u{2028}\u{feff}\u{7}\\",
        "é😀",
        "'#:&*",
    ] {
        let yaml = rendered(
            "k: {{ annotation .ObjectMeta \"a\" \"\" | quote }}",
            json!({"a": text}),
        )
        .unwrap();
        let value: Value = serde_yaml::from_str(&yaml).unwrap();
        assert_eq!(value, json!({"k": text}), "{yaml}");
    }
}

#[test]
fn broken_templates_say_where() {
    let error = Template::parse("mine", "a\n{{ if }}").unwrap_err();
    assert!(error.contains("mine") && error.contains('2'), "{error}");
    for (template, part) in [
        ("a: {{ nosuchfunction }}", "nosuchfunction"),
        ("a: {{ .Values.global.nope }}", "missing"),
        (
            "{{ range $i, $c := .Spec.Containers }}{{ fail \"stop here\" }}{{ end }}",
            "stop here",
        ),
    ] {
        let error = rendered(template, json!({})).unwrap_err();
        assert!(error.contains(part), "{error}");
    }
}

#[test]
fn endless_work_is_cut_off() {
    assert!(rendered("{{ range 2000000000 }}{{ end }}", json!({})).is_err());
    let error = rendered("{{ range 90000 }}0123456789abcdef{{ end }}", json!({})).unwrap_err();
    assert!(error.contains("longer"), "{error}");
    assert!(
        rendered(
            "{{ define \"x\" }}{{ template \"x\" . }}{{ end }}{{ template \"x\" . }}",
            json!({})
        )
        .is_err()
    );
}

#[test]
fn rendered_text_must_be_an_object() {
    let config = config(
        "{policy: enabled, templates: {none: '', list: '[1]', bad: 'a: [', pod: 'spec: {}'}}",
    );
    let pod = json!({"metadata": {}, "spec": {}});
    let workload = Workload::of(&pod, "x");
    let proxy_config = json!({});
    let data = data(&pod, &workload, &proxy_config, &config, 1);
    assert_eq!(config.templates["none"].render(&data), Ok(json!({})));
    assert_eq!(
        config.templates["pod"].render(&data),
        Ok(json!({"spec": {}}))
    );
    assert!(config.templates["list"].render(&data).is_err());
    assert!(config.templates["bad"].render(&data).is_err());
}
