//! The whole engine against the model of a store: the input is a list of operations, faults and power cuts.
//!
//! Four bytes are one step, and what a step is does not depend on those around it, so that a mutation changes one operation and
//! a piece taken out is a history like any other. What is judged is what the simulator judges: every answer while
//! clients work, everything there is after every recovery, that space is used just where it is reachable.

use crossdock::testing::{history::History, run::run_caught};

/// Longer lists find nothing that shorter ones do not, and take their time.
const STEPS_MAX: usize = 96;

/// Runs the list.
///
/// # Panics
/// If an answer or what is there afterwards is not what a store would give.
pub fn run(input: &[u8]) {
    let words: Vec<u32> = input
        .chunks_exact(4)
        .take(STEPS_MAX)
        .map(|word| u32::from_le_bytes(word.try_into().expect("four bytes")))
        .collect();
    let history = History::of_words(&words);
    if let Err(wrong) = run_caught(&history) {
        panic!("{wrong}\n{history}");
    }
}

/// Lists drawn by chance, of different worlds.
pub fn seeds() -> Vec<Vec<u8>> {
    let list = |seed| {
        let mut rng = fastrand::Rng::with_seed(seed);
        (0..STEPS_MAX).flat_map(|_| rng.u32(..).to_le_bytes()).collect()
    };
    (0..12).map(list).collect()
}
