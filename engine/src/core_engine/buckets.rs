//! Buckets, which are on every shard: made, deleted, and made whole again after a crash in the midst of either.
//!
//! ```text
//!   make     name taken at home ─► what is left of an attempt before: a removal is brought to its end, a making gone on with
//!                                        ─► record on the others ─► record at home: it exists ─► name let go
//!   change   name taken at home ─► record on the others ─► record at home: all have it ─► name let go
//!   delete   name taken at home ─► or what is left of an attempt ─► changes wait everywhere ─► empty everywhere?
//!                                        ─► others with uploads note that it goes ─► removed at home: it is gone
//!                                        ─► removed on the others ─► changes go on
//! ```
//!
//! All run to their end once begun, whatever becomes of the caller: a name half taken, or changes made to wait for ever,
//! would outlive it. What a crash leaves is settled by [`CoreEngine::settle_buckets`] when the store is opened.

use super::CoreEngine;
use crate::{
    error::Error,
    layout::{BucketId, BucketRecord, Versioning},
    object::types::{BucketChange, BucketInfo, BucketOptions, BucketUsage},
    planted::{Point, reach},
    shard::buckets::BucketHere,
};
use bytes::Bytes;
use std::collections::BTreeMap;

impl CoreEngine {
    /// Makes a bucket. It is there on every shard, durably, when this resolves.
    ///
    /// # Errors
    /// [`Error::BucketExists`], [`Error::InvalidArgument`], [`Error::Full`], [`Error::Busy`], [`Error::ReadOnly`],
    /// [`Error::ShardUnavailable`]. After [`Error::OutcomeUnknown`] and [`Error::Closed`] some shards may have it: it is there when the store
    /// is opened again, or it is not, and making it once more goes on from there.
    ///
    /// # Cancellation
    /// Dropping the future does not stop the work.
    pub async fn create_bucket(&self, name: &str, attributes: Bytes) -> Result<BucketInfo, Error> {
        self.create_bucket_with(name, BucketOptions { attributes, ..BucketOptions::default() }).await
    }

    /// As [`CoreEngine::create_bucket`], with all that a bucket can have from the first.
    ///
    /// # Errors
    /// As [`CoreEngine::create_bucket`].
    ///
    /// # Cancellation
    /// Dropping the future does not stop the work.
    pub async fn create_bucket_with(&self, name: &str, options: BucketOptions) -> Result<BucketInfo, Error> {
        let _operation = self.admit().await?;
        let (engine, name) = (self.clone(), Box::<str>::from(name));
        self.core().run_through(async move { engine.make_bucket(&name, options).await }).await
    }

    async fn make_bucket(&self, name: &str, options: BucketOptions) -> Result<BucketInfo, Error> {
        let home = self.0.placement.home_of(name);
        let taken: Box<str> = name.into();
        let begun =
            self.on_shard(home, move |shard| async move { shard.begin_bucket(&taken, options).await });
        let result = self.make_everywhere(begun.await?, home).await;
        let taken: Box<str> = name.into();
        self.send_to_shard(home, move |shard| shard.let_go_of_name(&taken));
        result?;
        self.bucket(name).await
    }

    pub(super) async fn make_everywhere(&self, record: BucketRecord, home: u16) -> Result<(), Error> {
        let record = self.taking_over(record, home).await?;
        let shards: Vec<u16> = (0..self.shard_count()).collect();
        self.put_record(&record, &shards).await
    }

    /// The record of a new bucket, with what is left of its name on other shards taken into account: a removal is brought to its end, a
    /// making is gone on with.
    pub(super) async fn taking_over(
        &self,
        mut record: BucketRecord,
        home: u16,
    ) -> Result<BucketRecord, Error> {
        while let Some(left) = self.left_behind(&record.name, home).await? {
            if left.is_going {
                self.remove_record(left.bucket, home).await?;
                continue;
            }
            record.bucket = left.bucket;
            // Whatever of it gets how far before the power goes: this record counts, and not the one that was left.
            let revision = self.on_shard(home, |shard| async move { Ok(shard.revision_after_all()) });
            record.revision = revision.await?;
            break;
        }
        Ok(record)
    }

    /// Logs a bucket's record on some shards: at its home last, because that record decides whether the bucket exists.
    pub(super) async fn put_record(&self, record: &BucketRecord, shards: &[u16]) -> Result<(), Error> {
        let home = self.0.placement.home_of(&record.name);
        let last = shards.contains(&home).then_some(home);
        for (made, shard) in shards.iter().copied().filter(|shard| *shard != home).chain(last).enumerate() {
            let record = record.clone();
            let put = self.on_shard(shard, move |shard| async move { shard.put_bucket(record).await }).await;
            put.map_err(|error| if made > 0 { error.in_the_midst() } else { error })?;
            reach(Point::BucketHalfMade);
        }
        Ok(())
    }

