//! Writes the CustomResourceDefinitions into a folder, or checks what is there:
//! `crds [--check] FOLDER`.

use std::collections::BTreeMap;
use std::error::Error;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use istio_api::collections::COLLECTIONS;
use istio_rules::crd;

#[path = "../tests/crd/yaml.rs"]
mod yaml;

fn main() -> Result<ExitCode, Box<dyn Error>> {
    let mut folder = None;
    let mut check = false;
    for argument in std::env::args().skip(1) {
        match argument.as_str() {
            "--check" => check = true,
            path => folder = Some(PathBuf::from(path)),
        }
    }
    let folder = folder.ok_or("usage: crds [--check] FOLDER")?;
    let wanted = files()?;
    if !check {
        std::fs::create_dir_all(&folder)?;
        for stale in differing(&folder, &wanted)? {
            match wanted.get(&stale) {
                Some(text) => std::fs::write(folder.join(&stale), text)?,
                None => std::fs::remove_file(folder.join(&stale))?,
            }
            println!("{}", folder.join(stale).display());
        }
        return Ok(ExitCode::SUCCESS);
    }
    let stale = differing(&folder, &wanted)?;
    for name in &stale {
        eprintln!(
            "{} is not what the descriptors say",
            folder.join(name).display()
        );
    }
    if stale.is_empty() {
        println!("{} definitions are up to date", wanted.len());
        return Ok(ExitCode::SUCCESS);
    }
    eprintln!("`cargo xtask crds` writes them");
    Ok(ExitCode::FAILURE)
}

/// Name and text of every file.
fn files() -> Result<BTreeMap<String, String>, String> {
    COLLECTIONS
        .iter()
        .map(|row| {
            let text = yaml::write(&crd::definition(row))?;
            Ok((yaml::file_name(row), text))
        })
        .collect()
}

/// Files that are missing, differ or should not be there.
fn differing(folder: &Path, wanted: &BTreeMap<String, String>) -> std::io::Result<Vec<String>> {
    let mut found = BTreeMap::new();
    if folder.is_dir() {
        for entry in std::fs::read_dir(folder)? {
            let path = entry?.path();
            if path
                .extension()
                .is_some_and(|extension| extension == "yaml")
            {
                let name = path.file_name().unwrap_or_default().to_string_lossy();
                found.insert(name.into_owned(), std::fs::read_to_string(&path)?);
            }
        }
    }
    let names: std::collections::BTreeSet<_> = found.keys().chain(wanted.keys()).collect();
    let stale = names
        .into_iter()
        .filter(|name| found.get(*name) != wanted.get(*name));
    Ok(stale.cloned().collect())
}
