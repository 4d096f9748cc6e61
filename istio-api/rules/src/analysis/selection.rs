//! Selecting by labels.

use std::collections::{BTreeMap, BTreeSet};

use istio_api::manifest::{Field, FieldError};

/// Labels of an object.
pub type Labels = BTreeMap<String, String>;

/// Whether `labels` include all labels of `selector`.
pub(super) fn selects(selector: &Labels, labels: &Labels) -> bool {
    selector
        .iter()
        .all(|(key, value)| labels.get(key) == Some(value))
}

/// `a=b,c=d`, ordered by key.
pub(super) fn text(selector: &Labels) -> String {
    let pairs = selector.iter().map(|(key, value)| format!("{key}={value}"));
    pairs.collect::<Vec<_>>().join(",")
}

/// One condition of a Kubernetes label selector.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Condition {
    In(String, BTreeSet<String>),
    NotIn(String, BTreeSet<String>),
    Exists(String),
    DoesNotExist(String),
}

/// A Kubernetes label selector; without conditions it selects everything.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LabelSelector {
    conditions: Vec<Condition>,
}

impl LabelSelector {
    /// Reads a selector; an absent one selects everything.
    pub(super) fn read(field: &Field<'_>) -> Result<Self, FieldError> {
        let mut conditions: Vec<Condition> = field
            .get("matchLabels")?
            .text_map()?
            .into_iter()
            .map(|(key, value)| Condition::In(key, [value].into()))
            .collect();
        for expression in field.get("matchExpressions")?.list()? {
            let key = expression
                .get("key")?
                .text()?
                .unwrap_or_default()
                .to_owned();
            let mut values = BTreeSet::new();
            for value in expression.get("values")?.list()? {
                values.extend(value.text()?.map(str::to_owned));
            }
            let operator = expression.get("operator")?;
            conditions.push(match operator.text()? {
                Some("In") => Condition::In(key, values),
                Some("NotIn") => Condition::NotIn(key, values),
                Some("Exists") => Condition::Exists(key),
                Some("DoesNotExist") => Condition::DoesNotExist(key),
                _ => return Err(operator.error("want In, NotIn, Exists or DoesNotExist")),
            });
        }
        Ok(Self { conditions })
    }

    /// Whether it selects an object with these labels.
    pub(super) fn matches(&self, labels: &Labels) -> bool {
        self.conditions.iter().all(|condition| match condition {
            Condition::In(key, values) => labels.get(key).is_some_and(|it| values.contains(it)),
            Condition::NotIn(key, values) => !labels.get(key).is_some_and(|it| values.contains(it)),
            Condition::Exists(key) => labels.contains_key(key),
            Condition::DoesNotExist(key) => !labels.contains_key(key),
        })
    }

    /// Values that conditions require of the label `key`.
    pub(super) fn wanted(&self, key: &str) -> impl Iterator<Item = &str> {
        self.conditions.iter().flat_map(move |condition| {
            let values = match condition {
                Condition::In(label, values) if label == key => Some(values),
                _ => None,
            };
            values.into_iter().flatten().map(String::as_str)
        })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn labels(pairs: &[(&str, &str)]) -> Labels {
        let pairs = pairs.iter();
        pairs
            .map(|(key, value)| ((*key).into(), (*value).into()))
            .collect()
    }

    #[test]
    fn every_operator() {
        let selector = json!({"matchLabels": {"a": "1"}, "matchExpressions": [
            {"key": "b", "operator": "In", "values": ["1", "2"]},
            {"key": "c", "operator": "NotIn", "values": ["1"]},
            {"key": "d", "operator": "Exists"},
            {"key": "e", "operator": "DoesNotExist"},
        ]});
        let selector = LabelSelector::read(&Field::root(&selector)).unwrap();
        let good = [("a", "1"), ("b", "2"), ("d", "")];
        assert!(selector.matches(&labels(&good)));
        for bad in [("a", "2"), ("b", "3"), ("c", "1"), ("e", "")] {
            let mut labels = labels(&good);
            labels.insert(bad.0.into(), bad.1.into());
            assert!(!selector.matches(&labels), "{bad:?}");
        }
        assert!(!selector.matches(&labels(&[("a", "1"), ("b", "1")])));
        assert!(LabelSelector::default().matches(&labels(&[])));
        assert_eq!(selector.wanted("b").collect::<Vec<_>>(), ["1", "2"]);
        let unknown = json!({"matchExpressions": [{"key": "a", "operator": "Has"}]});
        let error = LabelSelector::read(&Field::root(&unknown)).unwrap_err();
        assert_eq!(error.path, "matchExpressions[0].operator");
    }
}
