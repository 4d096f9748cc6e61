//! A fast hasher for keys that consist of one string.

use std::{
    collections::{HashMap, HashSet},
    hash::{BuildHasherDefault, Hasher},
};

use xxhash_rust::xxh3::xxh3_64_with_seed;

/// Hashes with xxh3, which is not safe against hash flooding: only for trusted strings.
#[derive(Clone, Copy, Debug, Default)]
pub struct TextHasher(u64);

impl Hasher for TextHasher {
    fn write(&mut self, bytes: &[u8]) {
        self.0 = xxh3_64_with_seed(bytes, self.0);
    }

    fn write_u8(&mut self, byte: u8) {
        // Marks the end of a string; xxh3 has included its length already.
        self.0 = self.0.rotate_left(8) ^ u64::from(byte);
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

pub(crate) type TextMap<'a, T> = HashMap<&'a str, T, BuildHasherDefault<TextHasher>>;
pub(crate) type TextSet<'a> = HashSet<&'a str, BuildHasherDefault<TextHasher>>;
