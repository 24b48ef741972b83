//! Structures that lie in several copies: which of them to believe.

use super::DecodeError;

/// The value with the newest `age` on which at least two sound copies agree.
///
/// Two and not one: a writer that dies in the middle leaves at most one copy of the new value or at least two; one alone
/// may also be rot that happens to verify, or a copy of an older life of the disk.
///
/// # Errors
/// A copy of a newer build decides at once, even when two older ones agree: that build may have gone on from there, and
/// to open an older state over it would lose what it acknowledged. Otherwise, when no two agree, the error that tells
/// most: that there were sound copies, then damage, then absence.
pub(super) fn choose<T: Clone + PartialEq>(
    copies: &[Result<T, DecodeError>],
    age: impl Fn(&T) -> u64,
) -> Result<T, DecodeError> {
    let newer =
        copies.iter().filter_map(|copy| copy.as_ref().err().copied()).find(|error| weight(*error) == NEWER);
    if let Some(error) = newer {
        return Err(error);
    }
    let agreed =
        |value: &T| copies.iter().filter(|copy| copy.as_ref().is_ok_and(|other| other == value)).count() >= 2;
    let best = copies.iter().flatten().filter(|value| agreed(value)).max_by_key(|value| age(value));
    best.cloned().ok_or_else(|| {
        copies
            .iter()
            .map(|copy| copy.as_ref().err().copied().unwrap_or(DecodeError::Disagreement))
            .max_by_key(|error| weight(*error))
            .unwrap_or(DecodeError::Truncated)
    })
}

/// The copies that do not hold the value chosen: to be written first, each durable before the next, when a newer value is
/// written or to repair them.
///
/// A newer value is written one copy after the other, each durable before the next, so that a power cut tears one copy
/// only. That leaves two that agree only if the copies that are already different go first: with new, new, torn, old on
/// disk, tearing the first would leave one sound copy of each value. A write cut off that way is found at the next open.
pub fn disagreeing<T: PartialEq>(copies: &[Result<T, DecodeError>], chosen: &T) -> Vec<usize> {
    let differs = |copy: &Result<T, DecodeError>| copy.as_ref().ok() != Some(chosen);
    copies.iter().enumerate().filter(|(_, copy)| differs(copy)).map(|(index, _)| index).collect()
}

const NEWER: u8 = 7;

/// How much an error says about what lies there.
fn weight(error: DecodeError) -> u8 {
    match error {
        DecodeError::NewerVersion(_) | DecodeError::UnknownFeatures(_) => NEWER,
        DecodeError::Disagreement => 6,
        DecodeError::Identity => 5,
        DecodeError::Checksum => 4,
        DecodeError::Bounds => 3,
        DecodeError::Tag(_) | DecodeError::Unreadable => 2,
        DecodeError::Truncated => 1,
        DecodeError::Magic => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chosen(copies: &[Result<u64, DecodeError>]) -> Result<u64, DecodeError> {
        choose(copies, |age| *age)
    }

    #[test]
    fn the_newest_pair_wins() {
        // Shows each way a writer of four copies can be cut off, old value 1, new value 2.
        assert_eq!(chosen(&[Ok(1), Ok(1), Ok(1), Ok(1)]), Ok(1));
        assert_eq!(chosen(&[Ok(2), Ok(1), Ok(1), Ok(1)]), Ok(1));
        assert_eq!(chosen(&[Ok(2), Err(DecodeError::Checksum), Ok(1), Ok(1)]), Ok(1));
        assert_eq!(chosen(&[Ok(2), Ok(2), Ok(1), Ok(1)]), Ok(2));
        assert_eq!(chosen(&[Ok(1), Ok(1), Ok(2), Ok(2)]), Ok(2));
        assert_eq!(chosen(&[Ok(2), Ok(2), Ok(2), Ok(1)]), Ok(2));
    }

    #[test]
    fn one_sound_copy_is_not_enough() {
        // Shows that a lone copy is refused, and that the reason says so.
        assert_eq!(chosen(&[Ok(1), Err(DecodeError::Checksum)]), Err(DecodeError::Disagreement));
        assert_eq!(chosen(&[Ok(1), Ok(2), Ok(3), Ok(4)]), Err(DecodeError::Disagreement));
        assert_eq!(chosen(&[]), Err(DecodeError::Truncated));
    }

    #[test]
    fn a_newer_build_is_never_overruled() {
        // Shows that two old copies do not hide one of a newer format.
        let newer = DecodeError::NewerVersion(2);
        assert_eq!(chosen(&[Ok(1), Ok(1), Err(newer), Err(newer)]), Err(newer));
        let features = DecodeError::UnknownFeatures(8);
        assert_eq!(chosen(&[Ok(1), Ok(1), Ok(1), Err(features)]), Err(features));
    }

    #[test]
    fn a_write_survives_every_cut_after_every_cut() {
        // Shows, from every state that cuts can lead to, that a write of the next value with the disagreeing copies
        // first, torn or cut at any copy, leaves the value before or the value written; and that any order does not.
        let mut states = vec![([Ok(0_u64); 4], 0_u64)];
        for next in 1..5 {
            let mut reached = Vec::new();
            for (copies, value) in states {
                let mut order = disagreeing(&copies, &value);
                order.extend((0..4).filter(|copy| copies[*copy] == Ok(value)));
                let mut copies = copies;
                for copy in order {
                    for fate in [Err(DecodeError::Checksum), Ok(next)] {
                        copies[copy] = fate;
                        let value_now = chosen(&copies).unwrap();
                        assert!(value_now == value || value_now == next);
                        reached.push((copies, value_now));
                    }
                }
                assert_eq!(copies, [Ok(next); 4]);
            }
            states = reached;
        }
        let cut = [Err(DecodeError::Checksum), Ok(2), Err(DecodeError::Checksum), Ok(1)];
        assert_eq!(chosen(&cut), Err(DecodeError::Disagreement));
    }

    #[test]
    fn damage_tells_more_than_absence() {
        // Shows that one damaged copy among blank blocks is reported as damage.
        let copies = [Err(DecodeError::Magic), Err(DecodeError::Checksum), Err(DecodeError::Magic)];
        assert_eq!(chosen(&copies), Err(DecodeError::Checksum));
        assert_eq!(chosen(&[Err(DecodeError::Magic); 4]), Err(DecodeError::Magic));
    }
}
