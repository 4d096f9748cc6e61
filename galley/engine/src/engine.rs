//! The state of galley, without tasks and clocks of its own.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Instant;

use istio_api::collections::{COLLECTIONS, EMPTY_COLLECTIONS, SYNTHETIC_SERVICE_ENTRIES};
use mesh_core::mcp::{Collection, Snapshot};

use crate::native::{INGRESS_GROUP, Native};
use crate::object::{Config, Item};
use crate::problem::{Problem, Severity, effect};
use crate::processing::ingress::{Ingresses, Issue};
use crate::processing::reference::References;
use crate::processing::registry::Registry;
use crate::settings::Settings;
use crate::store::{Change, Store};
use crate::update::{FileUpdate, Update};
use istio_api::manifest::Key;

const VIRTUAL_SERVICES: &str = "istio/networking/v1alpha3/virtualservices";
const SERVICE_ENTRIES: &str = "istio/networking/v1alpha3/serviceentries";
const ISTIO_GROUP: &str = "networking.istio.io";
/// Version of a collection that never had a resource.
const EMPTY_VERSION: &str = "0";

/// The effects of an update.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Number of objects in force that changed.
    pub changes: usize,
    /// Problems that are new.
    pub new_problems: Vec<Problem>,
    /// Problems that are solved.
    pub solved: Vec<Problem>,
    /// Services for which no resource could be made, and why.
    pub failures: Vec<(Arc<str>, String)>,
}

/// All objects, and what is made from them.
#[derive(Debug)]
pub struct Engine {
    store: Store,
    registry: Registry,
    references: References,
    ingresses: Ingresses,
    /// Objects made from Ingresses, by collection and name; a configured object of the same name
    /// takes precedence.
    generated: HashMap<(&'static str, Arc<str>), Config>,
    ingress_problems: BTreeMap<Arc<str>, BTreeSet<Problem>>,
    root_problems: BTreeSet<Problem>,
    working: Snapshot,
    dirty: BTreeSet<&'static str>,
    /// Distinguishes the versions of this process from those of other replicas and earlier runs.
    epoch: String,
    counter: u64,
    synced: bool,
}

impl Engine {
    /// An empty engine. `epoch` should be unique to the process.
    pub fn new(settings: impl Into<Settings>, epoch: impl Into<String>) -> Self {
        let Settings { names, ingress } = settings.into();
        let mut working = Snapshot::default();
        let known = COLLECTIONS
            .iter()
            .chain([&SYNTHETIC_SERVICE_ENTRIES])
            .map(|row| row.name);
        for name in known.chain(EMPTY_COLLECTIONS.iter().map(|(name, _)| *name)) {
            let version = EMPTY_VERSION.into();
            working.insert(
                name,
                Collection {
                    version,
                    ..Collection::default()
                },
            );
        }
        Self {
            store: Store::default(),
            registry: Registry::new(names),
            references: References::default(),
            ingresses: Ingresses::new(ingress),
            generated: HashMap::new(),
            ingress_problems: BTreeMap::new(),
            root_problems: BTreeSet::new(),
            working,
            dirty: BTreeSet::new(),
            epoch: epoch.into(),
            counter: 0,
            synced: false,
        }
    }

    /// Names of all collections that are served.
    pub fn collections(&self) -> Vec<String> {
        self.working
            .iter()
            .map(|(name, _)| name.to_string())
            .collect()
    }

    /// Applies an update of the source.
    pub fn apply(&mut self, update: Update) -> Report {
        let mut report = Report::default();
        match update {
            Update::Files(files) => files
                .into_iter()
                .for_each(|file| self.file(file, &mut report)),
            Update::Synced => self.synced = true,
            Update::Root(problems) => {
                let problems: BTreeSet<_> = problems.into_iter().collect();
                report
                    .new_problems
                    .extend(problems.difference(&self.root_problems).cloned());
                report
                    .solved
                    .extend(self.root_problems.difference(&problems).cloned());
                self.root_problems = problems;
            }
        }
        self.synthesise(&mut report);
        self.convert_ingresses(&mut report);
        report
    }

