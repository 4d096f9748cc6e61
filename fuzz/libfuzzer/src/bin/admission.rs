#![no_main]
#![doc = "Runs libFuzzer on the target `admission` of `fuzz`."]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| libfuzzer_targets::run("admission", bytes));