    /// Sets whether a bucket keeps versions. Every shard does, durably, when this resolves; what is put or deleted while it
    /// has not is done as before or as after.
    ///
    /// # Errors
    /// [`Error::NoSuchBucket`]; [`Error::InvalidArgument`] for [`Versioning::Never`] of a bucket that kept versions;
    /// [`Error::ReadOnly`] if the shard that decides takes no changes. After [`Error::OutcomeUnknown`] or [`Error::Closed`] the
    /// change may be there on some shards: it is then brought to its end when the store is opened.
    ///
    /// # Cancellation
    /// Dropping the future does not stop the work.
    pub async fn set_versioning(&self, name: &str, versioning: Versioning) -> Result<BucketInfo, Error> {
        let versioning = Some(versioning);
        self.change_bucket(name, BucketChange { versioning, ..BucketChange::default() }).await
    }

    /// Changes a bucket: all of the change is there on every shard, durably, when this resolves.
    ///
    /// # Errors
    /// As [`CoreEngine::set_versioning`]; [`Error::Changed`] if it is not the bucket that the caller names, or has not the revision;
    /// [`Error::InvalidArgument`] for documents beyond [`DOCUMENTS_BYTES_MAX`](crate::DOCUMENTS_BYTES_MAX).
    ///
    /// # Cancellation
    /// Dropping the future does not stop the work.
    pub async fn change_bucket(&self, name: &str, change: BucketChange) -> Result<BucketInfo, Error> {
        let _operation = self.admit().await?;
        let (engine, name) = (self.clone(), Box::<str>::from(name));
        self.core().run_through(async move { engine.change_everywhere(&name, change).await }).await
    }

    async fn change_everywhere(&self, name: &str, change: BucketChange) -> Result<BucketInfo, Error> {
        let home = self.0.placement.home_of(name);
        let taken: Box<str> = name.into();
        let begun = self.on_shard(home, move |shard| async move { shard.begin_change(&taken, change).await });
        let record = begun.await?;
        let result = self.put_changed_record(&record, home).await;
        let taken: Box<str> = name.into();
        self.send_to_shard(home, move |shard| shard.let_go_of_name(&taken));
        result?;
        self.bucket(name).await
    }

    /// Logs a changed record on every shard that takes changes, and at its home last. One that takes none need not know of it
    /// yet: nothing can be done there by the old record, and it hears of the new one when the store is opened.
    async fn put_changed_record(&self, record: &BucketRecord, home: u16) -> Result<(), Error> {
        let mut told = false;
        for shard in (0..self.shard_count()).filter(|shard| *shard != home) {
            match self.put_record(record, &[shard]).await {
                Ok(()) => told = true,
                Err(
                    error @ (Error::ReadOnly { .. }
                    | Error::ShardUnavailable { .. }
                    | Error::OutcomeUnknown(_)),
                ) => {
                    told |= error.is_uncertain();
                    tracing::warn!(name = %record.name, shard, "a changed bucket's record waits for the next open");
                }
                Err(error) => return Err(if told { error.in_the_midst() } else { error }),
            }
        }
        let decided = self.put_record(record, &[home]).await;
        decided.map_err(|error| if told { error.in_the_midst() } else { error })
    }

    /// A bucket.
    ///
    /// # Errors
    /// [`Error::NoSuchBucket`].
    pub async fn bucket(&self, name: &str) -> Result<BucketInfo, Error> {
        let home = self.0.placement.home_of(name);
        let name: Box<str> = name.into();
        self.on_shard(home, move |shard| async move { shard.bucket(&name) }).await
    }

    /// A bucket as a shard of this core knows it, and else as its home does. For what is asked with every request: on a core
    /// with shards it costs no message. A change that resolved is seen, as every shard that takes changes has it then.
    ///
    /// # Errors
    /// [`Error::NoSuchBucket`].
    pub async fn bucket_nearby(&self, name: &str) -> Result<BucketInfo, Error> {
        match self.core().section(|| self.own_shards().find_map(|shard| shard.bucket_if_sure(name))) {
            Some(bucket) => Ok(bucket),
            None => self.bucket(name).await,
        }
    }

    /// Every bucket, by name.
    ///
    /// # Errors
    /// [`Error::ShardUnavailable`] rather than a list that lacks buckets.
    pub async fn buckets(&self) -> Result<Vec<BucketInfo>, Error> {
        let _operation = self.admit().await?;
        let mut buckets = Vec::new();
        for shard in 0..self.shard_count() {
            let here = self.on_shard(shard, move |shard| async move { Ok(shard.buckets()) }).await?;
            buckets.extend(here.into_iter().filter(|bucket| self.0.placement.home_of(&bucket.name) == shard));
        }
        buckets.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(buckets)
    }

