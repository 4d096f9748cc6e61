//! Fields of `extensions.istio.io`.

use super::{Row, TARGETS};
use crate::crd::limits::Limit::{self, Items, Key, Length, MinLength, Pattern, Required, Rule};

const IMAGE: &[Limit] = &[
    Required,
    MinLength(1),
    Rule(
        "isURL(self) ? url(self).getScheme() in ['', 'http', 'https', 'oci', 'file'] : \
         isURL('http://' + self)",
        "want an address without scheme or with one of http, https, oci and file",
    ),
];
const DIGEST: &[Limit] = &[Pattern("(^$|^[a-f0-9]{64}$)")];
const SECRET_NAME: &[Limit] = &[Length(1, 253)];
const PLUGIN_NAME: &[Limit] = &[Length(1, 256)];

pub(super) const FIELDS: &[Row] = &[
    (
        "extensions.v1alpha1.EnvVar",
        "name",
        &[Required, Length(1, 256)],
    ),
    ("extensions.v1alpha1.EnvVar", "value", &[Length(0, 2048)]),
    (
        "extensions.v1alpha1.LuaConfig",
        "inlineCode",
        &[Required, Length(1, 65_536)],
    ),
    (
        "extensions.v1alpha1.TrafficExtension",
        "targetRefs",
        TARGETS,
    ),
    (
        "extensions.v1alpha1.TrafficSelector",
        "ports",
        &[Key("number")],
    ),
    (
        "extensions.v1alpha1.VmConfig",
        "env",
        &[Items(0, 256), Key("name")],
    ),
    (
        "extensions.v1alpha1.WasmConfig",
        "imagePullSecret",
        SECRET_NAME,
    ),
    ("extensions.v1alpha1.WasmConfig", "pluginName", PLUGIN_NAME),
    ("extensions.v1alpha1.WasmConfig", "sha256", DIGEST),
    ("extensions.v1alpha1.WasmConfig", "url", IMAGE),
    (
        "extensions.v1alpha1.WasmPlugin",
        "imagePullSecret",
        SECRET_NAME,
    ),
    ("extensions.v1alpha1.WasmPlugin", "pluginName", PLUGIN_NAME),
    ("extensions.v1alpha1.WasmPlugin", "sha256", DIGEST),
    ("extensions.v1alpha1.WasmPlugin", "targetRefs", TARGETS),
    ("extensions.v1alpha1.WasmPlugin", "url", IMAGE),
    (
        "extensions.v1alpha1.WasmPlugin.TrafficSelector",
        "ports",
        &[Key("number")],
    ),
];
