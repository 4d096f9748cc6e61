//! Claims of a projected ServiceAccount token.

use serde::Deserialize;

/// Claims other than those checked by the verification itself.
#[derive(Debug, Deserialize)]
pub(super) struct Claims {
    sub: String,
    #[serde(rename = "kubernetes.io")]
    kubernetes: Option<Kubernetes>,
}

#[derive(Debug, Deserialize)]
struct Kubernetes {
    namespace: Option<String>,
    serviceaccount: Option<Named>,
}

#[derive(Debug, Deserialize)]
struct Named {
    name: Option<String>,
}

/// A Kubernetes ServiceAccount; the names are not validated yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Account {
    pub(super) namespace: String,
    pub(super) name: String,
}

impl Account {
    /// Reads `system:serviceaccount:<namespace>:<name>`.
    pub(super) fn parse(subject: &str) -> Option<Self> {
        let rest = subject.strip_prefix("system:serviceaccount:")?;
        let (namespace, name) = rest.split_once(':')?;
        let is_good = !namespace.is_empty() && !name.is_empty() && !name.contains(':');
        is_good.then(|| Self {
            namespace: namespace.to_owned(),
            name: name.to_owned(),
        })
    }
}

impl Claims {
    /// The account in the subject, which the other claims must agree with.
    pub(super) fn account(&self) -> Result<Account, String> {
        let account = Account::parse(&self.sub)
            .ok_or("the subject is not of the form system:serviceaccount:<namespace>:<name>")?;
        if let Some(kubernetes) = &self.kubernetes {
            let name = kubernetes
                .serviceaccount
                .as_ref()
                .and_then(|account| account.name.as_ref());
            let agrees = kubernetes
                .namespace
                .as_ref()
                .is_none_or(|namespace| *namespace == account.namespace)
                && name.is_none_or(|name| *name == account.name);
            if !agrees {
                return Err("the claim kubernetes.io contradicts the subject".to_owned());
            }
        }
        Ok(account)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn account(json: serde_json::Value) -> Result<Account, String> {
        serde_json::from_value::<Claims>(json).unwrap().account()
    }

    #[test]
    fn a_service_account_has_four_parts() {
        let found = account(serde_json::json!({"sub": "system:serviceaccount:foo:bar"})).unwrap();
        assert_eq!(
            (found.namespace.as_str(), found.name.as_str()),
            ("foo", "bar")
        );
        for sub in [
            "",
            "foo",
            "system:serviceaccount",
            "system:serviceaccount:foo",
            "system:serviceaccount::bar",
            "system:serviceaccount:foo:",
            "system:serviceaccount:foo:bar:baz",
            "system:node:foo:bar",
        ] {
            assert!(account(serde_json::json!({ "sub": sub })).is_err(), "{sub}");
        }
    }

    #[test]
    fn claims_must_agree() {
        let with = |namespace: &str, name: &str| {
            account(serde_json::json!({
                "sub": "system:serviceaccount:foo:bar",
                "kubernetes.io": {"namespace": namespace, "serviceaccount": {"name": name, "uid": "1"}, "pod": {"name": "p"}},
            }))
        };
        assert!(with("foo", "bar").is_ok());
        assert!(with("other", "bar").is_err());
        assert!(with("foo", "other").is_err());
    }
}
