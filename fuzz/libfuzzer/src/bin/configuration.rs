#![no_main]
#![doc = "Feeds `fuzz`'s target `configuration`."]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| libfuzzer_targets::run("configuration", bytes));
