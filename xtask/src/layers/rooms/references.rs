//! What each module names of the other modules of its crate.

use std::collections::BTreeMap;
use std::path::PathBuf;

use proc_macro2::{Span, TokenStream, TokenTree};
use syn::visit::{self, Visit};
use syn::{Attribute, Item, Macro, Meta, UseTree, VisRestricted};

use super::tree::{Module, ModulePath, Tree, is_for_tests};

/// One module uses another room below the module that both are in.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Arrow {
    pub(super) from: ModulePath,
    pub(super) to: ModulePath,
}

/// Where an arrow was first seen.
#[derive(Clone, Debug)]
pub(super) struct Place {
    pub(super) file: PathBuf,
    pub(super) line: usize,
}

/// How often an import may lead to another import.
const HOPS: usize = 8;

/// Every arrow between rooms, with one place each.
pub(super) fn arrows(tree: &Tree) -> BTreeMap<Arrow, Place> {
    let names: BTreeMap<&ModulePath, Named> = tree
        .modules
        .iter()
        .map(|(path, module)| (path, Named::of(module)))
        .collect();
    let mut arrows = BTreeMap::new();
    for (path, module) in &tree.modules {
        let Some(named) = names.get(path) else {
            continue;
        };
        for (words, span) in &named.paths {
            let Some(target) = resolve(tree, &names, path, words, HOPS) else {
                continue;
            };
            let Some(arrow) = between(path, &target) else {
                continue;
            };
            arrows.entry(arrow).or_insert_with(|| Place {
                file: module.file.clone(),
                line: span.start().line,
            });
        }
    }
    arrows
}

/// The rooms of two modules below the last module that both are in; none when one contains the other.
fn between(from: &ModulePath, to: &ModulePath) -> Option<Arrow> {
    let shared = from.iter().zip(to).take_while(|(a, b)| a == b).count();
    Some(Arrow {
        from: from.get(..=shared)?.to_vec(),
        to: to.get(..=shared)?.to_vec(),
    })
}

/// The module that holds what `words`, written in the module `from`, name; none outside of the crate.
fn resolve(
    tree: &Tree,
    names: &BTreeMap<&ModulePath, Named>,
    from: &ModulePath,
    words: &[String],
    hops: usize,
) -> Option<ModulePath> {
    let (first, rest) = words.split_first()?;
    let (mut at, mut rest) = match first.as_str() {
        "crate" => (Vec::new(), rest),
        "self" => (from.clone(), rest),
        "super" => (parent(from)?, rest),
        _ => {
            let mut child = from.clone();
            child.push(first.clone());
            tree.modules.contains_key(&child).then_some((child, rest))?
        }
    };
    while let Some((word, after)) = rest.split_first() {
        if word == "super" {
            at = parent(&at)?;
            rest = after;
            continue;
        }
        let mut child = at.clone();
        child.push(word.clone());
        if tree.modules.contains_key(&child) {
            at = child;
            rest = after;
            continue;
        }
        let import = names.get(&at).and_then(|named| named.imports.get(word));
        let next = import
            .zip(hops.checked_sub(1))
            .and_then(|(import, hops)| resolve(tree, names, &at, import, hops));
        return Some(next.unwrap_or(at));
    }
    Some(at)
}

fn parent(path: &ModulePath) -> Option<ModulePath> {
    path.split_last().map(|(_, parent)| parent.to_vec())
}

/// What the text of one module names.
#[derive(Default)]
struct Named {
    paths: Vec<(Vec<String>, Span)>,
    /// Names that `use` brings into the module, with the path each stands for.
    imports: BTreeMap<String, Vec<String>>,
}

impl Named {
    fn of(module: &Module) -> Self {
        let mut named = Self::default();
        for item in &module.items {
            named.visit_item(item);
            if let Item::Use(item) = item
                && !is_for_tests(&item.attrs)
            {
                let imports = &mut named.imports;
                flatten(&item.tree, &mut Vec::new(), &mut |words, alias, _| {
                    imports.insert(alias.to_owned(), words.to_vec());
                });
            }
        }
        named
    }

