//! The phase of the proxy's lifecycle, shared by all parts of the agent.

use tokio::sync::watch;

/// Phases in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// Starting or serving.
    Running,
    /// Clients were asked to go elsewhere (`/drain`): the next signal ends Envoy at once.
    Drained,
    /// Terminating; no longer ready.
    Ending,
}

/// A shared handle.
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
    /// The current phase.
    #[must_use]
    pub fn phase(&self) -> Phase {
        *self.phase.borrow()
    }

    /// Advances to `phase`, never back. Returns the previous phase.
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

    /// Completes when termination is requested (`/quitquitquit`).
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
