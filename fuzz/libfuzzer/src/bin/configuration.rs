#![no_main]
#![doc = "Runs libFuzzer on the target `configuration` of `fuzz`."]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| libfuzzer_targets::run("configuration", bytes));
