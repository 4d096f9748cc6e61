//! Comments of the Istio `.proto` files, for the descriptions in schemas.

use std::collections::BTreeMap;
use std::path::Path;

use prost_types::source_code_info::Location;
use prost_types::{DescriptorProto, EnumDescriptorProto, FileDescriptorProto};
use protox::file::File;

use crate::Result;

/// Numbers of the fields of the descriptor messages that paths go through (descriptor.proto).
const FILE_MESSAGES: i32 = 4;
const FILE_ENUMS: i32 = 5;
const MESSAGE_FIELDS: i32 = 2;
const MESSAGE_MESSAGES: i32 = 3;
const MESSAGE_ENUMS: i32 = 4;
const ENUM_VALUES: i32 = 2;

/// A Rust slice of pairs: full name and comment, each comment on one line.
pub(crate) fn slice(root: &Path, names: &[String]) -> Result<String> {
    let mut found = BTreeMap::new();
    for name in names {
        let path = root.join(name);
        let text =
            std::fs::read_to_string(&path).map_err(|e| format!("{}: {e}", path.display()))?;
        let file = File::from_source(name, &text).map_err(|e| format!("{name}: {e:?}"))?;
        let comments = Comments::of(file.file_descriptor_proto());
        let file = file.file_descriptor_proto();
        for (i, message) in (0..).zip(&file.message_type) {
            comments.message(file.package(), message, &[FILE_MESSAGES, i], &mut found);
        }
        for (i, kind) in (0..).zip(&file.enum_type) {
            comments.enumeration(file.package(), kind, &[FILE_ENUMS, i], &mut found);
        }
    }
    let pairs: Vec<_> = found.iter().map(|pair| format!("{pair:?}")).collect();
    Ok(format!("&[{}]", pairs.join(",\n")))
}

/// Leading comments by the path of what they are above.
struct Comments<'a>(BTreeMap<&'a [i32], &'a str>);

type Found = BTreeMap<String, String>;

impl<'a> Comments<'a> {
    fn of(file: &'a FileDescriptorProto) -> Self {
        let locations = file.source_code_info.iter().flat_map(|info| &info.location);
        let pair = |location: &'a Location| {
            let comment = location.leading_comments.as_deref()?;
            Some((location.path.as_slice(), comment))
        };
        Self(locations.filter_map(pair).collect())
    }

    fn keep(&self, name: String, path: &[i32], found: &mut Found) {
        if let Some(comment) = self.0.get(path) {
            let words: Vec<_> = comment.split_whitespace().collect();
            found.insert(name, words.join(" "));
        }
    }

    fn message(&self, scope: &str, message: &DescriptorProto, path: &[i32], found: &mut Found) {
        let name = format!("{scope}.{}", message.name());
        let below = |number: i32, index: i32| [path, &[number, index]].concat();
        for (i, field) in (0..).zip(&message.field) {
            let name = format!("{name}.{}", field.name());
            self.keep(name, &below(MESSAGE_FIELDS, i), found);
        }
        for (i, nested) in (0..).zip(&message.nested_type) {
            self.message(&name, nested, &below(MESSAGE_MESSAGES, i), found);
        }
        for (i, nested) in (0..).zip(&message.enum_type) {
            self.enumeration(&name, nested, &below(MESSAGE_ENUMS, i), found);
        }
        self.keep(name, path, found);
    }

    fn enumeration(
        &self,
        scope: &str,
        kind: &EnumDescriptorProto,
        path: &[i32],
        found: &mut Found,
    ) {
        let name = format!("{scope}.{}", kind.name());
        for (i, value) in (0..).zip(&kind.value) {
            let name = format!("{name}.{}", value.name());
            self.keep(name, &[path, &[ENUM_VALUES, i]].concat(), found);
        }
        self.keep(name, path, found);
    }
}
