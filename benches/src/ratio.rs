//! Measurements and their yardstick, taken in turns.

use std::fmt;

/// The outcome of a comparison: rates in one unit, more is better.
#[derive(Clone, Debug)]
pub struct Ratio {
    measured: Vec<f64>,
    yardstick: Vec<f64>,
}

impl Ratio {
    /// Runs the yardstick and the measurement in turns, `rounds` times: ABBA, so that a drift falls on both alike.
    ///
    /// # Errors
    /// The first error of either.
    pub fn take<E>(
        rounds: usize,
        mut yardstick: impl FnMut() -> Result<f64, E>,
        mut measured: impl FnMut() -> Result<f64, E>,
    ) -> Result<Self, E> {
        let mut ratio = Ratio { measured: Vec::new(), yardstick: Vec::new() };
        for round in 0..rounds {
            if round % 2 == 0 {
                ratio.yardstick.push(yardstick()?);
                ratio.measured.push(measured()?);
            } else {
                ratio.measured.push(measured()?);
                ratio.yardstick.push(yardstick()?);
            }
        }
        Ok(ratio)
    }

    /// The median of the measurements over the median of the yardstick; 0 if there is none.
    pub fn value(&self) -> f64 {
        let yardstick = median(&self.yardstick);
        if yardstick > 0.0 { median(&self.measured) / yardstick } else { 0.0 }
    }

    /// The smallest and the greatest ratio of one round.
    pub fn spread(&self) -> (f64, f64) {
        let ratios =
            self.measured.iter().zip(&self.yardstick).map(|(measured, yardstick)| measured / yardstick);
        ratios.fold((f64::INFINITY, 0.0), |(least, most), ratio| (least.min(ratio), most.max(ratio)))
    }
}

impl fmt::Display for Ratio {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (least, most) = self.spread();
        write!(formatter, "{:.2} ({least:.2}–{most:.2}, {} rounds)", self.value(), self.measured.len())
    }
}

fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    match sorted.get(middle) {
        None => 0.0,
        Some(upper) if sorted.len() % 2 == 1 => *upper,
        Some(upper) => {
            sorted.get(middle.wrapping_sub(1)).map_or(*upper, |lower| f64::midpoint(*lower, *upper))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ratio_is_that_of_the_medians() {
        // One slow round of the yardstick moves the spread, not the value.
        let (mut yardstick, mut measured) = ([10.0, 1.0, 10.0].into_iter(), [8.0, 8.0, 9.0].into_iter());
        let take = |values: &mut std::array::IntoIter<f64, 3>| values.next().ok_or("no more");
        let ratio = Ratio::take(3, || take(&mut yardstick), || take(&mut measured)).unwrap();
        assert!((ratio.value() - 0.8).abs() < 1e-9, "{ratio}");
        assert_eq!(ratio.spread(), (0.8, 8.0));
    }

    #[test]
    fn an_error_ends_the_run() {
        // A yardstick that fails gives no ratio.
        assert_eq!(Ratio::take(2, || Err("no fio"), || Ok(1.0)).err(), Some("no fio"));
    }
}
