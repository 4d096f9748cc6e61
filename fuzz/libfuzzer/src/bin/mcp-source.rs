#![no_main]
#![doc = "Feeds `fuzz`'s target `mcp-source`."]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| libfuzzer_targets::run("mcp-source", bytes));
