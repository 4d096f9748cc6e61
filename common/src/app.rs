//! What every process is made of while it runs. A process is built and bound by its own crate, which
//! finds wrong flags and ports in use before anything runs; [`run`] then runs it:
//!
//! ```text
//! arguments ─► bind ─► Bound ─► run(drain) ─► app::run ─► start: tasks ─► until the drain, or a failure
//! ```

use axum::Router;
use tokio::net::TcpListener;

use crate::admin::Admin;
use crate::args::MonitoringArgs;
use crate::metrics::Registry;
use crate::readiness::Readiness;
use crate::tasks::{self, Tasks};
use crate::{ctrlz, drain};

/// A process that starts.
#[derive(Debug)]
pub struct App {
    /// Its metrics.
    pub registry: Registry,
    /// Whether it can do its job.
    pub readiness: Readiness,
    /// What it does.
    pub tasks: Tasks,
}

/// Runs a process: `start` starts its tasks. Ends when all tasks have ended after the drain began.
///
/// # Errors
/// When `start` or a task fails.
pub async fn run<F, Fut>(component: &str, drain: drain::Watch, start: F) -> anyhow::Result<()>
where
    F: FnOnce(App) -> Fut,
    Fut: Future<Output = anyhow::Result<()>>,
{
    let registry = Registry::new(component);
    let (tasks, supervisor) = tasks::supervise(&registry, drain);
    let app = App {
        registry,
        readiness: Readiness::new(),
        tasks,
    };
    // Boxed, as the future that starts a process is large.
    supervisor.run(Box::pin(start(app))).await
}

impl App {
    /// When the process is to end.
    #[must_use]
    pub fn drain(&self) -> &drain::Watch {
        self.tasks.drain()
    }

    /// Serves metrics, health and `pages` on the monitoring port.
    pub fn monitor(&self, listener: TcpListener, pages: Router) {
        let admin = Admin::new(self.registry.clone(), self.readiness.clone()).merge(pages);
        self.tasks
            .keep("monitoring", admin.serve(listener, self.drain().clone()));
    }

    /// Serves the introspection pages and `pages`, if the arguments ask for them. The process
    /// goes on when they cannot be served.
    pub fn introspect(&self, args: MonitoringArgs, pages: Router) {
        self.tasks.once(
            "introspection",
            ctrlz::serve(args, self.registry.clone(), pages, self.drain().clone()),
        );
    }
}
