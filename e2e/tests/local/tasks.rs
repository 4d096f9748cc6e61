//! What `cargo mesh check` does.

use anyhow::Result;
use mesh::platform::World;

use crate::fixture::Whole;

#[tokio::test(flavor = "multi_thread")]
async fn every_task_shows_what_it_must() -> Result<()> {
    let whole = Whole::start().await?;
    let results = mesh::check::run(&World::new(whole.mesh().clone()), &[], |row| {
        println!("{row:?}")
    })
    .await?;
    let failed: Vec<_> = results.rows.iter().filter(|row| !row.passed).collect();
    assert!(failed.is_empty() && results.passed, "{failed:#?}");
    for task in mesh::check::names() {
        assert!(
            results.rows.iter().any(|row| row.task == task),
            "no row for {task}"
        );
    }
    // Everything is what it was.
    whole.reviews_go_to("default/sleep", "v1").await?;
    let status = whole.mesh().status(false).await?;
    assert_eq!(status.pods.len(), 15);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_task_that_is_not_there_is_named() -> Result<()> {
    let whole = Whole::start().await?;
    let wanted = ["mirrors".to_owned()];
    let error = mesh::check::run(&World::new(whole.mesh().clone()), &wanted, |_| {}).await;
    let error = format!("{:#}", error.unwrap_err());
    assert!(error.starts_with("there is no task \"mirrors\"; there are request-routing, "));
    Ok(())
}
