//! Order of containers.

use crate::config::Config;
use crate::pod::{self, CORE_DUMP, INIT, List, PROXY, VALIDATION};
use serde_json::Value;

/// Whether applications start only after the proxy.
pub(super) fn hold(proxy_config: &Value, config: &Config) -> bool {
    proxy_config
        .get("holdApplicationUntilProxyStarts")
        .and_then(Value::as_bool)
        == Some(true)
        || config
            .value("/global/proxy/holdApplicationUntilProxyStarts")
            .and_then(Value::as_bool)
            == Some(true)
}

/// A native sidecar follows the container that sets up capture and precedes the user's init
/// containers, which then have a working network. A normal proxy container is last, or first if
/// applications wait for it; capture is then set up last, so that the user's init containers can
/// still reach the network.
pub(super) fn arrange(pod: &mut Value, hold: bool) {
    let native = pod::find(pod, List::InitContainers, PROXY).is_some();
    let init: fn(&str) -> u8 = if native {
        |name| match name {
            INIT | VALIDATION => 0,
            PROXY => 1,
            CORE_DUMP => 2,
            _ => 3,
        }
    } else {
        |name| match name {
            VALIDATION => 0,
            INIT => 2,
            CORE_DUMP => 3,
            _ => 1,
        }
    };
    pod::containers_mut(pod, List::InitContainers)
        .sort_by_key(|container| init(pod::name(container)));
    pod::containers_mut(pod, List::Containers)
        .sort_by_key(|container| (pod::name(container) == PROXY) != hold);
}
