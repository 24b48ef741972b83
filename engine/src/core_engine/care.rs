//! Looking after a running store: its end, checkpoints, the scrub, and what it says of itself.

use super::{CoreEngine, Flag};
use crate::{
    error::Error,
    shard::{
        Shard, ShardStatistics, SpaceUse,
        scrub::{ScrubProgress, ScrubRate},
    },
};
use std::rc::Rc;

impl CoreEngine {
    /// Resolves when the engine is asked to close: a front end on this core then stops taking requests and returns.
    pub async fn closing(&self) {
        self.0.stop.raised().await;
    }

    pub(crate) fn stop(&self) -> &Flag {
        &self.0.stop
    }

    pub(crate) fn opened(&self) -> &Flag {
        &self.0.opened
    }

    /// This core's own shards.
    pub(crate) fn own_shards(&self) -> impl Iterator<Item = &Rc<Shard>> {
        self.0.shards.iter().flatten()
    }

    /// Takes a checkpoint of every shard, so that the next open replays little.
    ///
    /// # Errors
    /// A full or failing device.
    pub async fn checkpoint(&self) -> Result<(), Error> {
        for shard in 0..self.shard_count() {
            self.on_shard(shard, move |shard| async move { shard.checkpoint().await }).await?;
        }
        Ok(())
    }

    /// Scrubs every shard, one after the other: a whole tour of each, or the rest of one that was interrupted. For a tour in the
    /// background see [`crate::Builder::scrub`]. What is wrong comes by [`CoreEngine::corruption_events`].
    ///
    /// # Errors
    /// [`Error::ShardUnavailable`], [`Error::Closed`].
    ///
    /// # Cancellation
    /// The shard that is being scrubbed is scrubbed to its end.
    pub async fn scrub(&self, rate: ScrubRate) -> Result<Vec<ScrubProgress>, Error> {
        let mut tours = Vec::new();
        for shard in 0..self.shard_count() {
            tours.push(self.on_shard(shard, move |shard| async move { shard.scrub(rate).await }).await?);
        }
        Ok(tours)
    }

    /// How far the scrub of each shard is that can be reached.
    pub async fn scrub_progress(&self) -> Vec<ScrubProgress> {
        let mut all = Vec::new();
        for shard in 0..self.shard_count() {
            all.extend(self.ask_shard(shard, |shard| Ok(shard.scrub_progress())).await);
        }
        all
    }

    /// How full the store is: the sum over the shards that can be reached. Costs a message to each core.
    ///
    /// # Errors
    /// [`Error::Closed`], or [`Error::ShardUnavailable`] when none can be.
    pub async fn space(&self) -> Result<SpaceUse, Error> {
        let mut space = SpaceUse::default();
        let mut last = Ok(());
        for shard in 0..self.shard_count() {
            match self.ask_shard(shard, |shard| Ok(shard.space_use())).await {
                Ok(here) => space.add(&here),
                Err(error) => last = Err(error),
            }
        }
        if space.shards > 0 { Ok(space) } else { last.map(|()| space) }
    }

    /// Numbers of every shard that can be reached.
    pub async fn statistics(&self) -> Vec<ShardStatistics> {
        let mut all = Vec::new();
        for shard in 0..self.shard_count() {
            all.extend(self.ask_shard(shard, |shard| Ok(shard.statistics())).await);
        }
        all
    }
}
