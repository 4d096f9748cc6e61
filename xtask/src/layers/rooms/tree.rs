//! The modules of a crate, found by following `mod` from its root file.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, ensure};
use syn::{Attribute, Item, ItemMod, Meta};

/// Path of a module in its crate; the root's is empty.
pub(super) type ModulePath = Vec<String>;

/// One module, without the modules in it.
pub(super) struct Module {
    pub(super) file: PathBuf,
    pub(super) items: Vec<Item>,
}

/// All modules of a crate that are not for tests.
pub(super) struct Tree {
    pub(super) modules: BTreeMap<ModulePath, Module>,
}

type Read<'a> = &'a dyn Fn(&Path) -> std::io::Result<String>;

impl Tree {
    pub(super) fn read(root: &Path, read: Read<'_>) -> anyhow::Result<Self> {
        let mut tree = Self {
            modules: BTreeMap::new(),
        };
        let folder = root.parent().unwrap_or_else(|| Path::new(""));
        tree.add_file(Vec::new(), root, folder, read)?;
        Ok(tree)
    }

    /// Adds the module whose items are in `file` and whose children are in `folder`.
    fn add_file(
        &mut self,
        path: ModulePath,
        file: &Path,
        folder: &Path,
        read: Read<'_>,
    ) -> anyhow::Result<()> {
        let text = read(file).with_context(|| format!("reading {}", file.display()))?;
        let syntax =
            syn::parse_file(&text).with_context(|| format!("understanding {}", file.display()))?;
        self.add(path, file, folder, syntax.items, read)
    }

    fn add(
        &mut self,
        path: ModulePath,
        file: &Path,
        folder: &Path,
        items: Vec<Item>,
        read: Read<'_>,
    ) -> anyhow::Result<()> {
        let (children, own): (Vec<Item>, Vec<Item>) = items
            .into_iter()
            .partition(|item| matches!(item, Item::Mod(_)));
        for child in children {
            if let Item::Mod(child) = child
                && !is_for_tests(&child.attrs)
            {
                self.add_child(&path, child, file, folder, read)?;
            }
        }
        let file = file.to_owned();
        self.modules.insert(path, Module { file, items: own });
        Ok(())
    }

    fn add_child(
        &mut self,
        parent: &ModulePath,
        child: ItemMod,
        file: &Path,
        folder: &Path,
        read: Read<'_>,
    ) -> anyhow::Result<()> {
        ensure!(
            !child.attrs.iter().any(|each| each.path().is_ident("path")),
            "{}: #[path] is not understood here",
            file.display()
        );
        let name = child.ident.to_string();
        let inside = folder.join(&name);
        let mut path = parent.clone();
        path.push(name.clone());
        if let Some((_, items)) = child.content {
            return self.add(path, file, &inside, items, read);
        }
        let beside = folder.join(format!("{name}.rs"));
        let file = if read(&beside).is_ok() {
            beside
        } else {
            inside.join("mod.rs")
        };
        self.add_file(path, &file, &inside, read)
    }
}

/// Whether an item is compiled for tests only.
pub(super) fn is_for_tests(attributes: &[Attribute]) -> bool {
    attributes.iter().any(|attribute| match &attribute.meta {
        Meta::Path(path) => path.is_ident("test"),
        Meta::List(list) if list.path.is_ident("cfg") => {
            let words = list.tokens.to_string();
            let has = |word: &str| {
                words
                    .split(|c: char| !c.is_alphanumeric() && c != '_')
                    .any(|each| each == word)
            };
            has("test") && !has("not")
        }
        _ => false,
    })
}
