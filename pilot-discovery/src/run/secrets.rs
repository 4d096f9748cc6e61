//! The cluster with the Secrets that gateways refer to.

use mesh_common::{app::App, kubeclient, list_watch};

use crate::{
    args::Args,
    config::secrets::cluster::{self, Metrics, Options, Status, Timing},
    world::{self, Command, FromCluster},
};

/// Follows the cluster, if pilot runs in one or has a kubeconfig.
///
/// # Errors
/// If the kubeconfig is invalid.
pub(super) async fn start(
    args: &Args,
    app: &App,
    world: &world::Handle,
    status: Status,
) -> anyhow::Result<()> {
    let metrics = Metrics::register(&app.registry);
    let config = match kubeclient::config(&args.kube, "pilot-discovery").await {
        Ok(config) => config,
        Err(error @ kubeclient::Error::InCluster(_)) => {
            tracing::info!(error = %error, "no cluster to read Secrets for gateways from");
            return Ok(());
        }
        Err(error) => return Err(error.into()),
    };
    tracing::info!(server = %config.cluster_url, "reading Secrets for gateways from the cluster");
    let client = kubeclient::client(config)?;
    world.send(Command::Cluster(FromCluster::Followed)).await?;
    let options = Options {
        timing: Timing {
            linger: args.secrets_linger,
            ..Timing::default()
        },
        lists: list_watch::Timing::default(),
        metrics,
        status,
    };
    let follow = cluster::follow(client, options, world.clone(), app.drain().clone());
    app.tasks.keep("Secrets of the cluster", follow);
    Ok(())
}
