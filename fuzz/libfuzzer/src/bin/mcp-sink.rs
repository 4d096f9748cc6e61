#![no_main]
#![doc = "Feeds `fuzz`'s target `mcp-sink`."]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| libfuzzer_targets::run("mcp-sink", bytes));
