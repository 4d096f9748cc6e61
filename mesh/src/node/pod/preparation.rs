//! What a Pod needs before its first container starts: its sandbox, injection, files and volumes.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use k8s_openapi::api::core::v1::{Container, Pod};
use tokio::time::sleep;

use super::status::{ContainerStatus, Role, State};
use super::{PodTask, RETRY, single_id, volume};
use crate::node::sandbox::Sandbox;
use crate::node::{AFTER_FILES, inject, network};

impl PodTask {
    pub(super) async fn make_sandbox(&self) -> Sandbox {
        loop {
            let pod = self.reporter.get().pod;
            let sysctls = pod
                .spec
                .as_ref()
                .and_then(|spec| spec.security_context.as_ref()?.sysctls.as_ref())
                .into_iter()
                .flatten()
                .map(|sysctl| (sysctl.name.clone(), sysctl.value.clone()))
                .collect();
            let hostname = self.environment.subject.pod.clone();
            match network::connect_pod(self.index, hostname, self.environment.ip, sysctls).await {
                Ok(sandbox) => return sandbox,
                Err(error) => self.waiting(&error),
            }
            sleep(RETRY).await;
        }
    }

    /// What is run: the Pod, injected where that is wanted.
    pub(super) async fn prepare(&self) {
        self.admit().await;
        if self.environment.context.single_id {
            let mut pod = (*self.reporter.get().pod).clone();
            single_id::adapt(&mut pod);
            self.reporter.update(|status| status.pod = Arc::new(pod));
        }
    }

    async fn admit(&self) {
        let subject = &self.environment.subject;
        let context = &self.environment.context;
        let original = self.reporter.get().pod;
        if !inject::is_wanted(&context.store, &subject.namespace, &original) {
            return;
        }
        loop {
            match inject::admit(context, &subject.namespace, &original).await {
                Ok(injected) => {
                    self.reporter.update(|status| {
                        (status.pod, status.reason) = (Arc::new(injected), None);
                    });
                    return;
                }
                Err(error) => self.waiting(&error),
            }
            sleep(RETRY).await;
        }
    }

    pub(super) fn list_containers(&self) -> Vec<ContainerStatus> {
        let pod = self.reporter.get().pod;
        let spec = pod.spec.clone().unwrap_or_default();
        let status = |container: &Container, role| ContainerStatus {
            name: container.name.clone(),
            role,
            state: State::Waiting {
                reason: "not started yet".to_owned(),
            },
            started: false,
            ready: false,
            restarts: 0,
            last_code: None,
        };
        let init = spec.init_containers.iter().flatten().map(|container| {
            let stays = container.restart_policy.as_deref() == Some("Always");
            status(container, if stays { Role::Sidecar } else { Role::Init })
        });
        init.chain(
            spec.containers
                .iter()
                .map(|container| status(container, Role::App)),
        )
        .collect()
    }

    /// Control-plane Pods say in an annotation which files others must write first.
    pub(super) async fn wait_for_files(&self, pod: &Pod) {
        let Some(wanted) = pod
            .metadata
            .annotations
            .as_ref()
            .and_then(|all| all.get(AFTER_FILES))
        else {
            return;
        };
        let mut written = self.environment.context.files.clone();
        for path in wanted.split(',').map(str::trim) {
            loop {
                written.mark_unchanged();
                match volume::shared_path(&self.environment.context.layout, path) {
                    Ok(place) if place.is_file() => break,
                    Ok(_) => self.waiting(&anyhow::anyhow!("{path} is not written yet")),
                    Err(error) => self.waiting(&error),
                }
                tokio::select! {
                    _ = written.changed() => {}
                    () = sleep(RETRY) => {}
                }
            }
        }
        self.reporter.update(|status| status.reason = None);
    }

    pub(super) async fn fill_volumes(&self, pod: &Pod) {
        let mut objects = self.environment.context.generation.clone();
        loop {
            objects.mark_unchanged();
            match self.refresh_volumes(pod) {
                Ok(_) => break,
                Err(error) => self.waiting(&error),
            }
            tokio::select! {
                _ = objects.changed() => {}
                () = sleep(RETRY) => {}
            }
        }
        self.reporter.update(|status| status.reason = None);
    }

    pub(super) fn refresh_volumes(&self, pod: &Pod) -> Result<Option<Duration>> {
        let spec = pod.spec.clone().unwrap_or_default();
        let directory = self
            .environment
            .context
            .layout
            .pod(&self.environment.subject.pod_uid);
        std::fs::create_dir_all(&directory)
            .with_context(|| format!("make {}", directory.display()))?;
        self.environment
            .with_volumes(pod, |volumes| volumes.fill(&spec))
    }
}
