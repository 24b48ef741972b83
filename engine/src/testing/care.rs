//! What nobody but the store's keeper asks for: the scrub, and the end of uploads that are too old. Both are checked at rest,
//! where it is known what there is.

use super::{
    client::Call,
    operation::{Key, SHARED_BUCKET, own_bucket},
    run::Run,
};
use crate::{
    error::{Error, Region},
    events::FoundBy,
    layout::{UploadId, Version},
    shard::scrub::ScrubRate,
};
use std::collections::BTreeSet;

type Checked = Result<(), String>;

impl Call {
    /// A scrub beside everything else finds nothing where nothing is damaged.
    pub(super) async fn scrub(&self, yields: bool) -> Checked {
        match self.engine().scrub(ScrubRate { bytes_per_second: None, yields }).await {
            Ok(tours) => {
                let found: u64 = tours.iter().map(|tour| tour.findings).sum();
                if found > 0 && !self.tolerance.corrupt && !self.tolerance.device {
                    return Err(format!("found damage where there is none: {tours:?}"));
                }
                Ok(())
            }
            Err(error) => self.excuse(&error),
        }
    }
}

impl Run {
    /// A whole tour of every shard finds each version that a reader was told is corrupt, and no more than there is.
    pub(super) fn verify_scrub(
        &mut self,
        corrupt: &BTreeSet<(usize, Key, Option<Version>)>,
        damage_max: Option<usize>,
    ) -> Checked {
        // The first may be the rest of a tour that the end of a life interrupted.
        let mut events = self.world.engine(0).corruption_events();
        for tour in 0..2 {
            while events.try_next().is_some() {}
            let tours = self.ask(|engine| async move { engine.scrub(ScrubRate::default()).await })?;
            tours.map_err(|error| format!("the scrub, tour {tour}: {error}"))?;
        }
        let found: Vec<_> = std::iter::from_fn(|| events.try_next())
            .filter(|event| event.found_by == FoundBy::Scrub)
            .map(|event| event.finding)
            .collect();
        // Copies share what they lie in: what is rotten there is found with each of them.
        let places: BTreeSet<_> =
            found.iter().map(|f| (f.shard, f.region == Some(Region::Log), f.offset)).collect();
        if damage_max.is_some_and(|most| places.len() > most) {
            return Err(format!("the scrub found {found:?}, where {damage_max:?} are damaged at most"));
        }
        let missed = corrupt.iter().find(|(client, key, version)| {
            !found.iter().filter_map(|finding| finding.object.as_ref()).any(|object| {
                object.bucket == key.bucket(*client)
                    && object.key == key.bytes(*client)
                    && (version.is_none() || *version == object.version)
            })
        });
        missed.map_or(Ok(()), |missed| Err(format!("the scrub did not find {missed:?}, but {found:?}")))
    }

    /// Of all uploads just those go that were begun before a moment, and they stay away.
    pub(super) fn verify_expiry(&mut self) -> Checked {
        let before = self.uploads()?;
        let mut moments: Vec<u64> = before.iter().map(|(_, created_ms)| *created_ms).collect();
        moments.sort_unstable();
        let Some(moment) = moments.get(moments.len() / 2).copied() else { return Ok(()) };
        let expired = self.ask(move |engine| async move { engine.expire_uploads(moment).await })?;
        let expired = expired.map_err(|error| format!("uploads that are too old: {error}"))?;
        let stay: BTreeSet<_> =
            before.iter().filter(|(_, created_ms)| *created_ms >= moment).copied().collect();
        let after = self.uploads()?;
        if after != stay || expired.uploads as usize != before.len() - stay.len() {
            return Err(format!("expired {expired:?} of {before:?} at {moment}: {after:?} are left"));
        }
        for client in &self.clients {
            let mut known = client.borrow_mut();
            let known = &mut *known;
            for slot in &mut known.uploads {
                let is_gone = |id: UploadId| !after.iter().any(|(upload, _)| *upload == id);
                if let Some(upload) = slot.take_if(|upload| is_gone(upload.upload)) {
                    known.over.insert(upload.upload);
                }
            }
        }
        Ok(())
    }

    fn uploads(&mut self) -> Result<BTreeSet<(UploadId, u64)>, String> {
        let own = (0..super::operation::CLIENTS).map(own_bucket);
        let buckets: Vec<String> = own.chain([SHARED_BUCKET.to_owned()]).collect();
        let mut all = BTreeSet::new();
        for bucket in buckets {
            match self.ask(move |engine| async move { engine.list_uploads(&bucket, b"").await })? {
                Ok(found) => all.extend(found.into_iter().map(|info| (info.upload, info.created_ms))),
                Err(Error::NoSuchBucket) => {}
                Err(error) => return Err(format!("listing uploads: {error}")),
            }
        }
        Ok(all)
    }
}
