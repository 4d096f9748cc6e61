//! A process whose task fails ends with status 1, after the other tasks had their time.

use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use clap::Parser;
use mesh_common::args::LogArgs;
use mesh_common::{app, process};

#[derive(Parser)]
struct Args {
    #[command(flatten)]
    log: LogArgs,
}

#[test]
fn a_panic_in_a_task_ends_the_process_with_status_1() {
    let args = Args::parse_from(["test"]);
    let drained = Arc::new(AtomicBool::new(false));
    let flag = Arc::clone(&drained);
    let code = process::run(&args.log, Duration::from_secs(10), |drain| {
        app::run("test", drain, |app| async move {
            let signaled = app.drain().signaled();
            app.tasks.keep("healthy", async move {
                signaled.await;
                tokio::time::sleep(Duration::from_millis(20)).await;
                flag.store(true, Ordering::SeqCst);
            });
            app.tasks.keep::<()>("bad", async { panic!("on purpose") });
            Ok(())
        })
    });
    assert_eq!(code, ExitCode::FAILURE);
    assert!(drained.load(Ordering::SeqCst));
}
