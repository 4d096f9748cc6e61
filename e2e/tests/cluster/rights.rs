//! What each account may do: the API server is asked, and its answer compared with a table.

use std::collections::BTreeSet;

use anyhow::{Context as _, Result, ensure};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::fixture::{ISTIO, Machine, Turn, is_asked, path};

/// One account with the values of one case.
#[derive(Debug, Deserialize)]
struct Row {
    case: String,
    account: String,
    cluster: Vec<Rule>,
    namespace: Vec<Rule>,
}

#[derive(Debug, Deserialize)]
struct Rule {
    group: String,
    resources: Vec<String>,
    #[serde(default)]
    names: Vec<String>,
    verbs: Vec<String>,
}

/// Group, resource, name of the object or `*`, verb.
type Right = (String, String, String, String);

fn rights<'a>(rules: impl IntoIterator<Item = &'a Rule>) -> BTreeSet<Right> {
    let mut all = BTreeSet::new();
    for rule in rules {
        let any = ["*".to_owned()];
        let names = if rule.names.is_empty() {
            &any[..]
        } else {
            &rule.names
        };
        for resource in &rule.resources {
            for name in names {
                for verb in &rule.verbs {
                    all.insert((
                        rule.group.clone(),
                        resource.clone(),
                        name.clone(),
                        verb.clone(),
                    ));
                }
            }
        }
    }
    all
}

/// What the API server says that `account` may do in `namespace`.
fn asked(machine: &Machine, account: &str, namespace: &str) -> Result<BTreeSet<Right>> {
    let review = json!({
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SelfSubjectRulesReview",
        "spec": {"namespace": namespace},
    });
    let who = format!("--as=system:serviceaccount:{ISTIO}:{account}");
    // Whom a ServiceAccount's token is of, so that rights of all of them are counted.
    let groups = [
        "--as-group=system:serviceaccounts",
        "--as-group=system:authenticated",
    ];
    let arguments = [
        &["create", "--validate=false", "-o", "json", "-f", "-", &who],
        &groups[..],
    ]
    .concat();
    let text = machine
        .cluster()
        .kubectl()
        .feed(&arguments, &review.to_string())?;
    let answer: Value = serde_json::from_str(&text)?;
    ensure!(
        answer["status"]["incomplete"] == false,
        "{}",
        answer["status"]
    );
    let texts = |rule: &Value, field: &str| -> Vec<String> {
        let list = rule[field].as_array().into_iter().flatten();
        list.filter_map(|each| each.as_str().map(str::to_owned))
            .collect()
    };
    let mut all = BTreeSet::new();
    for rule in answer["status"]["resourceRules"]
        .as_array()
        .into_iter()
        .flatten()
    {
        for group in texts(rule, "apiGroups") {
            let rule = Rule {
                group,
                resources: texts(rule, "resources"),
                names: texts(rule, "resourceNames"),
                verbs: texts(rule, "verbs"),
            };
            all.extend(rights([&rule]));
        }
    }
    Ok(all)
}

/// The objects of a chart that have to do with rights.
fn render(machine: &Machine, case: &str) -> Result<Option<String>> {
    let values = path(&format!("helm/ci/{case}.yaml")).display().to_string();
    let chart = [
        "istio-config",
        "sidecar-injector",
        "citadel",
        "galley",
        "gateway",
        "pilot",
    ]
    .into_iter()
    .find(|chart| case.starts_with(&format!("{chart}-")))
    .with_context(|| format!("no chart for case {case}"))?;
    let chart = path(&format!("helm/{chart}")).display().to_string();
    let text = machine.helm(&["template", "istio-x", &chart, "-n", ISTIO, "-f", &values])?;
    let mut kept = Vec::new();
    for document in text.split("\n---") {
        let value: Value = serde_yaml::from_str(document).context("a rendered document")?;
        let group = value["apiVersion"].as_str().unwrap_or_default();
        if group.starts_with("rbac.authorization.k8s.io/") {
            kept.push(value);
        }
    }
    let list = json!({"apiVersion": "v1", "kind": "List", "items": kept});
    Ok((!kept.is_empty()).then(|| list.to_string()))
}

#[test]
fn every_account_may_do_what_the_table_says_and_nothing_else() -> Result<()> {
    if !is_asked() {
        return Ok(());
    }
    // One after the other, like all tests here.
    let _turn = Turn::take()?;
    // A cluster of its own: rights of several cases would add up.
    let machine = Machine::start(2)?;
    machine.kubectl(&["create", "namespace", ISTIO])?;
    let common = asked(&machine, "nobody", "default")?;
    let table = std::fs::read_to_string(path("helm/rbac.yaml")).context("read helm/rbac.yaml")?;
    let rows: Vec<Row> = serde_yaml::from_str(&table).context("understand helm/rbac.yaml")?;
    ensure!(rows.len() >= 5, "only {} rows", rows.len());
    for row in &rows {
        let objects = render(&machine, &row.case)?;
        let kubectl = machine.cluster().kubectl();
        // Some accounts have no rights, and so no objects.
        let change = |verb: &str| match &objects {
            Some(objects) => kubectl.feed(&[verb, "-f", "-"], objects).map(drop),
            None => Ok(()),
        };
        change("apply")?;
        let compared = compare(&machine, row, &common);
        change("delete")?;
        compared.with_context(|| format!("{} of {}", row.account, row.case))?;
    }
    Ok(())
}

fn compare(machine: &Machine, row: &Row, common: &BTreeSet<Right>) -> Result<()> {
    let everywhere = rights(&row.cluster);
    let own = rights(row.cluster.iter().chain(&row.namespace));
    for (namespace, wanted) in [("default", everywhere), (ISTIO, own)] {
        ensure!(
            wanted.iter().all(|(_, _, _, verb)| verb != "*"),
            "the table has a verb *"
        );
        let found: BTreeSet<Right> = asked(machine, &row.account, namespace)?
            .difference(common)
            .cloned()
            .collect();
        let missing: Vec<_> = wanted.difference(&found).collect();
        let more: Vec<_> = found.difference(&wanted).collect();
        ensure!(
            missing.is_empty() && more.is_empty(),
            "in {namespace}: not granted {missing:?}; granted beyond the table {more:?}"
        );
    }
    Ok(())
}
