//! A package needs a library or a program; the tests are in `tests/`.
