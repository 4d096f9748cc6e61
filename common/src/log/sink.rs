//! Writes lines on a thread of its own, so that a slow reader never blocks the process.

use std::fs::OpenOptions;
use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{self, Receiver, SyncSender};
use std::time::Duration;

use anyhow::Context;

/// Maximum number of lines that wait for the writer; others are dropped and counted.
const QUEUE: usize = 8192;

enum Item {
    Line(Vec<u8>),
    Flush(SyncSender<()>),
}

#[derive(Clone, Debug)]
pub(super) struct Sink {
    queue: SyncSender<Item>,
    dropped: Arc<AtomicU64>,
}

impl Sink {
    pub(super) fn start(targets: &[String]) -> anyhow::Result<Self> {
        let mut writers: Vec<Box<dyn Write + Send>> = Vec::new();
        for target in targets {
            writers.push(match target.as_str() {
                "stdout" => Box::new(io::stdout()),
                "stderr" => Box::new(io::stderr()),
                path => Box::new(
                    OpenOptions::new()
                        .create(true)
                        .append(true)
                        .open(path)
                        .with_context(|| format!("cannot open the log target {path:?}"))?,
                ),
            });
        }
        let (queue, items) = mpsc::sync_channel(QUEUE);
        std::thread::Builder::new()
            .name("log".to_owned())
            .spawn(move || write_all(&items, &mut writers))
            .context("cannot start the log thread")?;
        Ok(Self {
            queue,
            dropped: Arc::default(),
        })
    }

    pub(super) fn line(&self, line: Vec<u8>) {
        if self.queue.try_send(Item::Line(line)).is_err() {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    pub(super) fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }

    pub(super) fn flush(&self) {
        let (done, wait) = mpsc::sync_channel(1);
        if self.queue.send(Item::Flush(done)).is_ok() {
            // On a timeout the remaining lines are lost with the process.
            let _ = wait.recv_timeout(Duration::from_secs(1));
        }
    }
}

/// A target that fails (a closed pipe, a full disk) loses its lines; there is no better place to
/// report this.
fn write_all(items: &Receiver<Item>, writers: &mut [Box<dyn Write + Send>]) {
    while let Ok(first) = items.recv() {
        for item in std::iter::once(first).chain(items.try_iter()) {
            match item {
                Item::Line(line) => {
                    for writer in writers.iter_mut() {
                        let _ = writer.write_all(&line);
                    }
                }
                Item::Flush(done) => {
                    flush(writers);
                    // The waiter may have given up.
                    let _ = done.try_send(());
                }
            }
        }
        flush(writers);
    }
}

fn flush(writers: &mut [Box<dyn Write + Send>]) {
    for writer in writers {
        let _ = writer.flush();
    }
}
