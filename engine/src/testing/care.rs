//! What nobody but the store's keeper asks for: the scrub, repairs, and the end of uploads that are too old. All are checked at rest,
//! where it is known what there is, and the first two beside everything else as well.

use super::{
    client::Call,
    model::Kept,
    operation::{Key, SHARED_BUCKET, own_bucket},
    run::Run,
    uploads::list_all_uploads,
    versions::Seen,
};
use crate::{
    core_engine::repair::{PieceExport, REPAIR_BYTES_MAX, Repaired},
    error::{Error, Region, Resource},
    events::FoundBy,
    layout::{UploadId, Version, checksum},
    object::types::{Select, Which},
    shard::scrub::ScrubRate,
};
use bytes::Bytes;
use std::collections::BTreeSet;

type Checked = Result<(), String>;

impl Call {
    /// A scrub beside everything else finds nothing where nothing is damaged.
    pub(super) async fn scrub(&self, yields: bool) -> Checked {
        match self.engine().scrub(ScrubRate { bytes_per_second: None, yields }).await {
            Ok(tours) => {
                let harm = &self.tolerance.harm;
                let wrong = tours.iter().find(|tour| tour.findings > 0 && !harm.is_unreadable(tour.shard));
                wrong.map_or(Ok(()), |tour| Err(format!("found damage where there is none: {tour:?}")))
            }
            Err(error) => self.excuse(&error),
        }
    }

    /// Has a version written anew where it is damaged, which changes nothing that can be seen but that; with `others`, with bytes that
    /// it never had, which changes nothing at all.
    pub(super) async fn repair(&self, key: Key, nth: u8, others: bool) -> Checked {
        let Some((number, kept)) = self.choose(key, nth).await? else { return Ok(()) };
        let repaired = match self.repair_version(key, number, &kept, others).await? {
            Ok(repaired) => repaired,
            // It was moved, or a change that the client had given up landed after all.
            Err(Error::Changed | Error::NoSuchKey | Error::NoSuchVersion | Error::DeleteMarker(_)) => {
                return Ok(());
            }
            Err(error) if self.explains_missing_bucket(key, &error) => return Ok(()),
            Err(error) => return self.excuse_of(&[key], &error),
        };
        let shard = self.engine().shard_of(&key.bucket(self.client()), &key.bytes(self.client()));
        if repaired.mended > 0 && !self.tolerance.harm.is_unreadable(shard) {
            return Err(format!("{repaired:?}, where nothing is damaged"));
        }
        Ok(())
    }

    /// As [`Call::repair`], of a version that is there. The outer error is a promise that was broken.
    pub(super) async fn repair_version(
        &self,
        key: Key,
        number: Version,
        kept: &Kept,
        others: bool,
    ) -> Result<Result<Repaired, Error>, String> {
        let Some(value) = &kept.value else { return Ok(Ok(Repaired::default())) };
        let (bucket, name) = (key.bucket(self.client()), key.bytes(self.client()));
        let export = match self.engine().export(&bucket, &name, Which::Version(number)).await {
            Ok(export) => export,
            Err(error) => return Ok(Err(error)),
        };
        let mut end = 0;
        for piece in &export.pieces {
            if piece.offset != end || !is_of(piece, &value.bytes) {
                return Err(format!("exported {piece:?} behind {end} bytes of {value:?}"));
            }
            end += piece.bytes;
        }
        if end != value.bytes.len() as u64 {
            return Err(format!("exported {end} bytes of {value:?}"));
        }
        let inline_bytes_max = u64::from(self.engine().geometry().inline_bytes_max);
        let mut sum = Repaired::default();
        for piece in export.pieces.iter().filter(|piece| piece.bytes > inline_bytes_max) {
            let bytes = &value.bytes[piece.offset as usize..][..piece.bytes as usize];
            let each = REPAIR_BYTES_MAX / piece.block_bytes as usize * piece.block_bytes as usize;
            for (index, run) in bytes.chunks(each).enumerate() {
                let mut given = run.to_vec();
                given[run.len() / 2] ^= u8::from(others);
                let offset = piece.offset + (index * each) as u64;
                let answer = self.engine().repair(&bucket, &name, number, offset, Bytes::from(given)).await;
                match answer {
                    Ok(repaired) if others => return Err(format!("{repaired:?} by bytes that it never had")),
                    Err(Error::InvalidArgument(_)) if others => {}
                    Err(error) => return Ok(Err(error)),
                    Ok(repaired) => {
                        let blocks = (run.len() as u64).div_ceil(piece.block_bytes);
                        if repaired.mended + repaired.sound != blocks {
                            return Err(format!("{repaired:?} of {blocks} blocks"));
                        }
                        sum.mended += repaired.mended;
                        sum.sound += repaired.sound;
                    }
                }
            }
        }
        Ok(Ok(sum))
    }
}

/// Whether these are the checksums of the bytes that the piece is of.
fn is_of(piece: &PieceExport, whole: &[u8]) -> bool {
    let end = piece.offset.saturating_add(piece.bytes);
    let Some(bytes) = whole.get(piece.offset as usize..end as usize) else { return false };
    let blocks = bytes.chunks(piece.block_bytes.max(1) as usize);
    piece.crc64 == checksum(bytes) && blocks.map(checksum).eq(piece.checksums.iter().copied())
}

impl Run {
    /// Whatever is corrupt for a flipped bit is whole again once it was written anew, and is found corrupt no more.
    pub(super) fn verify_repair(&mut self) -> Checked {
        for (client, key, version) in self.corrupt.clone() {
            let call = self.call(client);
            let repair = move |_| async move {
                let Some(numbers) = call.look_at_versions(key).await? else { return Ok(()) };
                let versions = call.with_key(key, |known| known.certain().cloned()).unwrap_or_default();
                let wanted = version.or(numbers.first().copied());
                let at = numbers.iter().zip(versions).find(|(number, _)| Some(**number) == wanted);
                let Some((number, kept)) = at else { return Ok(()) };
                match call.repair_version(key, *number, &kept, false).await? {
                    // A table of checksums is another matter, and so are bytes of an upload.
                    // And where the index may take no more, nothing can be moved.
                    Err(Error::Corrupt(_) | Error::Busy(Resource::Index)) => return Ok(()),
                    Err(error) => return Err(format!("answered {error:?}")),
                    Ok(_) => {}
                }
                let seen = call.check_version(key, Which::Version(*number), &kept, Select::Whole).await?;
                if seen == Seen::AsItIs { Ok(()) } else { Err(format!("{seen:?} after the repair")) }
            };
            let repaired: Checked = self.ask(repair)?;
            repaired.map_err(|wrong| format!("client {client}, repair of {key:?}, {version:?}: {wrong}"))?;
        }
        Ok(())
    }

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
            match self.ask(move |engine| async move { list_all_uploads(&engine, &bucket, b"", 100).await })? {
                Ok(found) => all.extend(found.into_iter().map(|info| (info.upload, info.created_ms))),
                Err(Error::NoSuchBucket) => {}
                Err(error) => return Err(format!("listing uploads: {error}")),
            }
        }
        Ok(all)
    }
}
