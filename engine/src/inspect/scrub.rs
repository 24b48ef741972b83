//! What a tool asks of a store as a whole: check it, verify what it holds.

use super::{
    Store,
    check::{check_buckets, check_structures, copy_severity, differing, name_of},
    claims::check_claims,
    finding::{Finding, ObjectName, Problem, Severity},
    image::ShardImage,
    store::read_settled,
    verify::{Progress, Tempo, job_at, verify_shard},
};
use crate::{
    error::{OpenError, Region},
    index::key,
    layout::superblock_offset,
    shard::reading::Reading,
    store::Placement,
    verify::{Bad, Job, Place, verify},
};
use std::rc::Rc;

/// How to verify.
#[derive(Clone, Debug, Default)]
pub struct ScrubOptions {
    /// Bytes read a second at most; none for no limit.
    pub rate: Option<u64>,
    /// The [`super::ObjectEntry::place`] to go on behind.
    pub after: Option<Vec<u8>>,
}

impl Store {
    /// Checks the superblock's copies on every device: each finding with the number of the device.
    pub fn check_superblocks(&self) -> Vec<(usize, Finding)> {
        let mut findings = Vec::new();
        for (device, copies) in self.superblock_copies().map(|(_, copies)| copies).enumerate() {
            // The store was opened: there is one that counts.
            let Ok(chosen) = crate::layout::Superblock::choose(copies) else { continue };
            for (copy, error) in differing(copies, &chosen) {
                let finding = Finding {
                    shard: None,
                    region: None,
                    offset: Some(superblock_offset(copy)),
                    object: None,
                    // Written at format alone: no write of it can have been cut off.
                    severity: copy_severity(copies, copy).max(Severity::Degraded),
                    problem: Problem::Copy { structure: "superblock", copy, error },
                };
                findings.push((device, finding));
            }
        }
        findings
    }

    /// Checks a shard: every copy of every structure, and that all its records claim fits together. The store is
    /// to be closed: what changes meanwhile would be found damaged.
    ///
    /// # Errors
    /// A device that fails.
    pub fn check_shard(&self, image: &Rc<ShardImage>) -> Result<Vec<Finding>, OpenError> {
        let (reading, image) = (self.reading(image.shard())?, image.clone());
        let placement = self.placement().clone();
        self.core().block_on(async move { check_shard(&reading, &image, &placement).await })
    }

    /// Compares what the shards know of buckets.
    pub fn check_buckets(&self, images: &[Rc<ShardImage>]) -> Vec<Finding> {
        let mut findings = Vec::new();
        check_buckets(images, |bucket| self.home_of(bucket), &mut |finding| findings.push(finding));
        findings
    }

