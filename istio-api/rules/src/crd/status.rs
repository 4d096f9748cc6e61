//! `status`, the same for every kind.

use serde_json::{Value, json};

/// Conditions and messages of the analysis; what other writers put there is kept, e.g. the
/// addresses of a ServiceEntry.
pub(super) fn schema() -> Value {
    let generation = json!({
        "anyOf": [{"type": "integer"}, {"type": "string"}],
        "description": "Generation of the object that this was said of.",
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
                "description": "What is known of the object, one element a question.",
                "items": {
                    "type": "object",
                    "properties": {
                        "type": text("The question, e.g. `Accepted`."),
                        "status": text("`True`, `False` or `Unknown`."),
                        "reason": text("The cause in one word."),
                        "message": text("The cause for people."),
                        "lastProbeTime": time("When it was last looked at."),
                        "lastTransitionTime": time("When `status` became what it is."),
                        "observedGeneration": generation,
                    },
                },
            },
            "observedGeneration": generation,
            "validationMessages": {
                "type": "array",
                "description": "What the analysis of the whole configuration says of the object.",
                "items": {
                    "type": "object",
                    "properties": {
                        "documentationUrl": text("Where the message is explained."),
                        "level": {
                            "type": "string",
                            "description": "How grave it is.",
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
