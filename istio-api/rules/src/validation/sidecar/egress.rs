//! Listeners for what a sidecar reaches.

use std::collections::BTreeSet;

use super::{UNIX, port};
use crate::validation::SPEC;
use crate::validation::primitives::host::{self, Scoped};
use crate::validation::primitives::number;
use crate::validation::report::{At, Check, quote};
use istio_api::networking::v1alpha3::{CaptureMode, IstioEgressListener, SidecarPort};

pub(super) fn validate(check: &mut Check<'_>, listeners: &[IstioEgressListener]) {
    let (mut ports, mut sockets) = (BTreeSet::new(), BTreeSet::new());
    let mut catch_alls = 0;
    for (i, listener) in listeners.iter().enumerate() {
        let at = SPEC.item("egress", i);
        let at_port = at.field("port");
        match &listener.port {
            None => {
                catch_alls += 1;
                check.refuse(
                    i + 1 != listeners.len(),
                    "SC-21",
                    &at_port,
                    "a listener without a port takes what the others leave: want it last",
                );
                check.refuse(
                    catch_alls > 1,
                    "SC-22",
                    &at_port,
                    "an earlier listener has no port either: want only one such listener",
                );
            }
            Some(one) => {
                listen(check, &at, one, listener);
                let is_new = if one.number == 0 {
                    listener.bind.is_empty() || sockets.insert(&listener.bind)
                } else {
                    ports.insert(one.number)
                };
                check.refuse(
                    !is_new,
                    "SC-27",
                    &at,
                    "an earlier listener has the same port or socket: want each once",
                );
            }
        }
        hosts(check, &at, &listener.hosts);
    }
}

fn listen(check: &mut Check<'_>, at: &At<'_>, one: &SidecarPort, listener: &IstioEgressListener) {
    let at_port = at.field("port");
    let at_bind = at.field("bind");
    port(check, &at_port, one);
    if one.number != 0 {
        check.test("SC-25", &at_port.field("number"), number::port(one.number));
        if !listener.bind.is_empty() {
            check.test("SC-26", &at_bind, host::ip(&listener.bind));
        }
        return;
    }
    match listener.bind.strip_prefix(UNIX) {
        Some(path) => check.test("SC-23", &at_bind, host::unix_path(path)),
        None => check.error("SC-23", &at_bind, "without a port number the listener is a Unix socket: want unix:// and a path, or port.number"),
    }
    check.refuse(
        !matches!(
            listener.capture_mode(),
            CaptureMode::Default | CaptureMode::None
        ),
        "SC-24",
        &at.field("captureMode"),
        "traffic to a Unix socket is not captured: want NONE or DEFAULT",
    );
}

fn hosts(check: &mut Check<'_>, at: &At<'_>, hosts: &[String]) {
    check.refuse(
        hosts.is_empty(),
        "SC-28",
        &at.field("hosts"),
        "there is no host: want at least one, such as \"./*\" for the namespace's own services",
    );
    for (i, name) in hosts.iter().enumerate() {
        check.test(
            "SC-29",
            &at.item("hosts", i),
            host::scoped(name, Scoped::Sidecar),
        );
    }
    let meta = check.meta;
    let parts: Vec<(usize, &str, &str)> = hosts
        .iter()
        .enumerate()
        .filter_map(|(i, name)| {
            let (namespace, name) = name.split_once('/')?;
            let namespace = if namespace == "." {
                meta.namespace.as_str()
            } else {
                namespace
            };
            Some((i, namespace, name))
        })
        .collect();
    let whole: BTreeSet<&str> = parts
        .iter()
        .filter(|(_, _, name)| *name == "*")
        .map(|(_, namespace, _)| *namespace)
        .collect();
    let mut seen = BTreeSet::new();
    for (i, namespace, name) in parts {
        let at = at.item("hosts", i);
        let is_new = seen.insert((namespace, name));
        if !is_new || (name != "*" && whole.contains(namespace)) {
            check.warn(
                "SC-30",
                &at,
                format!(
                    "{} is covered by another host of the list: leave it out",
                    quote(hosts.get(i).map_or(name, String::as_str))
                ),
            );
        } else if namespace != "*" && whole.contains("*") {
            check.warn(
                "SC-31",
                &at,
                "\"*/*\" is listed as well, which covers everything: want one of the two",
            );
        }
    }
}
