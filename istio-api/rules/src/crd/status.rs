//! `status`, the same for every kind.

use serde_json::{Value, json};

/// Conditions and messages of the analysis; what other writers put there is kept, e.g. the
/// addresses of a ServiceEntry.
pub(super) fn schema() -> Value {
    let generation = json!({
        "anyOf": [{"type": "integer"}, {"type": "string"}],
        "description": "Generation of the object that this describes.",
        "x-kubernetes-int-or-string": true,
    });
    let text = |description: &str| json!({"type": "string", "description": description});
    let time = |description: &str| json!({"type": "string", "format": "date-time", "description": description});
    json!({
        "type": "object",
        "x-kubernetes-preserve-unknown-fields": true,
        "properties": {
            "conditions": {
                "type": "array",
                "description": "Conditions of the object, one for each type.",
                "items": {
                    "type": "object",
                    "properties": {
                        "type": text("Type of the condition, e.g. `Accepted`."),
                        "status": text("`True`, `False` or `Unknown`."),
                        "reason": text("Reason in one word."),
                        "message": text("Reason in a sentence."),
                        "lastProbeTime": time("When it was last checked."),
                        "lastTransitionTime": time("When `status` last changed."),
                        "observedGeneration": generation,
                    },
                },
            },
            "observedGeneration": generation,
            "validationMessages": {
                "type": "array",
                "description": "Messages of the analysis about the object.",
                "items": {
                    "type": "object",
                    "properties": {
                        "documentationUrl": text("Where the message is explained."),
                        "level": {
                            "type": "string",
                            "description": "Severity of the message.",
                            "enum": ["UNKNOWN", "ERROR", "WARNING", "INFO"],
                        },
                        "type": {
                            "type": "object",
                            "properties": {
                                "code": text("`IST` and four digits."),
                                "name": text("Name of the message."),
                            },
                        },
                    },
                },
            },
        },
    })
}
