//! Commands against the cluster, with what they said when they fail.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use anyhow::{Context as _, Result, bail};

/// A client program with the administrator's credentials.
#[derive(Clone, Debug)]
pub struct Client {
    program: PathBuf,
    environment: Vec<(&'static str, PathBuf)>,
}

impl Client {
    pub(super) fn new(program: PathBuf, environment: Vec<(&'static str, PathBuf)>) -> Self {
        Self {
            program,
            environment,
        }
    }

    /// The command without arguments.
    #[must_use]
    pub fn command(&self) -> Command {
        let mut command = Command::new(&self.program);
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        command
    }

    /// Runs it and returns its standard output.
    ///
    /// # Errors
    /// When it cannot be started or fails; the text carries what it said.
    pub fn run<S: AsRef<std::ffi::OsStr>>(&self, arguments: &[S]) -> Result<String> {
        let output = self.output(arguments)?;
        self.accept(arguments, output)
    }

    /// Runs it with `-o json` and returns what it printed.
    ///
    /// # Errors
    /// As [`Self::run`], or when the output is not JSON.
    pub fn json(&self, arguments: &[&str]) -> Result<serde_json::Value> {
        let text = self.run(&[arguments, &["-o", "json"]].concat())?;
        serde_json::from_str(&text).context("understand what kubectl printed")
    }

    /// Runs it to its end, whatever that is.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn output<S: AsRef<std::ffi::OsStr>>(&self, arguments: &[S]) -> Result<Output> {
        self.command()
            .args(arguments)
            .stdin(Stdio::null())
            .output()
            .with_context(|| format!("start {}", self.program.display()))
    }

    /// Runs it with `input` as standard input and returns its standard output.
    ///
    /// # Errors
    /// As [`Self::run`].
    pub fn feed<S: AsRef<std::ffi::OsStr>>(&self, arguments: &[S], input: &str) -> Result<String> {
        let mut child = self
            .command()
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .with_context(|| format!("start {}", self.program.display()))?;
        let mut stdin = child.stdin.take().context("no standard input")?;
        let input = input.to_owned();
        // It may write before it has read everything. Its status shows an early end.
        let writer = std::thread::spawn(move || stdin.write_all(input.as_bytes()));
        let output = child.wait_with_output().context("wait for the command")?;
        let written = writer
            .join()
            .map_err(|_| anyhow::anyhow!("the writer panicked"))?;
        let said = self.accept(arguments, output)?;
        written.context("write the standard input")?;
        Ok(said)
    }

    fn accept<S: AsRef<std::ffi::OsStr>>(&self, arguments: &[S], output: Output) -> Result<String> {
        if !output.status.success() {
            let name = self.program.file_name().unwrap_or_default();
            let line: Vec<_> = arguments
                .iter()
                .map(|each| each.as_ref().to_string_lossy())
                .collect();
            bail!(
                "{} {}: {}",
                Path::new(name).display(),
                line.join(" "),
                String::from_utf8_lossy(&output.stderr).trim()
            );
        }
        String::from_utf8(output.stdout).context("the output is not UTF-8")
    }
}
