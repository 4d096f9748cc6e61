//! One secret stream: receives requests and sends changed secrets.

use std::{
    collections::BTreeMap,
    sync::atomic::{AtomicU64, Ordering},
    time::SystemTime,
};

use istio_api::envoy::service::discovery::v3::{DiscoveryRequest, DiscoveryResponse};
use tokio::sync::mpsc;
use tonic::{Status, Streaming};

use super::{
    Shared,
    resource::{Content, response},
    subscription::{Action, Subscription},
};
use crate::secret::{WORKLOAD, file::Source};

/// Number of the next response of this process.
static COUNTER: AtomicU64 = AtomicU64::new(1);

type Answers = mpsc::Sender<Result<DiscoveryResponse, Status>>;

/// Serves the stream until the peer closes it or requests something that is not allowed.
pub(super) async fn run(requests: Streaming<DiscoveryRequest>, answers: Answers, shared: Shared) {
    shared.metrics.streams.inc();
    let mut state = State {
        subscription: Subscription::default(),
        sent: BTreeMap::new(),
        wanted: Vec::new(),
        answers,
        shared,
    };
    if let Err(status) = state.serve(requests).await {
        tracing::debug!(%status, "closing a secret stream");
        // A peer that closed the stream does not need the reason.
        let _ = state.answers.send(Err(status)).await;
    }
    for source in &state.wanted {
        state.shared.files.remove(source);
    }
    state.shared.metrics.streams.dec();
}

struct State {
    subscription: Subscription,
    sent: BTreeMap<String, Content>,
    wanted: Vec<Source>,
    answers: Answers,
    shared: Shared,
}

impl State {
    async fn serve(&mut self, mut requests: Streaming<DiscoveryRequest>) -> Result<(), Status> {
        let mut files = self.shared.files.contents();
        loop {
            let asked = tokio::select! {
                request = requests.message() => match request? {
                    Some(request) => self.on_request(&request)?,
                    None => return Ok(()),
                },
                changed = self.shared.secrets.changed() => {
                    changed.map_err(|_| Status::unavailable("the agent is terminating"))?;
                    self.check_expiry()?;
                    false
                }
                changed = files.changed() => {
                    changed.map_err(|_| Status::unavailable("the agent is terminating"))?;
                    false
                }
                () = self.answers.closed() => return Ok(()),
            };
            let pending = self.pending();
            if asked {
                self.send(pending).await?;
            } else {
                for one in pending {
                    self.send(vec![one]).await?;
                }
            }
        }
    }

    /// Returns whether the request needs a response.
    fn on_request(&mut self, request: &DiscoveryRequest) -> Result<bool, Status> {
        let action = self.subscription.on_request(request);
        self.follow_files();
        match action {
            Action::Respond(names) => {
                for name in names {
                    self.sent.remove(&name);
                }
                Ok(true)
            }
            Action::Rejected(error) => {
                self.shared.metrics.rejected.inc();
                tracing::error!(error, names = ?request.resource_names, "Envoy rejected a secret");
                Ok(false)
            }
            Action::Nothing => Ok(false),
            Action::Refuse(reason) => Err(Status::invalid_argument(reason)),
        }
    }

    fn follow_files(&mut self) {
        let now: Vec<Source> = self
            .subscription
            .names()
            .filter_map(Source::parse)
            .collect();
        for source in now.iter().filter(|source| !self.wanted.contains(source)) {
            self.shared.files.add(source.clone());
        }
        for source in self.wanted.iter().filter(|source| !now.contains(source)) {
            self.shared.files.remove(source);
        }
        self.wanted = now;
        let subscription = &self.subscription;
        self.sent
            .retain(|name, _| subscription.names().any(|wanted| wanted == name));
    }

    /// Requested secrets that exist and were not sent with their current content.
    fn pending(&mut self) -> Vec<(String, Content)> {
        let secrets = self.shared.secrets.borrow_and_update().clone();
        let files = self.shared.files.contents().borrow().clone();
        self.subscription
            .names()
            .filter_map(|name| Some((name.to_owned(), Content::of(name, &secrets, &files)?)))
            .filter(|(name, content)| self.sent.get(name) != Some(content))
            .collect()
    }

    /// Ends the stream of a peer that holds an expired certificate, to signal the expiry. A peer
    /// without a certificate keeps waiting.
    fn check_expiry(&self) -> Result<(), Status> {
        if self.shared.secrets.borrow().expired && self.sent.contains_key(WORKLOAD) {
            return Err(Status::unavailable(format!(
                "failed to generate secret for {WORKLOAD}: the certificate has expired and \
                 could not be renewed"
            )));
        }
        Ok(())
    }

    async fn send(&mut self, resources: Vec<(String, Content)>) -> Result<(), Status> {
        if resources.is_empty() {
            return Ok(());
        }
        let nonce = nonce();
        let answer = response(
            &resources,
            SystemTime::now(),
            COUNTER.fetch_add(1, Ordering::Relaxed),
            nonce.clone(),
        );
        self.answers
            .send(Ok(answer))
            .await
            .map_err(|_| Status::cancelled("the peer closed the stream"))?;
        self.subscription.sent(&nonce);
        self.sent.extend(resources);
        Ok(())
    }
}

/// A random UUID.
fn nonce() -> String {
    let bits: u128 = rand::random();
    let bits = (bits & !(0xf << 76) & !(0x3 << 62)) | (0x4 << 76) | (0x2 << 62);
    let hex = format!("{bits:032x}");
    let mut out = String::with_capacity(36);
    for (at, digit) in hex.chars().enumerate() {
        if matches!(at, 8 | 12 | 16 | 20) {
            out.push('-');
        }
        out.push(digit);
    }
    out
}
