//! Values that carry the hash of their whole content, so that everything derived from them can be
//! keyed by its inputs.
//!
//! ```text
//! #[derive(Hash)] value ──Hashed::new──► 128 bits, computed once
//! #[derive(Hash)] inputs of a generator (references to such values) ──► key of the result
//! ```
//!
//! A derived hash includes every field, so a key cannot miss one.

use std::{
    fmt,
    hash::{Hash, Hasher},
    ops::{Deref, DerefMut},
};

use xxhash_rust::xxh3::Xxh3;

/// Hash of `value`; comparable within one process only.
pub fn hash_of(value: &impl Hash) -> u128 {
    let mut state = Xxh3::new();
    value.hash(&mut state);
    state.digest128()
}

/// An immutable value with its hash. Two are equal if their hashes are.
#[derive(Clone)]
pub struct Hashed<T> {
    hash: u128,
    value: T,
}

impl<T: Hash> Hashed<T> {
    /// Hashes `value`.
    pub fn new(value: T) -> Self {
        Self {
            hash: hash_of(&value),
            value,
        }
    }
}

impl<T> Hashed<T> {
    /// The hash of the whole value.
    pub fn version(this: &Self) -> u128 {
        this.hash
    }
}

impl<T: Hash + Default> Default for Hashed<T> {
    fn default() -> Self {
        Self::new(T::default())
    }
}

impl<T> Deref for Hashed<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.value
    }
}

impl<T> Hash for Hashed<T> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.hash.hash(state);
    }
}

impl<T> PartialEq for Hashed<T> {
    fn eq(&self, other: &Self) -> bool {
        self.hash == other.hash
    }
}

impl<T> Eq for Hashed<T> {}

impl<T: fmt::Debug> fmt::Debug for Hashed<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.value.fmt(f)
    }
}

/// A protobuf message, hashed by its encoding. Maps in generated messages are ordered, so equal
/// messages have equal encodings.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Spec<T>(pub T);

impl<T> Deref for Spec<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}

impl<T> DerefMut for Spec<T> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.0
    }
}

impl<T: prost::Message> Hash for Spec<T> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.encode_to_vec().hash(state);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_part_counts() {
        #[derive(Hash)]
        struct Two(u8, &'static str);
        let hash = |a, b| Hashed::version(&Hashed::new(Two(a, b)));
        assert_eq!(hash(1, "a"), hash(1, "a"));
        assert_ne!(hash(1, "a"), hash(2, "a"));
        assert_ne!(hash(1, "a"), hash(1, "b"));
    }

    #[test]
    fn messages_are_hashed_by_content() {
        let duration = |seconds| Spec(prost_types::Duration { seconds, nanos: 0 });
        assert_eq!(hash_of(&duration(1)), hash_of(&duration(1)));
        assert_ne!(hash_of(&duration(1)), hash_of(&duration(2)));
    }
}
