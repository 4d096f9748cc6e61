//! Graceful shutdown: one [`Trigger`], and a [`Watch`] in every task that must finish its work.

use std::time::Duration;

use tokio::sync::{mpsc, watch};

/// Starts the shutdown and waits for the owners of a [`Watch`].
#[derive(Debug)]
pub struct Trigger {
    signal: watch::Sender<bool>,
    gone: mpsc::Receiver<()>,
}

/// Signals the shutdown to a task. [`Trigger::drain`] waits while any clone exists.
#[derive(Clone, Debug)]
pub struct Watch {
    signal: watch::Receiver<bool>,
    _guard: mpsc::Sender<()>,
}

/// A connected pair.
#[must_use]
pub fn channel() -> (Trigger, Watch) {
    let (signal, receiver) = watch::channel(false);
    let (guard, gone) = mpsc::channel(1);
    (
        Trigger { signal, gone },
        Watch {
            signal: receiver,
            _guard: guard,
        },
    )
}

impl Trigger {
    /// Wakes everything that waits on [`Watch::signaled`]. May be called again.
    pub fn signal(&self) {
        self.signal.send_replace(true);
    }

    /// Signals, then waits until the last [`Watch`] is dropped. Returns false at the `deadline`.
    pub async fn drain(mut self, deadline: Duration) -> bool {
        self.signal();
        // Nothing is ever sent: `None` means that the last sender was dropped.
        tokio::time::timeout(deadline, self.gone.recv())
            .await
            .is_ok()
    }
}

impl Watch {
    /// Returns when the shutdown has begun, or the trigger is dropped; at once if it has happened.
    ///
    /// The future owns its data and is cancel-safe.
    pub fn signaled(&self) -> impl Future<Output = ()> + Send + 'static {
        let mut signal = self.signal.clone();
        async move {
            // An error means that the trigger was dropped, so that there is nothing to wait for.
            let _: Result<_, watch::error::RecvError> =
                signal.wait_for(|set| *set).await.map(|_| ());
        }
    }

    /// Whether the shutdown has begun.
    #[must_use]
    pub fn is_signaled(&self) -> bool {
        *self.signal.borrow() || self.signal.has_changed().is_err()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn drain_waits_for_every_watch() {
        let (trigger, watch) = channel();
        let second = watch.clone();
        let (done_tx, done_rx) = tokio::sync::oneshot::channel();
        tokio::spawn(async move {
            watch.signaled().await;
            drop(watch);
            done_tx.send(()).unwrap();
            second.signaled().await;
            drop(second);
        });
        assert!(trigger.drain(Duration::from_secs(5)).await);
        done_rx.await.unwrap();
    }

    #[tokio::test]
    async fn drain_gives_up_at_the_deadline() {
        let (trigger, watch) = channel();
        assert!(!watch.is_signaled());
        assert!(!trigger.drain(Duration::from_millis(1)).await);
        assert!(watch.is_signaled());
        watch.signaled().await;
    }

    #[tokio::test]
    async fn a_lost_trigger_counts_as_signal() {
        let (trigger, watch) = channel();
        drop(trigger);
        watch.signaled().await;
        assert!(watch.is_signaled());
    }
}
