//! A generated object is a list of small numbers; each picks one of the values that a field may
//! have. Zero is the plainest value, so failures shrink to plain objects.

use serde_json::Value;

/// Fields of an object, by the order in which its kind reads them.
pub(crate) const FIELDS: usize = 12;

pub(crate) type Choices = [u8; FIELDS];

/// Reads one field after the other.
pub(crate) struct Fields<'a> {
    choices: &'a Choices,
    next: usize,
}

impl<'a> Fields<'a> {
    pub(crate) fn new(choices: &'a Choices) -> Self {
        Self { choices, next: 0 }
    }

    pub(crate) fn number(&mut self, below: u8) -> u8 {
        let choice = self.choices[self.next];
        self.next += 1;
        choice % below
    }

    pub(crate) fn pick<T: Clone>(&mut self, values: &[T]) -> T {
        let below = u8::try_from(values.len()).expect("few values");
        values[usize::from(self.number(below))].clone()
    }

    /// One of the values, written as JSON; an empty text leaves the field out.
    pub(crate) fn json(&mut self, values: &[&str]) -> Option<Value> {
        let text = self.pick(values);
        (!text.is_empty()).then(|| serde_json::from_str(text).expect("JSON in a test"))
    }
}

/// An object of the fields that are there.
pub(crate) fn object<const N: usize>(fields: [(&str, Option<Value>); N]) -> Value {
    let present = fields
        .into_iter()
        .filter_map(|(name, value)| Some((name.to_owned(), value?)));
    Value::Object(present.collect())
}
