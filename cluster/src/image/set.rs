//! The images of the project: which program is where, and what else it needs.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

use super::{Entry, Image, closure};

/// What goes into an image besides the loader, libraries and accounts.
#[derive(Debug)]
struct Recipe {
    name: &'static str,
    /// Package of the workspace and the file name in `/usr/local/bin`; the first is what runs.
    programs: &'static [(&'static str, &'static str)],
    envoy: bool,
    iptables: bool,
    user: &'static str,
}

/// The user of every process that needs no rights.
const PROXY: &str = "1337:1337";

const RECIPES: [Recipe; 8] = [
    plain("citadel", &[("citadel", "istio_ca")], PROXY),
    plain("galley", &[("galley", "galley")], PROXY),
    plain("istioctl", &[("istioctl", "istioctl")], PROXY),
    plain("pilot", &[("pilot-discovery", "pilot-discovery")], PROXY),
    Recipe {
        iptables: true,
        // Rules are made by root with two capabilities; the Pod says so, too.
        ..plain("proxy_init", &[("pilot-agent", "pilot-agent")], "0:0")
    },
    // Also what makes the rules, so that a Pod needs one image and not two.
    Recipe {
        envoy: true,
        iptables: true,
        ..plain("proxyv2", &[("pilot-agent", "pilot-agent")], PROXY)
    },
    plain("samples", &[("samples", "samples")], "1000:1000"),
    plain(
        "sidecar_injector",
        &[("sidecar-injector", "sidecar-injector")],
        PROXY,
    ),
];

const fn plain(
    name: &'static str,
    programs: &'static [(&'static str, &'static str)],
    user: &'static str,
) -> Recipe {
    Recipe {
        name,
        programs,
        envoy: false,
        iptables: false,
        user,
    }
}

const ACCOUNTS: [(&str, &str); 3] = [
    (
        "/etc/passwd",
        "root:x:0:0:root:/root:/sbin/nologin\n\
         nobody:x:65534:65534:nobody:/:/sbin/nologin\n\
         istio-proxy:x:1337:1337:istio-proxy:/tmp:/sbin/nologin\n",
    ),
    (
        "/etc/group",
        "root:x:0:\nnogroup:x:65534:\nistio-proxy:x:1337:\n",
    ),
    (
        "/etc/nsswitch.conf",
        "passwd: files\ngroup: files\nhosts: files dns\n",
    ),
];

/// Authorities of the public web, which Envoy checks servers outside of the mesh by.
const AUTHORITIES: &str = "/etc/ssl/certs/ca-certificates.crt";
/// Programs of both implementations, each under the names by which it is called.
const IPTABLES: [(&str, &str); 2] = [
    ("/usr/sbin/xtables-legacy-multi", "legacy"),
    ("/usr/sbin/xtables-nft-multi", "nft"),
];
/// Matches and targets, which are opened by name.
const EXTENSIONS: &str = "/usr/lib/x86_64-linux-gnu/xtables";

/// Where the programs come from and what the images are called.
#[derive(Clone, Debug)]
pub struct Source {
    /// Package to program.
    pub programs: BTreeMap<String, PathBuf>,
    /// Envoy.
    pub envoy: PathBuf,
    /// Registry and path before the name of an image.
    pub hub: String,
    /// Tag.
    pub tag: String,
    /// Commit that the programs were built from; empty when unknown.
    pub revision: String,
}

/// Names of the images, sorted.
pub fn names() -> impl Iterator<Item = &'static str> {
    RECIPES.iter().map(|recipe| recipe.name)
}

/// Packages of the programs in these images, all if none is named.
///
/// # Errors
/// When there is no such image.
pub fn packages(images: &[String]) -> Result<BTreeSet<&'static str>> {
    let recipes: Vec<&Recipe> = if images.is_empty() {
        RECIPES.iter().collect()
    } else {
        images
            .iter()
            .map(|name| recipe(name))
            .collect::<Result<_>>()?
    };
    let programs = recipes.iter().flat_map(|recipe| recipe.programs);
    Ok(programs.map(|(package, _)| *package).collect())
}

fn recipe(name: &str) -> Result<&'static Recipe> {
    let found = RECIPES.iter().find(|recipe| recipe.name == name);
    found.with_context(|| {
        let known: Vec<_> = names().collect();
        format!(
            "{name:?} is not an image of the project: want {}",
            known.join(", ")
        )
    })
}

impl Source {
    /// The image called `name`.
    ///
    /// # Errors
    /// When there is no such image, or a file that goes into it is not here.
    pub fn image(&self, name: &str) -> Result<Image> {
        self.assemble(recipe(name)?)
            .with_context(|| format!("image {name}"))
    }

