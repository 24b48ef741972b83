//! Faults by seed.

use super::{Fate, Middleware, Observed};
use crate::{dice::Dice, remote::TransferError};

/// Makes operations late, fail or hang, each with its chance. The same seed makes the same faults for the same operations.
#[derive(Debug)]
pub struct Faults {
    dice: Dice,
    /// For what becomes of completions: the chances of one kind leave the other as it falls.
    completions: Dice,
    /// Operations of 1024 that fail.
    pub fail_per_1024: u32,
    /// Operations of 1024 that are late, of those that do not fail.
    pub delay_per_1024: u32,
    /// How many polls late at most.
    pub delay_polls_max: u32,
    /// Operations of 1024 whose completions are kept back, of those that neither fail nor are late: others overtake them.
    pub late_per_1024: u32,
    /// How many polls they are kept back at most.
    pub late_polls_max: u32,
    /// Operations of 1024 whose completions come with the end of their session only, of all the rest.
    pub lost_per_1024: u32,
}

impl Faults {
    /// No faults yet, with the dice of `seed`.
    pub fn new(seed: u64) -> Faults {
        Faults {
            dice: Dice::new(seed),
            completions: Dice::new(!seed),
            fail_per_1024: 0,
            delay_per_1024: 0,
            delay_polls_max: 1,
            late_per_1024: 0,
            late_polls_max: 1,
            lost_per_1024: 0,
        }
    }
}

impl Middleware for Faults {
    fn before(&self, _operation: &Observed) -> Fate {
        // Always three draws, so that changing one chance leaves the other dice as they fell.
        let dice = &self.dice;
        let (fail, delay, polls) = (dice.draw(1024), dice.draw(1024), dice.draw(self.delay_polls_max));
        let dice = &self.completions;
        let (late, lost, kept) = (dice.draw(1024), dice.draw(1024), dice.draw(self.late_polls_max));
        match () {
            () if fail < self.fail_per_1024 => Fate::Fail(TransferError::TimedOut),
            () if delay < self.delay_per_1024 => Fate::Delay(1 + polls),
            () if late < self.late_per_1024 => Fate::Late(1 + kept),
            () if lost < self.lost_per_1024 => Fate::Lost,
            () => Fate::Pass,
        }
    }

    fn after(&self, _operation: &Observed, _result: Result<u32, TransferError>) {}
}
