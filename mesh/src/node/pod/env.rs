//! Environment, command and arguments of a container, as the kubelet makes them. Pure.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use anyhow::{Context, Result, bail};
use k8s_openapi::api::core::v1::{Container, EnvVar, EnvVarSource, ResourceFieldSelector};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

/// What a field reference can lead to.
#[derive(Clone, Debug)]
pub struct Facts<'a> {
    /// Metadata of the injected Pod.
    pub metadata: &'a ObjectMeta,
    /// `spec.serviceAccountName`.
    pub service_account: &'a str,
    /// `spec.nodeName`.
    pub node_name: &'a str,
    /// `status.podIP`.
    pub pod_ip: Ipv4Addr,
    /// `status.hostIP`.
    pub host_ip: Ipv4Addr,
    /// Processors of the machine: the limit where none is set.
    pub cpus: usize,
}

/// Values of ConfigMaps and Secrets by object name and key.
pub trait Values {
    /// All entries of ConfigMap `name`; `None` when it does not exist.
    fn config_map(&self, name: &str) -> Option<BTreeMap<String, Vec<u8>>>;
    /// All entries of Secret `name`; `None` when it does not exist.
    fn secret(&self, name: &str) -> Option<BTreeMap<String, Vec<u8>>>;
}

impl Facts<'_> {
    /// The value at a `fieldRef` path.
    ///
    /// # Errors
    /// When the path is none that Kubernetes knows.
    pub fn field(&self, path: &str) -> Result<String> {
        let entry = |map: Option<&BTreeMap<String, String>>, key: &str| {
            map.and_then(|map| map.get(key))
                .cloned()
                .unwrap_or_default()
        };
        let quoted = |prefix: &str| path.strip_prefix(prefix)?.strip_suffix("']");
        if let Some(key) = quoted("metadata.labels['") {
            return Ok(entry(self.metadata.labels.as_ref(), key));
        }
        if let Some(key) = quoted("metadata.annotations['") {
            return Ok(entry(self.metadata.annotations.as_ref(), key));
        }
        Ok(match path {
            "metadata.name" => self.metadata.name.clone().unwrap_or_default(),
            "metadata.namespace" => self.metadata.namespace.clone().unwrap_or_default(),
            "metadata.uid" => self.metadata.uid.clone().unwrap_or_default(),
            "metadata.labels" => downward_lines(self.metadata.labels.as_ref()),
            "metadata.annotations" => downward_lines(self.metadata.annotations.as_ref()),
            "spec.nodeName" => self.node_name.to_owned(),
            "spec.serviceAccountName" => self.service_account.to_owned(),
            "status.podIP" | "status.podIPs" => self.pod_ip.to_string(),
            "status.hostIP" | "status.hostIPs" => self.host_ip.to_string(),
            other => bail!("fieldRef {other:?} is not a field that a container can ask for"),
        })
    }
}

/// Labels or annotations in the form of downward-API files: `key="value"` with Go quoting.
fn downward_lines(map: Option<&BTreeMap<String, String>>) -> String {
    let mut lines: Vec<String> = map
        .into_iter()
        .flatten()
        .map(|(key, value)| format!("{key}={}", go_quote(value)))
        .collect();
    lines.sort();
    lines.join("\n")
}

