//! Constraints of a rule at one Service.

use std::collections::BTreeMap;

use crate::conversion::Service;
use istio_api::rbac::v1alpha1::access_rule::Constraint;
use istio_api::security::v1beta1::Condition;

/// A selector has one value for each label, so the choices multiply: no more than these are made.
const MAX_SELECTORS: usize = 100;

/// What is left of constraints once the Service is known.
#[derive(Debug, Default)]
pub(super) struct Constrained {
    /// Label keys with the values of which a workload must have one.
    pub(super) labels: BTreeMap<String, Vec<String>>,
    pub(super) when: Vec<Condition>,
}

/// Evaluates constraints. `Ok(None)` when the Service does not meet them.
///
/// # Errors
/// The index of a constraint that cannot be converted, and why.
pub(super) fn evaluate(
    constraints: &[Constraint],
    service: &Service,
) -> Result<Option<Constrained>, (usize, String)> {
    let mut left = Constrained::default();
    for (i, constraint) in constraints.iter().enumerate() {
        let Constraint { key, values } = constraint;
        let has = |text: &str| values.iter().any(|value| matches(value, text));
        let met = match key.as_str() {
            "destination.name" => has(&service.name),
            "destination.namespace" => has(&service.namespace),
            "destination.user" => account(values, service).map_err(|message| (i, message))?,
            _ if is_mapped(key) => {
                left.when.push(Condition {
                    key: key.clone(),
                    values: values.clone(),
                    not_values: Vec::new(),
                });
                true
            }
            _ => match in_brackets(key, "destination.labels") {
                Some(label) => left
                    .require(label, values)
                    .map_err(|message| (i, message))?,
                None => {
                    let message = format!(
                        "{key:?} is not known: want a key such as \"destination.labels[version]\""
                    );
                    return Err((i, message));
                }
            },
        };
        if !met {
            return Ok(None);
        }
        let mut values = left.labels.values().map(Vec::len);
        let choices = values.try_fold(1, usize::checked_mul);
        if choices.is_none_or(|choices| choices > MAX_SELECTORS) {
            let message =
                format!("the labels need more than {MAX_SELECTORS} selectors: want fewer values");
            return Err((i, message));
        }
    }
    let contradicted = left.labels.iter().any(|(key, values)| {
        let own = service.selector.get(key);
        own.is_some_and(|own| !values.contains(own))
    });
    Ok((!contradicted).then_some(left))
}

impl Constrained {
    /// Requires one of `values`; `false` when an earlier constraint leaves none of them.
    fn require(&mut self, label: &str, values: &[String]) -> Result<bool, String> {
        if let Some(value) = values.iter().find(|value| value.contains('*')) {
            return Err(format!(
                "labels are selected by their whole value, which {value:?} is not: want it without \"*\""
            ));
        }
        let mut wanted = values.to_vec();
        wanted.sort();
        wanted.dedup();
        if let Some(known) = self.labels.get(label) {
            wanted.retain(|value| known.contains(value));
        }
        let is_possible = !wanted.is_empty();
        self.labels.insert(label.to_owned(), wanted);
        Ok(is_possible)
    }

    /// Selectors of the workloads that have the labels: one for each choice of values.
    pub(super) fn selectors(&self, service: &Service) -> Vec<BTreeMap<String, String>> {
        let mut selectors = vec![service.selector.clone()];
        for (key, values) in &self.labels {
            if service.selector.contains_key(key) {
                continue;
            }
            let with = |selector: &BTreeMap<String, String>, value: &String| {
                let mut selector = selector.clone();
                selector.insert(key.clone(), value.clone());
                selector
            };
            selectors = selectors
                .iter()
                .flat_map(|selector| values.iter().map(move |value| with(selector, value)))
                .collect();
        }
        selectors
    }
}

/// Keys that are conditions today, with the same values.
fn is_mapped(key: &str) -> bool {
    ["destination.ip", "destination.port", "connection.sni"].contains(&key)
        || in_brackets(key, "request.headers").is_some()
        || key.starts_with("experimental.envoy.filters.")
}

/// `name` of `prefix[name]`.
pub(super) fn in_brackets<'a>(key: &'a str, prefix: &str) -> Option<&'a str> {
    let name = key
        .strip_prefix(prefix)?
        .strip_prefix('[')?
        .strip_suffix(']')?;
    (!name.is_empty()).then_some(name)
}

/// Whether `value`, with a `*` at one end perhaps, covers `text`.
pub(super) fn matches(value: &str, text: &str) -> bool {
    if let Some(prefix) = value.strip_suffix('*') {
        text.starts_with(prefix)
    } else if let Some(suffix) = value.strip_prefix('*') {
        text.ends_with(suffix)
    } else {
        value == text
    }
}

/// Whether the workloads run as one of the accounts: all or none of them.
fn account(values: &[String], service: &Service) -> Result<bool, String> {
    let is_wanted = |id: &String| {
        let path = id.strip_prefix("spiffe://").unwrap_or(id);
        let name = path.rsplit_once("/sa/").map_or(path, |(_, name)| name);
        values.iter().any(|value| {
            [id.as_str(), path, name]
                .iter()
                .any(|form| matches(value, form))
        })
    };
    let wanted = service.accounts.iter().filter(|id| is_wanted(id)).count();
    if service.accounts.is_empty() {
        Err(format!(
            "it is not known which account {} runs as: want a constraint on labels",
            service.host
        ))
    } else if wanted != 0 && wanted != service.accounts.len() {
        Err(format!(
            "the workloads of {} run as different accounts: want a constraint on labels",
            service.host
        ))
    } else {
        Ok(wanted != 0)
    }
}