    /// Paths in the text of a macro call or attribute, which has no syntax tree.
    fn scan(&mut self, tokens: TokenStream) {
        let mut open: Option<(Vec<String>, Span)> = None;
        for token in tokens {
            match token {
                TokenTree::Ident(word) if word == "crate" || word == "super" => {
                    if let Some((words, _)) = open.as_mut().filter(|_| word == "super") {
                        words.push(word.to_string());
                    } else {
                        self.paths.extend(open.take());
                        open = Some((vec![word.to_string()], word.span()));
                    }
                }
                TokenTree::Ident(word) => {
                    if let Some((words, _)) = &mut open {
                        words.push(word.to_string());
                    }
                }
                TokenTree::Punct(mark) if mark.as_char() == ':' => continue,
                TokenTree::Group(group) => {
                    self.paths.extend(open.take());
                    self.scan(group.stream());
                }
                TokenTree::Literal(literal) => {
                    let text = literal.to_string();
                    let inner = text.trim_matches('"');
                    if inner.starts_with("crate::") || inner.starts_with("super::") {
                        let words = inner.split("::").map(str::to_owned).collect();
                        self.paths.push((words, literal.span()));
                    }
                }
                TokenTree::Punct(_) => self.paths.extend(open.take()),
            }
        }
        self.paths.extend(open);
    }
}

/// Calls `found` with each path of a `use`, the name that it gets, and where it is.
fn flatten(tree: &UseTree, before: &mut Vec<String>, found: &mut dyn FnMut(&[String], &str, Span)) {
    let mut leaf = |name: &str, alias: &str, span: Span| {
        let mut words = before.clone();
        // `use a::{self}` names `a`.
        if name != "self" || words.is_empty() {
            words.push(name.to_owned());
        }
        let alias = match (alias, words.last()) {
            ("self", Some(last)) => last.clone(),
            (alias, _) => alias.to_owned(),
        };
        found(&words, &alias, span);
    };
    match tree {
        UseTree::Path(path) => {
            before.push(path.ident.to_string());
            flatten(&path.tree, before, found);
            before.pop();
        }
        UseTree::Name(name) => {
            let text = name.ident.to_string();
            leaf(&text, &text, name.ident.span());
        }
        UseTree::Rename(name) => {
            leaf(
                &name.ident.to_string(),
                &name.rename.to_string(),
                name.ident.span(),
            );
        }
        UseTree::Glob(glob) => found(before, "*", glob.star_token.spans[0]),
        UseTree::Group(group) => {
            for each in &group.items {
                flatten(each, before, found);
            }
        }
    }
}

impl<'ast> Visit<'ast> for Named {
    fn visit_item(&mut self, item: &'ast Item) {
        let attributes = match item {
            Item::Const(item) => &item.attrs,
            Item::Enum(item) => &item.attrs,
            Item::Fn(item) => &item.attrs,
            Item::Impl(item) => &item.attrs,
            Item::Macro(item) => &item.attrs,
            Item::Static(item) => &item.attrs,
            Item::Struct(item) => &item.attrs,
            Item::Trait(item) => &item.attrs,
            Item::Type(item) => &item.attrs,
            Item::Use(item) => &item.attrs,
            _ => &Vec::new(),
        };
        // What `macro_rules!` writes belongs to the file that calls it.
        let is_definition = matches!(item, Item::Macro(item) if item.ident.is_some());
        if !is_for_tests(attributes) && !is_definition {
            visit::visit_item(self, item);
        }
    }

    fn visit_impl_item_fn(&mut self, function: &'ast syn::ImplItemFn) {
        if !is_for_tests(&function.attrs) {
            visit::visit_impl_item_fn(self, function);
        }
    }

    fn visit_item_use(&mut self, item: &'ast syn::ItemUse) {
        let paths = &mut self.paths;
        flatten(&item.tree, &mut Vec::new(), &mut |words, _, span| {
            paths.push((words.to_vec(), span));
        });
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        let words: Vec<String> = path
            .segments
            .iter()
            .map(|segment| segment.ident.to_string())
            .collect();
        if let Some(first) = path.segments.first()
            && (first.ident == "crate" || first.ident == "super")
        {
            self.paths.push((words, first.ident.span()));
        }
        visit::visit_path(self, path);
    }

    fn visit_macro(&mut self, call: &'ast Macro) {
        self.visit_path(&call.path);
        self.scan(call.tokens.clone());
    }

    fn visit_attribute(&mut self, attribute: &'ast Attribute) {
        if let Meta::List(list) = &attribute.meta {
            self.scan(list.tokens.clone());
        }
    }

    /// `pub(in …)` says who may see, not what is used.
    fn visit_vis_restricted(&mut self, _: &'ast VisRestricted) {}
}
