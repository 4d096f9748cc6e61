//! Leaving the mesh: open, closed, and open for one host.

use anyhow::Result;

use crate::check::stage::{CLIENT, Seen, Stage, status};
use crate::http::Answer;

const URL: &str = "http://external.outside:8000/status/200";

/// The status, and whether a counter of the client's proxy grew by the request.
async fn asked(stage: &Stage<'_>, counter: &str, wanted: u16) -> Result<Seen> {
    let envoy = stage.mesh.envoy(CLIENT);
    let before = envoy.stat_sum(counter).await?;
    let answer: Answer = stage.http(CLIENT).get(URL).await?;
    let counted = envoy.stat_sum(counter).await? - before;
    let (right, seen) = status(&answer, wanted);
    let seen = format!("{seen}, counted {counted} there");
    Ok((right && counted == 1, seen))
}

pub(super) async fn egress(stage: &mut Stage<'_>) -> Result<()> {
    stage.apply("manifests/external").await?;
    stage.settle().await?;
    let seen = asked(
        stage,
        r"^cluster\.PassthroughCluster;?\.upstream_rq_completed$",
        200,
    )
    .await;
    stage.row(
        "any host may be reached",
        "200, past the mesh's clusters",
        seen,
    );

    stage
        .apply("tasks/egress/sidecar-registry-only.yaml")
        .await?;
    stage
        .until_routed(CLIENT, "8000", "block_all", |host| host.contains("502"))
        .await?;
    let answer = stage.http(CLIENT).get(URL).await;
    let seen = answer.map(|answer| status(&answer, 502));
    stage.row("REGISTRY_ONLY, host not known", "502", seen);

    stage
        .apply("tasks/egress/service-entry-external.yaml")
        .await?;
    stage
        .until_routed(CLIENT, "8000", "external.outside:8000", |host| {
            host.contains("outbound|8000||external.outside")
        })
        .await?;
    let counter = r"^cluster\.outbound\|8000\|\|external\.outside;?\.upstream_rq_completed$";
    let seen = asked(stage, counter, 200).await;
    stage.row(
        "REGISTRY_ONLY, with a ServiceEntry",
        "200 through its cluster",
        seen,
    );
    Ok(())
}
