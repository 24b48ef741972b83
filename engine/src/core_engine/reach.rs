//! How one core's engine reaches the shards, its own and the others'.

use super::CoreEngine;
use crate::{error::Error, shard::Shard};
use futures_channel::oneshot;
use std::{
    fmt,
    future::Future,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, ready},
};

impl CoreEngine {
    /// As [`CoreEngine::on_core`], for work that should end early when nobody waits for its result any more: it is told so by
    /// [`Caller`].
    ///
    /// # Errors
    /// As there.
    ///
    /// # Cancellation
    /// The work runs until it ends by itself.
    pub async fn on_core_for<T, W, F>(&self, core: usize, work: W) -> Result<T, Error>
    where
        T: Send + 'static,
        W: FnOnce(CoreEngine, Caller) -> F + Send + 'static,
        F: Future<Output = T> + 'static,
    {
        let (waits, caller) = oneshot::channel::<()>();
        let result = self.on_core(core, move |engine| work(engine, Caller(caller))).await;
        drop(waits);
        result
    }

    /// The shard, if this core owns it; an error if nobody has it.
    pub(crate) fn own_shard(&self, shard: u16) -> Result<Option<&Rc<Shard>>, Error> {
        if self.core_of(shard) != self.core().index() {
            return Ok(None);
        }
        let own = self.0.shards.get(usize::from(shard)).and_then(Option::as_ref);
        own.map(Some).ok_or(Error::ShardUnavailable { shard })
    }

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
        if let Some(own) = self.own_shard(shard)? {
            return self.core().run_through(work(own.clone())).await;
        }
        let reply = self.core().call(self.core_of(shard), move |core| async move {
            let engine = CoreEngine::of(&core).ok_or(Error::Closed)?;
            match engine.own_shard(shard)?.cloned() {
                Some(shard) => work(shard).await,
                None => Err(Error::ShardUnavailable { shard }),
            }
        });
        reply.await.unwrap_or_else(|_| Err(self.why_gone(self.core_of(shard))))
    }

    /// As [`CoreEngine::on_shard`], for work that waits for nothing: it needs no task, and on this core no message.
    pub(crate) async fn ask_shard<T, W>(&self, shard: u16, work: W) -> Result<T, Error>
    where
        T: Send + 'static,
        W: FnOnce(&Shard) -> Result<T, Error> + Send + 'static,
    {
        if let Some(own) = self.own_shard(shard)? {
            return self.core().section(|| work(own));
        }
        let reply = self.core().ask(self.core_of(shard), move |core| {
            let engine = CoreEngine::of(core).ok_or(Error::Closed)?;
            engine.own_shard(shard)?.map_or(Err(Error::ShardUnavailable { shard }), |shard| work(shard))
        });
        reply.await.unwrap_or_else(|_| Err(self.why_gone(self.core_of(shard))))
    }

    /// As [`CoreEngine::ask_shard`], for work whose result is something of the shard's; see [`CoreEngine::hold`].
    pub(crate) async fn ask_and_hold<T, W>(
        &self,
        shard: u16,
        work: W,
        give_back: fn(&Shard, T),
    ) -> Result<T, Error>
    where
        T: Send + 'static,
        W: FnOnce(&Shard) -> Result<T, Error> + Send + 'static,
    {
        if let Some(own) = self.own_shard(shard)? {
            return self.core().section(|| work(own));
        }
        let engine = self.clone();
        let reply = Box::pin(async move { engine.ask_shard(shard, work).await });
        Holding { engine: self.clone(), shard, reply: Some(reply), give_back }.await
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
            if let Some(Ok(Some(shard))) = engine.as_ref().map(|engine| engine.own_shard(shard)) {
                work(shard);
            }
        });
    }
}

/// Whoever waits for work that runs on another core. Resolves when nobody does any more; not to be polled again then.
pub struct Caller(oneshot::Receiver<()>);

impl Future for Caller {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        // Nothing is ever sent: what is waited for is that the other end goes away.
        Pin::new(&mut self.0).poll(cx).map(drop)
    }
}

impl fmt::Debug for Caller {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Caller")
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
        core.spawn_own(async move {
            if let Ok(held) = reply.await {
                engine.send_to_shard(shard, move |shard| give_back(shard, held));
            }
        })
        .detach();
    }
}
