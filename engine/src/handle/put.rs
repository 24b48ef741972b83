//! Writing an object from outside the cores.

use crate::{
    error::Error,
    object::{
        put::Put,
        types::{CommitOptions, ObjectInfo, PartInfo},
    },
    reactor::Core,
};
use bytes::Bytes;
use crossdock_transport::memory::BufferLease;
use futures_channel::{mpsc, oneshot};
use futures_core::Stream;
use std::pin::Pin;

/// Pieces that may wait for the core: the caller makes one while the core writes another.
const PIECES_WAITING: usize = 1;

enum Command {
    Write(Bytes),
    Finish(Box<CommitOptions>, oneshot::Sender<Result<ObjectInfo, Error>>),
    FinishPart(Box<CommitOptions>, oneshot::Sender<Result<PartInfo, Error>>),
}

/// An object or part being written from any thread. Dropping it before it is finished leaves nothing behind.
pub struct PutStream {
    commands: mpsc::Sender<Command>,
    failed: oneshot::Receiver<Error>,
}

impl PutStream {
    /// Runs the writing on the core.
    pub(super) fn start(core: &Core, put: Put) -> PutStream {
        let (commands, receiver) = mpsc::channel(PIECES_WAITING);
        let (fail, failed) = oneshot::channel();
        core.spawn(async move {
            if let Err(error) = serve(put, receiver).await {
                let _ = fail.send(error);
            }
        })
        .detach();
        PutStream { commands, failed }
    }

    /// Adds bytes. They are copied into the engine's memory; a front end on the cores can do without (see
    /// [`crate::CoreEngine::put`]). Waits while the device is behind.
    ///
    /// # Errors
    /// What went wrong with this or an earlier piece.
    pub async fn write(&mut self, bytes: Bytes) -> Result<(), Error> {
        self.send(Command::Write(bytes)).await
    }

    /// Commits the object: see [`Put::finish`].
    ///
    /// # Errors
    /// As there.
    pub async fn finish(mut self, options: CommitOptions) -> Result<ObjectInfo, Error> {
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
    /// As there.
    pub async fn finish_part(mut self, options: CommitOptions) -> Result<PartInfo, Error> {
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

    /// Why the core takes no more. It lets go of the commands before it says so: what it says is waited for. It says nothing
    /// only when it is gone itself.
    async fn failure(&mut self) -> Error {
        (&mut self.failed).await.unwrap_or(Error::Closed)
    }
}

async fn serve(mut put: Put, mut commands: mpsc::Receiver<Command>) -> Result<(), Error> {
    let mut tail: Option<BufferLease> = None;
    while let Some(command) = std::future::poll_fn(|cx| Pin::new(&mut commands).poll_next(cx)).await {
        match command {
            Command::Write(bytes) => put.write(&mut tail, &bytes).await?,
            Command::Finish(options, reply) => {
                if let Some(lease) = tail.take() {
                    put.push(lease).await?;
                }
                let _ = reply.send(put.finish(*options).await);
                return Ok(());
            }
            Command::FinishPart(options, reply) => {
                if let Some(lease) = tail.take() {
                    put.push(lease).await?;
                }
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
    use futures_lite::future::{block_on, zip};

    /// A stream whose core has let go of the commands, and where that core says why.
    fn let_go() -> (PutStream, oneshot::Sender<Error>) {
        let (commands, _) = mpsc::channel(PIECES_WAITING);
        let (fail, failed) = oneshot::channel();
        (PutStream { commands, failed }, fail)
    }

    /// The core is between letting go of the commands and saying why.
    #[test]
    fn a_failure_said_late() {
        let (mut put, fail) = let_go();
        let said = async { fail.send(Error::Busy(Resource::Log)).unwrap() };
        let (written, ()) = block_on(zip(put.write(Bytes::from_static(b"bytes")), said));
        assert_eq!(written, Err(Error::Busy(Resource::Log)));
        // Said once.
        assert_eq!(block_on(put.write(Bytes::new())), Err(Error::Closed));
    }

    #[test]
    fn a_core_that_is_gone() {
        let (put, fail) = let_go();
        drop(fail);
        assert_eq!(block_on(put.finish(CommitOptions::default())), Err(Error::Closed));
    }
}
