//! libFuzzer's entry to the target of this name.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| crossdock_fuzz::targets::shm_lines::run(bytes));
