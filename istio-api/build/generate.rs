//! Descriptors to Rust.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use prost_types::{DescriptorProto, FileDescriptorSet};

use crate::{Result, roots};

/// Rust for all Istio files and for the Envoy files of [`roots`] with their imports.
pub(crate) fn rust(mut set: FileDescriptorSet, out: &Path) -> Result<()> {
    let wanted = closure(&set);
    set.file.retain(|file| wanted.contains(file.name()));
    for file in set
        .file
        .iter_mut()
        .filter(|file| file.package().starts_with("istio."))
    {
        // Old fields are still read on purpose; a compiler warning at each place helps nobody.
        file.message_type.iter_mut().for_each(clear_deprecated);
    }
    prost_build::Config::new()
        .btree_map(["."])
        .bytes(["."])
        .enable_type_names()
        .type_name_domain(["."], "type.googleapis.com")
        .disable_comments(["."])
        .out_dir(out)
        .include_file("proto.rs")
        .compile_fds(set)?;
    Ok(())
}

/// The names of the root files and of everything they import.
fn closure(set: &FileDescriptorSet) -> BTreeSet<String> {
    let imports: BTreeMap<&str, &[String]> = set
        .file
        .iter()
        .map(|file| (file.name(), file.dependency.as_slice()))
        .collect();
    let mut open: Vec<&str> = set
        .file
        .iter()
        .filter(|file| file.package().starts_with("istio.") || roots::is_root(file.name()))
        .map(|file| file.name())
        .collect();
    let mut seen = BTreeSet::new();
    while let Some(name) = open.pop() {
        if seen.insert(name.to_owned()) {
            open.extend(
                imports
                    .get(name)
                    .copied()
                    .unwrap_or_default()
                    .iter()
                    .map(String::as_str),
            );
        }
    }
    seen
}

fn clear_deprecated(message: &mut DescriptorProto) {
    for field in &mut message.field {
        if let Some(options) = &mut field.options {
            options.deprecated = None;
        }
    }
    for value in message
        .enum_type
        .iter_mut()
        .flat_map(|kind| &mut kind.value)
    {
        if let Some(options) = &mut value.options {
            options.deprecated = None;
        }
    }
    message.nested_type.iter_mut().for_each(clear_deprecated);
}