    fn assemble(&self, recipe: &Recipe) -> Result<Image> {
        let mut entries = vec![Entry::directory("/tmp", 0o1777)];
        for (path, text) in ACCOUNTS {
            entries.push(Entry::file(path, text.into(), 0o644));
        }
        let mut linked: Vec<PathBuf> = Vec::new();
        let mut entry_point = Vec::new();
        for (package, file) in recipe.programs {
            let program = self
                .programs
                .get(*package)
                .with_context(|| format!("program {package} was not built"))?;
            let path = format!("/usr/local/bin/{file}");
            entries.push(Entry::program(&path, program)?);
            linked.push(program.clone());
            if entry_point.is_empty() {
                entry_point.push(path);
            }
        }
        if recipe.envoy {
            entries.push(Entry::program("/usr/local/bin/envoy", &self.envoy)?);
            let bytes = std::fs::read(AUTHORITIES)
                .with_context(|| format!("read {AUTHORITIES} (package ca-certificates)"))?;
            entries.push(Entry::file(AUTHORITIES, bytes, 0o644));
            linked.push(self.envoy.clone());
        }
        if recipe.iptables {
            linked.extend(iptables(&mut entries)?);
        }
        let linked: Vec<&Path> = linked.iter().map(PathBuf::as_path).collect();
        entries.extend(closure::libraries(&linked)?);
        Ok(Image {
            name: format!("{}/{}:{}", self.hub, recipe.name, self.tag),
            entries,
            entry_point,
            user: recipe.user.to_owned(),
            env: BTreeMap::new(),
            labels: self.labels(recipe.name),
        })
    }

    fn labels(&self, name: &str) -> BTreeMap<String, String> {
        let label =
            |key: &str, value: &str| (format!("org.opencontainers.image.{key}"), value.to_owned());
        let mut labels = BTreeMap::from([
            label("title", name),
            label("version", &self.tag),
            label("licenses", "Apache-2.0"),
        ]);
        if !self.revision.is_empty() {
            labels.extend([label("revision", &self.revision)]);
        }
        labels
    }
}

/// Both implementations; returns what is linked.
fn iptables(entries: &mut Vec<Entry>) -> Result<Vec<PathBuf>> {
    let mut linked = Vec::new();
    for (program, implementation) in IPTABLES {
        let path = Path::new(program);
        entries.push(Entry::program(program, path).context("package iptables")?);
        linked.push(path.to_owned());
        for family in ["iptables", "ip6tables"] {
            for job in ["", "-restore", "-save"] {
                entries.push(Entry::link(
                    &format!("/usr/sbin/{family}-{implementation}{job}"),
                    program,
                ));
            }
        }
    }
    for extension in std::fs::read_dir(EXTENSIONS).with_context(|| format!("read {EXTENSIONS}"))? {
        let path = extension
            .with_context(|| format!("read {EXTENSIONS}"))?
            .path();
        let name = path.to_str().context("an extension's path is not UTF-8")?;
        entries.push(Entry::program(name, &path)?);
        linked.push(path);
    }
    // Names of protocols in rules; and where the lock of the legacy implementation is.
    for file in ["/etc/protocols", "/etc/services"] {
        if let Ok(bytes) = std::fs::read(file) {
            entries.push(Entry::file(file, bytes, 0o644));
        }
    }
    entries.push(Entry::directory("/run", 0o755));
    Ok(linked)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_has_its_program_and_no_shell() {
        let own = std::env::current_exe().unwrap();
        let source = Source {
            programs: BTreeMap::from([("citadel".to_owned(), own)]),
            envoy: PathBuf::new(),
            hub: "example.org/mesh".to_owned(),
            tag: "1".to_owned(),
            revision: String::new(),
        };
        let image = source.image("citadel").unwrap();
        assert_eq!(image.name, "example.org/mesh/citadel:1");
        assert_eq!(image.entry_point, ["/usr/local/bin/istio_ca"]);
        assert_eq!(image.user, PROXY);
        let paths: Vec<&str> = image
            .entries
            .iter()
            .map(|entry| entry.path.as_str())
            .collect();
        assert!(paths.contains(&"/usr/local/bin/istio_ca"));
        assert!(paths.iter().any(|path| path.contains("libc.so")));
        assert!(!paths.iter().any(|path| path.ends_with("/sh")));
        let error = source.image("galley").unwrap_err();
        assert_eq!(
            format!("{error:#}"),
            "image galley: program galley was not built"
        );
        assert!(source.image("mixer").is_err());
    }
}
