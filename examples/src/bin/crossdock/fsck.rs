//! `crossdock fsck`: whether a closed store holds what it promises.

use super::{Failure, StorePath, progress::Shown, report::Findings};
use crossdock::inspect::{Access, Progress, ScrubOptions};
use std::{io::Write, rc::Rc};

#[derive(clap::Args)]
pub(crate) struct Options {
    #[command(flatten)]
    store: StorePath,
    /// Also read every byte of every object and compare its checksum
    #[arg(long)]
    data: bool,
    /// The store was not closed in order: a copy whose write was cut off is no fault, the next open mends it
    #[arg(long)]
    after_crash: bool,
    /// One JSON document a line: the findings, then the sum
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(options: &Options, output: &mut dyn Write) -> Result<bool, Failure> {
    let store = options.store.open(Access::Closed).map_err(|failure| match failure {
        Failure::Open(crossdock::OpenError::Locked { path }) => Failure::Said(format!(
            "{} is open in another process; fsck checks a closed store, scrub reads one in use",
            path.display()
        )),
        other => other,
    })?;
    let mut findings = Findings::new(&store, options.json);
    findings.add_superblocks(&store, output)?;
    let mut images = Vec::new();
    for shard in 0..store.shard_count() {
        match store.read_shard(shard) {
            Ok(image) => {
                findings.add(&store, store.check_shard(&image)?, output)?;
                images.push(image);
            }
            Err(error) => findings.add(&store, [crossdock::inspect::unreadable(shard, &error)], output)?,
        }
    }
    findings.add(&store, store.check_buckets(&images), output)?;
    if options.data {
        let total = images.iter().map(|image| image.usage().bytes_to_verify()).sum();
        let shown = Rc::new(Shown::new(total));
        for image in &images {
            let bar = shown.clone();
            let told = move |progress: Progress<'_>| {
                if let Progress::Bytes(count) = progress {
                    bar.add(count);
                }
                true
            };
            let bad = store.scrub_shard(image, &ScrubOptions::default(), told)?;
            findings.add(&store, bad, output)?;
        }
        shown.finish();
        findings.verified_bytes = shown.bytes();
    }
    findings.versions = images.iter().map(|image| image.objects().count() as u64).sum();
    findings.tolerate_torn = options.after_crash;
    findings.sum(options.data, output)
}
