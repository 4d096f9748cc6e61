//! One component at a time goes to another version and back, while requests go on and webhooks are asked.

use anyhow::Result;
use cluster::image::build;

use crate::admission::Questions;
use crate::fixture::{Turn, is_asked, path, runtime};
use crate::load::Load;

/// The same programs by another tag: what is tried is the change, not what is new.
const NEXT: &str = "0.1.0-next";
const COMPONENTS: [(&str, &str); 4] = [
    ("citadel", "citadel"),
    ("galley", "galley"),
    ("pilot", "pilot"),
    ("sidecar-injector", "sidecar_injector"),
];

#[test]
fn a_component_goes_to_the_next_version_and_back_alone() -> Result<()> {
    if !is_asked() {
        return Ok(());
    }
    let machine = Turn::take()?;
    for archive in build::tagged(machine.target(), NEXT, &COMPONENTS.map(|(_, image)| image))? {
        machine.cluster().load(&archive)?;
    }
    let values = path("e2e/tests/cluster/values-scaled.yaml")
        .display()
        .to_string();
    let runtime = runtime()?;
    let load = Load::start(&machine, &runtime)?;
    let questions = Questions::start(&machine, &runtime);
    let outcome = (|| -> Result<()> {
        for (release, image) in COMPONENTS {
            let tag = format!("global.tag={NEXT}");
            let wait = ["--wait", "--timeout=2m"];
            machine.install(
                release,
                release,
                &[&["-f", &values, "--set", &tag], &wait[..]].concat(),
            )?;
            let images = machine.images()?;
            let old = images
                .iter()
                .filter(|found| found.contains(&format!("/{image}:")));
            anyhow::ensure!(
                old.clone().all(|found| found.ends_with(NEXT)) && old.count() > 0,
                "{release}: {images:?}"
            );
            machine.helm(
                &[
                    &["rollback", release, "-n", crate::fixture::ISTIO],
                    &wait[..],
                ]
                .concat(),
            )?;
            let images = machine.images()?;
            anyhow::ensure!(
                !images.iter().any(|found| found.ends_with(NEXT)),
                "{release}: {images:?}"
            );
        }
        Ok(())
    })();
    let report = load.stop(&runtime);
    let answered = questions.stop(&runtime);
    outcome?;
    report?.is_whole(&machine)?;
    answered
}
