//! What a client runs on: sockets, waiting and time, from whichever runtime the caller has, or from none.

use super::ClientError;
use futures_io::{AsyncRead, AsyncWrite};
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    net::{RecvFlags, recv},
};
use std::{
    future::{Future, poll_fn},
    io,
    net::{TcpStream, ToSocketAddrs},
    os::fd::BorrowedFd,
    pin::{Pin, pin},
    task::{Context, Poll, Waker},
    time::Duration,
};

/// How long the server may keep silent, beside the time that a transfer of its may take.
pub(super) const SILENCE: Duration = Duration::from_secs(30);

/// Sockets, waiting and time. Everything stays on the thread that asks, so nothing here has to be `Send`.
pub trait Runtime {
    /// A connection. The traits are those that `smol`, `async-std` and, by an adapter, `tokio` speak.
    type Stream: AsyncRead + AsyncWrite + Unpin;

    /// Connects to `host`, a name or an address, and a port. Small writes are not to be held back (`TCP_NODELAY`).
    fn connect(&self, host: &str) -> impl Future<Output = io::Result<Self::Stream>>;

    /// Resolves when the descriptor is readable, or earlier. It is not read from.
    fn readable(&self, descriptor: BorrowedFd<'_>) -> impl Future<Output = io::Result<()>>;

    /// Resolves after that time.
    fn sleep(&self, time: Duration) -> impl Future<Output = ()>;

    /// From now on reads of the stream may take so long, where the runtime limits them by itself. One that does not needs nothing.
    ///
    /// # Errors
    /// The limit can not be set.
    fn allow_silence(&self, stream: &mut Self::Stream, time: Duration) -> io::Result<()> {
        let _ = (stream, time);
        Ok(())
    }

    /// Whether nothing has come on a connection that is kept for the next request: not even that the server closed it. Does not wait.
    fn is_quiet(&self, stream: &mut Self::Stream) -> bool {
        let poll = Pin::new(stream).poll_read(&mut Context::from_waker(Waker::noop()), &mut [0]);
        poll.is_pending()
    }
}

/// No runtime: each wait blocks the thread, and nothing is ever pending. A future over it is done when it has been polled once.
#[derive(Clone, Copy, Debug, Default)]
pub struct Blocking;

/// A connection that blocks.
#[derive(Debug)]
pub struct BlockingStream {
    socket: TcpStream,
    /// How long a read may take, as the kernel was told last.
    silence: Duration,
}

impl Runtime for Blocking {
    type Stream = BlockingStream;

    async fn connect(&self, host: &str) -> io::Result<BlockingStream> {
        let stream = connect_within(host, SILENCE)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(SILENCE))?;
        stream.set_write_timeout(Some(SILENCE))?;
        Ok(BlockingStream { socket: stream, silence: SILENCE })
    }

    async fn readable(&self, descriptor: BorrowedFd<'_>) -> io::Result<()> {
        match poll(&mut [PollFd::new(&descriptor, PollFlags::IN)], Some(&BLOCKING_STEP)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    fn sleep(&self, time: Duration) -> impl Future<Output = ()> {
        // It is only ever waited for beside something that blocks, for up to a step each time: so time is counted in steps.
        let mut left = time.as_millis() / STEP_MS;
        poll_fn(move |_| match left.checked_sub(1) {
            Some(less) => {
                left = less;
                Poll::Pending
            }
            None => Poll::Ready(()),
        })
    }

    fn allow_silence(&self, stream: &mut BlockingStream, time: Duration) -> io::Result<()> {
        // Most requests are as the one before: no call to the kernel then.
        if stream.silence != time {
            stream.socket.set_read_timeout(Some(time))?;
            stream.silence = time;
        }
        Ok(())
    }

    fn is_quiet(&self, stream: &mut BlockingStream) -> bool {
        // Before every request on a connection that was kept: one call to the kernel, where two more would make the socket blocking again.
        let flags = RecvFlags::PEEK | RecvFlags::DONTWAIT;
        matches!(recv(&stream.socket, &mut [0; 1], flags), Err(rustix::io::Errno::AGAIN))
    }
}

/// A connection to the first address of that name which answers, each of them asked for its part of the time.
fn connect_within(host: &str, time: Duration) -> io::Result<TcpStream> {
    let addresses: Vec<_> = host.to_socket_addrs()?.collect();
    let part = time / u32::try_from(addresses.len()).unwrap_or(u32::MAX).max(1);
    let mut refusal = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    for address in addresses {
        match TcpStream::connect_timeout(&address, part) {
            Ok(stream) => return Ok(stream),
            Err(error) => refusal = error,
        }
    }
    Err(refusal)
}

/// How long a look at a descriptor may block.
const STEP_MS: u128 = 100;
const BLOCKING_STEP: Timespec = Timespec { tv_sec: 0, tv_nsec: 1_000_000 * STEP_MS as i64 };

impl AsyncRead for BlockingStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        target: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        Poll::Ready(in_time(|| io::Read::read(&mut self.socket, target)))
    }
}

impl AsyncWrite for BlockingStream {
    fn poll_write(mut self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Poll::Ready(in_time(|| io::Write::write(&mut self.socket, bytes)))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(self.socket.shutdown(std::net::Shutdown::Write))
    }
}

