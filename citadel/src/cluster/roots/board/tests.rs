use super::*;

struct Fixture {
    board: Board,
    now: Instant,
}

impl Fixture {
    /// A board with these namespaces; those in `with` already have the ConfigMap.
    fn new(namespaces: &[&str], with: &[(&str, bool)]) -> Self {
        let mut fixture = Self {
            board: Board::default(),
            now: Instant::now(),
        };
        fixture.list_namespaces(namespaces);
        fixture.list_maps(with);
        fixture
    }

    fn list_namespaces(&mut self, all: &[&str]) {
        self.board.namespaces_begin();
        for name in all {
            self.board.namespace(name, true);
        }
        self.board.namespaces_end();
    }

    fn list_maps(&mut self, all: &[(&str, bool)]) {
        self.board.maps_begin();
        for (namespace, is_right) in all {
            self.board.map(namespace, *is_right);
        }
        self.board.maps_end();
    }

    fn next(&mut self) -> Option<(String, bool)> {
        let (name, is_there) = self.board.next(self.now)?;
        Some((name.into(), is_there))
    }

    /// Does all pending work.
    fn work(&mut self) -> Vec<(String, bool)> {
        let mut all = Vec::new();
        while let Some((name, is_there)) = self.next() {
            self.board.done(&name, true, true, self.now);
            all.push((name, is_there));
        }
        // Wait until further writes are allowed.
        self.now += REST;
        all
    }
}

fn some(name: &str, is_there: bool) -> Option<(String, bool)> {
    Some((name.to_owned(), is_there))
}

#[test]
fn every_namespace_but_the_excluded_ones_gets_it() {
    let all = [
        "a",
        "b",
        "c",
        "kube-public",
        "kube-node-lease",
        "local-path-storage",
        "kube-system",
    ];
    let mut fixture = Fixture::new(&all, &[("b", false), ("c", true), ("kube-public", false)]);
    let wanted = [("a", false), ("b", true), ("kube-system", false)];
    assert_eq!(
        fixture.work(),
        wanted.map(|(name, is)| (name.to_owned(), is))
    );
    assert_eq!(fixture.next(), None);
}

#[test]
fn nothing_is_done_before_everything_is_known() {
    let mut board = Board::default();
    board.namespaces_begin();
    board.namespace("a", true);
    board.namespaces_end();
    assert_eq!(board.next(Instant::now()), None);
    board.maps_begin();
    board.map("a", true);
    board.maps_end();
    assert_eq!(board.next(Instant::now()), None);
}

#[test]
fn what_is_changed_or_deleted_is_repaired() {
    let mut fixture = Fixture::new(&["a"], &[("a", true)]);
    fixture.board.map("a", false);
    assert_eq!(fixture.work(), [("a".to_owned(), true)]);
    fixture.board.map_gone("a");
    assert_eq!(fixture.work(), [("a".to_owned(), false)]);
    // Missing in the next list only.
    fixture.list_maps(&[]);
    assert_eq!(fixture.work(), [("a".to_owned(), false)]);
    fixture.board.root_changed();
    assert_eq!(fixture.work(), [("a".to_owned(), true)]);
}

#[test]
fn namespaces_that_go_get_nothing_and_are_forgotten() {
    let mut fixture = Fixture::new(&["a", "b", "c"], &[]);
    fixture.board.namespace("a", false);
    fixture.board.namespace_gone("b");
    fixture.list_namespaces(&["a2"]);
    fixture.board.namespace_gone("a2");
    assert_eq!(fixture.next(), None);
    assert!(fixture.board.entries.is_empty() && fixture.board.due.is_empty());
}

#[test]
fn a_change_during_a_write_is_not_lost() {
    let mut fixture = Fixture::new(&["a"], &[]);
    assert_eq!(fixture.next(), some("a", false));
    // One at a time.
    fixture.board.map_gone("a");
    assert_eq!(fixture.next(), None);
    // The root changes during the write.
    fixture.board.root_changed();
    fixture.board.done("a", false, true, fixture.now);
    assert_eq!(fixture.next(), None);
    fixture.now += REST;
    assert_eq!(fixture.next(), some("a", true));
}

#[test]
fn a_fight_is_slow() {
    let mut fixture = Fixture::new(&["a", "b"], &[]);
    assert_eq!(fixture.next(), some("a", false));
    fixture.board.done("a", true, true, fixture.now);
    fixture.board.map("a", false);
    // It is not written again yet; others are.
    assert_eq!(fixture.next(), some("b", false));
    assert_eq!(fixture.next(), None);
    assert_eq!(fixture.board.wake(), Some(fixture.now + REST));
    fixture.now += REST;
    assert_eq!(fixture.next(), some("a", true));
}

#[test]
fn failures_are_repeated_quickly_and_then_slowly() {
    let mut fixture = Fixture::new(&["a"], &[]);
    let mut delays = Vec::new();
    for _ in 0..6 {
        assert_eq!(fixture.next(), some("a", false));
        fixture.board.failed("a", false, fixture.now);
        assert_eq!(fixture.next(), None);
        let wake = fixture.board.wake().unwrap();
        delays.push((wake - fixture.now).as_millis());
        fixture.now = wake;
    }
    assert_eq!(delays, [5, 10, 20, 40, 60_000, 60_000]);
    // A success resets the attempts.
    assert_eq!(fixture.work(), [("a".to_owned(), false)]);
    assert!(fixture.board.attempts.is_empty());
}

#[test]
fn what_cannot_work_is_not_repeated_quickly() {
    let mut fixture = Fixture::new(&["a"], &[]);
    assert_eq!(fixture.next(), some("a", false));
    fixture.board.failed("a", true, fixture.now);
    assert_eq!(fixture.board.wake(), Some(fixture.now + SLOW));
    // Except after a change.
    fixture.board.map("a", false);
    assert_eq!(fixture.next(), some("a", true));
}

#[test]
fn what_could_not_be_asked_is_due_again() {
    let mut fixture = Fixture::new(&["a"], &[]);
    assert_eq!(fixture.next(), some("a", false));
    fixture.board.postponed("a");
    assert_eq!(fixture.next(), some("a", false));
    fixture.board.namespace_gone("a");
    fixture.board.postponed("a");
    assert_eq!(fixture.next(), None);
}
