//! A real Kubernetes on one node, for tests: API server, controller manager, scheduler, kubelet
//! on containerd, kube-proxy, DNS and etcd in namespaces of their own, and Helm.
//!
//! ```text
//! packages ─► tools (Go, built once) ─► files (keys, settings) ─► launch ─► init (pid 1): programs
//!                                                                  cables, control groups    │
//! kubectl, helm, images ◄── Cluster ◄────────────────── wait until the node is ready ◄───────┘
//! ```

pub mod address;
pub mod cgroup;
pub mod cli;
mod files;
pub mod handle;
pub mod image;
mod init;
pub mod kubectl;
pub mod launch;
pub mod layout;
pub mod packages;
pub mod patience;
mod pki;
pub mod platform;
pub mod pod;
mod programs;
pub mod start;
pub mod tools;

pub use handle::Cluster;
