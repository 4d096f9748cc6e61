//! `istioctl kube-inject`: uses the injector's library.

mod settings;

use std::fmt::Write as _;
use std::fs;
use std::io::Write as _;

use anyhow::{Context as _, Result, bail};
use mesh_common::input;
use mesh_core::yaml::{self, Document};
use serde_json::Value;
use sidecar_injector::config::Config;
use sidecar_injector::offline::{self, Result as Outcome};

use crate::args::{Global, KubeInject};
use crate::exit;

/// Reads manifests, injects objects that create Pods, and writes all documents in order. Documents
/// that are not injected are preserved byte by byte.
///
/// # Errors
/// If the configuration cannot be read or the result cannot be written. Documents that cannot be
/// parsed or injected are all reported, and nothing is written.
pub fn run(global: &Global, args: &KubeInject) -> Result<u8> {
    let found = settings::read(global, args)?;
    for warning in &found.config.warnings {
        eprintln!("Warning: {warning}");
    }
    let mut input = input::read(std::slice::from_ref(&args.filename), false);
    let (Some(input), true) = (input.pop(), input.is_empty()) else {
        bail!(
            "{}: want a file, or - for standard input",
            args.filename.display()
        );
    };
    let name = &input.name;
    let text = match &input.text {
        Ok(text) => text,
        Err(reason) => bail!("{name}: {reason}"),
    };
    let mut warn = |text: String| eprintln!("Warning: {text}");
    let done = if input.is_json() {
        json(text, &found.namespace, &found.config, &mut warn)
    } else {
        documents(text, &found.namespace, &found.config, &mut warn)
    };
    match done {
        Ok(result) => {
            write(args, &result)?;
            Ok(0)
        }
        Err(problems) => {
            for problem in &problems.texts {
                eprintln!("Error: {name}: {problem}");
            }
            Ok(problems.code)
        }
    }
}

/// Why there is no result: all problems, and the exit code.
#[derive(Debug, Default, PartialEq, Eq)]
struct Problems {
    texts: Vec<String>,
    code: u8,
}

impl Problems {
    fn add(&mut self, code: u8, text: String) {
        self.code = self.code.max(code);
        self.texts.push(text);
    }
}

/// A YAML stream; each document is followed by a line `---`.
fn documents(
    text: &str,
    namespace: &str,
    config: &Config,
    warn: &mut dyn FnMut(String),
) -> std::result::Result<String, Problems> {
    let mut result = String::new();
    let mut problems = Problems::default();
    for document in yaml::split(text) {
        let line = document.content_line();
        match yaml::read(&document) {
            Ok(None) => {}
            Err(error) => {
                let line = error.line.unwrap_or(line);
                problems.add(exit::UNREADABLE, format!("line {line}: {error}"));
            }
            Ok(Some(value)) => match offline::object(&value, namespace, config, warn) {
                Ok(Outcome::Unchanged) => finish(&mut result, content(&document)),
                Ok(Outcome::Injected(value)) => match serde_yaml::to_string(&value) {
                    Ok(text) => finish(&mut result, &text),
                    Err(error) => problems.add(exit::FAILURE, format!("line {line}: {error}")),
                },
                Err(error) => problems.add(exit::FAILURE, format!("line {line}: {error}")),
            },
        }
    }
    if problems.texts.is_empty() {
        Ok(result)
    } else {
        Err(problems)
    }
}

fn finish(result: &mut String, document: &str) {
    result.push_str(document);
    if !document.ends_with('\n') {
        result.push('\n');
    }
    result.push_str("---\n");
}

/// A document without the `---` before it.
fn content<'a>(document: &Document<'a>) -> &'a str {
    let text = document.text;
    match text.split_once('\n') {
        Some(("---" | "---\r", rest)) => rest,
        _ => text,
    }
}

/// A JSON file stays JSON.
fn json(
    text: &str,
    namespace: &str,
    config: &Config,
    warn: &mut dyn FnMut(String),
) -> std::result::Result<String, Problems> {
    let mut problems = Problems::default();
    let mut result = String::new();
    match yaml::read_json(text) {
        Err(error) => problems.add(exit::UNREADABLE, error.to_string()),
        Ok(values) => {
            for value in values {
                match offline::object(&value, namespace, config, warn) {
                    Ok(outcome) => {
                        let value: Value = match outcome {
                            Outcome::Unchanged => value,
                            Outcome::Injected(value) => *value,
                        };
                        // Writing a value into a string cannot fail.
                        let _ = writeln!(result, "{value:#}");
                    }
                    Err(error) => problems.add(exit::FAILURE, error.to_string()),
                }
            }
        }
    }
    if problems.texts.is_empty() {
        Ok(result)
    } else {
        Err(problems)
    }
}

fn write(args: &KubeInject, text: &str) -> Result<()> {
    match &args.output {
        Some(path) => {
            fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))
        }
        None => std::io::stdout()
            .write_all(text.as_bytes())
            .context("cannot write the result"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use sidecar_injector::config::{Settings, default_injection};

    fn inject(text: &str) -> (std::result::Result<String, Problems>, Vec<String>) {
        let config = Config::parse(&default_injection(), "", "", Settings::default()).unwrap();
        let mut warnings = Vec::new();
        let result = documents(text, "shop", &config, &mut |text| warnings.push(text));
        (result, warnings)
    }

    const SERVICE: &str =
        "# Kept.\napiVersion: v1\nkind: Service\nmetadata: {name: web}   # as it is\n";
    const POD: &str = "apiVersion: v1\nkind: Pod\nmetadata: {name: web}\nspec: {containers: [{name: web, image: 'web:1'}]}\n";

    #[test]
    fn what_is_not_injected_stays_byte_by_byte() {
        let (result, _) = inject(&format!("---\n{SERVICE}---\n{POD}---\n---\n{SERVICE}"));
        let result = result.unwrap();
        let parts: Vec<&str> = result.split("---\n").collect();
        assert_eq!(parts.len(), 4);
        assert_eq!((parts[0], parts[2], parts[3]), (SERVICE, SERVICE, ""));
        assert!(parts[1].contains("name: istio-proxy"));
    }

    #[test]
    fn every_problem_is_told_with_its_line() {
        let bad = POD.replace(
            "{name: web}\nspec",
            "{name: web, annotations: {sidecar.istio.io/interceptionMode: X}}\nspec",
        );
        let (result, _) = inject(&format!("{SERVICE}---\n{bad}---\na: [\n---\n{bad}"));
        let problems = result.unwrap_err();
        assert_eq!(problems.code, exit::UNREADABLE);
        assert_eq!(problems.texts.len(), 3, "{:?}", problems.texts);
        assert!(
            problems.texts[0].starts_with("line 6: Pod/web: "),
            "{:?}",
            problems.texts
        );
    }
}
