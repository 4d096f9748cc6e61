//! Label selectors, as the injection file has them.

use serde::Deserialize;
use std::collections::BTreeMap;

/// Labels of an object.
pub type Labels = BTreeMap<String, String>;

/// A Kubernetes label selector.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Selector {
    #[serde(default)]
    match_labels: Labels,
    #[serde(default)]
    match_expressions: Vec<Expression>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Expression {
    key: String,
    operator: Operator,
    #[serde(default)]
    values: Vec<String>,
}

#[derive(Clone, Copy, Debug, Deserialize)]
enum Operator {
    In,
    NotIn,
    Exists,
    DoesNotExist,
}

impl Selector {
    /// Parses a selector. `In` and `NotIn` need values, the other operators must have none.
    ///
    /// # Errors
    /// A message that says what is wrong.
    pub fn parse(value: &serde_yaml::Value) -> Result<Self, String> {
        let selector: Self =
            serde_yaml::from_value(value.clone()).map_err(|error| error.to_string())?;
        for Expression {
            key,
            operator,
            values,
        } in &selector.match_expressions
        {
            let needs_values = matches!(operator, Operator::In | Operator::NotIn);
            if needs_values == values.is_empty() {
                let verb = if needs_values { "needs" } else { "takes no" };
                return Err(format!(
                    "invalid matchExpressions for {key:?}: {operator:?} {verb} values"
                ));
            }
        }
        Ok(selector)
    }

    /// Whether all conditions hold. A selector without conditions matches nothing here, so that an
    /// empty entry in the configuration does not inject everything.
    pub fn matches(&self, labels: &Labels) -> bool {
        if self.match_labels.is_empty() && self.match_expressions.is_empty() {
            return false;
        }
        let equal = self
            .match_labels
            .iter()
            .all(|(key, value)| labels.get(key) == Some(value));
        equal
            && self.match_expressions.iter().all(
                |Expression {
                     key,
                     operator,
                     values,
                 }| {
                    let value = labels.get(key);
                    match operator {
                        Operator::In => value.is_some_and(|value| values.contains(value)),
                        Operator::NotIn => value.is_none_or(|value| !values.contains(value)),
                        Operator::Exists => value.is_some(),
                        Operator::DoesNotExist => value.is_none(),
                    }
                },
            )
    }
}