/// A limit of a socket shows as `WouldBlock`. A signal ends a call on a socket that has one, whatever its handler asked for
/// (<https://man7.org/linux/man-pages/man7/signal.7.html>, "Interruption of system calls"): the call is made again.
fn in_time(mut call: impl FnMut() -> io::Result<usize>) -> io::Result<usize> {
    loop {
        match call() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                return Err(io::ErrorKind::TimedOut.into());
            }
            result => return result,
        }
    }
}

/// The result of a future over [`Blocking`].
///
/// # Panics
/// If it waits for something else.
pub(super) fn blocked_on<T>(future: impl Future<Output = T>) -> T {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(value) => value,
        Poll::Pending => panic!("nothing of a runtime that blocks is ever pending"),
    }
}

/// Waits for `future`, but no longer than the server may keep silent.
pub(super) async fn in_silence<R: Runtime, T>(
    runtime: &R,
    silence: Duration,
    future: impl Future<Output = io::Result<T>>,
) -> Result<T, ClientError> {
    let (mut future, mut limit) = (pin!(future), pin!(runtime.sleep(silence)));
    poll_fn(|cx| match future.as_mut().poll(cx) {
        Poll::Ready(result) => Poll::Ready(result.map_err(ClientError::Connection)),
        Poll::Pending => {
            limit.as_mut().poll(cx).map(|()| Err(ClientError::Connection(io::ErrorKind::TimedOut.into())))
        }
    })
    .await
}

/// Runs all of them, `limit` at a time, and gives what they came to in their order. After the first that fails none is begun any more, and
/// those that run come to their end: the results are of as many from the front as were begun.
pub(super) async fn side_by_side<T, E, F: Future<Output = Result<T, E>>>(
    limit: usize,
    futures: impl IntoIterator<Item = F>,
) -> Vec<Result<T, E>> {
    let mut waiting = futures.into_iter().enumerate();
    let mut running: Vec<(usize, Pin<Box<F>>)> = Vec::new();
    let mut results: Vec<Option<Result<T, E>>> = Vec::new();
    let mut has_failed = false;
    poll_fn(|cx| {
        loop {
            while !has_failed
                && running.len() < limit.max(1)
                && let Some((index, future)) = waiting.next()
            {
                results.push(None);
                running.push((index, Box::pin(future)));
            }
            let before = running.len();
            running.retain_mut(|(index, future)| match future.as_mut().poll(cx) {
                Poll::Ready(value) => {
                    has_failed |= value.is_err();
                    if let Some(place) = results.get_mut(*index) {
                        *place = Some(value);
                    }
                    false
                }
                Poll::Pending => true,
            });
            if running.len() == before {
                return if before == 0 { Poll::Ready(()) } else { Poll::Pending };
            }
        }
    })
    .await;
    results.into_iter().flatten().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;

    #[test]
    fn a_signal_fails_nothing() {
        // Shows that a call which a signal ended is made again, and that a limit is told as one.
        let mut calls = 0;
        let result = in_time(|| {
            calls += 1;
            if calls < 3 { Err(io::ErrorKind::Interrupted.into()) } else { Ok(7) }
        });
        assert_eq!((result.unwrap(), calls), (7, 3));
        let late = in_time(|| Err(io::ErrorKind::WouldBlock.into()));
        assert_eq!(late.unwrap_err().kind(), io::ErrorKind::TimedOut);
    }

    #[test]
    fn so_many_run_at_a_time_and_results_are_in_order() {
        // Shows that no more run at once than may, that all come to an end, whichever is the first, and in whose place.
        let (running, most) = (Cell::new(0usize), Cell::new(0usize));
        let one = |number: usize| {
            let (running, most) = (&running, &most);
            async move {
                running.set(running.get() + 1);
                most.set(most.get().max(running.get()));
                for _ in 0..(number * 7) % 5 {
                    let mut yielded = false;
                    poll_fn(|cx| {
                        cx.waker().wake_by_ref();
                        if std::mem::replace(&mut yielded, true) { Poll::Ready(()) } else { Poll::Pending }
                    })
                    .await;
                }
                running.set(running.get() - 1);
                Ok::<_, ()>(number)
            }
        };
        let mut all = pin!(side_by_side(3, (0..20).map(one)));
        let results = loop {
            if let Poll::Ready(results) = all.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
                break results;
            }
        };
        assert_eq!(results, (0..20).map(Ok).collect::<Vec<_>>());
        assert_eq!(most.get(), 3);
        let numbers = [1, 2].map(|number| async move { Ok::<_, ()>(number) });
        assert_eq!(blocked_on(side_by_side(0, numbers)), [Ok(1), Ok(2)]);
    }

    #[test]
    fn nothing_is_begun_after_a_failure() {
        // Shows that of many the first failure is the last to be begun, and that those beside it come to their end.
        let (begun, ended) = (Cell::new(0), Cell::new(0));
        let one = |number: usize| {
            let (begun, ended) = (&begun, &ended);
            async move {
                begun.set(begun.get() + 1);
                let mut yielded = number == 1;
                poll_fn(
                    |_| if std::mem::replace(&mut yielded, true) { Poll::Ready(()) } else { Poll::Pending },
                )
                .await;
                ended.set(ended.get() + 1);
                if number == 1 { Err("refused") } else { Ok(number) }
            }
        };
        let mut all = pin!(side_by_side(3, (0..1000).map(one)));
        let results = loop {
            if let Poll::Ready(results) = all.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
                break results;
            }
        };
        assert_eq!(results, [Ok(0), Err("refused"), Ok(2)]);
        assert_eq!((begun.get(), ended.get()), (3, 3));
    }
}
