//! Background tasks.

use std::net::SocketAddr;
use std::sync::Arc;

use mesh_common::readiness::Gate;
use mesh_common::tasks::Tasks;
use mesh_core::spiffe::Identity;
use tokio::sync::watch;

use super::source;
use crate::args::Args;
use crate::ca::Authority;
use crate::cluster::{Cluster, Duties, Owners, RootSecret};
use crate::control_plane::{Profile, files};
use crate::metrics::Metrics;
use crate::probe;
use crate::settings::Source;

/// Dependencies of the tasks.
pub(super) struct Dependencies<'a> {
    pub(super) args: &'a Args,
    pub(super) authority: &'a Arc<Authority>,
    pub(super) metrics: &'a Metrics,
    pub(super) tasks: &'a Tasks,
}

impl Dependencies<'_> {
    /// Applies changes of the files to the authority.
    pub(super) fn follow(&self, source: Arc<Source>) {
        let follow = source::follow(
            source,
            Arc::clone(self.authority),
            self.args.clone(),
            self.metrics.clone(),
            self.tasks.drain().clone(),
        );
        self.tasks.keep("certificate authority", follow);
    }

    /// Takes part in the election and maintains the objects in the cluster. `secret` is the Secret
    /// of the authority, if it is kept in one.
    pub(super) fn join_cluster(
        &self,
        cluster: &Cluster,
        source: Arc<Source>,
        secret: Option<RootSecret>,
        profile: Profile,
        owners: Option<watch::Receiver<Owners>>,
    ) {
        let leadership = cluster.elect(&self.pod_name(), self.tasks);
        match secret {
            Some(secret) => cluster.keep_root(
                secret,
                Arc::clone(self.authority),
                leadership.clone(),
                source::ticks(self.args),
                self.tasks,
            ),
            None => self.follow(source),
        }
        let duties = Duties {
            authority: Arc::clone(self.authority),
            root_map: self.args.cluster.root_cert_configmap.clone(),
            secrets: owners
                .filter(|_| self.args.cluster.control_plane_secrets)
                .map(|owners| (Arc::new(profile), owners)),
        };
        cluster.lead(duties, leadership, self.tasks);
    }

    /// Writes certificates of the control plane to their directory. `gate` opens when they are
    /// written.
    pub(super) fn write_files(&self, profile: Profile, gate: Gate) {
        let Some(dir) = self.args.serving.control_plane_certs_dir.clone() else {
            return;
        };
        self.tasks.keep(
            "control-plane certificates",
            files::run(
                Arc::clone(self.authority),
                files::Options { dir, profile },
                self.metrics.clone(),
                gate,
                self.tasks.drain().clone(),
            ),
        );
    }

    /// Starts the self-check of the port, if it is enabled.
    pub(super) fn probe(&self, address: SocketAddr, own: Identity) {
        let serving = &self.args.serving;
        let interval = serving.liveness_probe_interval;
        if serving.liveness_probe_path.is_empty() || interval.is_zero() {
            return;
        }
        let options = probe::Options {
            file: serving.liveness_probe_path.clone().into(),
            interval,
            check_interval: serving.probe_check_interval,
            address,
            own,
        };
        let authority = Arc::clone(self.authority);
        let drain = self.tasks.drain().clone();
        self.tasks
            .keep("self-check", probe::run(authority, options, drain));
    }

    /// Name of this process among its replicas.
    fn pod_name(&self) -> String {
        let args = self.args;
        if !args.cluster.pod_name.is_empty() {
            return args.cluster.pod_name.clone();
        }
        let host = nix::unistd::gethostname().unwrap_or_default();
        host.to_string_lossy().into_owned()
    }
}
