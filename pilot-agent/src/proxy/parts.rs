//! The tasks that run beside Envoy: the status server and secret discovery.

use std::{net::IpAddr, path::PathBuf, sync::Arc};

use anyhow::{Context as _, bail};
use mesh_common::{metrics::Registry, tasks::Tasks};
use tokio::sync::watch;

use super::plan::Plan;
use crate::{
    args::Role,
    certificates,
    envoy::{admin::Admin, drain::Drain},
    lifecycle::Lifecycle,
    sds,
    secret::{Secrets, file::Files, metrics::Metrics},
    settings::DEFAULT_SOCKET,
    status::{self, probe, ready, scrape},
};

impl Plan<'_> {
    pub(super) fn status_server(
        &self,
        registry: &Registry,
        metrics: &Metrics,
        secrets: watch::Receiver<Secrets>,
        lifecycle: &Lifecycle,
    ) -> anyhow::Result<status::Server> {
        let (config, settings) = (self.config(), &self.settings);
        let admin = Admin {
            port: config.proxy_admin_port,
        };
        let startup = registry.gauge(
            "istio_agent_startup_duration_seconds",
            "Time from the start until Envoy was ready",
        );
        let loopback: IpAddr = self
            .families
            .localhost()
            .parse()
            .context("invalid loopback address")?;
        let address = if settings.legacy_localhost_probes {
            loopback
        } else {
            self.addresses.first().copied().unwrap_or(loopback)
        };
        let target = probe::Target {
            address,
            status_port: config.status_port,
            http2: settings.http2_probing,
        };
        let probes = probe::Probes::new(settings.app_probers.as_deref(), target)
            .map_err(anyhow::Error::msg)?;
        let application = match self.role {
            Role::Router => None,
            Role::Sidecar => scrape::Application::parse(
                settings.prometheus_annotations.as_deref(),
                config.status_port,
            )
            .map_err(anyhow::Error::msg)?,
        };
        let envoy = settings
            .merge_envoy_stats
            .then_some(settings.envoy_prometheus_port);
        Ok(status::Server {
            ready: ready::Ready::new(admin, lifecycle.clone(), startup),
            probes,
            scrape: scrape::Scrape::new(
                registry.clone(),
                metrics.clone(),
                secrets,
                envoy,
                application,
            ),
            metrics_local_only: settings.metrics_local_only,
            lifecycle: lifecycle.clone(),
            drain: Drain {
                admin,
                inbound_only: self.role == Role::Sidecar,
                duration: settings
                    .termination_drain
                    .unwrap_or(config.termination_drain_duration),
                until_idle: settings.exit_on_zero_connections,
                minimum: settings.minimum_drain,
                own_ports: [settings.envoy_status_port, settings.envoy_prometheus_port],
            },
        })
    }

    pub(super) fn socket(&self) -> PathBuf {
        self.surroundings
            .paths
            .socket_directory()
            .join(&self.settings.certificates.socket_name)
    }

    /// Opens the secret socket before Envoy starts, since Envoy retries a missing one only after
    /// seconds.
    pub(super) async fn start_secrets(
        &self,
        secrets: watch::Sender<Secrets>,
        metrics: &Metrics,
        tasks: &Tasks,
    ) -> anyhow::Result<()> {
        let path = self.socket();
        let settings = &self.settings.certificates;
        let found = sds::look(&path).await.with_context(|| {
            format!("cannot use the secret discovery socket {}", path.display())
        })?;
        if found == sds::Found::Served {
            tracing::info!(
                path = %path.display(),
                "another server provides the secrets of this workload"
            );
            return Ok(());
        }
        if settings.socket_name != DEFAULT_SOCKET {
            bail!(
                "WORKLOAD_IDENTITY_SOCKET_FILE names another server's socket, but no server \
                 listens on {}",
                path.display()
            );
        }
        let listener = sds::listen(&path)?;
        let files = Arc::new(Files::new(settings.file_debounce, metrics.clone()));
        let shared = sds::Shared {
            secrets: secrets.subscribe(),
            files: Arc::clone(&files),
            metrics: metrics.clone(),
        };
        let manager = certificates::manager(
            &self.settings,
            &self.surroundings.paths,
            self.config(),
            secrets,
            metrics,
        )?;
        tasks.keep_until_drain("secret server", sds::serve(listener, shared));
        tasks.keep_until_drain("secret files", files.run());
        tasks.keep_until_drain("certificates", manager.run());
        Ok(())
    }
}
