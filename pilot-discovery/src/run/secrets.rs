//! The cluster whose Secrets gateways name.

use mesh_common::{app::App, kubeclient, list_watch};

use crate::{
    args::Args,
    config::secrets::cluster::{self, Metrics, Options, Status, Timing},
    world::{self, Command, FromCluster},
};

/// Follows the cluster. Outside of a cluster and without a kubeconfig there is none.
///
/// # Errors
/// When the kubeconfig cannot be used.
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
            tracing::info!("gateways are sent no Secrets of a cluster: {error}");
            return Ok(());
        }
        Err(error) => return Err(error.into()),
    };
    tracing::info!(server = %config.cluster_url, "Secrets for gateways come from a cluster");
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
