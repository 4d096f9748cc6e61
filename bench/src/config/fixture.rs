//! The directory: objects of every common kind, and changes of one of them.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

/// Objects in a directory.
#[derive(Debug)]
pub struct Fixture {
    folder: PathBuf,
    per_file: usize,
    /// Where replacements are written, outside of what galley watches.
    beside: PathBuf,
}

/// Label that a change sets.
pub const MARK: &str = "mark";

impl Fixture {
    /// Writes `objects` objects into files below `folder`, `per_file` to each.
    ///
    /// # Errors
    /// When a file cannot be written.
    pub fn create(folder: &Path, objects: usize, per_file: usize) -> anyhow::Result<Self> {
        let fixture = Self {
            folder: folder.to_owned(),
            per_file,
            beside: folder.with_extension("new"),
        };
        for file in 0..objects.div_ceil(per_file) {
            let path = fixture.path(file);
            if let Some(parent) = path.parent() {
                std::fs::create_dir_all(parent)?;
            }
            let most = objects.min((file + 1) * per_file);
            std::fs::write(path, text(file * per_file..most, None))?;
        }
        Ok(fixture)
    }

    fn path(&self, file: usize) -> PathBuf {
        let folder = self.folder.join(format!("ns{}", file % NAMESPACES));
        folder.join(format!("{file}.yaml"))
    }

    /// Name of the resource that an object becomes.
    #[must_use]
    pub fn name(object: usize) -> String {
        format!("ns{}/o{object}", object % NAMESPACES)
    }

    /// Rewrites the file of an object at once, with `mark` at that object.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn change(&self, object: usize, mark: &str) -> anyhow::Result<()> {
        let file = object / self.per_file;
        let all = file * self.per_file..(file + 1) * self.per_file;
        std::fs::write(&self.beside, text(all, Some((object, mark))))?;
        std::fs::rename(&self.beside, self.path(file))?;
        Ok(())
    }
}

const NAMESPACES: usize = 50;

fn text(objects: std::ops::Range<usize>, marked: Option<(usize, &str)>) -> String {
    let mut text = String::new();
    for number in objects {
        let (kind, spec) = spec(number);
        let mark = match marked {
            Some((object, mark)) if object == number => mark,
            _ => "none",
        };
        let namespace = number % NAMESPACES;
        // Writing to a string cannot fail.
        let _ = write!(
            text,
            "---\napiVersion: {kind}\nmetadata:\n  name: o{number}\n  namespace: ns{namespace}\n  \
             labels: {{app: a{number}, team: t{namespace}, {MARK}: {mark}}}\nspec:\n{spec}"
        );
    }
    text
}

/// `apiVersion` and `kind`, and the spec: of ten objects four VirtualServices, two
/// DestinationRules, two ServiceEntries, a Sidecar and an AuthorizationPolicy.
fn spec(number: usize) -> (&'static str, String) {
    let host = format!("s{number}.ns{}.svc.cluster.local", number % NAMESPACES);
    match number % 10 {
        0..=3 => (
            "networking.istio.io/v1\nkind: VirtualService",
            format!(
                "  hosts: [{host}]\n  http:\n  - match: [{{uri: {{prefix: /api/v{number}}}, \
                 headers: {{x-user: {{exact: u{number}}}}}}}]\n    route:\n    - destination: \
                 {{host: {host}, subset: v1, port: {{number: 80}}}}\n      weight: 90\n    - \
                 destination: {{host: {host}, subset: v2, port: {{number: 80}}}}\n      weight: 10\n    \
                 timeout: 5s\n    retries: {{attempts: 3, perTryTimeout: 2s}}\n  - route: \
                 [{{destination: {{host: {host}}}}}]\n"
            ),
        ),
        4 | 5 => (
            "networking.istio.io/v1\nkind: DestinationRule",
            format!(
                "  host: {host}\n  trafficPolicy:\n    connectionPool: {{http: \
                 {{http1MaxPendingRequests: 10}}}}\n    outlierDetection: {{consecutive5xxErrors: 5, \
                 interval: 10s}}\n  subsets:\n  - {{name: v1, labels: {{version: v1}}}}\n  - {{name: v2, \
                 labels: {{version: v2}}}}\n"
            ),
        ),
        6 | 7 => (
            "networking.istio.io/v1\nkind: ServiceEntry",
            format!(
                "  hosts: [e{number}.example.com]\n  location: MESH_EXTERNAL\n  resolution: DNS\n  \
                 ports: [{{number: 443, name: https, protocol: TLS}}, {{number: 80, name: http, \
                 protocol: HTTP}}]\n"
            ),
        ),
        8 => (
            "networking.istio.io/v1\nkind: Sidecar",
            format!(
                "  workloadSelector: {{labels: {{app: a{number}}}}}\n  egress:\n  - hosts: [./*, \
                 istio-system/*]\n"
            ),
        ),
        _ => (
            "security.istio.io/v1\nkind: AuthorizationPolicy",
            format!(
                "  selector: {{matchLabels: {{app: a{number}}}}}\n  rules:\n  - from: [{{source: \
                 {{namespaces: [ns1, ns2]}}}}]\n    to: [{{operation: {{methods: [GET], paths: \
                 [/a{number}*]}}}}]\n"
            ),
        ),
    }
}
