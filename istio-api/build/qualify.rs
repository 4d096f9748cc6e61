//! Turns relative type references into absolute ones.
//!
//! protoc looks only at packages that a file imports; protox looks at all that it has loaded,
//! so `config.core.v3.HttpUri` inside `envoy.extensions.filters` stops at the unrelated package
//! `envoy.extensions.config`. Resolving here, before protox, makes the order of files irrelevant.

use std::collections::{BTreeMap, BTreeSet};

use prost_types::{DescriptorProto, FileDescriptorProto};

type Symbols = BTreeSet<String>;

pub(crate) fn all(files: &mut [FileDescriptorProto]) {
    let defined: BTreeMap<String, Symbols> = files
        .iter()
        .map(|file| (file.name().to_owned(), symbols(file)))
        .collect();
    let imports: BTreeMap<String, Vec<String>> = files
        .iter()
        .map(|file| (file.name().to_owned(), file.dependency.clone()))
        .collect();
    for file in files {
        let mut visible = Symbols::new();
        let mut seen = BTreeSet::new();
        let mut open = vec![file.name().to_owned()];
        while let Some(name) = open.pop() {
            if seen.insert(name.clone()) {
                visible.extend(defined.get(&name).into_iter().flatten().cloned());
                open.extend(imports.get(&name).into_iter().flatten().cloned());
            }
        }
        let package = file.package().to_owned();
        for message in &mut file.message_type {
            fields(message, &package, &visible);
        }
        for method in file
            .service
            .iter_mut()
            .flat_map(|service| &mut service.method)
        {
            for reference in [&mut method.input_type, &mut method.output_type]
                .into_iter()
                .flatten()
            {
                absolute(reference, &package, &visible);
            }
        }
    }
}

fn fields(message: &mut DescriptorProto, scope: &str, visible: &Symbols) {
    let scope = format!("{scope}.{}", message.name());
    for field in &mut message.field {
        if let Some(reference) = &mut field.type_name {
            absolute(reference, &scope, visible);
        }
    }
    for nested in &mut message.nested_type {
        fields(nested, &scope, visible);
    }
}

/// Innermost scope first, as protobuf says. A reference that nothing matches stays as it is:
/// protox then reports it with its own text.
fn absolute(reference: &mut String, scope: &str, visible: &Symbols) {
    if reference.starts_with('.') {
        return;
    }
    let mut scope = scope;
    loop {
        let candidate = format!("{scope}.{reference}");
        if visible.contains(&candidate) {
            *reference = format!(".{candidate}");
            return;
        }
        match scope.rsplit_once('.') {
            Some((outer, _)) => scope = outer,
            None => break,
        }
    }
    if visible.contains(reference.as_str()) || reference.starts_with("google.protobuf.") {
        reference.insert(0, '.');
    }
}

fn symbols(file: &FileDescriptorProto) -> Symbols {
    let mut found: Symbols = file
        .enum_type
        .iter()
        .map(|kind| format!("{}.{}", file.package(), kind.name()))
        .collect();
    for message in &file.message_type {
        collect(message, file.package(), &mut found);
    }
    found
}

fn collect(message: &DescriptorProto, scope: &str, found: &mut Symbols) {
    let name = format!("{scope}.{}", message.name());
    found.extend(
        message
            .enum_type
            .iter()
            .map(|kind| format!("{name}.{}", kind.name())),
    );
    for nested in &message.nested_type {
        collect(nested, &name, found);
    }
    found.insert(name);
}
