//! Pods where one user id is mapped only: a user namespace without subordinate ids.
//!
//! All processes share that id, so capture cannot tell the proxy by its user; it does by the mark
//! of its sockets. The agent's programs read the mark from `PROXY_MARK`.

use k8s_openapi::api::core::v1::{Container, EnvVar, Pod, SecurityContext};

/// Mark of the proxy's sockets; TPROXY, which uses the same number, is not run like this.
const MARK: &str = "1337";
/// Options of istio-iptables that name users and groups which do not exist here.
const BY_ID: [&str; 4] = ["-u", "--proxy-uid", "-g", "--proxy-gid"];

/// Makes a Pod run under the one id that there is.
pub fn adapt(pod: &mut Pod) {
    let Some(spec) = &mut pod.spec else {
        return;
    };
    if let Some(security) = &mut spec.security_context {
        (security.run_as_user, security.run_as_group) = (None, None);
    }
    let all = spec.init_containers.iter_mut().flatten();
    for container in all.chain(&mut spec.containers) {
        if let Some(security) = &mut container.security_context {
            forget_ids(security);
        }
        if is_agent(container) {
            container.args = container.args.take().map(without_ids);
            container.env.get_or_insert_default().push(EnvVar {
                name: "PROXY_MARK".to_owned(),
                value: Some(MARK.to_owned()),
                value_from: None,
            });
        }
    }
}

fn forget_ids(security: &mut SecurityContext) {
    (security.run_as_user, security.run_as_group) = (None, None);
    security.run_as_non_root = None;
}

fn is_agent(container: &Container) -> bool {
    container.name.starts_with("istio-")
}

fn without_ids(args: Vec<String>) -> Vec<String> {
    let mut kept = Vec::with_capacity(args.len());
    let mut args = args.into_iter();
    while let Some(arg) = args.next() {
        if BY_ID.contains(&arg.as_str()) {
            args.next();
        } else {
            kept.push(arg);
        }
    }
    kept
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn ids_go_and_the_proxy_is_marked() {
        let mut pod: Pod = serde_json::from_value(json!({"spec": {
            "securityContext": {"runAsUser": 7},
            "initContainers": [{"name": "istio-init", "args": ["istio-iptables", "-u", "1337", "-m", "REDIRECT"]}],
            "containers": [
                {"name": "web", "args": ["-u", "me"], "securityContext": {"runAsUser": 1000, "runAsNonRoot": true}},
                {"name": "istio-proxy", "securityContext": {"runAsUser": 1337}},
            ],
        }}))
        .unwrap();
        adapt(&mut pod);
        let pod = serde_json::to_value(&pod).unwrap();
        let marked = json!([{"name": "PROXY_MARK", "value": "1337"}]);
        assert_eq!(
            pod["spec"],
            json!({
                "securityContext": {},
                "initContainers": [{"name": "istio-init", "args": ["istio-iptables", "-m", "REDIRECT"], "env": marked}],
                "containers": [
                    {"name": "web", "args": ["-u", "me"], "securityContext": {}},
                    {"name": "istio-proxy", "securityContext": {}, "env": marked},
                ],
            })
        );
    }
}
