//! Which bodies are hashed side by side, and for how long.

#[cfg(target_arch = "x86_64")]
use super::vectors::Vectors;
use super::{BLOCK_BYTES, Md5};
use std::cmp::Reverse;

/// The next bytes of one message.
#[derive(Debug)]
pub struct Update<'a> {
    /// The message's digest so far.
    pub md5: &'a mut Md5,
    /// What comes next of it.
    pub bytes: &'a [u8],
}

impl Update<'_> {
    fn blocks(&self) -> usize {
        self.bytes.len() / BLOCK_BYTES
    }

    /// Hashes the next `count` blocks alone.
    fn compress(&mut self, count: usize) {
        let (now, later) = self.bytes.split_at(count * BLOCK_BYTES);
        self.md5.compress(now.as_chunks().0);
        self.bytes = later;
    }
}

/// How many messages this processor hashes side by side; 1 if none.
pub fn lanes_max() -> usize {
    #[cfg(target_arch = "x86_64")]
    return Vectors::detect().map_or(1, Vectors::lanes);
    #[cfg(not(target_arch = "x86_64"))]
    1
}

/// Takes the next bytes of several messages in, side by side where this processor can.
///
/// Two together cost less than one after the other, eight hardly more than one alone. Runs to the end of all: the caller
/// bounds the step. The order of `updates` changes, and their `bytes` are used up.
pub fn update_many(updates: &mut [Update<'_>]) {
    for update in &mut *updates {
        update.bytes = update.md5.take_head(update.bytes);
    }
    #[cfg(target_arch = "x86_64")]
    if let Some(vectors) = Vectors::detect() {
        side_by_side(vectors, updates);
    }
    for update in updates {
        update.compress(update.blocks());
        update.md5.take_rest(update.bytes);
        update.bytes = &[];
    }
}

/// Hashes whole blocks until fewer than two messages have any.
#[cfg(target_arch = "x86_64")]
fn side_by_side(vectors: Vectors, updates: &mut [Update<'_>]) {
    loop {
        // The longest first, so that as few as possible are left over for the end.
        updates.sort_unstable_by_key(|update| Reverse(update.blocks()));
        let ready = updates.iter().take_while(|update| update.blocks() > 0).count();
        let now = ready.min(vectors.lanes());
        let (together, _) = updates.split_at_mut(now);
        let Some(blocks) = together.last().map(Update::blocks).filter(|_| now >= 2) else { return };
        let (mut states, mut inputs) = ([[0; 4]; Vectors::LANES_MAX], [&[] as &[_]; Vectors::LANES_MAX]);
        for ((state, input), update) in states.iter_mut().zip(&mut inputs).zip(&mut *together) {
            *state = update.md5.state;
            *input = update.bytes.as_chunks().0;
        }
        vectors.compress(&mut states, &inputs, now, blocks);
        for (state, update) in states.iter().zip(together) {
            update.md5.state = *state;
            update.bytes = update.bytes.get(blocks * BLOCK_BYTES..).unwrap_or_default();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn content(length: usize, seed: u8) -> Vec<u8> {
        (0..length)
            .map(|index| (index as u8).wrapping_mul(31).wrapping_add(seed) ^ (index >> 8) as u8)
            .collect()
    }

    fn alone(message: &[u8]) -> [u8; 16] {
        use ::md5::Digest as _;
        ::md5::Md5::digest(message).into()
    }

    proptest! {
        /// Any number of messages of any lengths, each cut at places of its own and hashed beside the others, give what
        /// each gives alone.
        #[test]
        fn together_is_as_alone(lengths in proptest::collection::vec(0usize..2000, 0..40), step in 1usize..700) {
            let messages: Vec<Vec<u8>> =
                lengths.iter().enumerate().map(|(index, &length)| content(length, index as u8)).collect();
            let mut digests: Vec<Md5> = messages.iter().map(|_| Md5::new()).collect();
            let mut at = 0;
            while messages.iter().any(|message| at < message.len()) {
                // Each message is cut elsewhere: what is one step for one is another for the next.
                let piece = |message: &Vec<u8>, index: usize, at: usize| {
                    let edge = |at: usize| if at == 0 { 0 } else { (at + index * 7).min(message.len()) };
                    edge(at)..edge(at + step)
                };
                let mut updates: Vec<Update<'_>> = digests
                    .iter_mut()
                    .zip(&messages)
                    .enumerate()
                    .map(|(index, (md5, message))| Update { md5, bytes: &message[piece(message, index, at)] })
                    .collect();
                update_many(&mut updates);
                at += step;
            }
            for (message, md5) in messages.iter().zip(digests) {
                prop_assert_eq!(md5.finish(), alone(message), "{} bytes", message.len());
            }
        }
    }

    /// Every kind of vector this processor has, with every number of lanes in use, leaves each state as it is alone and
    /// the states of lanes that are not in use untouched.
    #[cfg(target_arch = "x86_64")]
    #[test]
    fn every_vector_and_every_count() {
        for vectors in Vectors::all() {
            for count in 1..=vectors.lanes() {
                let messages: Vec<Vec<u8>> =
                    (0..count).map(|lane| content(5 * BLOCK_BYTES, lane as u8)).collect();
                let mut states = [[7; 4]; Vectors::LANES_MAX];
                let mut inputs = [&[] as &[_]; Vectors::LANES_MAX];
                for ((state, input), message) in states.iter_mut().zip(&mut inputs).zip(&messages) {
                    (*state, *input) = (super::super::INITIAL_STATE, message.as_chunks().0);
                }
                vectors.compress(&mut states, &inputs, count, 5);
                for (lane, state) in states.iter().enumerate() {
                    let mut expected = Md5::new();
                    match messages.get(lane) {
                        Some(message) => expected.update(message),
                        None => expected.state = [7; 4],
                    }
                    assert_eq!(*state, expected.state, "{vectors:?}, {count} lanes, lane {lane}");
                }
            }
        }
    }
}
