//! What does not work with the API server, told once and not at every attempt.

use mesh_common::list_watch::Failure;

/// Trouble with one watch.
#[derive(Debug)]
pub(crate) struct Trouble {
    /// What is watched, for people.
    about: String,
    told: Option<String>,
}

impl Trouble {
    pub(crate) fn new(about: impl Into<String>) -> Self {
        Self {
            about: about.into(),
            told: None,
        }
    }

    /// It did not work. Logged unless the last attempt ended in the same way.
    pub(crate) fn failed(&mut self, failure: &Failure) {
        let text = failure.to_string();
        if self.told.as_ref() != Some(&text) {
            tracing::warn!(about = self.about, "{text}; it is tried again");
            self.told = Some(text);
        }
    }

    /// It works.
    pub(crate) fn works(&mut self) {
        if self.told.take().is_some() {
            tracing::info!(about = self.about, "the API server answers again");
        }
    }
}
