//! Numbers as people read them.

/// A size in bytes: exact below a KiB, otherwise three digits and a binary unit.
pub(crate) fn size(bytes: u64) -> String {
    const UNITS: [&str; 6] = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    if bytes < 1024 {
        return format!("{bytes} B");
    }
    let mut value = bytes as f64 / 1024.0;
    let mut unit = 0;
    while value >= 1000.0 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    let digits = match value {
        v if v < 9.995 => 2,
        v if v < 99.95 => 1,
        _ => 0,
    };
    format!("{value:.digits$} {}", UNITS[unit])
}

/// Bytes from text such as `50M`, `64 KiB` or `1000`: units are binary, their letter is enough.
pub(crate) fn parse_size(text: &str) -> Result<u64, String> {
    let text = text.trim();
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (digits, unit) = text.split_at(end);
    let shift = match unit.trim().to_ascii_lowercase().as_str() {
        "" | "b" => 0,
        "k" | "kib" => 10,
        "m" | "mib" => 20,
        "g" | "gib" => 30,
        "t" | "tib" => 40,
        other => return Err(format!("{other:?} is no unit: B, K, M, G, T")),
    };
    let count: u64 = digits.parse().map_err(|_| format!("{text:?} is no size"))?;
    count.checked_mul(1 << shift).ok_or_else(|| format!("{text:?} is too much"))
}

/// A moment, from milliseconds since 1970 UTC.
pub(crate) fn time(milliseconds: u64) -> String {
    crossdock_s3::protocol::time::format_iso8601(milliseconds)
}

/// A key as text that a terminal shows safely.
pub(crate) fn key(key: &[u8]) -> String {
    match std::str::from_utf8(key) {
        Ok(text) if !text.chars().any(char::is_control) => text.to_owned(),
        Ok(text) => text.escape_debug().to_string(),
        Err(_) => key.escape_ascii().to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Sizes keep three digits, and what people type is read back.
    #[test]
    fn sizes() {
        let shown: Vec<String> =
            [0, 1023, 1024, 1536, 10_240, 1 << 20, 1023 << 20, u64::MAX].map(size).into();
        assert_eq!(
            shown,
            ["0 B", "1023 B", "1.00 KiB", "1.50 KiB", "10.0 KiB", "1.00 MiB", "1.00 GiB", "16.0 EiB"]
        );
        assert_eq!(parse_size("64 KiB"), Ok(65_536));
        assert_eq!(parse_size("50M"), Ok(50 << 20));
        assert!(parse_size("5 parsecs").is_err() && parse_size("").is_err());
        assert!(parse_size("99999999999T").is_err());
    }

    /// Control characters of a key do not reach a terminal.
    #[test]
    fn keys_are_shown_safely() {
        assert_eq!(key("dir/é".as_bytes()), "dir/é");
        assert_eq!(key(b"a\x1b[2J"), "a\\u{1b}[2J");
        assert_eq!(key(b"\xff"), "\\xff");
    }
}
