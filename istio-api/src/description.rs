//! What the comments of the `.proto` files say, as the schemas repeat it.

/// Full name of a message, field or enum and its comment on one line, ordered by name.
static DESCRIPTIONS: &[(&str, &str)] = include!(concat!(env!("OUT_DIR"), "/descriptions.rs"));

/// The comment of a message or field, e.g. of `istio.networking.v1alpha3.Gateway.servers`.
#[must_use]
pub fn of(full_name: &str) -> Option<&'static str> {
    let found = DESCRIPTIONS.binary_search_by_key(&full_name, |(name, _)| name);
    found
        .ok()
        .and_then(|index| DESCRIPTIONS.get(index))
        .map(|(_, text)| *text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn they_are_ordered() {
        assert!(DESCRIPTIONS.is_sorted());
    }
}
