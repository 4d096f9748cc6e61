//! Output of messages as lines, JSON or YAML.

use std::io::{IsTerminal as _, Write as _};

use anyhow::{Context as _, Result};
use istio_rules::analysis::{Level, Message};
use serde::Serialize;

use crate::args::{Analyze, Form};

/// A message in JSON or YAML.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Entry {
    code: &'static str,
    level: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    origin: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reference: Option<String>,
    message: String,
    documentation_url: String,
}

impl Entry {
    fn new(message: &Message) -> Self {
        Self {
            code: message.code.code,
            level: message.code.level.name(),
            origin: message.origin.as_ref().map(ToString::to_string),
            reference: message.reference(),
            message: message.text(),
            documentation_url: message.documentation_url(),
        }
    }
}

/// Writes the messages.
pub(super) fn write(args: &Analyze, messages: &[&Message]) -> Result<()> {
    let entries = || {
        messages
            .iter()
            .map(|message| Entry::new(message))
            .collect::<Vec<_>>()
    };
    let text = match args.output {
        Form::Json => {
            let mut text =
                serde_json::to_string_pretty(&entries()).context("cannot encode the output")?;
            text.push('\n');
            text
        }
        Form::Yaml => serde_yaml::to_string(&entries()).context("cannot encode the output")?,
        Form::Log => {
            let is_coloured = args
                .color
                .unwrap_or_else(|| std::io::stdout().is_terminal());
            messages
                .iter()
                .map(|message| line(message, is_coloured))
                .collect()
        }
    };
    std::io::stdout()
        .write_all(text.as_bytes())
        .context("cannot write the output")
}

fn line(message: &Message, is_coloured: bool) -> String {
    let text = message.to_string();
    if !is_coloured {
        return format!("{text}\n");
    }
    let (colour, level) = match message.code.level {
        Level::Error => ("31", "Error"),
        Level::Warning => ("33", "Warning"),
        Level::Info => ("32", "Info"),
    };
    let rest = text.strip_prefix(level).unwrap_or(&text);
    format!("\x1b[1;{colour}m{level}\x1b[0m{rest}\n")
}
