//! A file that is far too large must cost almost no memory. In a process of its own, as it measures
//! the peak.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a helper that fails fails its test"
)]

use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use galley::source::fs;
use galley_engine::update::{FileUpdate, Update};
use mesh_common::drain;
use mesh_core::limit;
use tokio::sync::mpsc;

/// Peak resident memory of this process in bytes.
fn peak() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))
        .unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
}

#[tokio::test]
async fn a_file_of_50_megabytes_costs_no_memory() {
    let dir = tempfile::tempdir().unwrap();
    File::create(dir.path().join("large.yaml"))
        .unwrap()
        .set_len(50 << 20)
        .unwrap();
    // A file of the maximum size, with one document that is too large.
    let most = usize::try_from(limit::FILE_BYTES).unwrap();
    let text = format!("a: {}\n", "x".repeat(limit::DOCUMENT_BYTES));
    let before = peak();
    let (_trigger, drain) = drain::channel();
    let (updates_tx, mut updates) = mpsc::channel(4);
    let root = dir.path().to_owned();
    tokio::spawn(fs::run(root, updates_tx, drain));
    let Some(Update::Files(files)) = updates.recv().await else {
        panic!("no files")
    };
    let [FileUpdate::Unusable(path, problem)] = files.as_slice() else {
        panic!("{files:?}")
    };
    assert_eq!(*path, Arc::from(Path::new("large.yaml")));
    assert!(
        problem
            .message
            .contains("52428800 bytes, the limit is 16777216"),
        "{problem}"
    );
    assert!(matches!(updates.recv().await, Some(Update::Synced)));
    let refused = peak() - before;
    assert!(
        refused < 8 << 20,
        "{refused} bytes for a file that is refused"
    );

    let documents = vec![text.as_str(); most / text.len()].join("---\n");
    assert!(documents.len() <= most);
    let before = peak();
    let content = galley_engine::content::read(&Path::new("b.yaml").into(), &documents);
    assert_eq!(content.problems.len(), most / text.len());
    let read = peak() - before;
    assert!(
        read < 8 << 20,
        "{read} bytes for documents that are refused"
    );
}
