//! What `cargo mesh check` does, through the cluster's ingress gateway.

use anyhow::Result;

use crate::fixture::{Turn, is_asked, runtime};

#[test]
fn every_task_shows_what_it_must() -> Result<()> {
    if !is_asked() {
        return Ok(());
    }
    let machine = Turn::take()?;
    let results = runtime()?.block_on(mesh::check::run(&machine.world(), &[], |row| {
        println!("{row:?}");
    }))?;
    let failed: Vec<_> = results.rows.iter().filter(|row| !row.passed).collect();
    assert!(failed.is_empty() && results.passed, "{failed:#?}");
    for task in mesh::check::names() {
        assert!(
            results.rows.iter().any(|row| row.task == task),
            "no row for {task}"
        );
    }
    Ok(())
}
