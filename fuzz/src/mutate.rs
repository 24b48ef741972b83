//! Changes to an input, the same ones for the same seed.
//!
//! No coverage guides them: they are for a bounded run in every test, beside libFuzzer's unbounded ones.

use fastrand::Rng;

/// Numbers at which decoders change their mind.
const EDGES: &[u64] = &[
    0,
    1,
    2,
    0x7f,
    0x80,
    0xff,
    0x100,
    0xfff,
    0x1000,
    0x1001,
    0x7fff,
    0xffff,
    0x1_0000,
    0x7fff_ffff,
    0xffff_ffff,
    0x7fff_ffff_ffff_ffff,
    0xffff_ffff_ffff_ffff,
];

/// Text that means something to the decoders of text.
pub(crate) const WORDS: &[&str] = &[
    "\r\n",
    "\r\n\r\n",
    "\n",
    "\r",
    "0",
    "-1",
    "00",
    "ffffffffffffffff",
    "18446744073709551616",
    ":",
    ";",
    ",",
    "=",
    "&",
    "?",
    "%",
    "%00",
    "%2F",
    "+",
    "//",
    "..",
    " ",
    "\t",
    "\0",
    "é",
    "Content-Length: 0\r\n",
    "chunked",
    "HTTP/1.1",
    "<",
    "&#",
    "]]>",
    "<!DOCTYPE",
    "<!ENTITY",
];

/// Applies one to eight changes to `bytes`; `other` is an input to take pieces from. The result is at most
/// `bytes_max` long.
pub fn mutate(rng: &mut Rng, bytes: &mut Vec<u8>, other: &[u8], bytes_max: usize) {
    for _ in 0..rng.u32(1..=8) {
        change(rng, bytes, other);
    }
    bytes.truncate(bytes_max);
}

fn change(rng: &mut Rng, bytes: &mut Vec<u8>, other: &[u8]) {
    let place = rng.usize(0..=bytes.len());
    match rng.u32(0..10) {
        0 => flip(rng, bytes),
        1 => {
            if let Some(byte) = bytes.get_mut(place) {
                *byte = rng.u8(..);
            }
        }
        2 => bytes.truncate(place),
        3 => insert(bytes, place, &[rng.u8(..)].repeat(rng.usize(1..64))),
        4 => remove(bytes, place, rng.usize(1..64)),
        5 => {
            let piece = piece(rng, &bytes.clone());
            insert(bytes, place, &piece);
        }
        6 => {
            let piece = piece(rng, other);
            overwrite(bytes, place, &piece);
        }
        7 => insert(bytes, place, rng.choice(WORDS).copied().unwrap_or_default().as_bytes()),
        8 => {
            let edge = rng.choice(EDGES).copied().unwrap_or_default().to_le_bytes();
            let width = *rng.choice([1, 2, 4, 8].iter()).unwrap_or(&1);
            overwrite(bytes, place, edge.get(..width).unwrap_or(&edge));
        }
        _ => {
            // Binary formats keep their numbers at even places; a step of one is what breaks a length.
            if let Some(byte) = bytes.get_mut(place & !1) {
                *byte = if rng.bool() { byte.wrapping_add(1) } else { byte.wrapping_sub(1) };
            }
        }
    }
}

fn flip(rng: &mut Rng, bytes: &mut [u8]) {
    let place = rng.usize(0..bytes.len().max(1));
    if let Some(byte) = bytes.get_mut(place) {
        *byte ^= 1 << rng.u32(0..8);
    }
}

fn piece(rng: &mut Rng, bytes: &[u8]) -> Vec<u8> {
    let start = rng.usize(0..=bytes.len());
    let end = start + rng.usize(0..=(bytes.len() - start).min(256));
    bytes.get(start..end).unwrap_or_default().to_vec()
}

fn insert(bytes: &mut Vec<u8>, place: usize, piece: &[u8]) {
    bytes.splice(place..place, piece.iter().copied());
}

fn remove(bytes: &mut Vec<u8>, place: usize, count: usize) {
    let end = place.saturating_add(count).min(bytes.len());
    bytes.drain(place..end);
}

fn overwrite(bytes: &mut [u8], place: usize, piece: &[u8]) {
    if let Some(target) = bytes.get_mut(place..) {
        target.iter_mut().zip(piece).for_each(|(target, source)| *target = *source);
    }
}
