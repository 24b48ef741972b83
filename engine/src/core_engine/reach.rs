//! How one core's engine reaches the shards, its own and the others'.

use super::CoreEngine;
use crate::{error::Error, shard::Shard};
use std::{
    future::Future,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, ready},
};

impl CoreEngine {
    /// Runs `work` on the core that owns the shard.
    ///
    /// # Cancellation
    /// The work runs to its end all the same. What it answers is then lost: use [`CoreEngine::hold`] if it must not be.
    pub(crate) async fn on_shard<T, W, F>(&self, shard: u16, work: W) -> Result<T, Error>
    where
        T: Send + 'static,
        W: FnOnce(Rc<Shard>) -> F + Send + 'static,
        F: Future<Output = Result<T, Error>> + 'static,
    {
        let target = self.core_of(shard);
        let reply = self.core().call(target, move |core| async move {
            let engine = CoreEngine::of(&core).ok_or(Error::Closed)?;
            match engine.0.shards.get(usize::from(shard)).cloned().flatten() {
                Some(shard) => work(shard).await,
                None => Err(Error::ShardUnavailable { shard }),
            }
        });
        reply.await.unwrap_or(Err(Error::Closed))
    }

    /// As [`CoreEngine::on_shard`], for work whose result is something of the shard's: a caller that goes away before
    /// it has the result never learns of it, so it is given back in the caller's stead.
    pub(crate) fn hold<T, W, F>(&self, shard: u16, work: W, give_back: fn(&Shard, T)) -> Holding<T>
    where
        T: Send + 'static,
        W: FnOnce(Rc<Shard>) -> F + Send + 'static,
        F: Future<Output = Result<T, Error>> + 'static,
    {
        let engine = self.clone();
        let reply = Box::pin(async move { engine.on_shard(shard, work).await });
        Holding { engine: self.clone(), shard, reply: Some(reply), give_back }
    }

    /// Sends work that nobody waits for.
    pub(crate) fn send_to_shard(&self, shard: u16, work: impl FnOnce(&Shard) + Send + 'static) {
        self.core().send(self.core_of(shard), move |core| {
            let engine = CoreEngine::of(core);
            let shard = engine.and_then(|engine| engine.0.shards.get(usize::from(shard)).cloned().flatten());
            if let Some(shard) = shard {
                work(&shard);
            }
        });
    }
}

type Reply<T> = Pin<Box<dyn Future<Output = Result<T, Error>>>>;

/// Waits for something of a shard's.
pub(crate) struct Holding<T: Send + 'static> {
    engine: CoreEngine,
    shard: u16,
    reply: Option<Reply<T>>,
    give_back: fn(&Shard, T),
}

impl<T: Send + 'static> Future for Holding<T> {
    type Output = Result<T, Error>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let reply = self.reply.as_mut().expect("not polled after it was ready");
        let result = ready!(reply.as_mut().poll(cx));
        self.reply = None;
        Poll::Ready(result)
    }
}

impl<T: Send + 'static> Drop for Holding<T> {
    fn drop(&mut self) {
        let Some(reply) = self.reply.take() else { return };
        let (engine, shard, give_back) = (self.engine.clone(), self.shard, self.give_back);
        let core = engine.core().clone();
        core.spawn(async move {
            if let Ok(held) = reply.await {
                engine.send_to_shard(shard, move |shard| give_back(shard, held));
            }
        })
        .detach();
    }
}