    /// How much a bucket holds: counted with every change, and exact, also after a crash. Costs a message to each core, and
    /// nothing for each object. Shards are asked one after the other, so that what is written meanwhile is in or not.
    ///
    /// # Errors
    /// [`Error::NoSuchBucket`]; [`Error::Corrupt`] and [`Error::ShardUnavailable`] rather than a sum that lacks something.
    pub async fn bucket_usage(&self, name: &str) -> Result<BucketUsage, Error> {
        let mut usage = BucketUsage::default();
        for shard in 0..self.shard_count() {
            let name: Box<str> = name.into();
            usage.add(self.on_shard(shard, move |shard| async move { shard.bucket_usage(&name) }).await?);
        }
        Ok(usage)
    }

    /// Deletes an empty bucket, and what uploads are left in it.
    ///
    /// # Errors
    /// [`Error::NoSuchBucket`], [`Error::BucketNotEmpty`], [`Error::Busy`], [`Error::ReadOnly`], [`Error::ShardUnavailable`]. After
    /// [`Error::OutcomeUnknown`] and [`Error::Closed`] it may be gone, or be there when the store is opened again.
    ///
    /// # Cancellation
    /// Dropping the future does not stop the work.
    pub async fn delete_bucket(&self, name: &str) -> Result<(), Error> {
        let _operation = self.admit().await?;
        let (engine, name) = (self.clone(), Box::<str>::from(name));
        self.core().run_through(async move { engine.unmake_bucket(&name).await }).await
    }

    async fn unmake_bucket(&self, name: &str) -> Result<(), Error> {
        let home = self.0.placement.home_of(name);
        let taken: Box<str> = name.into();
        let begun = self.on_shard(home, move |shard| async move { shard.begin_deletion(&taken).await });
        let result = match begun.await? {
            Some(bucket) => self.unmake_everywhere(bucket, home).await,
            None => match self.left_behind(name, home).await {
                Ok(Some(left)) => self.unmake_everywhere(left.bucket, home).await,
                Ok(None) => Err(Error::NoSuchBucket),
                Err(error) => Err(error),
            },
        };
        let taken: Box<str> = name.into();
        self.send_to_shard(home, move |shard| shard.let_go_of_name(&taken));
        result
    }

    async fn unmake_everywhere(&self, bucket: BucketId, home: u16) -> Result<(), Error> {
        let result = match self.is_empty_everywhere(bucket).await {
            Ok(true) => self.remove_record(bucket, home).await,
            Ok(false) => Err(Error::BucketNotEmpty),
            Err(error) => Err(error),
        };
        for shard in 0..self.shard_count() {
            self.send_to_shard(shard, move |shard| shard.end_deciding(bucket));
        }
        result
    }

