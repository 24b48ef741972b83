//! How much room there is, and that it is never lost: a store from which all was deleted takes objects of each kind again.

use super::{
    harm,
    operation::{CLIENTS, SHARED_BUCKET, own_bucket},
    run::{Checked, Run},
    world::WorldOptions,
};
use crate::{
    core_engine::CoreEngine,
    error::Error,
    layout::regions::{ANCHOR_REGION_BYTES, DEVICE_HEADER_BYTES, Region},
    object::types::{CommitOptions, Delete, ListOptions, PutOptions, VersionItem, Which},
};
use std::time::Duration;

/// How often a put is tried again that finds no room: cleaning takes its time.
const ATTEMPTS: u32 = 20;
/// How long until then.
const RETRY: Duration = Duration::from_millis(200);

impl WorldOptions {
    /// Whether a shard is full soon, for no fault of anybody's.
    pub fn has_little_room(&self) -> bool {
        u64::from(self.zones_max) * u64::from(self.zone_bytes) < 32 << 20
    }

    /// Where the log of a shard lies in its file or device, and how long that is when the store is made.
    pub(super) fn log_region(&self) -> (Region, u64) {
        if !self.raw {
            return (Region::log_file(self.zone_bytes), 0);
        }
        let zones = u64::from(self.zones_max) * u64::from(self.zone_bytes);
        let bytes = DEVICE_HEADER_BYTES + ANCHOR_REGION_BYTES + zones;
        let (window, _) = Region::window(bytes, 1, 0, self.zone_bytes).expect("it was made to hold one");
        (window, bytes)
    }
}

impl Run {
    /// Deletes all there is, and then puts an object that is packed into the log and one in extents on every shard. What the clients know
    /// is not true any more.
    pub(super) fn verify_room(&mut self) -> Checked {
        let buckets: Vec<String> = (0..CLIENTS).map(own_bucket).chain([SHARED_BUCKET.to_owned()]).collect();
        let emptied = self.ask(|engine| async move { empty(&engine, buckets).await })?;
        emptied.map_err(|error| format!("emptying the store: {error}"))?;
        self.world.come_to_rest().map_err(|stuck| stuck.to_string())?;
        let packed = self.world.options().packed_bytes_max as usize;
        let shards: Vec<u16> = (0..self.world.options().shards).collect();
        for bytes in [packed, packed + 1, packed] {
            let shards = shards.clone();
            let put = self.ask(move |engine| async move { put_everywhere(&engine, bytes, shards).await })?;
            let said = |(_, error)| format!("{bytes} bytes in a store from which all was deleted: {error}");
            put.map_err(said)?;
        }
        Ok(())
    }

    /// What [`Run::verify_others`] put and could not delete goes, now that all shards are open again.
    pub(super) fn sweep(&mut self) -> Checked {
        if !std::mem::take(&mut self.probed) {
            return Ok(());
        }
        for shard in 0..self.world.options().shards {
            let delete = move |engine: CoreEngine| async move {
                engine.delete(SHARED_BUCKET, Delete::current(&probe(&engine, shard))).await
            };
            self.ask(delete)?.map_err(|error| format!("deleting what was put beside others: {error}"))?;
        }
        Ok(())
    }

    /// The shards that nothing has befallen take an object of each kind, whatever has befallen the others: each put and delete is answered
    /// as if all were sound.
    pub(super) fn verify_others(&mut self) -> Checked {
        let harm = self.world.harm().clone();
        let sound = (0..self.world.options().shards).filter(|shard| !harm.may_have_stopped(*shard));
        let sound: Vec<u16> = sound.collect();
        let packed = self.world.options().packed_bytes_max as usize;
        for bytes in [packed, packed + 1] {
            let shards = sound.clone();
            let put = self.ask(move |engine| async move { put_everywhere(&engine, bytes, shards).await })?;
            let Err((shard, error)) = put else { continue };
            // It may be there, or come to be.
            self.probed = true;
            // The disk may go on to fail.
            let is_own = harm::shard_of(&error).is_none_or(|named| named == shard);
            if !(is_own && self.tolerance().excuses(&error)) {
                return Err(format!("{bytes} bytes on shard {shard}: {error}"));
            }
        }
        Ok(())
    }
}

/// The key on this shard that is put and deleted to see whether that works.
fn probe(engine: &CoreEngine, shard: u16) -> [u8; 4] {
    let mut keys = (0..u32::MAX).map(u32::to_be_bytes);
    keys.find(|key| engine.shard_of(SHARED_BUCKET, key) == shard).expect("each has some")
}

async fn empty(engine: &CoreEngine, buckets: Vec<String>) -> Result<(), Error> {
    engine.expire_uploads(u64::MAX).await?;
    for bucket in buckets {
        loop {
            let page = match engine.list_versions(&bucket, &ListOptions::default()).await {
                Err(Error::NoSuchBucket) => break,
                page => page?,
            };
            for item in page.items {
                let VersionItem::Version { key, kind, .. } = item else { continue };
                let delete = Delete { which: Which::Version(kind.version()), ..Delete::current(&key) };
                engine.delete(&bucket, delete).await?;
            }
            if page.next.is_none() {
                break;
            }
        }
    }
    engine.checkpoint().await
}

/// Puts an object on each of these shards, and deletes it. An error is said with the shard that was asked.
async fn put_everywhere(engine: &CoreEngine, bytes: usize, shards: Vec<u16>) -> Result<(), (u16, Error)> {
    for shard in shards {
        let key = probe(engine, shard);
        let mut attempt = 1;
        while let Err(error) = put(engine, &key, bytes).await {
            if !matches!(error, Error::Full { .. }) || attempt == ATTEMPTS {
                return Err((shard, error));
            }
            attempt += 1;
            engine.core().sleep(RETRY).await;
        }
        let deleted = engine.delete(SHARED_BUCKET, Delete::current(&key)).await;
        deleted.map_err(|error| (shard, error))?;
    }
    Ok(())
}

async fn put(engine: &CoreEngine, key: &[u8], bytes: usize) -> Result<(), Error> {
    let mut put = engine.put(SHARED_BUCKET, key, PutOptions { size: Some(bytes as u64) }).await?;
    put.write(&vec![3; bytes]).await?;
    put.finish(CommitOptions::default()).await.map(drop)
}
