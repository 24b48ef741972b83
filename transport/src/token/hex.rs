//! Fields of hex digits.

/// The number that exactly `digits` hex digits write. None for anything else, signs and spaces above all, which the
/// standard library's parser lets through. At most 16 digits.
pub(super) fn number(text: &str, digits: usize) -> Option<u64> {
    debug_assert!(digits <= 16);
    if text.len() != digits {
        return None;
    }
    text.bytes().try_fold(0, |number, digit| Some(number << 4 | u64::from(value(digit)?)))
}

/// The bytes that exactly `2 * N` hex digits write.
pub(super) fn bytes<const N: usize>(text: &str) -> Option<[u8; N]> {
    if text.len() != 2 * N {
        return None;
    }
    let mut bytes = [0; N];
    for (byte, pair) in bytes.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
        let &[high, low] = pair else { return None };
        *byte = value(high)? << 4 | value(low)?;
    }
    Some(bytes)
}

/// True if it is hex digits and nothing else.
pub(super) fn is_hex(text: &str) -> bool {
    text.bytes().all(|digit| digit.is_ascii_hexdigit())
}

fn value(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        b'A'..=b'F' => Some(digit - b'A' + 10),
        _ => None,
    }
}

/// Writes bytes as lower-case hex.
pub(super) struct Hex<'a>(pub(super) &'a [u8]);

impl std::fmt::Display for Hex<'_> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.iter().try_for_each(|byte| write!(formatter, "{byte:02x}"))
    }
}