    /// Reads every byte of every object of a shard and compares its checksum, in the order of
    /// [`ShardImage::objects`]. `progress` is told how far it is, and says whether to go on.
    ///
    /// With [`super::Access::Any`], what does not hold is looked up again before it is reported: an object that was
    /// removed or replaced meanwhile is none.
    ///
    /// # Errors
    /// A shard that can not be read again.
    pub fn scrub_shard(
        &self,
        image: &Rc<ShardImage>,
        options: &ScrubOptions,
        progress: impl FnMut(Progress<'_>) -> bool + 'static,
    ) -> Result<Vec<Finding>, OpenError> {
        let reading = self.reading(image.shard())?;
        let (image, after) = (image.clone(), options.after.clone());
        let pace = Tempo::new(options.rate, self.core().now(), Box::new(progress));
        let attempts = self.attempts();
        self.core().block_on(async move { scrub(&reading, &image, after.as_deref(), &pace, attempts).await })
    }
}

/// Checks a closed store from its devices alone: every structure, every claim of space, every byte.
#[cfg(any(test, feature = "testing"))]
pub(crate) async fn check_store(readings: &[Reading], placement: &Placement) -> Vec<Finding> {
    let (mut findings, mut images) = (Vec::new(), Vec::new());
    let pace = Tempo::new(None, crate::reactor::Moment(0), Box::new(|_| true));
    for reading in readings {
        let checked = async {
            let image = Rc::new(ShardImage::read(reading).await?);
            findings.extend(check_shard(reading, &image, placement).await?);
            findings.extend(scrub(reading, &image, None, &pace, 0).await?);
            Ok(image)
        };
        match checked.await {
            Ok(image) => images.push(image),
            Err(error) => findings.push(unreadable(reading.identity.shard, &error)),
        }
    }
    check_buckets(&images, |bucket| placement.home_of(bucket), &mut |finding| findings.push(finding));
    findings
}

pub(crate) async fn check_shard(
    reading: &Reading,
    image: &ShardImage,
    placement: &Placement,
) -> Result<Vec<Finding>, OpenError> {
    let mut findings = Vec::new();
    check_structures(reading, image, &mut |finding| findings.push(finding)).await?;
    check_claims(reading, image, placement, &mut |finding| findings.push(finding));
    Ok(findings)
}

/// Verifies a shard. With `attempts`, what seems wrong is looked up again in a fresh image, read so often at most.
pub(crate) async fn scrub(
    reading: &Reading,
    image: &ShardImage,
    after: Option<&[u8]>,
    pace: &Rc<Tempo>,
    attempts: u32,
) -> Result<Vec<Finding>, OpenError> {
    let mut suspects = verify_shard(reading, image, after, pace).await;
    let mut findings = Vec::new();
    if attempts == 0 {
        suspects.iter().for_each(|(job, bad)| say(image, job, bad, &mut findings));
        return Ok(findings);
    }
    // Space is reused only when the record that freed it is durable. So a record that is still there after its bytes
    // were read did own them then, and what was found wrong is wrong.
    for _ in 0..attempts {
        if suspects.is_empty() {
            break;
        }
        let now = read_settled(&reading.core, reading, attempts).await?;
        let mut changed = Vec::new();
        for (job, bad) in suspects {
            let Some(current) = job_at(&now, &job.place) else { continue };
            if current.content == job.content {
                say(&now, &job, &bad, &mut findings);
                continue;
            }
            let bad = verify(reading, &current, &**pace).await;
            if !bad.is_empty() {
                changed.push((current, bad));
            }
        }
        suspects = changed;
    }
    Ok(findings)
}

fn say(image: &ShardImage, job: &Job, bad: &[Bad], findings: &mut Vec<Finding>) {
    findings.extend(bad.iter().map(|bad| Finding {
        shard: Some(image.shard()),
        region: Some(bad.region),
        offset: Some(bad.offset),
        object: object_name(image, &job.place, bad.part),
        severity: Severity::Damage,
        problem: bad.problem.clone(),
    }));
}

fn object_name(image: &ShardImage, place: &Place, part: Option<u16>) -> Option<ObjectName> {
    match place {
        Place::Object(place) => {
            let (bucket, key, version) = key::decode(place);
            Some(name_of(image, bucket, &key, Some(version), part))
        }
        Place::Part(upload, _) => {
            let record = &image.catalog.upload(*upload)?.record;
            Some(name_of(image, record.bucket, &record.key, None, part))
        }
    }
}

/// A shard that could not be read, as a finding.
pub fn unreadable(shard: u16, error: &OpenError) -> Finding {
    let (region, offset) = match error {
        OpenError::Recovery { region, offset, .. } => (Some(*region), Some(*offset)),
        OpenError::Device(error) => (Some(error.region), Some(error.offset)),
        _ => (None::<Region>, None),
    };
    let mut text = error.to_string();
    if let Some(cause) = std::error::Error::source(error).map(ToString::to_string)
        && !text.contains(&cause)
    {
        text = format!("{text}: {cause}");
    }
    let (severity, problem) = (Severity::Damage, Problem::Unreadable(text));
    Finding { shard: Some(shard), region, offset, object: None, severity, problem }
}
