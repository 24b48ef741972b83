//! Writing an object from outside the cores.

use crate::{
    core_engine::CoreEngine,
    error::Error,
    object::{
        put::Put,
        types::{CommitOptions, ObjectInfo, PartInfo},
    },
    reactor::panics::Failures,
};
use bytes::Bytes;
use futures_channel::{mpsc, oneshot};
use futures_core::Stream;
use std::{pin::Pin, sync::Arc};

/// Pieces that may wait for the core: the caller makes one while the core writes another.
const PIECES_WAITING: usize = 1;

enum Command {
    Write(Bytes),
    Finish(Box<CommitOptions>, oneshot::Sender<Result<ObjectInfo, Error>>),
    FinishPart(Box<CommitOptions>, oneshot::Sender<Result<PartInfo, Error>>),
}

/// What a stream says of which a piece is missing.
const WRITE_DROPPED: Error = Error::InvalidArgument("a write was dropped before its bytes were taken");

/// An object or part being written from any thread. Dropping it before it is finished leaves nothing behind.
pub struct PutStream {
    commands: mpsc::Sender<Command>,
    failed: oneshot::Receiver<Error>,
    /// What the core failed with, once it was asked.
    failure: Option<Error>,
    /// Whether a write has begun whose bytes the core does not have.
    is_writing: bool,
    /// The core that writes, and where it is known whether it has failed.
    serving: (Arc<Failures>, usize),
}

impl PutStream {
    /// Runs the writing on the core.
    pub(super) fn start(engine: &CoreEngine, put: Put) -> PutStream {
        let (commands, receiver) = mpsc::channel(PIECES_WAITING);
        let (fail, failed) = oneshot::channel();
        engine
            .core()
            .spawn_own(async move {
                if let Err(error) = serve(put, receiver).await {
                    let _ = fail.send(error);
                }
            })
            .detach();
        let serving = (engine.failures().clone(), engine.core().index());
        PutStream { commands, failed, failure: None, is_writing: false, serving }
    }

    /// Adds bytes. They are copied into the engine's memory; a front end on the cores can do without (see
    /// [`crate::CoreEngine::put`]). Waits while the device is behind.
    ///
    /// # Errors
    /// What went wrong first, with this or an earlier piece: the same whenever it is asked again. See [`Put::push`] and [`Put::buffer`];
    /// [`Error::InvalidArgument`] if an earlier write was dropped.
    ///
    /// # Cancellation
    /// Dropping the future before it resolves loses the bytes: a piece of the body is missing then, and the stream is good for nothing but
    /// to be dropped. It says so whatever is asked of it, and commits nothing.
    pub async fn write(&mut self, bytes: Bytes) -> Result<(), Error> {
        self.check_whole()?;
        self.is_writing = true;
        let sent = self.send(Command::Write(bytes)).await;
        self.is_writing = false;
        sent
    }

    /// Commits the object: see [`Put::finish`].
    ///
    /// # Errors
    /// As there; and what went wrong with a piece.
    ///
    /// # Cancellation
    /// Dropping the future leaves the object there or not, whole either way.
    pub async fn finish(mut self, options: CommitOptions) -> Result<ObjectInfo, Error> {
        self.check_whole()?;
        let (sender, reply) = oneshot::channel();
        self.send(Command::Finish(Box::new(options), sender)).await?;
        match reply.await {
            Ok(result) => result,
            Err(_) => Err(self.failure().await),
        }
    }

    /// Commits the part: see [`Put::finish_part`].
    ///
    /// # Errors
    /// As there; and what went wrong with a piece.
    ///
    /// # Cancellation
    /// As [`PutStream::finish`].
    pub async fn finish_part(mut self, options: CommitOptions) -> Result<PartInfo, Error> {
        self.check_whole()?;
        let (sender, reply) = oneshot::channel();
        self.send(Command::FinishPart(Box::new(options), sender)).await?;
        match reply.await {
            Ok(result) => result,
            Err(_) => Err(self.failure().await),
        }
    }

    async fn send(&mut self, command: Command) -> Result<(), Error> {
        let ready = std::future::poll_fn(|cx| self.commands.poll_ready(cx)).await;
        if ready.is_err() || self.commands.start_send(command).is_err() {
            return Err(self.failure().await);
        }
        Ok(())
    }

    fn check_whole(&self) -> Result<(), Error> {
        if self.is_writing { Err(WRITE_DROPPED) } else { Ok(()) }
    }

    /// Why the core takes no more. It lets go of the commands before it says so: what it says is waited for. It says nothing
    /// only when it is gone itself.
    async fn failure(&mut self) -> Error {
        let failure = match self.failure.take() {
            Some(failure) => failure,
            None => (&mut self.failed).await.unwrap_or_else(|_| self.serving.0.why_gone(self.serving.1)),
        };
        self.failure.insert(failure).clone()
    }
}

async fn serve(mut put: Put, mut commands: mpsc::Receiver<Command>) -> Result<(), Error> {
    while let Some(command) = std::future::poll_fn(|cx| Pin::new(&mut commands).poll_next(cx)).await {
        match command {
            Command::Write(bytes) => put.write(&bytes).await?,
            Command::Finish(options, reply) => {
                let _ = reply.send(put.finish(*options).await);
                return Ok(());
            }
            Command::FinishPart(options, reply) => {
                let _ = reply.send(put.finish_part(*options).await);
                return Ok(());
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Resource;
    use futures_lite::future::{block_on, poll_once, zip};

    fn stream(commands: mpsc::Sender<Command>, failed: oneshot::Receiver<Error>) -> PutStream {
        PutStream { commands, failed, failure: None, is_writing: false, serving: Default::default() }
    }

    /// A stream whose core has let go of the commands, and where that core says why.
    fn let_go() -> (PutStream, oneshot::Sender<Error>) {
        let (commands, _) = mpsc::channel(PIECES_WAITING);
        let (fail, failed) = oneshot::channel();
        (stream(commands, failed), fail)
    }

    /// The core is between letting go of the commands and saying why.
    #[test]
    fn a_failure_said_late() {
        let (mut put, fail) = let_go();
        let said = async { fail.send(Error::Busy(Resource::Log)).unwrap() };
        let (written, ()) = block_on(zip(put.write(Bytes::from_static(b"bytes")), said));
        assert_eq!(written, Err(Error::Busy(Resource::Log)));
        // And whenever it is asked again.
        assert_eq!(block_on(put.write(Bytes::new())), Err(Error::Busy(Resource::Log)));
        assert_eq!(block_on(put.finish(CommitOptions::default())), Err(Error::Busy(Resource::Log)));
    }

    /// A write that is given up before the core has its bytes leaves a hole: nothing is committed then.
    #[test]
    fn a_write_that_was_dropped_is_not_passed_over() {
        let (commands, mut receiver) = mpsc::channel(PIECES_WAITING);
        let (_fail, failed) = oneshot::channel();
        let mut put = stream(commands, failed);
        while block_on(poll_once(Box::pin(put.write(Bytes::from_static(b"piece"))))).is_some() {}
        while let Ok(Command::Write(_)) = receiver.try_recv() {}
        let finished = block_on(poll_once(Box::pin(put.finish(CommitOptions::default()))));
        assert_eq!(finished.map(|info| info.map(drop)), Some(Err(WRITE_DROPPED)));
        assert!(receiver.try_recv().is_err(), "the core is told to commit");
    }

    #[test]
    fn a_core_that_is_gone() {
        let (put, fail) = let_go();
        drop(fail);
        assert_eq!(block_on(put.finish(CommitOptions::default())), Err(Error::Closed));
    }
}
