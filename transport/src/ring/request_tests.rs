//! What results mean, for those that no kernel gives on demand.
#![allow(clippy::unwrap_used)]

use super::*;
use crate::memory::{Arena, ArenaOptions, BufferLease, PagePolicy};
use crate::operation::Pending;
use std::rc::Weak;

struct Bench {
    arena: Arena,
    pool: crate::memory::Pool,
    file: RingFile,
}

impl Bench {
    fn new() -> Bench {
        let arena =
            Arena::map(&ArenaOptions { bytes: 8 << 20, pools: 1, pages: PagePolicy::Plain, prefault: false })
                .unwrap();
        let null = std::fs::File::open("/dev/null").unwrap();
        Bench { pool: arena.pool(0), arena, file: RingFile::new(null.into(), None, Weak::new()) }
    }

    fn lease(&self, bytes: usize) -> BufferLease {
        let mut lease = self.pool.try_acquire(bytes).unwrap();
        lease.set_len(bytes);
        lease
    }

    fn post(&self, memory: Memory, action: Action, total: usize) -> (Request, Pending) {
        let queue = Queue::new(1);
        let (id, pending) = queue.post(queue.try_slot().unwrap(), memory);
        (Request::new(queue, id, action, total), pending)
    }

    fn read(&self, bytes: usize) -> (Request, Pending) {
        let action = Action::Read { file: self.file.clone(), offset: 0, at: 100 };
        self.post(Memory::Lease(self.lease(8192)), action, bytes)
    }

    fn socket(&self) -> Rc<Socket> {
        Rc::new(Socket::new(std::fs::File::open("/dev/null").unwrap().into()))
    }

    fn send(&self, pieces: &[usize]) -> (Request, Pending) {
        let mut source = ScatterList::new();
        pieces.iter().for_each(|bytes| source.push(self.lease(*bytes).freeze()));
        let total = source.bytes();
        self.post(Memory::None, Action::Send { socket: self.socket(), source }, total)
    }
}

fn error(errno: i32) -> Step {
    Step::Done(Err(OsError(errno)))
}

#[test]
fn a_short_read_is_continued_where_it_stopped() {
    // Shows that the rest goes to the bytes behind those that came, and that the end of the file ends it.
    let bench = Bench::new();
    let (mut read, _pending) = bench.read(4096);
    read.gather();
    let start = read.pieces[0].iov_base as usize;
    assert_eq!((start - bench.arena.base() as usize) % 4096, 100);
    assert_eq!(read.pieces[0].iov_len, 4096);
    assert_eq!(read.progress(1000), Step::Again);
    read.gather();
    assert_eq!((read.pieces[0].iov_base as usize, read.pieces[0].iov_len), (start + 1000, 3096));
    assert_eq!(read.progress(0), Step::Done(Ok(1000)));
}

#[test]
fn an_interrupted_operation_is_repeated_and_one_not_ready_waits() {
    // Shows that neither loses what was done, and that a cancelled operation does neither.
    let bench = Bench::new();
    let (mut read, _pending) = bench.read(4096);
    assert_eq!(read.progress(96), Step::Again);
    assert_eq!(read.progress(-libc::EINTR), Step::Again);
    assert_eq!(read.progress(-libc::EAGAIN), Step::Wait);
    assert_eq!(read.progress(4000), Step::Done(Ok(4096)));
    for errno in [libc::EINTR, libc::EAGAIN] {
        let (mut read, _pending) = bench.read(4096);
        read.cancelled = true;
        assert_eq!(read.progress(-errno), error(libc::ECANCELED));
    }
}

#[test]
fn a_rest_that_can_not_be_asked_for_ends_with_the_count() {
    // Shows what becomes of the unaligned rest under O_DIRECT, and that EINVAL at the start is an error.
    let bench = Bench::new();
    let (mut read, _pending) = bench.read(4096);
    assert_eq!(read.progress(-libc::EINVAL), error(libc::EINVAL));
    let (mut read, _pending) = bench.read(4096);
    assert_eq!(read.progress(904), Step::Again);
    assert_eq!(read.progress(-libc::EINVAL), Step::Done(Ok(904)));
    let (mut read, _pending) = bench.read(4096);
    assert_eq!(read.progress(904), Step::Again);
    assert_eq!(read.progress(-libc::EIO), error(libc::EIO), "an error is not hidden by what came before");
}

#[test]
fn a_short_send_goes_on_inside_a_piece() {
    // Shows which pieces are left after each short count, and that a send of nothing is no endless loop.
    let bench = Bench::new();
    let (mut send, _pending) = bench.send(&[10, 5000, 1]);
    send.gather();
    let lengths = |request: &Request| request.pieces.iter().map(|piece| piece.iov_len).collect::<Vec<_>>();
    assert_eq!(lengths(&send), [10, 5000, 1]);
    let second = send.pieces[1].iov_base as usize;
    for (count, left) in [(10, &[5000, 1][..]), (4999, &[1, 1]), (1, &[1])] {
        assert_eq!(send.progress(count), Step::Again);
        send.gather();
        assert_eq!(lengths(&send), left);
        assert_eq!(send.message.as_ref().map(|message| message.msg_iovlen as u64), Some(left.len() as u64));
        if left == [1, 1] {
            assert_eq!(send.pieces[0].iov_base as usize, second + 4999);
        }
    }
    assert_eq!(send.progress(0), error(libc::EPIPE));
    let (mut send, _pending) = bench.send(&[10]);
    send.cancelled = true;
    assert_eq!(send.progress(4), error(libc::ECANCELED), "a cancelled send is not continued");
}

#[test]
fn one_call_takes_no_more_pieces_than_the_kernel() {
    // Shows that a longer list is cut at the bound and goes on behind it.
    let bench = Bench::new();
    let whole = bench.lease(8192).freeze();
    let mut source = ScatterList::new();
    (0..PIECES_MAX + 7).for_each(|n| source.push(whole.slice(n..n + 2)));
    let total = source.bytes();
    let action = Action::Write { file: bench.file.clone(), offset: 0, durability: Durability::Durable };
    let (mut write, _pending) = bench.post(Memory::Scatter(source), action, total);
    write.gather();
    assert_eq!(write.pieces.len(), PIECES_MAX);
    assert_eq!(write.progress(2 * PIECES_MAX as i32), Step::Again);
    write.gather();
    assert_eq!(write.pieces.len(), 7);
    assert_eq!(write.pieces[0].iov_base as usize, whole.as_ptr() as usize + PIECES_MAX);
    assert_eq!(write.progress(14), Step::Done(Ok(total as u32)));
}

#[test]
fn a_connection_that_is_there_is_a_success() {
    // Shows that asking again after an interruption, when it has succeeded meanwhile, is no error.
    let bench = Bench::new();
    let address = Box::new(std::net::SocketAddr::from(([127, 0, 0, 1], 1)).into());
    let action = Action::Connect { socket: bench.socket(), address };
    let (mut connect, _pending) = bench.post(Memory::None, action, 0);
    assert_eq!(connect.progress(-libc::EINTR), Step::Again);
    assert_eq!(connect.progress(-libc::EISCONN), Step::Done(Ok(0)));
}
