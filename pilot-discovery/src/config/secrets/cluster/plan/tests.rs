#![allow(clippy::unwrap_used, reason = "test code")]

use super::{Action::*, *};

/// A plan with a clock that only the test moves.
struct Test {
    plan: Plan,
    now: Instant,
}

impl Test {
    fn new() -> Self {
        Self {
            plan: Plan::new(Timing::default()),
            now: Instant::now(),
        }
    }

    fn joined(&mut self, account: &Account) -> Vec<Action> {
        self.plan.joined(account, self.now);
        self.plan.take()
    }

    fn left(&mut self, account: &Account) -> Vec<Action> {
        self.plan.left(account, self.now);
        self.plan.take()
    }

    fn answered(&mut self, account: &Account, answer: Option<bool>) -> Vec<Action> {
        self.plan.answered(account, answer, self.now);
        self.plan.take()
    }

    fn listed(&mut self, namespace: &str) -> Vec<Action> {
        self.plan.listed(&namespace.into());
        self.plan.take()
    }

    /// The actions within the next seconds, with the second of each.
    fn within(&mut self, seconds: u64) -> Vec<(u64, Vec<Action>)> {
        let start = self.now;
        let mut done = Vec::new();
        while let Some(at) = self.plan.next()
            && at <= start + Duration::from_secs(seconds)
        {
            self.now = at;
            self.plan.tick(at);
            done.push(((at - start).as_secs(), self.plan.take()));
        }
        self.now = start + Duration::from_secs(seconds);
        done
    }
}

fn gateway(name: &str) -> Account {
    Account::new("edge", name)
}

#[test]
fn secrets_are_followed_for_those_who_may_see_them() {
    let (mut test, good, bad) = (Test::new(), gateway("good"), gateway("bad"));
    assert_eq!(test.joined(&bad), [Ask(bad.clone())]);
    // Another gateway of the account.
    assert_eq!(test.joined(&bad), []);
    assert_eq!(test.answered(&bad, Some(false)), [Tell(bad, Some(false))]);
    assert_eq!(test.joined(&good), [Ask(good.clone())]);
    assert_eq!(test.answered(&good, Some(true)), [Start("edge".into())]);
    // Nothing is reported before the Secrets are listed.
    let reported = [Tell(good, Some(true))];
    assert_eq!(test.listed("edge"), reported);
    assert_eq!(test.listed("edge"), []);
}

#[test]
fn answers_are_kept_for_their_time_and_asked_for_again() {
    let (mut test, good, bad) = (Test::new(), gateway("good"), gateway("bad"));
    for (account, answer) in [(&good, true), (&bad, false)] {
        test.joined(account);
        test.answered(account, Some(answer));
    }
    test.listed("edge");
    assert_eq!(test.within(60), [(60, vec![Ask(bad.clone())])]);
    // The right is granted, then revoked.
    assert_eq!(
        test.answered(&bad, Some(true)),
        [Tell(bad.clone(), Some(true))]
    );
    assert_eq!(test.within(240), [(240, vec![Ask(good.clone())])]);
    let reported = [Tell(good.clone(), Some(false))];
    assert_eq!(test.answered(&good, Some(false)), reported);
    assert_eq!(test.within(60), [(60, vec![Ask(bad), Ask(good)])]);
}

#[test]
fn without_an_answer_the_last_one_stays_and_questions_get_fewer() {
    let (mut test, account) = (Test::new(), gateway("a"));
    test.joined(&account);
    // Ten minutes without any answer.
    let mut pauses = Vec::new();
    let start = test.now;
    while test.now < start + Duration::from_secs(600) {
        assert_eq!(test.answered(&account, None), []);
        let before = test.now;
        let at = test.plan.next().unwrap();
        test.now = at;
        test.plan.tick(at);
        assert_eq!(test.plan.take(), [Ask(account.clone())]);
        pauses.push(at - before);
    }
    let (least, most) = (pauses.iter().min().unwrap(), pauses.iter().max().unwrap());
    assert!(*least >= Duration::from_secs(1) && *most <= Duration::from_secs(20));
    assert!((30..70).contains(&pauses.len()), "{pauses:?}");
    test.answered(&account, Some(true));
    assert_eq!(test.listed("edge"), [Tell(account.clone(), Some(true))]);
    // The same with an answer: the account is kept.
    test.within(300);
    for _ in 0..20 {
        assert_eq!(test.answered(&account, None), []);
        test.within(60);
    }
    assert_eq!(test.answered(&account, Some(true)), []);
}

#[test]
fn a_namespace_is_followed_for_a_minute_after_its_last_gateway() {
    let (mut test, one, two) = (Test::new(), gateway("1"), gateway("2"));
    for account in [&one, &two] {
        test.joined(account);
        test.answered(account, Some(true));
    }
    test.listed("edge");
    assert_eq!(test.left(&one), []);
    assert_eq!(test.within(120), []);
    assert_eq!(test.left(&two), []);
    assert_eq!(test.within(59), []);
    // Back in time, with an answer that is still valid.
    assert_eq!(test.joined(&two), []);
    assert_eq!(test.left(&two), []);
    let forgotten = |account: &Account| Tell(account.clone(), None);
    let end = vec![forgotten(&one), forgotten(&two), Stop("edge".into())];
    assert_eq!(test.within(60), [(60, end)]);
    // Back too late: the namespace is listed again; the answers are still known.
    assert_eq!(test.joined(&two), [Start("edge".into())]);
    let known = |account: &Account| Tell(account.clone(), Some(true));
    assert_eq!(test.listed("edge"), [known(&one), known(&two)]);
    test.left(&two);
    let gone = test.within(300);
    let last = gone.last().unwrap();
    assert_eq!(last.0, 61, "{gone:?}");
    assert!(test.plan.accounts.is_empty() && test.plan.timers.is_empty());
    assert!(test.plan.namespaces.is_empty() && test.plan.spare == 0);
}

#[test]
fn an_account_that_lost_its_right_ends_the_watch_too() {
    let (mut test, account) = (Test::new(), gateway("a"));
    test.joined(&account);
    test.answered(&account, Some(true));
    test.listed("edge");
    let reported = [Tell(account.clone(), Some(false))];
    assert_eq!(test.answered(&account, Some(false)), reported);
    // A review is due at the same time as the watch ends.
    let ends = test.within(60);
    let actions: Vec<_> = ends.into_iter().flat_map(|(_, actions)| actions).collect();
    assert_eq!(actions, [Ask(account), Stop("edge".into())]);
}

#[test]
fn accounts_that_left_are_bounded_in_number() {
    let mut test = Test::new();
    let accounts: Vec<_> = (0..SPARE + 10).map(|n| gateway(&n.to_string())).collect();
    for account in &accounts {
        test.joined(account);
        test.answered(account, Some(false));
        test.left(account);
    }
    assert_eq!((test.plan.accounts.len(), test.plan.spare), (SPARE, SPARE));
    // A late answer about a forgotten account is ignored.
    let gone = accounts.last().unwrap();
    assert_eq!(test.answered(gone, Some(true)), []);
}
