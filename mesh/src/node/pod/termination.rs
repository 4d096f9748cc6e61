//! The end of a Pod: hooks, signals and the grace period.

use std::time::Duration;

use futures::future::join_all;
use tokio::time::{Instant, timeout_at};

use super::container::Wish;
use super::probe::Target;
use super::status::{Phase, Role};
use super::{Member, PodTask};

/// As in Kubernetes, for Pods without a grace period.
const DEFAULT_GRACE: Duration = Duration::from_secs(30);

impl PodTask {
    pub(super) async fn terminate(&mut self) {
        // This takes the Pod out of all endpoints.
        self.reporter.update(|status| {
            (status.phase, status.reason) = (Phase::Terminating, None);
        });
        for member in &self.members {
            member.wish.send_replace(Wish::NoRestart);
        }
        let pod = self.reporter.get().pod;
        let grace = pod
            .spec
            .as_ref()
            .and_then(|spec| u64::try_from(spec.termination_grace_period_seconds?).ok())
            .map_or(DEFAULT_GRACE, Duration::from_secs);
        let deadline = Instant::now() + grace;
        let mut members = std::mem::take(&mut self.members);
        let (apps, sidecars): (Vec<_>, Vec<_>) = members
            .drain(..)
            .partition(|member| member.role == Role::App);
        // As the kubelet: the hooks of all at once; sidecars end after the last container.
        let hooks = join_all(
            sidecars
                .iter()
                .map(|member| self.pre_stop(member, deadline)),
        );
        let ends = join_all(apps.into_iter().map(|member| async {
            self.pre_stop(&member, deadline).await;
            stop(member, deadline).await;
        }));
        tokio::join!(hooks, ends);
        for member in sidecars.into_iter().rev() {
            stop(member, deadline).await;
        }
    }

    async fn pre_stop(&self, member: &Member, deadline: Instant) {
        let name = &member.container.name;
        let Some(hook) = member
            .container
            .lifecycle
            .as_ref()
            .and_then(|all| all.pre_stop.as_ref())
        else {
            return;
        };
        let Some(pid) = self.reporter.get().pid(name) else {
            return;
        };
        let target = Target {
            ip: self.environment.ip,
            pid: nix::unistd::Pid::from_raw(pid),
            container: member.container.clone(),
        };
        let limit = deadline.saturating_duration_since(Instant::now());
        if let Err(error) = target.hook(hook, limit).await {
            tracing::warn!(
                pod = self.environment.subject.pod,
                container = name,
                "preStop: {error:#}"
            );
        }
    }
}

async fn stop(member: Member, deadline: Instant) {
    member.wish.send_replace(Wish::Stop(deadline));
    // SIGKILL comes at the deadline; a second more for the kernel to clear up.
    let latest = deadline + Duration::from_secs(1);
    if timeout_at(latest, member.task).await.is_err() {
        tracing::warn!(
            container = member.container.name,
            "did not end after SIGKILL"
        );
    }
}
