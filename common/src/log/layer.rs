//! Formats events as lines.

use std::fmt::{self, Write as _};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use arc_swap::ArcSwap;
use serde_json::{Map, Value};
use tracing::field::{Field, Visit};
use tracing::level_filters::LevelFilter;
use tracing::span::{Attributes, Id, Record};
use tracing::subscriber::Interest;
use tracing::{Event, Level, Metadata, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;
use tracing_subscriber::registry::LookupSpan;

use super::levels::{self, Levels};
use super::sink::Sink;

/// Maximum length of a field, in bytes; the rest is cut.
const MAX_FIELD: usize = 8192;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    Text,
    Json,
}

#[derive(Debug)]
pub(super) struct Lines {
    form: Form,
    levels: Arc<ArcSwap<Levels>>,
    sink: Sink,
}

impl Lines {
    pub(super) fn new(form: Form, levels: Arc<ArcSwap<Levels>>, sink: Sink) -> Self {
        Self { form, levels, sink }
    }

    fn shows(&self, metadata: &Metadata<'_>) -> bool {
        *metadata.level() <= self.levels.load().of(metadata.target())
    }
}

/// Fields in the order in which they were recorded.
#[derive(Debug, Default)]
struct Fields {
    message: String,
    others: Vec<(&'static str, Value)>,
}

impl Fields {
    fn add(&mut self, field: &Field, value: Value) {
        if field.name() == "message" {
            self.message = match value {
                Value::String(text) => text,
                other => other.to_string(),
            };
        } else if let Some(old) = self
            .others
            .iter_mut()
            .find(|(name, _)| *name == field.name())
        {
            old.1 = value;
        } else {
            self.others.push((field.name(), value));
        }
    }
}

fn cut(mut text: String) -> Value {
    if text.len() > MAX_FIELD {
        text.truncate(text.floor_char_boundary(MAX_FIELD));
        text.push('…');
    }
    Value::String(text)
}

impl Visit for Fields {
    fn record_f64(&mut self, field: &Field, value: f64) {
        self.add(field, value.into());
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.add(field, value.into());
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.add(field, value.into());
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.add(field, value.into());
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.add(field, cut(value.to_owned()));
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.add(field, cut(format!("{value:?}")));
    }
}

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for Lines {
    fn register_callsite(&self, metadata: &'static Metadata<'static>) -> Interest {
        // Called again for every call site when the levels change.
        if self.shows(metadata) {
            Interest::always()
        } else {
            Interest::never()
        }
    }

    fn enabled(&self, metadata: &Metadata<'_>, _: Context<'_, S>) -> bool {
        self.shows(metadata)
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        Some(self.levels.load().max())
    }

    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        if let Some(span) = context.span(id) {
            let mut fields = Fields::default();
            attributes.record(&mut fields);
            span.extensions_mut().insert(fields);
        }
    }

    fn on_record(&self, id: &Id, values: &Record<'_>, context: Context<'_, S>) {
        if let Some(span) = context.span(id)
            && let Some(fields) = span.extensions_mut().get_mut::<Fields>()
        {
            values.record(fields);
        }
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        let mut fields = Fields::default();
        event.record(&mut fields);
        for span in context.event_scope(event).into_iter().flatten() {
            if let Some(of_span) = span.extensions().get::<Fields>() {
                for (name, value) in &of_span.others {
                    if !fields.others.iter().any(|(known, _)| known == name) {
                        fields.others.push((name, value.clone()));
                    }
                }
            }
        }
        let (scope, _) = levels::scope(event.metadata().target());
        let now = SystemTime::now();
        let line = match self.form {
            Form::Text => text(now, *event.metadata().level(), scope, &fields),
            Form::Json => json(now, *event.metadata().level(), scope, fields),
        };
        self.sink.line(line.into_bytes());
    }
}

fn level_name(level: Level) -> &'static str {
    match level {
        Level::TRACE => "trace",
        Level::DEBUG => "debug",
        Level::INFO => "info",
        Level::WARN => "warn",
        Level::ERROR => "error",
    }
}

