#![no_main]
#![doc = "Feeds `fuzz`'s target `admission`."]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| libfuzzer_targets::run("admission", bytes));
