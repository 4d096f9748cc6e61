#![no_main]
#![doc = "Runs libFuzzer on the target `mcp-sink` of `fuzz`."]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| libfuzzer_targets::run("mcp-sink", bytes));
