//! The crates of the workspace and what they depend on.

use std::{collections::BTreeMap, path::PathBuf, process::Command};

use anyhow::{Context as _, bail, ensure};
use serde_json::Value;

use super::{ALLOWED, FORBIDDEN, IMPURE, PURE, TOP};

/// Names of the packages that are really compiled: what `cargo metadata` resolves also holds
/// optional ones that no feature turns on.
pub(super) fn compiled() -> anyhow::Result<Vec<String>> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(cargo)
        .args([
            "tree",
            "--workspace",
            "--edges",
            "normal",
            "--prefix",
            "none",
            "--locked",
        ])
        .output()
        .context("running cargo tree")?;
    ensure!(
        output.status.success(),
        "cargo tree: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    let text = String::from_utf8(output.stdout)?;
    Ok(text
        .lines()
        .filter_map(|line| line.split(' ').next())
        .map(str::to_owned)
        .collect())
}

pub(super) fn forbidden(compiled: &[String]) -> Vec<String> {
    FORBIDDEN
        .iter()
        .filter(|name| compiled.iter().any(|package| package == *name))
        .map(|name| format!("{name} must not be compiled"))
        .collect()
}

/// What `cargo metadata` says of the workspace.
#[derive(Debug)]
pub(super) struct Workspace {
    pub(super) graph: Graph,
    /// The root file of each library and program, with its package.
    pub(super) roots: Vec<Root>,
}

/// Where a library or program begins.
#[derive(Debug)]
pub(super) struct Root {
    pub(super) package: String,
    pub(super) file: PathBuf,
}

impl Workspace {
    pub(super) fn read() -> anyhow::Result<Self> {
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let output = Command::new(cargo)
            .args(["metadata", "--format-version", "1", "--locked"])
            .args(["--filter-platform", "x86_64-unknown-linux-gnu"])
            .output()
            .context("running cargo metadata")?;
        ensure!(
            output.status.success(),
            "cargo metadata: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        let metadata = serde_json::from_slice(&output.stdout)?;
        let graph = Graph::parse(&metadata)?;
        let roots = roots(&metadata, &graph.members);
        Ok(Self { graph, roots })
    }
}

/// Libraries and programs of the members; build scripts, tests and examples have no rooms.
fn roots(metadata: &Value, members: &[String]) -> Vec<Root> {
    let mut roots = Vec::new();
    for package in list(&field(metadata, "packages")) {
        // A dependency may have the name of a member, but not without a source.
        let name = text(&field(&package, "name"));
        if !members.contains(&name) || !field(&package, "source").is_null() {
            continue;
        }
        for target in list(&field(&package, "targets")) {
            let kinds = list(&field(&target, "kind"));
            if kinds.iter().any(|kind| kind == "lib" || kind == "bin") {
                roots.push(Root {
                    package: name.clone(),
                    file: text(&field(&target, "src_path")).into(),
                });
            }
        }
    }
    roots
}

fn list(value: &Value) -> Vec<Value> {
    value.as_array().cloned().unwrap_or_default()
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

fn field(value: &Value, name: &str) -> Value {
    value.get(name).cloned().unwrap_or_default()
}

/// Normal (not development) dependencies by package name.
#[derive(Debug)]
pub(super) struct Graph {
    pub(super) members: Vec<String>,
    edges: BTreeMap<String, Vec<String>>,
}

impl Graph {
    fn parse(metadata: &Value) -> anyhow::Result<Self> {
        let names: BTreeMap<String, String> = list(&field(metadata, "packages"))
            .iter()
            .map(|package| (text(&field(package, "id")), text(&field(package, "name"))))
            .collect();
        let name = |id: &Value| names.get(&text(id)).cloned().unwrap_or_default();
        let members = list(&field(metadata, "workspace_members"))
            .iter()
            .map(name)
            .collect();
        let mut edges: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for node in list(metadata.pointer("/resolve/nodes").unwrap_or(&Value::Null)) {
            let normal = list(&field(&node, "deps"))
                .iter()
                .filter(|dep| {
                    list(&field(dep, "dep_kinds"))
                        .iter()
                        .any(|kind| field(kind, "kind").is_null())
                })
                .map(|dep| name(&field(dep, "pkg")))
                .collect::<Vec<_>>();
            edges
                .entry(name(&field(&node, "id")))
                .or_default()
                .extend(normal);
        }
        if edges.is_empty() {
            bail!("cargo metadata gave no dependency graph");
        }
        Ok(Self { members, edges })
    }

    fn direct(&self, package: &str) -> &[String] {
        self.edges.get(package).map_or(&[], Vec::as_slice)
    }

    fn reaches(&self, from: &str, wanted: &str) -> bool {
        let mut seen = vec![from];
        let mut queue = vec![from];
        while let Some(package) = queue.pop() {
            for next in self.direct(package) {
                if next == wanted {
                    return true;
                }
                if !seen.contains(&next.as_str()) {
                    seen.push(next);
                    queue.push(next);
                }
            }
        }
        false
    }

    pub(super) fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        for member in self.members.iter().filter(|member| *member != TOP) {
            let Some((_, allowed)) = ALLOWED.iter().find(|(name, _)| name == member) else {
                problems.push(format!("{member} has no place in the layers"));
                continue;
            };
            for dependency in self.direct(member) {
                if self.members.contains(dependency) && !allowed.contains(&dependency.as_str()) {
                    problems.push(format!("{member} must not use {dependency}"));
                }
            }
        }
        for pure in PURE {
            for impure in IMPURE {
                if self.reaches(pure, impure) {
                    problems.push(format!("{pure} is pure and must not reach {impure}"));
                }
            }
        }
        problems
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn graph(edges: &[(&str, &[&str])]) -> Graph {
        Graph {
            members: edges.iter().map(|(name, _)| (*name).to_owned()).collect(),
            edges: edges
                .iter()
                .map(|(name, to)| {
                    (
                        (*name).to_owned(),
                        to.iter().map(|to| (*to).to_owned()).collect(),
                    )
                })
                .collect(),
        }
    }

    #[test]
    fn an_arrow_that_points_up_is_found() {
        let problems = graph(&[("istio-api", &["galley"]), ("galley", &[])]).problems();
        assert_eq!(problems, ["istio-api must not use galley"]);
        let problems = graph(&[("citadel", &["galley"]), ("galley", &[])]).problems();
        assert_eq!(problems, ["citadel must not use galley"]);
    }

    #[test]
    fn io_in_a_pure_crate_is_found_however_deep() {
        let mut graph = graph(&[("pilot-model", &["x"])]);
        graph.edges.insert("x".into(), vec!["tokio".into()]);
        assert_eq!(
            graph.problems(),
            ["pilot-model is pure and must not reach tokio"]
        );
    }

    #[test]
    fn a_second_cryptography_provider_is_found() {
        let compiled = ["rustls", "ring"].map(str::to_owned);
        assert_eq!(forbidden(&compiled), ["ring must not be compiled"]);
    }

    #[test]
    fn a_crate_without_a_place_is_found() {
        assert_eq!(
            graph(&[("new", &[])]).problems(),
            ["new has no place in the layers"]
        );
    }
}
