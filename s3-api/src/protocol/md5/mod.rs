//! MD5 of several bodies at once.
//!
//! S3's ETag is an MD5, and MD5 is a chain: each of its 64 steps waits for the one before, so that one body keeps one
//! execution unit of a core busy and the others idle. Bodies of different requests do not wait for each other. Their
//! blocks are computed side by side, one body in each lane of a vector:
//!
//! ```text
//!              word 0   word 1  …  word 15                    lane 0 … lane 15
//!   body 0    │ block of 64 bytes        │                   ┌────────────────┐
//!   body 1    │                          │  ── transposed ─► │ a  b  c  d     │  64 steps for all of them
//!   …         │                          │                   └────────────────┘
//! ```
//!
//! A lone body is hashed by the `md-5` crate's block function, which no vector beats.
//!
//! Specification: RFC 1321, <https://www.rfc-editor.org/rfc/rfc1321>.
//!
//! Invariant: the state of a body does not depend on which others were hashed beside it, or how its bytes were cut.

mod lanes;
#[cfg(target_arch = "x86_64")]
#[allow(unsafe_code)]
mod vectors;

pub use lanes::{Update, lanes_max, update_many};

/// Bytes of a block.
const BLOCK_BYTES: usize = 64;
/// Where a block that ends a message holds its length, in bits.
const LENGTH_AT: usize = 56;
/// RFC 1321, section 3.3.
const INITIAL_STATE: [u32; 4] = [0x6745_2301, 0xefcd_ab89, 0x98ba_dcfe, 0x1032_5476];

/// One message's MD5, as far as it has come.
#[derive(Clone)]
pub struct Md5 {
    state: [u32; 4],
    /// Bytes behind the last whole block, at its front.
    rest: [u8; BLOCK_BYTES],
    bytes: u64,
}

impl std::fmt::Debug for Md5 {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Md5").field("bytes", &self.bytes).finish_non_exhaustive()
    }
}

impl Default for Md5 {
    fn default() -> Self {
        Md5::new()
    }
}

impl Md5 {
    /// The MD5 of nothing yet.
    pub fn new() -> Md5 {
        Md5 { state: INITIAL_STATE, rest: [0; BLOCK_BYTES], bytes: 0 }
    }

    /// The MD5 of `message`.
    pub fn digest(message: &[u8]) -> [u8; 16] {
        let mut md5 = Md5::new();
        md5.update(message);
        md5.finish()
    }

    /// Takes the next bytes in, alone: about 1.5 ns a byte.
    pub fn update(&mut self, bytes: &[u8]) {
        let (blocks, rest) = self.take_head(bytes).as_chunks();
        self.compress(blocks);
        self.take_rest(rest);
    }

    /// The digest of all bytes taken in.
    pub fn finish(mut self) -> [u8; 16] {
        // Section 3.1 and 3.2: one bit, zeros, and the message's length in bits, modulo 2^64.
        let length = self.bytes.wrapping_mul(8).to_le_bytes();
        let used = self.rest_bytes();
        let (_, padding) = self.rest.split_at_mut(used);
        padding.fill(0);
        if let Some(first) = padding.first_mut() {
            *first = 0x80;
        }
        let block = self.rest;
        let mut last = block;
        if used >= LENGTH_AT {
            self.compress(&[block]);
            last = [0; BLOCK_BYTES];
        }
        if let Some(target) = last.last_chunk_mut() {
            *target = length;
        }
        self.compress(&[last]);
        let mut digest = [0; 16];
        for (target, word) in digest.as_chunks_mut().0.iter_mut().zip(self.state) {
            *target = word.to_le_bytes();
        }
        digest
    }

    fn rest_bytes(&self) -> usize {
        (self.bytes % BLOCK_BYTES as u64) as usize
    }

    fn compress(&mut self, blocks: &[[u8; BLOCK_BYTES]]) {
        ::md5::block_api::compress(&mut self.state, blocks);
    }

    /// Completes the block that was begun, as far as `bytes` go; gives those that are left. Counts all of them.
    fn take_head<'a>(&mut self, bytes: &'a [u8]) -> &'a [u8] {
        let begun = self.rest_bytes();
        self.bytes += bytes.len() as u64;
        if begun == 0 {
            return bytes;
        }
        let (head, left) = bytes.split_at(bytes.len().min(BLOCK_BYTES - begun));
        if let Some(target) = self.rest.get_mut(begun..begun + head.len()) {
            target.copy_from_slice(head);
        }
        if begun + head.len() == BLOCK_BYTES {
            let block = self.rest;
            self.compress(&[block]);
        }
        left
    }

    /// Keeps what is less than a block for the next time. Nothing, if the block that was begun is not whole yet.
    fn take_rest(&mut self, rest: &[u8]) {
        if let Some(target) = self.rest.get_mut(..rest.len()) {
            target.copy_from_slice(rest);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The digests of RFC 1321, appendix A.5.
    #[test]
    fn the_specification_s_examples() {
        let hex = |digest: [u8; 16]| digest.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        for (message, digest) in [
            ("", "d41d8cd98f00b204e9800998ecf8427e"),
            ("a", "0cc175b9c0f1b6a831c399e269772661"),
            ("abc", "900150983cd24fb0d6963f7d28e17f72"),
            ("message digest", "f96b697d7cb7938d525a2f31aaf161d0"),
            ("abcdefghijklmnopqrstuvwxyz", "c3fcd3d76192e4007dfb496cca67e13b"),
        ] {
            assert_eq!(hex(Md5::digest(message.as_bytes())), digest, "{message}");
        }
    }

    /// Every length up to four blocks, cut at every place, gives what the crate for a whole message gives.
    #[test]
    fn cuts_do_not_matter() {
        use ::md5::Digest as _;
        let message: Vec<u8> = (0..=255).map(|byte: u8| byte.wrapping_mul(37) ^ 11).collect();
        for length in 0..=message.len() {
            let whole: [u8; 16] = ::md5::Md5::digest(&message[..length]).into();
            for cut in 0..=length {
                let mut md5 = Md5::new();
                md5.update(&message[..cut]);
                md5.update(&message[cut..length]);
                assert_eq!(md5.finish(), whole, "{cut} of {length}");
            }
        }
    }
}
