#![no_main]
#![doc = "Runs libFuzzer on the target `mcp-source` of `fuzz`."]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| libfuzzer_targets::run("mcp-source", bytes));