fn go_quote(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len() + 2);
    quoted.push('"');
    for c in text.chars() {
        match c {
            '"' => quoted.push_str("\\\""),
            '\\' => quoted.push_str("\\\\"),
            '\n' => quoted.push_str("\\n"),
            '\r' => quoted.push_str("\\r"),
            '\t' => quoted.push_str("\\t"),
            c if c.is_control() => quoted.push_str(&format!("\\u{:04x}", u32::from(c))),
            c => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
}

/// A quantity in thousandths of its unit: `100m` is 100, `1Gi` is 1024³ × 1000.
///
/// # Errors
/// When the text is not a quantity.
pub fn milli(quantity: &str) -> Result<u128> {
    let digits = quantity.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let factor: u128 = match quantity.get(digits.len()..).unwrap_or_default() {
        "m" => 1,
        "" => 1_000,
        "k" => 1_000_000,
        "M" => 1_000_000_000,
        "G" => 1_000_000_000_000,
        "Ki" => 1_000 << 10,
        "Mi" => 1_000 << 20,
        "Gi" => 1_000 << 30,
        "Ti" => 1_000 << 40,
        _ => bail!("{quantity:?} is not a quantity"),
    };
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    let scale = 10_u128
        .checked_pow(u32::try_from(fraction.len())?)
        .context("too many digits")?;
    let value: u128 = format!("{whole}{fraction}")
        .parse()
        .with_context(|| format!("{quantity:?} is not a quantity"))?;
    value
        .checked_mul(factor)
        .map(|value| value.div_ceil(scale))
        .context("the quantity is too large")
}

fn resource(
    container: &Container,
    reference: &ResourceFieldSelector,
    cpus: usize,
) -> Result<String> {
    let divisor = reference
        .divisor
        .as_ref()
        .map_or("1", |Quantity(text)| text.as_str());
    let divisor = match divisor {
        "" | "0" => 1_000,
        text => milli(text)?,
    };
    let resources = container.resources.as_ref();
    let (list, name) = reference.resource.split_once('.').with_context(|| {
        format!(
            "resourceFieldRef {:?} is not limits.x or requests.x",
            reference.resource
        )
    })?;
    let list = match list {
        "limits" => resources.and_then(|all| all.limits.as_ref()),
        "requests" => resources.and_then(|all| all.requests.as_ref()),
        _ => bail!(
            "resourceFieldRef {:?} is not limits.x or requests.x",
            reference.resource
        ),
    };
    let value = match (list.and_then(|list| list.get(name)), name) {
        (Some(Quantity(text)), _) => milli(text)?,
        (None, "cpu") => u128::try_from(cpus)? * 1_000,
        (None, _) => 0,
    };
    Ok(value.div_ceil(divisor.max(1)).to_string())
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn referenced(
    container: &Container,
    source: &EnvVarSource,
    facts: &Facts<'_>,
    values: &dyn Values,
) -> Result<Option<String>> {
    if let Some(reference) = &source.field_ref {
        return facts.field(&reference.field_path).map(Some);
    }
    if let Some(reference) = &source.resource_field_ref {
        return resource(container, reference, facts.cpus).map(Some);
    }
    let (sort, name, key, optional, entries) = if let Some(reference) = &source.config_map_key_ref {
        let entries = values.config_map(&reference.name);
        (
            "ConfigMap",
            &reference.name,
            &reference.key,
            reference.optional,
            entries,
        )
    } else if let Some(reference) = &source.secret_key_ref {
        let entries = values.secret(&reference.name);
        (
            "Secret",
            &reference.name,
            &reference.key,
            reference.optional,
            entries,
        )
    } else {
        bail!("valueFrom names no source that is supported here");
    };
    match entries.and_then(|entries| entries.get(key).map(|value| text(value))) {
        None if optional != Some(true) => bail!("{sort} {name} has no key {key}"),
        value => Ok(value),
    }
}

/// The environment of `container`, in order and with `$(NAME)` expanded.
///
/// # Errors
/// When a reference leads nowhere; the text names variable and source.
pub fn environment(
    container: &Container,
    facts: &Facts<'_>,
    values: &dyn Values,
) -> Result<Vec<(String, String)>> {
    let mut env = BTreeMap::from([
        (
            "PATH".to_owned(),
            "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin".to_owned(),
        ),
        (
            "HOSTNAME".to_owned(),
            facts.metadata.name.clone().unwrap_or_default(),
        ),
        ("HOME".to_owned(), "/".to_owned()),
    ]);
    for source in container.env_from.iter().flatten() {
        let prefix = source.prefix.as_deref().unwrap_or_default();
        let (name, optional, entries) = if let Some(reference) = &source.config_map_ref {
            (
                &reference.name,
                reference.optional,
                values.config_map(&reference.name),
            )
        } else if let Some(reference) = &source.secret_ref {
            (
                &reference.name,
                reference.optional,
                values.secret(&reference.name),
            )
        } else {
            continue;
        };
        match entries {
            Some(entries) => {
                env.extend(
                    entries
                        .iter()
                        .map(|(key, value)| (format!("{prefix}{key}"), text(value))),
                );
            }
            None if optional == Some(true) => {}
            None => bail!("envFrom: {name} does not exist"),
        }
    }
    for EnvVar {
        name,
        value,
        value_from,
    } in container.env.iter().flatten()
    {
        let value = match (value, value_from) {
            (Some(value), _) => Some(expand(value, &env)),
            (None, Some(source)) => referenced(container, source, facts, values)
                .with_context(|| format!("environment variable {name}"))?,
            (None, None) => Some(String::new()),
        };
        if let Some(value) = value {
            env.insert(name.clone(), value);
        }
    }
    Ok(env.into_iter().collect())
}

/// Replaces `$(NAME)` by the variable's value; `$$` is one `$`; unknown names stay.
fn expand(value: &str, env: &BTreeMap<String, String>) -> String {
    let mut result = String::with_capacity(value.len());
    let mut rest = value;
    while let Some(at) = rest.find('$') {
        let (before, from) = rest.split_at(at);
        result.push_str(before);
        if let Some(after) = from.strip_prefix("$$") {
            result.push('$');
            rest = after;
        } else if let Some((name, after)) = from
            .strip_prefix("$(")
            .and_then(|inner| inner.split_once(')'))
        {
            match env.get(name) {
                Some(value) => result.push_str(value),
                None => result.push_str(&format!("$({name})")),
            }
            rest = after;
        } else {
            result.push('$');
            rest = from.get(1..).unwrap_or_default();
        }
    }
    result.push_str(rest);
    result
}

/// Program and arguments: the container's command, else the image's entry point; then `args`.
///
/// # Errors
/// When the container has no command and the image is none of the project's.
pub fn command(container: &Container, env: &[(String, String)]) -> Result<Vec<String>> {
    let env: BTreeMap<String, String> = env.iter().cloned().collect();
    let image = container.image.as_deref().unwrap_or_default();
    let mut command: Vec<String> = match container.command.as_deref() {
        Some([_, ..]) => container
            .command
            .iter()
            .flatten()
            .map(|word| expand(word, &env))
            .collect(),
        _ => match crate::node::image::entry_point(image) {
            Some(program) => vec![program.to_owned()],
            None => bail!(
                "image {image:?} is not one of the project's: containers of other images must name their command"
            ),
        },
    };
    command.extend(
        container
            .args
            .iter()
            .flatten()
            .map(|word| expand(word, &env)),
    );
    Ok(command)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    struct Fixed;
    impl Values for Fixed {
        fn config_map(&self, name: &str) -> Option<BTreeMap<String, Vec<u8>>> {
            (name == "settings").then(|| BTreeMap::from([("colour".into(), b"red".to_vec())]))
        }
        fn secret(&self, _: &str) -> Option<BTreeMap<String, Vec<u8>>> {
            None
        }
    }

    fn facts(metadata: &ObjectMeta) -> Facts<'_> {
        Facts {
            metadata,
            service_account: "web",
            node_name: "mesh",
            pod_ip: Ipv4Addr::new(10, 244, 0, 5),
            host_ip: Ipv4Addr::new(10, 244, 0, 1),
            cpus: 2,
        }
    }

    fn environment_of(container: serde_json::Value) -> Result<BTreeMap<String, String>> {
        let metadata: ObjectMeta = serde_json::from_value(json!({
            "name": "web-1", "namespace": "shop",
            "labels": {"app": "web", "note": "a \"b\""},
        }))
        .unwrap();
        let container: Container = serde_json::from_value(container).unwrap();
        Ok(environment(&container, &facts(&metadata), &Fixed)?
            .into_iter()
            .collect())
    }

    #[test]
    fn references_are_resolved_and_variables_expanded_in_order() {
        let env = environment_of(json!({
            "name": "c",
            "resources": {"limits": {"cpu": "1500m"}},
            "env": [
                {"name": "NS", "valueFrom": {"fieldRef": {"fieldPath": "metadata.namespace"}}},
                {"name": "HOST", "value": "$(NS).svc.$$(NS).$(LATER)"},
                {"name": "LATER", "value": "x"},
                {"name": "CPU", "valueFrom": {"resourceFieldRef": {"resource": "limits.cpu", "divisor": "1"}}},
                {"name": "COLOUR", "valueFrom": {"configMapKeyRef": {"name": "settings", "key": "colour"}}},
                {"name": "NONE", "valueFrom": {"secretKeyRef": {"name": "no", "key": "k", "optional": true}}},
                {"name": "APP", "valueFrom": {"fieldRef": {"fieldPath": "metadata.labels['app']"}}},
            ],
        }))
        .unwrap();
        assert_eq!(env["HOST"], "shop.svc.$(NS).$(LATER)");
        assert_eq!(env["CPU"], "2");
        assert_eq!(env["COLOUR"], "red");
        assert_eq!(env["APP"], "web");
        assert!(!env.contains_key("NONE"));
    }

    #[test]
    fn a_missing_reference_names_variable_and_source() {
        let error = environment_of(json!({"name": "c", "env": [
            {"name": "X", "valueFrom": {"secretKeyRef": {"name": "no", "key": "k"}}}]}))
        .unwrap_err();
        assert_eq!(
            format!("{error:#}"),
            "environment variable X: Secret no has no key k"
        );
    }

    #[test]
    fn downward_files_use_go_quoting() {
        let labels = BTreeMap::from([("a".to_owned(), "x \"y\"\n".to_owned())]);
        assert_eq!(downward_lines(Some(&labels)), "a=\"x \\\"y\\\"\\n\"");
    }

    #[test]
    fn quantities() {
        assert_eq!(milli("100m").unwrap(), 100);
        assert_eq!(milli("1.5").unwrap(), 1_500);
        assert_eq!(milli("1Gi").unwrap(), 1_000 << 30);
        assert!(milli("1x").is_err() && milli("").is_err() && milli("-1").is_err());
    }

    #[test]
    fn command_of_image_and_of_container() {
        let container = |value| serde_json::from_value::<Container>(value).unwrap();
        let env = [("N".to_owned(), "5".to_owned())];
        let own =
            container(json!({"name": "c", "image": "x/proxyv2:1", "args": ["proxy", "$(N)"]}));
        assert_eq!(command(&own, &env).unwrap(), ["pilot-agent", "proxy", "5"]);
        let other = container(json!({"name": "c", "image": "busybox", "command": ["sleep", "1"]}));
        assert_eq!(command(&other, &env).unwrap(), ["sleep", "1"]);
        let none = container(json!({"name": "c", "image": "busybox"}));
        assert!(
            command(&none, &env)
                .unwrap_err()
                .to_string()
                .contains("must name their command")
        );
    }
}
