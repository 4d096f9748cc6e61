//! The mesh on a real Kubernetes: installed by Helm part by part, used, broken, upgraded, removed.
//!
//! One cluster for most tests; they run one after the other, whatever the test runner does.

mod fixture;

mod charts;
mod tasks;