fn text(now: SystemTime, level: Level, scope: &str, fields: &Fields) -> String {
    let mut line = format!("{}\t{}\t", timestamp(now), level_name(level));
    if scope != levels::DEFAULT {
        line.push_str(scope);
        line.push('\t');
    }
    one_line(&mut line, &fields.message);
    for (name, value) in &fields.others {
        line.push('\t');
        line.push_str(name);
        line.push('=');
        match value {
            Value::String(value) if value.is_empty() => line.push_str("\"\""),
            Value::String(value) => one_line(&mut line, value),
            // Writing to a String does not fail.
            value => _ = write!(line, "{value}"),
        }
    }
    line.push('\n');
    line
}

fn json(now: SystemTime, level: Level, scope: &str, fields: Fields) -> String {
    let mut object = Map::new();
    object.insert("time".to_owned(), timestamp(now).into());
    object.insert("level".to_owned(), level_name(level).into());
    object.insert("scope".to_owned(), scope.into());
    object.insert("msg".to_owned(), fields.message.into());
    for (name, value) in fields.others {
        object.entry(name).or_insert(value);
    }
    let mut line = Value::Object(object).to_string();
    line.push('\n');
    line
}

/// Control characters in foreign text must not start new lines.
fn one_line(line: &mut String, text: &str) {
    for c in text.chars() {
        match c {
            '\n' => line.push_str("\\n"),
            c if c.is_control() => line.extend(c.escape_default()),
            c => line.push(c),
        }
    }
}

/// RFC 3339 in UTC with six decimals.
fn timestamp(now: SystemTime) -> String {
    let since = now.duration_since(UNIX_EPOCH).unwrap_or_default();
    let (days, second) = (since.as_secs() / 86_400, since.as_secs() % 86_400);
    let (year, month, day) = civil(days);
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    let micros = since.subsec_micros();
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{micros:06}Z")
}

/// Calendar date of a day since 1970-01-01, with years that begin in March.
fn civil(days: u64) -> (u64, u64, u64) {
    let day = days + 719_468;
    let (era, day) = (day / 146_097, day % 146_097);
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day_of_month = day - (153 * month + 2) / 5 + 1;
    let (month, carry) = if month < 10 {
        (month + 3, 0)
    } else {
        (month - 9, 1)
    };
    (era * 400 + year + carry, month, day_of_month)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn at(seconds: u64) -> SystemTime {
        UNIX_EPOCH + Duration::new(seconds, 42_000)
    }

    #[test]
    fn timestamps_are_rfc_3339() {
        for (seconds, text) in [
            (0, "1970-01-01T00:00:00.000042Z"),
            (951_782_400, "2000-02-29T00:00:00.000042Z"),
            (951_868_800, "2000-03-01T00:00:00.000042Z"),
            (1_798_761_599, "2026-12-31T23:59:59.000042Z"),
            (4_107_542_400, "2100-03-01T00:00:00.000042Z"),
        ] {
            assert_eq!(timestamp(at(seconds)), text);
        }
    }

    #[test]
    fn text_line_has_tabs_and_no_foreign_line_ends() {
        let fields = Fields {
            message: "configuration rejected".into(),
            others: vec![
                ("name", "a\nb\tc".into()),
                ("count", 3.into()),
                ("empty", "".into()),
            ],
        };
        assert_eq!(
            text(at(0), Level::WARN, "mcp", &fields),
            "1970-01-01T00:00:00.000042Z\twarn\tmcp\tconfiguration rejected\tname=a\\nb\\tc\tcount=3\tempty=\"\"\n"
        );
        assert_eq!(
            text(
                at(0),
                Level::INFO,
                "default",
                &Fields {
                    message: "up".into(),
                    others: vec![]
                }
            ),
            "1970-01-01T00:00:00.000042Z\tinfo\tup\n"
        );
    }

    #[test]
    fn json_line_keeps_the_fixed_keys() {
        let fields = Fields {
            message: "up".into(),
            others: vec![("level", "mine".into()), ("port", 8060.into())],
        };
        let line: Value = serde_json::from_str(&json(at(0), Level::INFO, "ca", fields)).unwrap();
        assert_eq!(
            line,
            serde_json::json!({"time": "1970-01-01T00:00:00.000042Z", "level": "info", "scope": "ca", "msg": "up", "port": 8060})
        );
    }
}
