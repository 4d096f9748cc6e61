//! The decisions of an election: pure, time is an argument.

use std::time::Instant;

use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use k8s_openapi::jiff::Timestamp;

use super::Timing;

/// What one process knows about the Lease.
#[derive(Debug)]
pub(super) struct Election {
    identity: String,
    timing: Timing,
    /// The state of the Lease at the last look, and when it was first seen.
    seen: Option<(Option<LeaseSpec>, Instant)>,
}

impl Election {
    pub(super) const fn new(identity: String, timing: Timing) -> Self {
        Self {
            identity,
            timing,
            seen: None,
        }
    }

    /// The Lease to write over the one that was found (or to create) to become the leader; `None`
    /// while another process is. `wall` is only for people.
    pub(super) fn look(
        &mut self,
        found: Option<&Lease>,
        now: Instant,
        wall: Timestamp,
    ) -> Option<Lease> {
        let spec = found.and_then(|lease| lease.spec.as_ref());
        let since = match &self.seen {
            Some((seen, since)) if seen.as_ref() == spec => *since,
            _ => {
                self.seen = Some((spec.cloned(), now));
                now
            }
        };
        let before = spec.cloned().unwrap_or_default();
        let holder = before.holder_identity.as_deref().unwrap_or_default();
        let is_ours = holder == self.identity;
        if !is_ours && !holder.is_empty() {
            let theirs = before.lease_duration_seconds.unwrap_or_default();
            let theirs = u64::try_from(theirs).unwrap_or_default();
            // By our own clock: that of the other machine may be wrong.
            if now.saturating_duration_since(since).as_secs() < theirs {
                return None;
            }
        }
        let transitions = before.lease_transitions.unwrap_or_default();
        let acquired = before.acquire_time.filter(|_| is_ours);
        let seconds = i32::try_from(self.timing.duration.as_secs()).unwrap_or(i32::MAX);
        let mut lease = found.cloned().unwrap_or_default();
        lease.spec = Some(LeaseSpec {
            holder_identity: Some(self.identity.clone()),
            lease_duration_seconds: Some(seconds),
            acquire_time: Some(acquired.unwrap_or(MicroTime(wall))),
            renew_time: Some(MicroTime(wall)),
            lease_transitions: Some(if is_ours {
                transitions
            } else {
                transitions.saturating_add(1)
            }),
            ..LeaseSpec::default()
        });
        Some(lease)
    }

    /// The claim that was requested at `asked` is written; returns until when it may be relied on.
    pub(super) fn won(&self, asked: Instant) -> Instant {
        asked + self.timing.certain
    }

    /// The Lease without a holder; `None` if it is not ours.
    pub(super) fn released(&self, mut lease: Lease) -> Option<Lease> {
        let spec = lease.spec.as_mut()?;
        if spec.holder_identity.as_ref() != Some(&self.identity) {
            return None;
        }
        spec.holder_identity = None;
        spec.acquire_time = None;
        spec.renew_time = None;
        Some(lease)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const WALL: Timestamp = Timestamp::UNIX_EPOCH;

    fn election(name: &str) -> Election {
        Election::new(name.to_owned(), Timing::default())
    }

    fn holder(lease: &Lease) -> (Option<&str>, Option<i32>) {
        let spec = lease.spec.as_ref().unwrap();
        (spec.holder_identity.as_deref(), spec.lease_transitions)
    }

    #[test]
    fn a_claim_that_is_renewed_is_respected_and_one_that_is_not_is_taken_over() {
        let (mut a, mut b, start) = (election("a"), election("b"), Instant::now());
        let at = |seconds| start + Duration::from_secs(seconds);
        let first = a.look(None, at(0), WALL).unwrap();
        assert_eq!(holder(&first), (Some("a"), Some(1)));
        assert_eq!(b.look(Some(&first), at(1), WALL), None);
        assert_eq!(b.look(Some(&first), at(15), WALL), None);
        let later = Timestamp::from_second(10).unwrap();
        let second = a.look(Some(&first), at(10), later).unwrap();
        assert_eq!(holder(&second), (Some("a"), Some(1)));
        let times = |lease: &Lease| {
            let spec = lease.spec.clone().unwrap();
            (spec.acquire_time.unwrap().0, spec.renew_time.unwrap().0)
        };
        assert_eq!(times(&second), (WALL, later));
        // Counted from when the renewal was seen: its 15 s begin at 16.
        assert_eq!(b.look(Some(&second), at(16), WALL), None);
        assert_eq!(b.look(Some(&second), at(30), WALL), None);
        let third = b.look(Some(&second), at(31), WALL).unwrap();
        assert_eq!(holder(&third), (Some("b"), Some(2)));
        assert_eq!(a.look(Some(&third), at(32), WALL), None);
    }

    #[test]
    fn a_claim_is_certain_for_less_time_than_it_keeps_others_away() {
        let (timing, asked) = (Timing::default(), Instant::now());
        assert!(election("a").won(asked) < asked + timing.duration);
    }

    #[test]
    fn a_lease_that_is_let_go_is_taken_at_once() {
        let (mut a, mut b, now) = (election("a"), election("b"), Instant::now());
        let mut lease = a.look(None, now, WALL).unwrap();
        lease.metadata.resource_version = Some("7".to_owned());
        assert_eq!(b.look(Some(&lease), now, WALL), None);
        let taken = b.look(Some(&a.released(lease).unwrap()), now, WALL);
        let taken = taken.unwrap();
        assert_eq!(a.released(taken.clone()), None);
        assert_eq!(holder(&taken), (Some("b"), Some(2)));
        // The write is rejected if another process was faster.
        assert_eq!(taken.metadata.resource_version.as_deref(), Some("7"));
    }
}
