//! The `iptables` programs of the machine: choosing and running them.

use std::{
    io::Write as _,
    process::{Command, Output, Stdio},
};

use anyhow::{Context as _, bail};

use super::{config::Family, ruleset::Rule, state::Saved};

/// Seconds to wait for the lock of legacy iptables.
const LOCK_WAIT: &str = "--wait=30";
/// Legacy iptables counts as being in use from this number of rules on.
const LEGACY_IN_USE: usize = 3;

/// A usable implementation for one address family.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Binary {
    program: String,
    waits: bool,
}

/// A version number, such as 1.8.9.
type Version = Vec<u32>;

impl Binary {
    /// Chooses the forced implementation; else legacy if it holds rules; else nft if it works; else
    /// the plain name.
    ///
    /// # Errors
    /// If no implementation works; the message says how each one failed.
    pub fn detect(family: Family, forced: Option<&str>) -> anyhow::Result<Self> {
        let base = match family {
            Family::V4 => "iptables",
            Family::V6 => "ip6tables",
        };
        if let Some(forced) = forced {
            if !matches!(forced, "legacy" | "nft") {
                bail!("invalid --force-iptables-binary {forced:?}: want legacy or nft");
            }
            return Self::usable(&format!("{base}-{forced}"));
        }
        if let Ok(legacy) = Self::usable(&format!("{base}-legacy"))
            && legacy
                .save()
                .is_ok_and(|saved| saved.rule_count() >= LEGACY_IN_USE)
        {
            return Ok(legacy);
        }
        Self::usable(&format!("{base}-nft")).or_else(|nft| {
            Self::usable(base).with_context(|| format!("{base}-nft does not work either: {nft:#}"))
        })
    }

    /// The program's name.
    #[must_use]
    pub fn program(&self) -> &str {
        &self.program
    }

    /// The current rules.
    ///
    /// # Errors
    /// If the program cannot be run or fails.
    pub fn save(&self) -> anyhow::Result<Saved> {
        Ok(Saved::parse(&self.save_text()?))
    }

    /// The current rules, as text.
    ///
    /// # Errors
    /// If the program cannot be run or fails.
    pub fn save_text(&self) -> anyhow::Result<String> {
        let program = format!("{}-save", self.program);
        let output = run(Command::new(&program), None)?;
        ok(&program, &output)?;
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// Applies restore text in one transaction; other rules are kept.
    ///
    /// # Errors
    /// If the text is refused; in that case nothing was changed.
    pub fn restore(&self, text: &str) -> anyhow::Result<()> {
        let program = format!("{}-restore", self.program);
        let mut command = Command::new(&program);
        command.arg("--noflush");
        if self.waits {
            command.arg(LOCK_WAIT);
        }
        ok(&program, &run(command, Some(text))?)
    }

    /// Whether the rule exists.
    ///
    /// # Errors
    /// If the program cannot be run.
    pub fn has(&self, rule: &Rule) -> anyhow::Result<bool> {
        let mut command = Command::new(&self.program);
        if self.waits {
            command.arg(LOCK_WAIT);
        }
        command
            .args(["-t", rule.table.name(), "-C", rule.chain])
            .args(rule.spec.split(' '));
        Ok(run(command, None)?.status.success())
    }

    fn usable(program: &str) -> anyhow::Result<Self> {
        let output = run(version_command(program), None)?;
        ok(program, &output)?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let version = version(&text)
            .with_context(|| format!("{program} --version did not print a version: {text:?}"))?;
        let waits = !text.contains("nf_tables") && version.as_slice() >= [1, 6, 2].as_slice();
        let found = Self {
            program: program.to_owned(),
            waits,
        };
        found.save()?;
        // A rule that matches nothing shows whether kernel and permissions suffice.
        for action in ["-A", "-D"] {
            let mut command = Command::new(program);
            if waits {
                command.arg(LOCK_WAIT);
            }
            command.args(["-t", "nat", action, "INPUT", "-p", "255", "-j", "RETURN"]);
            ok(program, &run(command, None)?)?;
        }
        Ok(found)
    }
}

fn version_command(program: &str) -> Command {
    let mut command = Command::new(program);
    command.arg("--version");
    command
}

/// Parses the version `v1.8.9` in the output of --version.
fn version(text: &str) -> Option<Version> {
    let word = text
        .split_whitespace()
        .find_map(|word| word.strip_prefix('v'))?;
    let numbers: Version = word
        .split('.')
        .map_while(|part| part.parse().ok())
        .collect();
    (numbers.len() > 1).then_some(numbers)
}

fn run(mut command: Command, input: Option<&str>) -> anyhow::Result<Output> {
    let program = command.get_program().to_string_lossy().into_owned();
    command.stdin(if input.is_some() {
        Stdio::piped()
    } else {
        Stdio::null()
    });
    let mut child = command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("cannot start {program}"))?;
    if let (Some(text), Some(mut pipe)) = (input, child.stdin.take()) {
        pipe.write_all(text.as_bytes())
            .with_context(|| format!("cannot write the input of {program}"))?;
    }
    child
        .wait_with_output()
        .with_context(|| format!("cannot wait for {program}"))
}

fn ok(program: &str, output: &Output) -> anyhow::Result<()> {
    if output.status.success() {
        return Ok(());
    }
    let meaning = match output.status.code() {
        Some(1) => "other problem",
        Some(2) => "parameter problem",
        Some(3) => "version problem",
        Some(4) => "resource problem: lock held or missing permissions",
        _ => "unknown problem",
    };
    let stderr = String::from_utf8_lossy(&output.stderr);
    bail!(
        "{program}: {} ({meaning}): {}",
        output.status,
        stderr.trim()
    )
}

#[cfg(test)]
mod tests {
    use super::version;

    #[test]
    fn versions_of_both_implementations_are_read() {
        assert_eq!(version("iptables v1.8.9 (nf_tables)"), Some(vec![1, 8, 9]));
        assert_eq!(version("iptables v1.6.1"), Some(vec![1, 6, 1]));
        assert_eq!(version("iptables"), None);
    }
}
