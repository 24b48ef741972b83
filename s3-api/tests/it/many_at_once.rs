//! The client over a runtime, many requests at a time.

use crate::{
    bench::{ALICE, Bench},
    client::session,
};
use crossdock_s3::{
    client::{AsyncClient, Client, ClientError, Credentials, Fallback, Parallel, Policy, Runtime, Ways},
    protocol::http::Method,
};
use crossdock_transport::shm::ShmLink;
use futures_lite::future::{block_on, poll_once, yield_now, zip};
use std::{
    cell::Cell,
    future::Future,
    io::{self, Read, Write},
    net::TcpStream,
    os::fd::BorrowedFd,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll},
    time::Duration,
};

/// A runtime without a reactor: whoever waits asks again, and lets the others run between.
#[derive(Clone, Default)]
pub(crate) struct Asking {
    /// Connections that are open now, and how many were at a time.
    pub(crate) open: Rc<Cell<(usize, usize)>>,
}

pub(crate) struct Stream(TcpStream, Rc<Cell<(usize, usize)>>);

impl Drop for Stream {
    fn drop(&mut self) {
        let (now, most) = self.1.get();
        self.1.set((now - 1, most));
    }
}

fn asked<T>(result: io::Result<T>, cx: &Context<'_>) -> Poll<io::Result<T>> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
            cx.waker().wake_by_ref();
            Poll::Pending
        }
        result => Poll::Ready(result),
    }
}

impl futures_lite::AsyncRead for Stream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        target: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        asked(self.0.read(target), cx)
    }
}

impl futures_lite::AsyncWrite for Stream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        // A few at a time, so that no request goes out in one piece.
        asked(self.0.write(&bytes[..bytes.len().min(100_000)]), cx)
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

impl Runtime for Asking {
    type Stream = Stream;

    async fn connect(&self, host: &str) -> io::Result<Stream> {
        let stream = TcpStream::connect(host)?;
        stream.set_nodelay(true)?;
        stream.set_nonblocking(true)?;
        let (now, most) = self.open.get();
        self.open.set((now + 1, most.max(now + 1)));
        Ok(Stream(stream, self.open.clone()))
    }

    async fn readable(&self, _: BorrowedFd<'_>) -> io::Result<()> {
        yield_now().await;
        Ok(())
    }

    fn sleep(&self, _: Duration) -> impl Future<Output = ()> {
        // Nothing here may take so long that it matters.
        std::future::pending()
    }
}

pub(crate) fn client(bench: &Bench, runtime: &Asking, policy: Policy) -> AsyncClient<Asking> {
    let (key, secret) = ALICE;
    let credentials =
        Credentials { access_key: key.into(), secret: secret.into(), region: "us-east-1".into() };
    AsyncClient::new(runtime.clone(), &bench.host(), credentials, crate::bench::now).policy(policy)
}

fn blocking(bench: &Bench, policy: Policy) -> Client {
    crate::client::client(&bench.host(), policy)
}

const BYTES: usize = (11 << 20) + 17;
const PARALLEL: Parallel = Parallel { part_bytes: 5 << 20, in_flight: 3 };

fn fill(buffer: &mut [u8]) {
    buffer.iter_mut().zip(0u32..).for_each(|(byte, at)| *byte = (at.wrapping_mul(2_654_435_761) >> 11) as u8);
}

#[test]
fn parts_and_ranges_go_side_by_side() {
    // Shows an upload and a download of many requests at a time over one exposure each, byte exact, over the transport, over HTTP, and
    // by the client that blocks; and that each result says which way its parts went.
    let bench = Bench::new();
    let mut first = blocking(&bench, Policy::Require);
    let session = session(&bench, &mut first);
    first.exchange(Method::Put, "/bucket", &[], b"").unwrap();
    let mut buffer = session.buffer(BYTES + 10).unwrap();
    fill(&mut buffer);
    let expected = buffer.to_vec();
    for (policy, ways) in [
        (Policy::Require, Ways { over_transport: 3, over_http: 0, fallback: None }),
        (Policy::Off, Ways { over_transport: 0, over_http: 3, fallback: Some(Fallback::Off) }),
    ] {
        let runtime = Asking::default();
        let client = client(&bench, &runtime, policy);
        let headers = [("x-amz-meta-a", "b")];
        let uploaded = client.upload_from(("bucket", "key"), &headers, buffer, BYTES, PARALLEL);
        let uploaded = block_on(uploaded).unwrap();
        assert_eq!(uploaded.ways, ways);
        assert!(uploaded.buffer[..] == expected[..], "a source is not changed");
        buffer = uploaded.buffer;
        buffer.fill(0xa5);
        let gathered = block_on(client.gather_into("bucket", "key", buffer, PARALLEL)).unwrap();
        assert_eq!((gathered.bytes, gathered.ways), (BYTES, ways));
        assert_eq!(gathered.head.get("x-amz-meta-a"), Some("b"));
        assert!(gathered.buffer[..BYTES] == expected[..BYTES]);
        assert_eq!(gathered.buffer[BYTES..], [0xa5; 10], "behind the object");
        assert_eq!(runtime.open.get().1, 3, "as many at a time as were wanted");
        buffer = gathered.buffer;
        buffer.copy_from_slice(&expected);
    }
    let mut plain = blocking(&bench, Policy::Require);
    let uploaded = plain.upload_from(("bucket", "other"), &[], buffer, BYTES, PARALLEL).unwrap();
    let gathered = plain.gather_into("bucket", "other", uploaded.buffer, PARALLEL).unwrap();
    assert_eq!((gathered.bytes, gathered.ways.over_transport), (BYTES, 3));
    assert!(gathered.buffer[..] == expected[..]);
    assert_eq!(session.quarantined_bytes(), 0);
}

