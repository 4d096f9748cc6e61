//! Rules for WasmPlugin and TrafficExtension.

use std::collections::BTreeSet;

use super::SPEC;
use super::primitives::label::{TargetRules, target};
use super::primitives::{number, url};
use super::report::{At, Check, quote};
use istio_api::extensions::v1alpha1::traffic_extension::FilterConfig;
use istio_api::extensions::v1alpha1::{EnvValueSource, TrafficExtension, VmConfig, WasmPlugin};
use istio_api::type_::v1beta1::PortSelector;

const MAX_SECRET: usize = 253;
const MAX_NAME: usize = 256;
const MAX_CODE: usize = 65_536;

pub(super) fn validate(check: &mut Check<'_>, spec: &WasmPlugin) {
    let module = Module {
        url: &spec.url,
        sha256: &spec.sha256,
        pull_secret: &spec.image_pull_secret,
        name: &spec.plugin_name,
        machine: spec.vm_config.as_ref(),
    };
    module.validate(check, &SPEC);
    for (i, one) in spec.r#match.iter().enumerate() {
        ports(check, &SPEC.item("match", i), &one.ports);
    }
    target(
        check,
        TargetRules::all("WP-07"),
        &SPEC,
        spec.selector.as_ref(),
        spec.target_ref.as_ref(),
        &spec.target_refs,
    );
}

pub(super) fn validate_extension(check: &mut Check<'_>, spec: &TrafficExtension) {
    match &spec.filter_config {
        None => check.error("TX-01", &SPEC, "there is no extension: want wasm or lua"),
        Some(FilterConfig::Lua(lua)) => {
            let at = SPEC.field("lua");
            let at = at.field("inlineCode");
            let size = lua.inline_code.len();
            if size == 0 {
                check.error(
                    "TX-02",
                    &at,
                    "there is no code: want a function such as envoy_on_request",
                );
            } else if size > MAX_CODE {
                check.error(
                    "TX-02",
                    &at,
                    format!("the code has {size} bytes: want at most {MAX_CODE}"),
                );
            }
        }
        Some(FilterConfig::Wasm(wasm)) => {
            let module = Module {
                url: &wasm.url,
                sha256: &wasm.sha256,
                pull_secret: &wasm.image_pull_secret,
                name: &wasm.plugin_name,
                machine: wasm.vm_config.as_ref(),
            };
            module.validate(check, &SPEC.field("wasm"));
        }
    }
    for (i, one) in spec.r#match.iter().enumerate() {
        ports(check, &SPEC.item("match", i), &one.ports);
    }
    target(
        check,
        TargetRules::all("WP-07"),
        &SPEC,
        spec.selector.as_ref(),
        None,
        &spec.target_refs,
    );
}

fn ports(check: &mut Check<'_>, at: &At<'_>, ports: &[PortSelector]) {
    for (i, port) in ports.iter().enumerate() {
        let at = at.item("ports", i);
        check.test("WP-06", &at.field("number"), number::port(port.number));
    }
}

/// The WebAssembly module of either kind.
struct Module<'a> {
    url: &'a str,
    sha256: &'a str,
    pull_secret: &'a str,
    name: &'a str,
    machine: Option<&'a VmConfig>,
}

impl Module<'_> {
    fn validate(&self, check: &mut Check<'_>, at: &At<'_>) {
        if self.url.is_empty() {
            check.error(
                "WP-01",
                &at.field("url"),
                "there is no URL: want one such as \"oci://registry/image:tag\"",
            );
        } else {
            check.test("WP-01", &at.field("url"), url::module(self.url));
        }
        let hexadecimal = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
        let is_digest = self.sha256.len() == 64 && self.sha256.bytes().all(hexadecimal);
        if !self.sha256.is_empty() && !is_digest {
            check.error(
                "WP-02",
                &at.field("sha256"),
                format!(
                    "{} is not a valid SHA-256 digest: want 64 hexadecimal digits in lower case",
                    quote(self.sha256)
                ),
            );
        }
        let lengths = [
            ("WP-03", "imagePullSecret", self.pull_secret, MAX_SECRET),
            ("WP-04", "pluginName", self.name, MAX_NAME),
        ];
        for (rule, field, text, most) in lengths {
            if text.len() > most {
                check.error(
                    rule,
                    &at.field(field),
                    format!(
                        "the name has {} characters: want at most {most}",
                        text.len()
                    ),
                );
            }
        }
        if let Some(machine) = self.machine {
            environment(check, &at.field("vmConfig"), machine);
        }
    }
}

fn environment(check: &mut Check<'_>, at: &At<'_>, machine: &VmConfig) {
    let mut names = BTreeSet::new();
    for (i, variable) in machine.env.iter().enumerate() {
        let at = at.item("env", i);
        let name = at.field("name");
        if variable.name.is_empty() {
            check.error("WP-05", &name, "the variable has no name: want one");
        } else if variable.name.len() > MAX_NAME {
            check.error(
                "WP-05",
                &name,
                format!("the name is too long: want at most {MAX_NAME} characters"),
            );
        } else if !names.insert(&variable.name) {
            check.error(
                "WP-05",
                &name,
                format!(
                    "{} is the name of an earlier variable: want each once",
                    quote(&variable.name)
                ),
            );
        }
        check.refuse(
            variable.value_from() == EnvValueSource::Host && !variable.value.is_empty(),
            "WP-05",
            &at.field("value"),
            "the value comes from the proxy's environment: want valueFrom: INLINE, or no value",
        );
    }
}