    /// Applies new settings; everything that depends on them is made again.
    pub fn reconfigure(&mut self, settings: Settings) -> Report {
        let mut report = Report::default();
        self.registry.rename(settings.names);
        self.ingresses.reconfigure(settings.ingress);
        self.synthesise(&mut report);
        self.convert_ingresses(&mut report);
        report
    }

    fn file(&mut self, file: FileUpdate, report: &mut Report) {
        let applied = self.store.apply(file);
        report.changes += applied.changes.len();
        report.new_problems.extend(applied.new_problems);
        report.solved.extend(applied.solved);
        for Change { key, entry } in applied.changes {
            match entry.as_ref().map(|entry| &entry.item) {
                Some(Item::Config(config)) => self.config(&key, Some(config)),
                Some(Item::Native(native)) => self.native(&key, Some(native)),
                // Whichever it was: both ignore unknown identities.
                None => {
                    self.config(&key, None);
                    self.native(&key, None);
                }
            }
        }
    }

    fn native(&mut self, key: &Key, native: Option<&Native>) {
        self.registry.apply(key, native);
        self.ingresses.apply(key, native);
    }

    fn config(&mut self, key: &Key, config: Option<&Config>) {
        let Some(row) = istio_api::collections::by_gvk(key.group, key.kind) else {
            return;
        };
        let name: Arc<str> = key.full_name().into();
        let generated = match config {
            Some(_) => None,
            None => self.generated.get(&(row.name, name.clone())).cloned(),
        };
        self.set(row.name, &name, config.or(generated.as_ref()));
    }

    fn set(&mut self, collection: &'static str, name: &Arc<str>, config: Option<&Config>) {
        let resource = config.map(|config| &*config.resource);
        match collection {
            VIRTUAL_SERVICES => self.references.route(name, resource, self.registry.names()),
            SERVICE_ENTRIES => self.references.entry(collection, name, resource),
            _ if collection == SYNTHETIC_SERVICE_ENTRIES.name => {
                self.references.entry(collection, name, resource);
            }
            _ => {}
        }
        let Some(state) = self.working.get_mut(collection) else {
            return;
        };
        let changed = match config {
            Some(config) => {
                let held = state.resources.get(name);
                let same = held.and_then(|held| held.metadata.as_ref());
                if same.is_some_and(|metadata| metadata.version == config.version()) {
                    false
                } else {
                    state
                        .resources
                        .insert(name.clone(), config.resource.clone());
                    true
                }
            }
            None => state.resources.remove(name).is_some(),
        };
        if changed {
            self.dirty.insert(collection);
        }
    }

    fn synthesise(&mut self, report: &mut Report) {
        for (name, synthetic) in self.registry.rebuild() {
            let config = synthetic.map(|synthetic| synthetic.config);
            self.set(SYNTHETIC_SERVICE_ENTRIES.name, &name, config.as_ref());
        }
        report.failures.extend(self.registry.take_failures());
    }

    /// Ingresses are converted after the first synchronisation: the Services that they name may
    /// come later.
    fn convert_ingresses(&mut self, report: &mut Report) {
        if !self.synced {
            return;
        }
        let made = self.ingresses.rebuild(&self.registry);
        for ((kind, name), config) in made.resources {
            self.generate(kind, &name, config);
        }
        for (name, issues) in made.issues {
            let key = object_key(INGRESS_GROUP, "Ingress", &name);
            let problems = key.map(|key| self.ingress_problems(&key, issues));
            let problems = problems.unwrap_or_default();
            let former = if problems.is_empty() {
                self.ingress_problems.remove(&name)
            } else {
                self.ingress_problems.insert(name, problems.clone())
            };
            let former = former.unwrap_or_default();
            let new = problems.difference(&former);
            report.new_problems.extend(new.cloned());
            let solved = former.difference(&problems);
            report.solved.extend(solved.cloned());
        }
    }

    fn ingress_problems(&self, key: &Key, issues: Vec<Issue>) -> BTreeSet<Problem> {
        let Some((file, entry)) = self.store.place(key) else {
            return BTreeSet::new();
        };
        let problem = |issue: Issue| Problem {
            document: entry.document,
            line: entry.line,
            object: key.to_string(),
            field: issue.field,
            severity: Severity::Warning,
            ..Problem::file(file, issue.message, effect::NOT_ROUTED)
        };
        issues.into_iter().map(problem).collect()
    }

