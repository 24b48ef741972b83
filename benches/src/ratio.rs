//! Measurements and their yardstick, taken in turns.

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

    /// The median of the measurements over the median of the yardstick; no number if there is no yardstick.
    pub fn value(&self) -> f64 {
        median(&self.measured) / median(&self.yardstick)
    }

    /// The ratio of each round.
    pub fn rounds(&self) -> Vec<f64> {
        self.measured.iter().zip(&self.yardstick).map(|(measured, yardstick)| measured / yardstick).collect()
    }

    /// What was measured, and its yardstick, round by round.
    pub fn sides(&self) -> (&[f64], &[f64]) {
        (&self.measured, &self.yardstick)
    }
}

/// The figure in the middle; no number if there are none, or if one of them is none.
pub fn median(figures: &[f64]) -> f64 {
    quantile(figures, 0.5)
}

/// The figure that `part` of them do not exceed, between the two nearest where none is there; no number if there are none, or
/// if one of them is none.
pub fn quantile(figures: &[f64], part: f64) -> f64 {
    let mut sorted = figures.to_vec();
    sorted.sort_by(f64::total_cmp);
    if sorted.iter().any(|figure| !figure.is_finite()) {
        return f64::NAN;
    }
    let place = part * sorted.len().saturating_sub(1) as f64;
    let at = |place: f64| sorted.get(place as usize).copied().unwrap_or(f64::NAN);
    let (lower, upper) = (at(place.floor()), at(place.ceil()));
    lower + (upper - lower) * place.fract()
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
        assert!((ratio.value() - 0.8).abs() < 1e-9, "{ratio:?}");
        assert_eq!(ratio.rounds(), [0.8, 8.0, 0.9]);
    }

    #[test]
    fn quantiles_lie_between_figures() {
        // Of five the second and the fourth; of three and of two what lies between; of one the one; of none no number, and of none's
        // neighbours neither.
        assert_eq!([0.25, 0.5, 0.75].map(|part| quantile(&[5.0, 1.0, 4.0, 2.0, 3.0], part)), [2.0, 3.0, 4.0]);
        assert_eq!([0.25, 0.5, 0.75].map(|part| quantile(&[3.0, 1.0, 2.0], part)), [1.5, 2.0, 2.5]);
        assert_eq!(median(&[1.0, 2.0]), 1.5);
        assert_eq!(quantile(&[7.0], 0.25), 7.0);
        assert!(median(&[]).is_nan());
        assert!(median(&[1.0, f64::NAN, 2.0]).is_nan() && median(&[1.0, 2.0, f64::INFINITY]).is_nan());
    }

    #[test]
    fn without_a_yardstick_there_is_no_ratio() {
        // Nothing over nothing is not 0, which a target of "at most" would take for reached.
        let ratio = Ratio::take(3, || Ok::<f64, ()>(0.0), || Ok(0.0)).unwrap();
        assert!(!ratio.value().is_finite());
    }

    #[test]
    fn an_error_ends_the_run() {
        // A yardstick that fails gives no ratio.
        assert_eq!(Ratio::take(2, || Err("no fio"), || Ok(1.0)).err(), Some("no fio"));
    }
}
