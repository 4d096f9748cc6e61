//! Keeps the workload certificate valid: obtains it, renews it, and publishes the secrets to serve.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, SystemTime},
};

use mesh_common::backoff::Backoff;
use mesh_common::fswatch::{self, WatchDied};
use tokio::{sync::watch, time::Instant};

use super::{
    Secrets, ca, chain,
    file::{Content, Source, read_settled},
    key::{self, Algorithm},
    metrics::Metrics,
    output, rotation, trust,
};

/// Shortest and longest delay between two attempts to get a certificate.
const RETRY: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(60));
/// Interval of clock checks, as the clock may be changed while the process sleeps.
const CLOCK_CHECK: Duration = Duration::from_secs(30);

/// Source of the workload certificate.
#[derive(Debug, Clone)]
pub enum Origin {
    /// Signed by the certificate authority.
    Authority {
        /// The client.
        client: Box<ca::Client>,
        /// SPIFFE identity to request.
        identity: String,
        /// Key type.
        algorithm: Algorithm,
        /// Requested lifetime.
        ttl: Duration,
        /// Share of the lifetime that is left at renewal.
        grace: f64,
        /// Random part of that share.
        jitter: f64,
    },
    /// Read from this directory, where another program puts it.
    Files(PathBuf),
}

/// The task that maintains the certificates.
#[derive(Debug)]
pub struct Manager {
    /// Source of the certificate.
    pub origin: Origin,
    /// A mounted root that is trusted in addition to that of the authority.
    pub mesh_root: PathBuf,
    /// A mounted revocation list.
    pub revocation_list: PathBuf,
    /// Roots of the proxy configuration.
    pub anchors: Vec<String>,
    /// Copies in files: directory and mode.
    pub output: Option<(PathBuf, u32)>,
    /// Time that files must stay unchanged before they are read.
    pub debounce: Duration,
    /// Counters.
    pub metrics: Metrics,
    /// The published secrets.
    pub secrets: watch::Sender<Secrets>,
}

impl Manager {
    /// Runs until it is dropped or fails.
    ///
    /// # Errors
    /// When files are no longer watched.
    pub async fn run(self) -> Result<(), WatchDied> {
        match self.origin.clone() {
            Origin::Files(directory) => self.follow_files(&directory).await,
            Origin::Authority { .. } => self.keep_issued().await,
        }
    }

    async fn keep_issued(self) -> Result<(), WatchDied> {
        let mut mounted = fswatch::watch(
            vec![self.mesh_root.clone(), self.revocation_list.clone()],
            self.debounce,
        );
        let mut roots = String::new();
        let mut anchors = self.read_anchors();
        let mut retry = Backoff::new(RETRY.0, RETRY.1);
        self.publish(None, &roots, &anchors);
        loop {
            let pause = match self.issue().await {
                Ok((issued, pause)) => {
                    retry.reset();
                    roots.clone_from(&issued.roots);
                    self.publish(Some(issued.workload), &roots, &anchors);
                    pause
                }
                Err(problem) => {
                    let pause = retry.next();
                    tracing::warn!(error = problem, retry_in = ?pause, "cannot get a certificate");
                    pause
                }
            };
            let due = Instant::now() + pause;
            loop {
                self.mark_expiry();
                tokio::select! {
                    () = tokio::time::sleep_until(due.min(self.next_look())) => {
                        if Instant::now() >= due {
                            break;
                        }
                    }
                    change = mounted.next() => {
                        change?;
                        let now = self.read_anchors();
                        if now != anchors {
                            tracing::info!("mounted roots have changed, renewing the certificate");
                            anchors = now;
                            self.publish(None, &roots, &anchors);
                            break;
                        }
                        self.publish(None, &roots, &anchors);
                    }
                }
            }
        }
    }

    /// A new certificate and how long to wait before it is renewed.
    async fn issue(&self) -> Result<(chain::Issued, Duration), String> {
        let Origin::Authority {
            client,
            identity,
            algorithm,
            ttl,
            grace,
            jitter,
        } = &self.origin
        else {
            return Err("certificates come from files".to_owned());
        };
        let request = key::request(identity, *algorithm)
            .map_err(|error| format!("cannot create a key: {error}"))?;
        let current = self.secrets.borrow().workload.clone();
        let answer = client
            .sign(&request.csr_pem, *ttl, current.as_deref())
            .await
            .map_err(|error| error.to_string())?;
        let now = SystemTime::now();
        let issued = chain::check(&answer, &request, now).map_err(|error| error.to_string())?;
        if issued.identity.as_deref() != Some(identity) {
            tracing::warn!(
                wanted = identity,
                got = issued.identity.as_deref().unwrap_or("none"),
                "the certificate has another identity than requested"
            );
        }
        let random = rand::random_range(-1.0..=1.0);
        let pause = rotation::delay(now, issued.workload.not_after, now, *grace, *jitter, random);
        tracing::info!(
            identity = issued.identity.as_deref().unwrap_or("none"),
            valid_for = ?issued.workload.not_after.duration_since(now).unwrap_or_default(),
            renewed_in = ?pause,
            "workload certificate received"
        );
        Ok((issued, pause))
    }

