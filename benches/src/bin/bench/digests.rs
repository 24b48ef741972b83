//! MD5 of several bodies side by side, against one after the other: what a core saves when requests share its lanes.

use crate::Plan;
use crossdock_benches::{
    ratio::Ratio,
    report::{Report, Row, Target},
};
use crossdock_s3::protocol::checksum::{Algorithm, Hasher};
use crossdock_s3::protocol::md5::{Md5, Update, lanes_max, update_many};
use std::convert::Infallible;
use std::hint::black_box;
use std::time::Duration;

const STEP_BYTES: usize = 64 << 10;
const ROUNDS: usize = 7;
/// Bytes hashed in each measurement.
const BYTES: usize = 32 << 20;

pub(crate) fn measure(_: &Plan, report: &mut Report) -> Result<(), String> {
    let content: Vec<Vec<u8>> = (0..16_u64)
        .map(|seed| {
            let mut bytes = vec![0; STEP_BYTES];
            fastrand::Rng::with_seed(seed).fill(&mut bytes);
            bytes
        })
        .collect();
    report.section(
        "Digests",
        &format!(
            "Bytes for a second of one core's processor time, over those of scalar MD5, one stream after the other. Streams are \
             taken in by steps of 64 KiB. This processor hashes {} side by side.",
            lanes_max()
        ),
    );
    let alone = || Ok(rate(|| content.iter().take(8).for_each(|bytes| _ = black_box(Md5::digest(bytes))), 8));
    for count in [1, 2, 4, 8, 16] {
        let together = || Ok(rate(|| side_by_side(content.iter().take(count)), count));
        let target = if count == 8 { Target::AtLeast(3.0) } else { Target::None };
        report.push(Row::ratio(
            format!("MD5 of {count} streams"),
            target,
            &take(alone, together),
            "scalar MD5",
        ));
    }
    let sha256 = || {
        let hash = |bytes: &Vec<u8>| _ = black_box(Hasher::checksum(Algorithm::Sha256, bytes));
        Ok(rate(|| content.iter().take(8).for_each(hash), 8))
    };
    let note = "with the SHA extensions of this processor, if it has them: sixteen lanes of AVX-512 would gain little over \
                them, so that SHA-256 stays one stream at a time";
    report.push(
        Row::ratio("SHA-256 of one stream", Target::None, &take(alone, sha256), "scalar MD5").note(note),
    );
    Ok(())
}

fn take(
    yardstick: impl FnMut() -> Result<f64, Infallible>,
    measured: impl FnMut() -> Result<f64, Infallible>,
) -> Ratio {
    let Ok(ratio) = Ratio::take(ROUNDS, yardstick, measured);
    ratio
}

fn side_by_side<'a>(content: impl Iterator<Item = &'a Vec<u8>>) {
    let mut streams: Vec<(Md5, &Vec<u8>)> = content.map(|bytes| (Md5::new(), bytes)).collect();
    let mut updates: Vec<Update<'_>> = streams.iter_mut().map(|(md5, bytes)| Update { md5, bytes }).collect();
    update_many(&mut updates);
    streams.into_iter().for_each(|(md5, _)| _ = black_box(md5.finish()));
}

/// Bytes for a second of this thread's processor time; `work` hashes `streams` steps.
fn rate(work: impl Fn(), streams: usize) -> f64 {
    let turns = BYTES / (streams * STEP_BYTES);
    let before = processor();
    for _ in 0..turns {
        work();
    }
    (turns * streams * STEP_BYTES) as f64 / (processor() - before).as_secs_f64()
}

fn processor() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}
