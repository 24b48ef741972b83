//! Makes a failing history small: what is left cannot lose a step, or be simpler in the ways tried, without passing.
//!
//! Delta debugging (Zeller and Hildebrandt, «Simplifying and Isolating Failure-Inducing Input», 2002): leave out halves,
//! quarters, … single steps, as long as the history still fails. A smaller history is scheduled differently, so that what
//! fails after a removal may be another moment of the same fault, or rarely another fault; it is a failure all the same.

use super::{
    history::{End, History, Step},
    operation::{Body, Condition, GivesUp, Operation},
    world::WorldOptions,
};

/// The smallest history found that `fails`, after at most so many tries. `history` itself must fail.
pub fn shrink(history: &History, tries_max: usize, fails: &mut dyn FnMut(&History) -> bool) -> History {
    let mut shrinker = Shrinker { best: history.clone(), tries: tries_max, fails };
    loop {
        let before = shrinker.best.clone();
        shrinker.drop_steps();
        shrinker.simplify_options();
        shrinker.simplify_steps();
        if shrinker.tries == 0 || before == shrinker.best {
            return shrinker.best;
        }
    }
}

struct Shrinker<'a> {
    best: History,
    tries: usize,
    fails: &'a mut dyn FnMut(&History) -> bool,
}

impl Shrinker<'_> {
    fn try_one(&mut self, candidate: History) -> bool {
        if self.tries == 0 || candidate == self.best {
            return false;
        }
        self.tries -= 1;
        let fails = (self.fails)(&candidate);
        if fails {
            self.best = candidate;
        }
        fails
    }

    fn drop_steps(&mut self) {
        let mut size = self.best.steps.len().div_ceil(2);
        while size > 0 {
            let mut at = 0;
            while at < self.best.steps.len() {
                let mut candidate = self.best.clone();
                let end = (at + size).min(candidate.steps.len());
                candidate.steps.drain(at..end);
                if !self.try_one(candidate) {
                    at += size;
                }
            }
            size /= 2;
        }
    }

    fn simplify_options(&mut self) {
        let simpler: [fn(&mut WorldOptions); 5] = [
            |options| options.anchor_slowness = 0,
            |options| options.cores = 1,
            |options| options.shards = 1,
            |options| options.core_stall_every = 0,
            |options| options.volatile_cache = false,
        ];
        for change in simpler {
            let mut candidate = self.best.clone();
            change(&mut candidate.options);
            self.try_one(candidate);
        }
    }

    fn simplify_steps(&mut self) {
        for index in 0..self.best.steps.len() {
            for variant in variants(&self.best.steps[index]) {
                let mut candidate = self.best.clone();
                candidate.steps[index] = variant;
                self.try_one(candidate);
            }
        }
    }
}

/// Simpler steps to try in the place of one.
fn variants(step: &Step) -> Vec<Step> {
    match step {
        Step::Do { client, core, nonce, operation } => {
            let with = |operation| Step::Do { client: *client, core: *core, nonce: *nonce, operation };
            simpler_operations(operation).into_iter().map(with).collect()
        }
        Step::End(end) => simpler_ends(end).into_iter().map(Step::End).collect(),
        Step::Trouble(_) => Vec::new(),
    }
}

fn simpler_operations(operation: &Operation) -> Vec<Operation> {
    let short = |body: Body| Body { length: body.length.min(1), ..body };
    match operation.clone() {
        Operation::Put { key, body, declared, condition, gives_up } => vec![
            Operation::Put { key, body: short(body), declared, condition, gives_up },
            Operation::Put { key, body, declared, condition, gives_up: GivesUp::No },
            Operation::Put { key, body, declared, condition: Condition::None, gives_up },
        ],
        Operation::PutPart { slot, number, body, gives_up } => vec![
            Operation::PutPart { slot, number, body: short(body), gives_up },
            Operation::PutPart { slot, number, body, gives_up: GivesUp::No },
        ],
        Operation::Race { key, bodies, condition } => {
            vec![Operation::Race { key, bodies: bodies.map(short), condition }]
        }
        Operation::Complete { slot, leave_out, at_once, etag_seed, condition, .. } => {
            vec![Operation::Complete { slot, leave_out, again: false, at_once, etag_seed, condition }]
        }
        _ => Vec::new(),
    }
}

fn simpler_ends(end: &End) -> Vec<End> {
    match end.clone() {
        End::Power { drained, after, recoveries, troubled_recovery } => vec![
            End::Power { drained, after, recoveries: Vec::new(), troubled_recovery },
            End::Power { drained, after, recoveries: recoveries.clone(), troubled_recovery: false },
            End::Power { drained: true, after, recoveries: recoveries.clone(), troubled_recovery },
            End::Power { drained, after: after / 2, recoveries, troubled_recovery },
        ],
        End::Close { after: Some(after) } => {
            vec![End::Close { after: None }, End::Close { after: Some(after / 2) }]
        }
        End::PowerDuring { work, after } => vec![
            End::PowerDuring { work, after: after / 2 },
            End::Power { drained: false, after, recoveries: Vec::new(), troubled_recovery: false },
        ],
        End::Kill { after } => vec![End::Kill { after: after / 2 }],
        End::BadBlocks { after: Some(after), seed } => {
            vec![End::BadBlocks { after: None, seed }, End::BadBlocks { after: Some(after / 2), seed }]
        }
        End::Close { after: None }
        | End::Rot { .. }
        | End::RotAndPower { .. }
        | End::RotOfAnchor { .. }
        | End::BadBlocks { after: None, .. } => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::operation::Key;

    /// Of a long history that fails because of one pair of steps only that pair is left, in its simplest form.
    #[test]
    fn only_what_matters_is_left() {
        let mut history = History::draw(3, 300);
        let key = Key { own_bucket: false, name: 0 };
        let delete = Operation::Delete { key, condition: Condition::None };
        let step = Step::Do { client: 9, core: 0, nonce: 0, operation: delete };
        history.steps.insert(40, step.clone());
        history.steps.insert(200, step.clone());
        let mut fails = |history: &History| history.steps.iter().filter(|s| **s == step).count() == 2;
        let small = shrink(&history, 10_000, &mut fails);
        assert_eq!(small.steps, [step.clone(), step.clone()]);
        assert_eq!((small.options.cores, small.options.shards), (1, 1));
    }
}