    fn next_look(&self) -> Instant {
        let until_end = self
            .secrets
            .borrow()
            .workload
            .as_ref()
            .and_then(|workload| workload.not_after.duration_since(SystemTime::now()).ok())
            .unwrap_or(CLOCK_CHECK);
        Instant::now() + until_end.clamp(Duration::from_millis(100), CLOCK_CHECK)
    }

    fn mark_expiry(&self) {
        self.secrets.send_if_modified(|secrets| {
            let expired = secrets
                .workload
                .as_ref()
                .is_some_and(|workload| !workload.is_valid(SystemTime::now()));
            if expired && !secrets.expired {
                tracing::error!("the workload certificate has expired and could not be renewed");
            }
            std::mem::replace(&mut secrets.expired, expired) != expired
        });
    }

    fn read_anchors(&self) -> Vec<String> {
        let mounted = match std::fs::read_to_string(&self.mesh_root) {
            Ok(text) => Some(text),
            Err(error) => {
                tracing::debug!(path = %self.mesh_root.display(), %error, "no mounted root");
                None
            }
        };
        self.anchors.iter().cloned().chain(mounted).collect()
    }

    /// Publishes everything in one step, so that a stream sends the new root before the new
    /// certificate.
    fn publish(&self, workload: Option<super::Workload>, roots: &str, anchors: &[String]) {
        let bundle = trust::union(std::iter::once(roots).chain(anchors.iter().map(String::as_str)));
        let revocation_list: Option<Arc<str>> = std::fs::read_to_string(&self.revocation_list)
            .ok()
            .map(Into::into);
        self.secrets.send_if_modified(|secrets| {
            let before = secrets.clone();
            if let Some(workload) = workload {
                secrets.workload = Some(Arc::new(workload));
                secrets.expired = false;
            }
            // The mounted root alone would suffice to verify pilot, but the bundle would be pushed
            // again as soon as the authority responds: it is published with the first response.
            if secrets.workload.is_some()
                && !bundle.is_empty()
                && secrets.trust.as_deref() != Some(bundle.as_str())
            {
                secrets.trust = Some(bundle.into());
            }
            secrets.revocation_list = revocation_list;
            *secrets != before
        });
        self.write_output();
    }

    fn write_output(&self) {
        let Some((directory, mode)) = &self.output else {
            return;
        };
        let secrets = self.secrets.borrow().clone();
        if let Err(error) = output::write(directory, &secrets, *mode) {
            tracing::error!(%error, "cannot write the certificates to OUTPUT_CERTS");
        }
    }

    async fn follow_files(self, directory: &Path) -> Result<(), WatchDied> {
        let pair = Source::Pair {
            chain: directory.join(output::CHAIN),
            key: directory.join(output::KEY),
        };
        let roots = Source::Roots(directory.join(output::ROOT));
        let watched = [output::CHAIN, output::KEY, output::ROOT].map(|name| directory.join(name));
        let mut events = fswatch::watch(watched.to_vec(), self.debounce);
        loop {
            match read_settled(&pair, self.debounce).await {
                Ok(Content::Pair(workload)) => {
                    self.secrets.send_if_modified(|secrets| {
                        let changed = secrets.workload.as_ref() != Some(&workload);
                        if changed {
                            secrets.workload = Some(workload);
                        }
                        changed
                    });
                }
                Ok(Content::Roots(_)) => {}
                Err(problem) => self.file_problem(&problem),
            }
            match read_settled(&roots, self.debounce).await {
                Ok(Content::Roots(roots)) => {
                    let bundle = trust::union(
                        std::iter::once(&*roots).chain(self.anchors.iter().map(String::as_str)),
                    );
                    self.secrets.send_if_modified(|secrets| {
                        let changed = secrets.trust.as_deref() != Some(bundle.as_str());
                        if changed {
                            secrets.trust = Some(bundle.into());
                        }
                        changed
                    });
                }
                Ok(Content::Pair(_)) => {}
                Err(problem) => self.file_problem(&problem),
            }
            self.write_output();
            events.next().await?;
        }
    }

    fn file_problem(&self, problem: &str) {
        self.metrics.file_failures.inc();
        tracing::error!(problem, "cannot use a mounted certificate");
    }
}
