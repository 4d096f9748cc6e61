//! In which part of its life the proxy is, for everybody who must know.

use tokio::sync::watch;

/// The parts of the life, in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// Serving, or on the way to it.
    Running,
    /// Clients were told to go elsewhere (`/drain`): the next signal ends Envoy at once.
    Drained,
    /// Ending; not ready any more.
    Ending,
}

/// A handle that all parts share.
#[derive(Debug, Clone)]
pub struct Lifecycle {
    phase: watch::Sender<Phase>,
}

impl Default for Lifecycle {
    fn default() -> Self {
        Self {
            phase: watch::Sender::new(Phase::Running),
        }
    }
}

impl Lifecycle {
    /// Where the life has come to.
    #[must_use]
    pub fn phase(&self) -> Phase {
        *self.phase.borrow()
    }

    /// Goes on to `phase`, never back. Returns where the life was before.
    pub fn advance(&self, phase: Phase) -> Phase {
        let mut before = phase;
        self.phase.send_if_modified(|current| {
            before = *current;
            let later = phase > *current;
            if later {
                *current = phase;
            }
            later
        });
        before
    }

    /// Returns when the end is wanted (`/quitquitquit`).
    pub async fn ending(&self) {
        let mut phase = self.phase.subscribe();
        // The sender lives as long as `self`.
        let _ = phase.wait_for(|phase| *phase == Phase::Ending).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn life_goes_forward_only() {
        let life = Lifecycle::default();
        assert_eq!(life.advance(Phase::Drained), Phase::Running);
        assert_eq!(life.advance(Phase::Ending), Phase::Drained);
        assert_eq!(life.advance(Phase::Drained), Phase::Ending);
        assert_eq!(life.phase(), Phase::Ending);
        life.ending().await;
    }
}
