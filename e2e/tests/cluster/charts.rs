//! The charts as text: what Helm and the API server say of them before anything is installed.

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use crate::fixture::{ISTIO, Turn, cases, is_asked, path};

const CHARTS: [&str; 8] = [
    "istio-init",
    "istio-config",
    "citadel",
    "galley",
    "pilot",
    "sidecar-injector",
    "gateway",
    "istio",
];
/// The oldest and the newest that charts must render for.
const VERSIONS: [&str; 3] = ["1.30.0", "1.33.0", "1.36.4"];

fn template(machine: &Turn, chart: &str, options: &[&str]) -> Result<String> {
    let chart = path(&format!("helm/{chart}")).display().to_string();
    let common = ["template", "istio-x", &chart, "-n", ISTIO];
    machine.helm(&[&common[..], options].concat())
}

#[test]
fn every_case_is_clean_renders_for_each_version_and_the_api_server_takes_it() -> Result<()> {
    if !is_asked() {
        return Ok(());
    }
    let machine = Turn::take()?;
    for chart in CHARTS {
        let cases = cases(chart)?;
        ensure!(!cases.is_empty(), "no values for {chart} in helm/ci");
        for case in cases {
            let values = case.display().to_string();
            let directory = path(&format!("helm/{chart}")).display().to_string();
            machine
                .helm(&["lint", "--strict", &directory, "-f", &values])
                .with_context(|| format!("{chart} with {values}"))?;
            let mut rendered = String::new();
            for version in VERSIONS {
                let options = ["-f", &values, "--kube-version", version];
                rendered = template(&machine, chart, &options)?;
                let again = template(&machine, chart, &[&options[..], &["--is-upgrade"]].concat())?;
                ensure!(again == rendered, "{values}: another text the second time");
            }
            if rendered.trim().is_empty() {
                continue;
            }
            let arguments = [
                "apply",
                "--server-side",
                "--force-conflicts",
                "--dry-run=server",
                "-f",
                "-",
            ];
            machine
                .cluster()
                .kubectl()
                .feed(&arguments, &rendered)
                .with_context(|| format!("{chart} with {values}"))?;
        }
    }
    Ok(())
}

#[test]
fn a_value_that_nobody_knows_is_refused() -> Result<()> {
    if !is_asked() {
        return Ok(());
    }
    let machine = Turn::take()?;
    for chart in CHARTS {
        let error = template(&machine, chart, &["--set", "noSuchValue=1"]).unwrap_err();
        ensure!(
            format!("{error:#}").contains("noSuchValue"),
            "{chart}: {error:#}"
        );
    }
    Ok(())
}

/// Values of a component stand in its section or without it: the schema must name both.
#[test]
fn every_value_of_a_component_may_stand_without_its_section() -> Result<()> {
    for (chart, section) in [
        ("citadel", "citadel"),
        ("galley", "galley"),
        ("pilot", "pilot"),
        ("sidecar-injector", "sidecarInjectorWebhook"),
        ("gateway", "gateway"),
    ] {
        let file = path(&format!("helm/{chart}/values.schema.json"));
        let schema: Value = serde_json::from_str(&std::fs::read_to_string(file)?)?;
        let inside = schema["$defs"][section]["properties"].as_object();
        let inside = inside.with_context(|| format!("{chart} has no section"))?;
        for name in inside.keys() {
            let wanted = format!("#/$defs/{section}/properties/{name}");
            let stands = schema["properties"][name]["$ref"] == wanted.as_str();
            ensure!(stands, "{chart}: {name} is known in {section} only");
        }
    }
    Ok(())
}
