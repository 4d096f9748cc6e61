//! From AdmissionReview request to AdmissionReview response: pure.

use istio_api::collections::COLLECTIONS;
use istio_api::manifest::{self, FieldError, Found, Item};
use mesh_common::admission::{self, ReadError, Review};
use serde_json::{Value, json};

use galley_engine::content;

mod advice;

/// Annotation of objects that are always rejected, used to test that the webhook is called.
const ALWAYS_REJECT: &str = "internal.istio.io/webhook-always-reject";
/// Top-level fields that every object may have.
const MEMBERS: [&str; 5] = ["apiVersion", "kind", "metadata", "spec", "status"];
/// Warnings beyond this number are counted and not listed.
const MAX_WARNINGS: usize = 20;

/// Why an object was rejected: the label `reason` of the metric, as in 1.1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// It cannot be read as an object.
    YamlDecodeError,
    /// Its kind is unknown.
    UnknownType,
    /// Its spec cannot be decoded as its kind.
    CrdConversionError,
    /// It breaks a validation rule.
    InvalidResource,
}

impl Reason {
    /// The label value.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::YamlDecodeError => "yaml_decode_error",
            Self::UnknownType => "unknown_type",
            Self::CrdConversionError => "crd_conversion_error",
            Self::InvalidResource => "invalid_resource",
        }
    }
}

/// The decision.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// The object may be stored.
    Passed,
    /// The object must not be stored.
    Refused(Reason),
}

/// A response, with what metrics and log need.
#[derive(Debug)]
pub struct Answer {
    /// The AdmissionReview to send.
    pub body: Value,
    /// The decision.
    pub outcome: Outcome,
    /// API group of the request, unchanged.
    pub group: String,
    /// Version of the request, unchanged.
    pub version: String,
    /// Plural of the request, unchanged.
    pub resource: String,
    /// `Kind namespace/name`, as far as known.
    pub subject: String,
    /// Why the object was rejected; empty if it was accepted.
    pub message: String,
    /// Whether the rejection is expected and not logged: the object asked for it.
    pub quiet: bool,
}

/// Answers the body of a request.
///
/// # Errors
/// If it is an AdmissionReview without a request.
pub fn answer(body: &[u8]) -> Result<Answer, ReadError> {
    let mut review = match Review::read(body) {
        Ok(review) => review,
        Err(error @ ReadError::NoRequest { .. }) => return Err(error),
        Err(error @ ReadError::NoReview(_)) => {
            let verdict = Verdict::refused(
                Reason::YamlDecodeError,
                format!("could not decode body: {error}"),
            );
            return Ok(verdict.answer(&Question::default()));
        }
    };
    let question = Question::of(&review);
    let verdict = match review.text("/operation") {
        "CREATE" | "UPDATE" => decide(&question, review.take_object()),
        // Other operations store no part of the object; the webhook is not registered for them
        // either.
        _ => Verdict::default(),
    };
    Ok(verdict.answer(&question))
}

/// The parts of a request that the response and the messages need.
#[derive(Debug, Default)]
struct Question {
    review_version: &'static str,
    uid: String,
    group: String,
    version: String,
    resource: String,
    kind: String,
    namespace: String,
    name: String,
    dry_run: bool,
}

impl Question {
    fn of(review: &Review) -> Self {
        let text = |pointer: &str| review.text(pointer).to_owned();
        Self {
            review_version: review.version(),
            uid: text("/uid"),
            group: text("/resource/group"),
            version: text("/resource/version"),
            resource: text("/resource/resource"),
            kind: text("/kind/kind"),
            namespace: text("/namespace"),
            name: text("/name"),
            dry_run: review.is_dry_run(),
        }
    }

    fn full_name(&self) -> String {
        match self.namespace.as_str() {
            "" => self.name.clone(),
            namespace => format!("{namespace}/{}", self.name),
        }
    }
}

/// The decision about an object.
#[derive(Debug, Default)]
struct Verdict {
    refusal: Option<(Reason, String)>,
    warnings: Vec<String>,
    quiet: bool,
}

impl Verdict {
    fn refused(reason: Reason, message: String) -> Self {
        Self {
            refusal: Some((reason, message)),
            ..Self::default()
        }
    }

    fn answer(self, question: &Question) -> Answer {
        let version = match question.review_version {
            "" => admission::VERSION,
            version => version,
        };
        let (response, outcome, message) = match self.refusal {
            None => (json!({"allowed": true}), Outcome::Passed, String::new()),
            Some((reason, mut message)) => {
                if question.dry_run {
                    message.push_str(" (dry run)");
                }
                let status = json!({
                    "status": "Failure",
                    "code": 422,
                    "reason": "Invalid",
                    "message": message,
                });
                let response = json!({"allowed": false, "status": status});
                (response, Outcome::Refused(reason), message)
            }
        };
        let mut warnings = self.warnings;
        let more = warnings.len().saturating_sub(MAX_WARNINGS);
        if more > 0 {
            warnings.truncate(MAX_WARNINGS);
            warnings.push(format!("{more} more warnings are not listed"));
        }
        Answer {
            body: admission::answer(version, &question.uid, response, &warnings),
            outcome,
            group: question.group.clone(),
            version: question.version.clone(),
            resource: question.resource.clone(),
            subject: format!("{} {}", question.kind, question.full_name()),
            message,
            quiet: self.quiet,
        }
    }
}

