//! The ConfigMap `istio-security`, from which node agents of 1.1 read the root.

use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use mesh_common::backoff::Backoff;
use mesh_common::kubeclient::Client;
use mesh_common::metrics::IntCounter;
use mesh_common::owner::Owner;

use super::config_map::{self, Content};
use crate::ca::Authority;

const NAME: &str = "istio-security";
const KEY: &str = "caTLSRootCert";

/// Writes it now and after each change of the authority, until it is dropped.
pub(crate) async fn run(
    client: Client,
    namespace: &str,
    authority: Arc<Authority>,
    owner: Owner,
    errors: IntCounter,
    pauses: (Duration, Duration),
) {
    let mut changes = authority.subscribe();
    let mut backoff = Backoff::new(pauses.0, pauses.1);
    loop {
        changes.mark_unchanged();
        let content = Content {
            name: NAME.to_owned(),
            key: KEY,
            value: STANDARD.encode(authority.bundle().root_pem()),
            is_labelled: false,
            owner: owner.clone(),
        };
        let pause = match config_map::put(&client, namespace, &content, true).await {
            Ok(_) => {
                backoff.reset();
                None
            }
            Err(error) => {
                errors.inc();
                tracing::warn!(namespace, name = NAME, %error, "cannot write the ConfigMap");
                Some(backoff.next())
            }
        };
        let pause = async {
            match pause {
                Some(pause) => tokio::time::sleep(pause).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = pause => {}
            // An error means that the authority, and with it the process, has ended.
            changed = changes.changed() => if changed.is_err() { return },
        }
    }
}
