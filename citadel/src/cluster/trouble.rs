//! Logs failures of a watch once instead of at every attempt.

use mesh_common::list_watch::Failure;

/// Failures of one watch.
#[derive(Debug)]
pub(crate) struct Trouble {
    /// Name of the watch in logs.
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

    /// A failure; logged unless it repeats the previous one.
    pub(crate) fn failed(&mut self, failure: &Failure) {
        let text = failure.to_string();
        if self.told.as_ref() != Some(&text) {
            tracing::warn!(about = self.about, error = text, "watch failed, retrying");
            self.told = Some(text);
        }
    }

    /// The watch works again.
    pub(crate) fn works(&mut self) {
        if self.told.take().is_some() {
            tracing::info!(about = self.about, "the API server answers again");
        }
    }
}