#[test]
fn what_fails_of_many_leaves_nothing() {
    // Shows that an upload of which a part fails makes no object and leaves no upload behind, that an object which does not fit is told,
    // and that a session that is none sends everything over HTTP, or nothing if that is not allowed.
    let bench = Bench::new();
    let mut first = blocking(&bench, Policy::Require);
    let session = session(&bench, &mut first);
    first.exchange(Method::Put, "/bucket", &[], b"").unwrap();
    let runtime = Asking::default();
    let over = client(&bench, &runtime, Policy::Prefer);
    let mut buffer = session.buffer(BYTES).unwrap();
    fill(&mut buffer);
    // Parts but the last have to be of 5 MiB, which is found out at the end.
    let small = Parallel { part_bytes: 1 << 20, in_flight: 4 };
    let failed = block_on(over.upload_from(("bucket", "key"), &[], buffer, BYTES, small)).unwrap_err();
    assert!(
        matches!(&failed.error, ClientError::Refused { code, .. } if code == "EntityTooSmall"),
        "{failed:?}"
    );
    assert_eq!(first.exchange(Method::Head, "/bucket/key", &[], b"").unwrap().0.status, 404);
    let (_, uploads) = first.exchange(Method::Get, "/bucket?uploads=", &[], b"").unwrap();
    assert!(!String::from_utf8(uploads).unwrap().contains("<UploadId>"));
    first.exchange(Method::Put, "/bucket/big", &[], &[1; 100_000]).unwrap();
    let small = session.buffer(99_999).unwrap();
    let failed = block_on(over.gather_into("bucket", "big", small, PARALLEL)).unwrap_err();
    assert!(matches!(failed.error, ClientError::TooLarge { bytes: 100_000 }));
    // The server forgets the session, as after a restart.
    first.disconnect(session.link().session().unwrap()).unwrap();
    drop(failed);
}

#[test]
fn a_call_that_is_dropped_gives_its_buffer_back_to_the_session() {
    // Shows that giving up in the middle of a request puts its buffer in quarantine, and that it is free again once the server let go of it,
    // while other calls on the same session go on.
    let bench = Bench::new();
    let mut first = blocking(&bench, Policy::Require);
    let session = session(&bench, &mut first);
    first.exchange(Method::Put, "/bucket", &[], b"").unwrap();
    let mut buffer = session.buffer(BYTES).unwrap();
    fill(&mut buffer);
    let expected = buffer.to_vec();
    drop(first.put_from("bucket", "key", &[], buffer, BYTES).unwrap());
    let runtime = Asking::default();
    let over = client(&bench, &runtime, Policy::Require);
    for polls in [1, 2, 5, 50] {
        let mut call = Box::pin(over.get_into("bucket", "key", None, session.buffer(BYTES).unwrap()));
        let beside = async {
            let got =
                over.get_into("bucket", "key", Some(5..1000), session.buffer(1000).unwrap()).await.unwrap();
            assert!(got.buffer[..got.bytes] == expected[5..1000]);
        };
        let give_up = async {
            for _ in 0..polls {
                if block_on(poll_once(&mut call)).is_some() {
                    break;
                }
            }
            drop(call);
        };
        block_on(zip(give_up, beside));
        // All of the memory is one's own again: 32 MiB hold two of these.
        crate::faults::stage::wait_until("nothing is in quarantine", || {
            session.poll();
            session.quarantined_bytes() == 0
        });
    }
    let _: &ShmLink = session.link();
    assert!(session.buffer(BYTES).is_ok() && session.is_open());
}
