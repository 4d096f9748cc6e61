//! Drops what is of no use at run time: source positions, custom options and the files that
//! define them (validation rules, version annotations). That is two thirds of the bytes.

use prost_types::{DescriptorProto, EnumDescriptorProto, FileDescriptorProto, UninterpretedOption};

/// Files that only define options.
const OPTION_FILES: &[&str] = &[
    "validate/",
    "udpa/annotations/",
    "xds/annotations/",
    "envoy/annotations/",
    "google/api/annotations.proto",
];

pub(crate) fn defines_options(name: &str) -> bool {
    OPTION_FILES.iter().any(|prefix| name.starts_with(prefix))
}

pub(crate) fn file(file: &mut FileDescriptorProto) {
    file.source_code_info = None;
    file.options = None;
    let public: Vec<_> = file
        .public_dependency
        .iter()
        .filter_map(|&at| file.dependency.get(at as usize).cloned())
        .collect();
    file.dependency.retain(|name| !defines_options(name));
    file.weak_dependency.clear();
    file.public_dependency = (0..)
        .zip(&file.dependency)
        .filter(|(_, name)| public.contains(name))
        .map(|(at, _)| at)
        .collect();
    file.message_type.iter_mut().for_each(message);
    file.enum_type.iter_mut().for_each(enumeration);
    for service in &mut file.service {
        service.options = None;
        service
            .method
            .iter_mut()
            .for_each(|method| method.options = None);
    }
}

fn message(message: &mut DescriptorProto) {
    for field in &mut message.field {
        if let Some(options) = &mut field.options {
            drop_custom(&mut options.uninterpreted_option);
        }
    }
    message
        .oneof_decl
        .iter_mut()
        .for_each(|oneof| oneof.options = None);
    if let Some(options) = &mut message.options {
        drop_custom(&mut options.uninterpreted_option);
    }
    message.nested_type.iter_mut().for_each(self::message);
    message.enum_type.iter_mut().for_each(enumeration);
}

fn enumeration(kind: &mut EnumDescriptorProto) {
    if let Some(options) = &mut kind.options {
        drop_custom(&mut options.uninterpreted_option);
    }
    for value in &mut kind.value {
        if let Some(options) = &mut value.options {
            drop_custom(&mut options.uninterpreted_option);
        }
    }
}

fn drop_custom(options: &mut Vec<UninterpretedOption>) {
    options.retain(|option| option.name.iter().all(|part| !part.is_extension));
}
