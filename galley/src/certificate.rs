//! Keeps readiness and metrics of a server in line with its certificate.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use mesh_common::drain;
use mesh_common::readiness::Gate;
use mesh_common::tls::{ReloadingServerConfig, Status};

/// Interval at which the expiry is checked.
const CHECK: Duration = Duration::from_secs(10);

/// Keeps `gate` open while the certificate is valid, and passes its state to `observe`: the expiry
/// in seconds since 1970, if known, and the results of reloading its files.
pub(crate) async fn watch(
    config: ReloadingServerConfig,
    gate: Gate,
    drain: drain::Watch,
    mut observe: impl FnMut(Option<i64>, &Status),
) {
    let mut status = config.status();
    loop {
        let now = status.borrow_and_update().clone();
        let end = now.not_after.map(|end| {
            let since = end.duration_since(UNIX_EPOCH).unwrap_or_default();
            i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
        });
        observe(end, &now);
        if now.not_after.is_some_and(|end| end <= SystemTime::now()) {
            gate.close();
        } else {
            gate.open();
        }
        tokio::select! {
            () = drain.signaled() => return,
            changed = status.changed() => if changed.is_err() { return },
            () = tokio::time::sleep(CHECK) => {}
        }
    }
}
