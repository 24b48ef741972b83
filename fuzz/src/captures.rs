//! Requests of real clients: the same that `s3-api/src/protocol/captures.rs` holds the protocol to, as seeds.

use std::path::Path;

/// A request as it came.
pub struct Capture {
    /// Seconds since 1970: its signature holds then.
    pub seconds: u64,
    /// Head and body.
    pub bytes: Vec<u8>,
}

/// All of them, by client.
///
/// # Panics
///
/// If the tree has none, or one that is not as the recorder writes it.
pub fn all() -> Vec<Capture> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../s3-api/tests/captures");
    let entries = std::fs::read_dir(directory).expect("the tree has captures");
    let mut paths: Vec<_> = entries.map(|entry| entry.expect("a listed file").path()).collect();
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "requests"));
    paths.sort();
    paths.iter().flat_map(|path| read(&std::fs::read(path).expect("a capture can be read"))).collect()
}

fn read(mut file: &[u8]) -> Vec<Capture> {
    let mut found = Vec::new();
    while let Some(end) = memchr(file) {
        let line = std::str::from_utf8(file.get(..end).unwrap_or_default()).expect("a line is text");
        let words: Vec<&str> = line.split(' ').collect();
        let [_, seconds, length, _] = words.as_slice() else { panic!("{line}") };
        let start = end + 1;
        let end = start + length.parse::<usize>().expect("a length");
        let bytes = file.get(start..end).expect("a capture is whole").to_vec();
        found.push(Capture { seconds: seconds.parse().expect("a time"), bytes });
        file = file.get(end + 1..).unwrap_or_default();
    }
    found
}

fn memchr(bytes: &[u8]) -> Option<usize> {
    bytes.iter().position(|&byte| byte == b'\n')
}
