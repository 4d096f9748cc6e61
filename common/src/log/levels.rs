//! Levels by scope.

use std::collections::BTreeMap;
use std::fmt;

use tracing::level_filters::LevelFilter;

/// Crates whose modules are scopes; all others are libraries.
const OWN_CRATES: [&str; 15] = [
    "bench",
    "citadel",
    "cluster",
    "galley",
    "istio_api",
    "istio_cni",
    "istioctl",
    "mesh",
    "mesh_common",
    "mixer",
    "pilot_agent",
    "pilot_discovery",
    "pilot_model",
    "pilot_networking",
    "samples",
];

/// See [`OWN_CRATES`]; the name that does not fit the order of the table.
const INJECTOR: &str = "sidecar_injector";

/// Scope of lines without a named one.
pub(super) const DEFAULT: &str = "default";

/// Maximum level of libraries whose scope is not named.
const LIBRARY: LevelFilter = LevelFilter::WARN;

/// Libraries without output unless their scope is named: they would log each failed request, which
/// the caller reports as well.
const SILENT: [&str; 1] = ["kube_client"];

#[derive(Clone, Debug)]
pub(super) struct Levels {
    default: LevelFilter,
    scopes: BTreeMap<String, LevelFilter>,
}

impl Default for Levels {
    fn default() -> Self {
        Self {
            default: LevelFilter::INFO,
            scopes: BTreeMap::new(),
        }
    }
}

fn is_own(name: &str) -> bool {
    OWN_CRATES.contains(&name) || name == INJECTOR
}

/// The scope of a target, and whether it is a library.
pub(super) fn scope(target: &str) -> (&str, bool) {
    let mut parts = target.split("::");
    match (parts.next().unwrap_or(DEFAULT), parts.next()) {
        (name, Some(module)) if is_own(name) => (module, false),
        (name, None) if is_own(name) => (DEFAULT, false),
        // A single word is a scope named in code; `h2` and others never log without a path.
        (name, None) => (name, false),
        (library, Some(_)) => (library, true),
    }
}

impl Levels {
    pub(super) fn update(&mut self, spec: &str) -> anyhow::Result<()> {
        let mut next = self.clone();
        for item in spec
            .split(',')
            .map(str::trim)
            .filter(|item| !item.is_empty())
        {
            let (scope, level) = item.split_once(':').unwrap_or((DEFAULT, item));
            let level = parse_level(level).ok_or_else(|| {
                anyhow::anyhow!(
                    "log level {level:?} of scope {scope:?} is not valid: \
                     want debug, info, warn, error, fatal or none"
                )
            })?;
            if scope == DEFAULT || scope == "all" {
                next.default = level;
            }
            if scope == "all" {
                next.scopes.clear();
            } else if scope != DEFAULT {
                next.scopes.insert(scope.to_owned(), level);
            }
        }
        *self = next;
        Ok(())
    }

    /// The level of the scope of `target`.
    pub(super) fn of(&self, target: &str) -> LevelFilter {
        let (scope, library) = scope(target);
        match self.scopes.get(scope) {
            Some(level) => *level,
            None if SILENT.contains(&scope) => LevelFilter::OFF,
            None if library => self.default.min(LIBRARY),
            None => self.default,
        }
    }

    /// The highest level of any scope.
    pub(super) fn max(&self) -> LevelFilter {
        self.scopes
            .values()
            .copied()
            .fold(self.default, LevelFilter::max)
    }
}

impl fmt::Display for Levels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{DEFAULT}:{}", level_name(self.default))?;
        for (scope, level) in &self.scopes {
            write!(f, ",{scope}:{}", level_name(*level))?;
        }
        Ok(())
    }
}

fn parse_level(text: &str) -> Option<LevelFilter> {
    Some(match text {
        "trace" => LevelFilter::TRACE,
        "debug" => LevelFilter::DEBUG,
        "info" => LevelFilter::INFO,
        "warn" => LevelFilter::WARN,
        "error" => LevelFilter::ERROR,
        // Nothing is logged at `fatal`: a fatal failure is logged as `error`.
        "fatal" | "none" => LevelFilter::OFF,
        _ => return None,
    })
}

fn level_name(level: LevelFilter) -> &'static str {
    match level {
        LevelFilter::TRACE => "trace",
        LevelFilter::DEBUG => "debug",
        LevelFilter::INFO => "info",
        LevelFilter::WARN => "warn",
        LevelFilter::ERROR => "error",
        _ => "none",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scopes_are_top_level_modules() {
        assert_eq!(scope("pilot_discovery::xds::push"), ("xds", false));
        assert_eq!(scope("citadel"), (DEFAULT, false));
        assert_eq!(scope("ads"), ("ads", false));
        assert_eq!(scope("h2::codec"), ("h2", true));
        assert_eq!(scope("sidecar_injector::webhook"), ("webhook", false));
    }

    #[test]
    fn a_named_scope_wins_over_the_default() {
        let mut levels = Levels::default();
        levels.update("default:warn,xds:debug").unwrap();
        assert_eq!(levels.of("pilot_discovery::xds"), LevelFilter::DEBUG);
        assert_eq!(levels.of("pilot_discovery::config"), LevelFilter::WARN);
        assert_eq!(levels.max(), LevelFilter::DEBUG);
        assert_eq!(levels.to_string(), "default:warn,xds:debug");
    }

    #[test]
    fn libraries_are_quiet_unless_named() {
        let mut levels = Levels::default();
        levels.update("debug").unwrap();
        assert_eq!(levels.of("hyper::proto"), LevelFilter::WARN);
        assert_eq!(levels.of("kube_client::client"), LevelFilter::OFF);
        levels.update("hyper:debug,kube_client:warn").unwrap();
        assert_eq!(levels.of("hyper::proto"), LevelFilter::DEBUG);
        assert_eq!(levels.of("kube_client::client"), LevelFilter::WARN);
    }

    #[test]
    fn a_wrong_level_changes_nothing() {
        let mut levels = Levels::default();
        let error = levels.update("xds:debug,mcp:loud").unwrap_err().to_string();
        assert!(
            error.contains("\"loud\"") && error.contains("\"mcp\""),
            "{error}"
        );
        assert_eq!(levels.to_string(), "default:info");
    }
}
