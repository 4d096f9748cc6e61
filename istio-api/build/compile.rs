//! Protobuf text to one descriptor set, without what nobody reads at run time.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use prost_types::FileDescriptorSet;
use protox::Compiler;
use protox::file::{ChainFileResolver, DescriptorSetFileResolver, File, GoogleFileResolver};

use crate::{Result, prune, qualify};

/// Import roots inside the `proto` directory of the package.
const ENVOY_TREES: &[&str] = &[
    "data-plane-api",
    "xds",
    "googleapis",
    "cel-spec/proto",
    "client_model",
    "opentelemetry-proto",
];

/// Every Istio and Envoy file with its imports, imports first.
pub(crate) fn descriptor_set(istio: &Path, envoy: &Path) -> Result<FileDescriptorSet> {
    let mut names = proto_files(istio)?;
    names.extend(proto_files(&envoy.join("data-plane-api"))?);
    let names: Vec<_> = names
        .into_iter()
        .filter(|name| !prune::defines_options(name))
        .collect();

    let mut trees = vec![istio.to_owned()];
    trees.extend(ENVOY_TREES.iter().map(|tree| envoy.join(tree)));
    let mut set = FileDescriptorSet {
        file: parse(&names, &trees)?,
    };
    set.file.iter_mut().for_each(prune::file);
    qualify::all(&mut set.file);

    let mut resolver = ChainFileResolver::new();
    resolver.add(DescriptorSetFileResolver::new(set));
    resolver.add(GoogleFileResolver::new());
    let mut compiler = Compiler::with_file_resolver(resolver);
    compiler.include_imports(true).include_source_info(false);
    for name in names {
        compiler
            .open_file(&name)
            .map_err(|e| format!("{name}: {e:?}"))?;
    }
    Ok(compiler.file_descriptor_set())
}

/// The files of package `root` and what is below it, with all that they import.
pub(crate) fn closure(set: &FileDescriptorSet, root: &str) -> FileDescriptorSet {
    let mut wanted: BTreeSet<&str> = BTreeSet::new();
    // Imports come first, so from the end every importer is met before what it imports.
    let mut files: Vec<_> = set
        .file
        .iter()
        .rev()
        .filter(|file| {
            let own = file.package().split('.').next() == Some(root);
            let taken = own || wanted.contains(file.name());
            if taken {
                wanted.extend(file.dependency.iter().map(String::as_str));
            }
            taken
        })
        .cloned()
        .collect();
    files.reverse();
    FileDescriptorSet { file: files }
}

/// The named files and all that they import, except the well-known types.
fn parse(names: &[String], trees: &[PathBuf]) -> Result<Vec<prost_types::FileDescriptorProto>> {
    let mut open = names.to_vec();
    let mut seen: BTreeSet<String> = names.iter().cloned().collect();
    let mut files = Vec::new();
    while let Some(name) = open.pop() {
        let path = trees
            .iter()
            .map(|tree| tree.join(&name))
            .find(|path| path.is_file())
            .ok_or_else(|| format!("{name} is in none of {trees:?}"))?;
        let text = fs::read_to_string(&path).map_err(|e| format!("{}: {e}", path.display()))?;
        let file = File::from_source(&name, &text).map_err(|e| format!("{name}: {e:?}"))?;
        let file = file.file_descriptor_proto().clone();
        for import in &file.dependency {
            let wanted = !import.starts_with("google/protobuf/") && !prune::defines_options(import);
            if wanted && seen.insert(import.clone()) {
                open.push(import.clone());
            }
        }
        files.push(file);
    }
    Ok(files)
}

/// Paths below `root`, relative to it, in order.
pub(crate) fn proto_files(root: &Path) -> Result<BTreeSet<String>> {
    let mut found = BTreeSet::new();
    let mut open = vec![root.to_owned()];
    while let Some(dir) = open.pop() {
        for entry in fs::read_dir(&dir).map_err(|e| format!("{}: {e}", dir.display()))? {
            let path = entry?.path();
            if path.is_dir() {
                open.push(path);
            } else if path.extension().is_some_and(|ext| ext == "proto") {
                found.insert(
                    path.strip_prefix(root)?
                        .to_str()
                        .ok_or("path is not UTF-8")?
                        .to_owned(),
                );
            }
        }
    }
    Ok(found)
}