    /// What an attempt to make or to remove the bucket that failed on some shard has left on others. If it was to be made somebody may
    /// have written to it there and been told that it is there. There is never more than one such.
    async fn left_behind(&self, name: &str, home: u16) -> Result<Option<Left>, Error> {
        let mut found: Option<Left> = None;
        for shard in (0..self.shard_count()).filter(|shard| *shard != home) {
            let name: Box<str> = name.into();
            match self.on_shard(shard, move |shard| async move { shard.left_of_bucket(&name) }).await {
                Ok((bucket, is_going)) => {
                    let left = found.get_or_insert(Left { bucket, is_going });
                    left.is_going |= is_going && left.bucket == bucket;
                }
                Err(Error::NoSuchBucket) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(found)
    }

    /// Lets changes wait on every shard, and says whether the bucket is empty then.
    async fn is_empty_everywhere(&self, bucket: BucketId) -> Result<bool, Error> {
        for shard in 0..self.shard_count() {
            let deciding =
                self.on_shard(shard, move |shard| async move { shard.begin_deciding(bucket).await });
            if !deciding.await? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Logs on every shard that the bucket is gone: at its home first, because that decides.
    pub(super) async fn remove_record(&self, bucket: BucketId, home: u16) -> Result<(), Error> {
        let mut told = Vec::new();
        let decided = async {
            for shard in (0..self.shard_count()).filter(|shard| *shard != home) {
                let begun =
                    self.on_shard(shard, move |shard| async move { shard.begin_removal(bucket).await });
                told.extend(begun.await?.map(|record| (shard, record)));
            }
            self.on_shard(home, move |shard| async move { shard.remove_bucket(bucket).await }).await
        };
        if let Err(error) = decided.await {
            // It stays, as far as is known: so nobody may be told that it goes.
            for (shard, record) in told {
                if let Err(error) = self.put_record(&record, &[shard]).await {
                    tracing::warn!(%error, shard, "a bucket that stays is noted as going until the next open");
                }
            }
            return Err(error);
        }
        reach(Point::BucketHalfGone);
        let mut result = Ok(());
        for shard in (0..self.shard_count()).filter(|shard| *shard != home) {
            let removed =
                self.on_shard(shard, move |shard| async move { shard.remove_bucket(bucket).await }).await;
            if let Err(error) = removed {
                // Nobody finds the bucket any more. But uploads in it that stay here make the next open take it for one
                // half made: that it is gone must not be promised.
                tracing::warn!(%error, shard, "a deleted bucket's record stays behind");
                result = Err(error.in_the_midst());
            }
        }
        result
    }

    /// Makes the shards agree about every bucket after a crash: called once all are open, before anybody else asks.
    ///
    /// Records that differ were being changed: the newest may have been acted upon where it was, and is put everywhere.
    ///
    /// A bucket without a record at home was being made or deleted. If anything is in it, and no shard noted that it goes, its making was
    /// under way and somebody already wrote to it on a shard that knew of it: that write was acknowledged, so the making is brought
    /// to its end. Else it goes, as if it had never been made or was deleted in full. One with a record at home stays, whoever noted that it
    /// was to go.
    ///
    /// # Errors
    /// A device failed.
    pub(crate) async fn settle_buckets(&self) -> Result<(), Error> {
        let mut known: BTreeMap<u16, BTreeMap<BucketId, BucketHere>> = BTreeMap::new();
        for shard in 0..self.shard_count() {
            let here = self.on_shard(shard, move |shard| async move { Ok(shard.buckets_here()) }).await;
            // A shard that is not to be had, or not sure of itself, is left out, and nothing is judged by what it lacks.
            if let Ok(Some(here)) = here {
                known.insert(shard, here.into_iter().map(|b| (b.record.bucket, b)).collect());
            }
        }
        let mut records: BTreeMap<BucketId, Vec<&BucketHere>> = BTreeMap::new();
        for bucket in known.values().flat_map(BTreeMap::values) {
            records.entry(bucket.record.bucket).or_default().push(bucket);
        }
        for (bucket, all) in records {
            let newest = |going: bool| {
                let of_kind = all.iter().map(|here| &here.record).filter(|record| record.is_going() == going);
                of_kind.rev().max_by_key(|record| record.revision)
            };
            let going = newest(true);
            let Some(record) = newest(false).or(going).cloned() else { continue };
            let in_use = all.iter().any(|here| here.has_versions || here.has_uploads && going.is_none());
            let home = self.0.placement.home_of(&record.name);
            let here = |shard: &u16| known.get(shard).and_then(|here| here.get(&bucket));
            let has = |shard: &u16| here(shard).is_some();
            let is_older = |shard: &u16| match here(shard) {
                Some(here) if here.record.is_going() => has(&home),
                Some(here) => here.record.revision < record.revision,
                None => false,
            };
            let older: Vec<u16> = known.keys().copied().filter(is_older).collect();
            if !older.is_empty() {
                tracing::info!(name = %record.name, "a bucket that was being changed is changed in full");
                self.put_record(&record, &older).await?;
                reach(Point::BucketSettling);
            }
            let Some(at_home) = known.get(&home) else { continue };
            if at_home.contains_key(&bucket) || (in_use && !name_is_taken(at_home, &record.name)) {
                let lacking: Vec<u16> = known.keys().copied().filter(|shard| !has(shard)).collect();
                if !lacking.is_empty() {
                    tracing::info!(name = %record.name, "a bucket that was being made is made in full");
                    self.put_record(&record, &lacking).await?;
                    reach(Point::BucketSettling);
                }
                continue;
            }
            if in_use {
                tracing::error!(name = %record.name, "objects of a bucket that is gone are left alone");
                continue;
            }
            tracing::info!(name = %record.name, "what was left of a bucket is removed");
            for shard in known.keys().copied().filter(has) {
                self.on_shard(shard, move |shard| async move { shard.remove_bucket(bucket).await }).await?;
                reach(Point::BucketSettling);
            }
        }
        Ok(())
    }
}

/// What is left of a bucket on shards that are not its home.
struct Left {
    bucket: BucketId,
    /// Whether a shard has noted that it is being removed.
    is_going: bool,
}

fn name_is_taken(at_home: &BTreeMap<BucketId, BucketHere>, name: &str) -> bool {
    at_home.values().any(|bucket| *bucket.record.name == *name)
}
