//! Compiles the protobuf sources into Rust types and one descriptor set.
//!
//! Two trees go in: the Istio messages of this crate (`proto/`) and Envoy's, which come
//! with the pinned `envoy-types` package. Out come one Rust file per protobuf package,
//! `proto.rs` that nests them, the descriptors (Istio's, and all), and Istio's comments.

#[path = "build/compile.rs"]
mod compile;
#[path = "build/describe.rs"]
mod describe;
#[path = "build/generate.rs"]
mod generate;
#[path = "build/locate.rs"]
mod locate;
#[path = "build/prune.rs"]
mod prune;
#[path = "build/qualify.rs"]
mod qualify;
#[path = "build/roots.rs"]
mod roots;

use std::path::PathBuf;

type Result<T, E = Box<dyn std::error::Error>> = std::result::Result<T, E>;

fn main() -> Result<()> {
    for input in ["build.rs", "build", "proto"] {
        println!("cargo:rerun-if-changed={input}");
    }
    let here = PathBuf::from(std::env::var("CARGO_MANIFEST_DIR")?);
    let out = PathBuf::from(std::env::var("OUT_DIR")?);

    let envoy = locate::envoy_protos(&here)?;
    println!(
        "cargo:rerun-if-changed={}",
        envoy.join("../Cargo.toml").display()
    );

    let set = compile::descriptor_set(&here.join("proto"), &envoy)?;
    // Istio's own are a fraction of all, and all that most processes ever look up.
    for (name, part) in [
        ("descriptors-istio.bin", compile::closure(&set, "istio")),
        ("descriptors.bin", set.clone()),
    ] {
        std::fs::write(out.join(name), prost::Message::encode_to_vec(&part))?;
    }
    let own = here.join("proto");
    let names: Vec<_> = compile::proto_files(&own)?.into_iter().collect();
    std::fs::write(out.join("descriptions.rs"), describe::slice(&own, &names)?)?;
    generate::rust(set, &out)
}
