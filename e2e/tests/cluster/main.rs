//! The mesh on a real Kubernetes: installed by Helm part by part, used, broken, upgraded, removed.
//!
//! One cluster for most tests; they run one after the other, whatever the test runner does.

#![allow(clippy::indexing_slicing, reason = "a test that reads JSON may panic")]

mod fixture;

mod admission;
mod charts;
mod injection;
mod load;
mod order;
mod outage;
mod rights;
mod scrape;
mod tasks;
mod upgrade;
mod workloads;
