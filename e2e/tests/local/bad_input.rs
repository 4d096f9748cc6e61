//! Bad files while the mesh runs: what was good stays in force at Envoy, all else goes on.

use anyhow::{Result, ensure};
use mesh::wait::wait_until;

use crate::fixture::{LIMIT, Whole};

const CLIENT: &str = "default/sleep";
const FILE: &str = "virtualservice.networking.istio.io_default_reviews.yaml";

async fn galley_says(whole: &Whole, words: &str) -> Result<()> {
    wait_until("galley's message", LIMIT, || async {
        ensure!(
            whole.log("istio-galley").await?.contains(words),
            "no {words:?}"
        );
        Ok(())
    })
    .await
}

/// A change of another object reaches Envoy, and back.
async fn all_else_goes_on(whole: &Whole) -> Result<()> {
    let envoy = whole.mesh().envoy(CLIENT);
    let httpbin = "httpbin.default.svc.cluster.local:8000";
    let retries = |wanted: bool| {
        let envoy = envoy.clone();
        async move {
            wait_until("another change", LIMIT, || async {
                let host = envoy.virtual_host("8000", httpbin).await?.to_string();
                ensure!(host.contains("\"num_retries\":3") == wanted, "it is {host}");
                Ok(())
            })
            .await
        }
    };
    let file = "tasks/retries/virtual-service-httpbin-retries.yaml";
    whole.apply(file).await?;
    retries(true).await?;
    let path = mesh::start::binaries::workspace()
        .join("samples")
        .join(file);
    whole.mesh().delete(&std::fs::read_to_string(path)?).await?;
    retries(false).await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_last_good_state_stays_at_envoy_and_all_else_goes_on() -> Result<()> {
    let whole = Whole::start().await?;
    let path = whole.mesh().layout().objects().join(FILE);
    let good = std::fs::read_to_string(&path)?;
    let v2 = good.replace("subset: v1", "subset: v2");
    for (bad, message) in [
        (
            v2.replace("spec:", "spec: ["),
            format!("file={FILE}\tdocument=1\tline=9\t"),
        ),
        (
            v2.replace("  http:", "  http: none\n  https:"),
            "object=VirtualService default/reviews\tfield=spec.http\t".to_owned(),
        ),
    ] {
        ensure!(bad != v2, "the file was not spoiled:\n{v2}");
        std::fs::write(&path, &bad)?;
        galley_says(&whole, &message).await?;
        all_else_goes_on(&whole).await?;
        assert_eq!(whole.reviews_answer(CLIENT).await?, "v1");
        whole.reviews_go_to(CLIENT, "v1").await?;
    }
    std::fs::write(&path, &v2)?;
    whole.reviews_go_to(CLIENT, "v2").await?;
    assert_eq!(whole.reviews_answer(CLIENT).await?, "v2");

    // A route to a host that nobody knows is taken, told of, and harms nobody else.
    let nowhere = "apiVersion: networking.istio.io/v1\nkind: VirtualService\n\
                   metadata: {name: lost}\n\
                   spec: {hosts: [lost.example.com], http: [{route: [{destination: {host: nowhere}}]}]}\n";
    whole.mesh().apply(nowhere).await?;
    galley_says(&whole, "routes to nowhere.default").await?;
    all_else_goes_on(&whole).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_directory_that_disappears_changes_nothing_until_it_is_back() -> Result<()> {
    let whole = Whole::start().await?;
    let objects = whole.mesh().layout().objects();
    let aside = objects.with_extension("aside");
    std::fs::rename(&objects, &aside)?;
    galley_says(&whole, "cannot be read").await?;
    for _ in 0..20 {
        assert_eq!(whole.reviews_answer(CLIENT).await?, "v1");
    }
    std::fs::rename(&aside, &objects)?;
    let path = objects.join(FILE);
    let v3 = std::fs::read_to_string(&path)?.replace("subset: v1", "subset: v3");
    std::fs::write(&path, v3)?;
    whole.reviews_go_to(CLIENT, "v3").await?;
    assert_eq!(whole.reviews_answer(CLIENT).await?, "v3");
    all_else_goes_on(&whole).await
}
