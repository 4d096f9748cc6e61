//! A process that tells when it is ready and ends with whoever started it, unless it is let go:
//! the node of a mesh, the node of a cluster.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};

use anyhow::{Context as _, Result, bail};

/// The line on its standard output that is waited for.
pub const ANNOUNCEMENT: &str = "ready";
/// The line on its standard input that lets it live on without whoever started it.
pub const DETACH: &str = "detach";
/// Lines of its log that an error shows.
const TAIL: usize = 10;

/// A process that was started and ends with this value, unless it is let go.
#[derive(Debug)]
pub struct Lifeline {
    process: Child,
    line: Option<ChildStdin>,
}

impl Lifeline {
    /// Starts `command` with its errors going to `log`, and waits for its announcement.
    ///
    /// # Errors
    /// When it cannot be started or ends before; the text carries the end of its log.
    pub fn start(command: &mut Command, log: &Path) -> Result<Self> {
        let errors =
            std::fs::File::create(log).with_context(|| format!("make {}", log.display()))?;
        let mut process = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(errors)
            .spawn()
            .with_context(|| format!("start {}", command.get_program().display()))?;
        let line = process.stdin.take();
        let announced = process
            .stdout
            .take()
            .into_iter()
            .flat_map(|out| BufReader::new(out).lines())
            .map_while(std::io::Result::ok)
            .any(|line| line == ANNOUNCEMENT);
        if !announced {
            drop(line);
            process.wait().context("wait for the node")?;
            let log = std::fs::read_to_string(log).unwrap_or_default();
            let lines: Vec<&str> = log.lines().collect();
            let end = lines
                .get(lines.len().saturating_sub(TAIL)..)
                .unwrap_or_default()
                .join("\n");
            bail!("the node did not start:\n{end}");
        }
        Ok(Self { process, line })
    }

    /// Lets it live on after this process.
    ///
    /// # Errors
    /// When it has ended.
    pub fn detach(mut self) -> Result<()> {
        match self.line.take() {
            Some(mut line) => writeln!(line, "{DETACH}").context("the node has ended; see its log"),
            None => Ok(()),
        }
    }

    /// Ends it and waits for its end.
    ///
    /// # Errors
    /// When it cannot be waited for.
    pub fn end(mut self) -> Result<()> {
        // It ends when nobody holds the other end any more.
        drop(self.line.take());
        self.process.wait().context("wait for the node")?;
        Ok(())
    }

    /// Whether it has ended by itself.
    ///
    /// # Errors
    /// When it cannot be asked.
    pub fn has_ended(&mut self) -> Result<bool> {
        let ended = self.process.try_wait().context("ask for the node's end")?;
        Ok(ended.is_some())
    }
}

/// In the process itself: whether it was let go; returns when that is known.
#[must_use]
pub fn was_let_go() -> bool {
    std::io::stdin()
        .lock()
        .lines()
        .map_while(std::io::Result::ok)
        .any(|line| line == DETACH)
}

/// In the process itself: tells that it is ready.
///
/// # Errors
/// When nobody listens.
pub fn announce() -> Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{ANNOUNCEMENT}")
        .and_then(|()| out.flush())
        .context("announce readiness")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> (Result<Lifeline>, tempfile::TempDir) {
        let directory = tempfile::tempdir().unwrap();
        let log = directory.path().join("log");
        let started = Lifeline::start(Command::new("sh").args(["-c", script]), &log);
        (started, directory)
    }

    #[test]
    fn it_ends_with_its_line() {
        let (started, _directory) = shell("echo ready; read line; exit 0");
        let mut started = started.unwrap();
        assert!(!started.has_ended().unwrap());
        started.end().unwrap();
    }

    #[test]
    fn one_that_does_not_start_says_why() {
        let (started, _directory) = shell("echo no such luck >&2; exit 1");
        let error = started.unwrap_err().to_string();
        assert_eq!(error, "the node did not start:\nno such luck");
    }
}