    /// Sets an object made from Ingresses, which counts if no configured object has its name.
    fn generate(&mut self, kind: &'static str, name: &Arc<str>, config: Option<Config>) {
        let Some(key) = object_key(ISTIO_GROUP, kind, name) else {
            return;
        };
        let Some(row) = istio_api::collections::by_gvk(key.group, key.kind) else {
            return;
        };
        if self.store.get(&key).is_none() {
            self.set(row.name, name, config.as_ref());
        }
        let slot = (row.name, name.clone());
        match config {
            Some(config) => self.generated.insert(slot, config),
            None => self.generated.remove(&slot),
        };
    }

    /// Whether there is something to publish; never before the first synchronisation.
    pub fn is_dirty(&self) -> bool {
        self.synced && !self.dirty.is_empty()
    }

    /// Whether the source has sent everything that existed at the start.
    pub fn is_synced(&self) -> bool {
        self.synced
    }

    /// The present state, with new versions for collections that changed.
    pub fn publish(&mut self) -> Arc<Snapshot> {
        for collection in std::mem::take(&mut self.dirty) {
            self.counter += 1;
            if let Some(state) = self.working.get_mut(collection) {
                state.version = format!("{}-{}", self.epoch, self.counter).into();
            }
        }
        Arc::new(self.working.clone())
    }

    /// References whose host has been missing for long enough, as problems, and when to ask again.
    pub fn overdue(&mut self, now: Instant) -> (Vec<Problem>, Option<Instant>) {
        let (missing, next) = self.references.overdue(now);
        let problems = missing
            .iter()
            .filter_map(|(route, host)| self.missing_host(route, host));
        (problems.collect(), next)
    }

    fn missing_host(&self, route: &str, host: &str) -> Option<Problem> {
        let key = object_key(ISTIO_GROUP, "VirtualService", route)?;
        let (file, entry) = self.store.place(&key)?;
        let message = format!(
            "it routes to {host}, which no Service or ServiceEntry declares: requests that \
             are routed there fail"
        );
        Some(Problem {
            document: entry.document,
            line: entry.line,
            object: key.to_string(),
            severity: Severity::Warning,
            ..Problem::file(file, message, effect::ACCEPTED)
        })
    }

    /// The store, for debug pages.
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// Number of resources by collection, without empty ones.
    pub fn counts(&self) -> BTreeMap<&str, usize> {
        let counts = self
            .working
            .iter()
            .map(|(name, state)| (&**name, state.resources.len()));
        counts.filter(|(_, count)| *count > 0).collect()
    }

    /// Number of problems, without those of VirtualServices with missing hosts.
    pub fn problem_count(&self) -> usize {
        let (_, of_files) = self.store.counts();
        let of_ingresses: usize = self.ingress_problems.values().map(BTreeSet::len).sum();
        of_files + of_ingresses + self.root_problems.len()
    }

    /// All problems.
    pub fn problems(&self) -> Vec<Problem> {
        let mut problems: Vec<_> = self.root_problems.iter().cloned().collect();
        problems.extend(self.store.doubles().cloned());
        for status in self.store.files(true).into_values() {
            problems.extend(status.problems);
        }
        problems.extend(self.ingress_problems.values().flatten().cloned());
        let missing = self.references.missing();
        problems.extend(missing.filter_map(|(route, host)| self.missing_host(route, host)));
        problems
    }

    /// Number of endpoints without a known Pod, by service.
    pub fn withheld(&self) -> BTreeMap<String, usize> {
        self.registry
            .withheld()
            .map(|(name, count)| (name.to_string(), *count))
            .collect()
    }
}

/// The identity of `namespace/name`.
fn object_key(group: &'static str, kind: &'static str, full_name: &str) -> Option<Key> {
    let (namespace, name) = full_name.split_once('/')?;
    Some(Key {
        group,
        kind,
        namespace: namespace.into(),
        name: name.into(),
    })
}

#[cfg(test)]
mod tests;