fn decide(question: &Question, mut object: Value) -> Verdict {
    let Some(members) = object.as_object_mut() else {
        let message = "cannot decode configuration: want an object".to_owned();
        return Verdict::refused(Reason::YamlDecodeError, message);
    };
    let unknown: Vec<_> = members
        .keys()
        .filter(|name| !MEMBERS.contains(&name.as_str()))
        .cloned()
        .collect();
    // Objects from an API server name their namespace; those of a manual request may not.
    if let Some(metadata) = members.get_mut("metadata").and_then(Value::as_object_mut) {
        metadata
            .entry("namespace")
            .or_insert_with(|| json!(question.namespace));
        // The API server has not generated the name yet.
        if metadata.contains_key("generateName") {
            metadata.entry("name").or_insert_with(|| json!("generated"));
        }
    }
    let mut found = manifest::read::<Istio>(&object);
    let (Some((inside, found)), true) = (found.pop(), found.is_empty()) else {
        let message = "cannot decode configuration: want one object, not a list".to_owned();
        return Verdict::refused(Reason::YamlDecodeError, message);
    };
    match found {
        _ if !inside.is_empty() => {
            let message = "cannot decode configuration: want one object, not a list".to_owned();
            Verdict::refused(Reason::YamlDecodeError, message)
        }
        Found::Nothing { error, .. } => {
            let message = format!("cannot decode configuration: {}", line(&error));
            Verdict::refused(Reason::YamlDecodeError, message)
        }
        Found::Other(_) => unknown_kind(&object),
        Found::Object {
            item: Err(errors), ..
        } => {
            let message = format!("error decoding configuration: {}", listed(&errors));
            Verdict::refused(Reason::CrdConversionError, message)
        }
        Found::Object {
            item: Ok(Item::Native(never)),
            ..
        } => match never {},
        Found::Object {
            item: Ok(Item::Config(config)),
            warnings,
            ..
        } => {
            let mut verdict = checked(&config, warnings);
            if let (None, Some(name)) = (&verdict.refusal, unknown.first()) {
                let message = format!(
                    "unknown field {name:?} on {} resource {}: want {}",
                    config.collection.kind,
                    config.full_name(),
                    MEMBERS.join(", ")
                );
                verdict.refusal = Some((Reason::InvalidResource, message));
            }
            verdict
        }
    }
}

/// A kind in one of Istio's groups without validation rules in this version passes; any other kind
/// is a mistake in the webhook's registration.
fn unknown_kind(object: &Value) -> Verdict {
    let text = |name: &str| object.get(name).and_then(Value::as_str).unwrap_or_default();
    let (group, _) = text("apiVersion").split_once('/').unwrap_or_default();
    let kind = text("kind");
    if COLLECTIONS.iter().any(|row| row.group == group) {
        let warning =
            format!("{kind} of {group} is not validated: this version has no rules for it");
        return Verdict {
            warnings: vec![warning],
            ..Verdict::default()
        };
    }
    Verdict::refused(Reason::UnknownType, format!("unrecognized type {kind}"))
}

fn checked(config: &manifest::Config, ignored: Vec<FieldError>) -> Verdict {
    let mut verdict = Verdict {
        quiet: config.metadata.annotations.contains_key(ALWAYS_REJECT),
        ..Verdict::default()
    };
    let in_spec = ignored.iter().filter(|one| one.path.starts_with("spec"));
    verdict
        .warnings
        .extend(in_spec.map(|one| format!("unknown field {:?}", one.path)));
    let object = config.into();
    let (errors, warnings) = content::validate(&object);
    verdict.warnings.extend(warnings.iter().map(line));
    verdict.warnings.extend(advice::of(&object));
    if !errors.is_empty() {
        let message = format!("configuration is invalid: {}", listed(&errors));
        verdict.refusal = Some((Reason::InvalidResource, message));
    }
    verdict
}

/// A single error as it is, several as a list below their number.
fn listed(errors: &[FieldError]) -> String {
    match errors {
        [one] => line(one),
        errors => {
            let lines = errors.iter().map(|error| format!("\n\t* {}", line(error)));
            format!(
                "{} errors occurred:{}",
                errors.len(),
                lines.collect::<String>()
            )
        }
    }
}

fn line(error: &FieldError) -> String {
    match error.path.as_str() {
        "" => error.message.clone(),
        path => format!("{path}: {}", error.message),
    }
}

/// Reads Istio's kinds only.
enum Istio {}

impl manifest::Native for Istio {
    fn kind(_: &str, _: &str) -> Option<(&'static str, &'static str, bool)> {
        None
    }

    fn read(_: &str, _: &manifest::Metadata, _: &Value) -> Result<Self, FieldError> {
        Err(FieldError {
            path: "kind".to_owned(),
            message: "not an Istio kind".to_owned(),
        })
    }
}

#[cfg(test)]
mod tests;
