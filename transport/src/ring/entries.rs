//! Requests as submission queue entries (<https://man7.org/linux/man-pages/man2/io_uring_enter.2.html>).

use super::{
    Durability, RingFile,
    buffers::FixedBuffers,
    request::{Action, Request},
    socket::Socket,
};
use io_uring::{opcode, squeue, types};
use std::os::fd::{AsRawFd, RawFd};

/// `IORING_RECVSEND_POLL_FIRST` in linux/io_uring.h: wait until the socket is ready before trying.
const POLL_FIRST: u16 = 1 << 0;
/// `IORING_SEND_ZC_REPORT_USAGE` in linux/io_uring.h: the notification says whether the bytes were copied.
const REPORT_USAGE: u16 = 1 << 3;
/// `MSG_WAITALL` makes the kernel continue short sends; without `MSG_NOSIGNAL` a peer that is gone kills the process.
const SEND_FLAGS: i32 = libc::MSG_NOSIGNAL | libc::MSG_WAITALL;

/// Fewest bytes of a send worth doing without a copy: below, taking hold of the pages and the second completion cost more
/// than the copy.
///
/// Measured on the loopback device, which copies such sends after all and so shows what they cost and not what they save
/// (Linux 6.18, 2 virtual processors, one connection, registered memory; processor seconds per GB of both ends, copying
/// and not): 4 KiB 0.74 and 1.08, 16 KiB 0.68 and 0.71, 64 KiB 0.52 and 0.54. From 64 KiB on the cost is lost in the
/// noise. A route that copies anyway is found out by its first such send and sent to plainly from then on
/// (`Socket::stop_zero_copy`): 1 MiB in place of 0.27 cost 0.73.
pub(super) const ZERO_COPY_BYTES_MIN: usize = 64 << 10;

/// What the kernel of a ring can do, of what not all kernels can.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Abilities {
    /// Vectored writes from fixed buffers (6.15).
    pub(super) write_vectored_fixed: bool,
    /// Sends that do not copy (6.0), vectored too (6.1).
    pub(super) send_zero_copy: bool,
}

/// How a request was put to the kernel, as far as its completion has to know.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Manner {
    Plain,
    /// Not tried at once, because the last try gave EAGAIN.
    Background,
    /// A send that may be followed by a notification.
    ZeroCopy,
}

macro_rules! on_file {
    ($file:expr, $fd:ident => $entry:expr) => {
        match $file.index() {
            Some(index) => {
                let $fd = types::Fixed(index);
                $entry
            }
            None => {
                let $fd = types::Fd($file.fd().as_raw_fd());
                $entry
            }
        }
    };
}

/// The entry for what is left of `request`, whose pieces have been gathered.
pub(super) fn entry(
    request: &Request,
    background: bool,
    abilities: Abilities,
    fixed: Option<&FixedBuffers>,
) -> (squeue::Entry, Manner) {
    let pieces = &request.pieces[..];
    let manner = if background { Manner::Background } else { Manner::Plain };
    let entry = match &request.action {
        Action::Read { file, offset, .. } => read(file, offset + request.done as u64, &pieces[0], fixed),
        Action::ReadTargets { file, offset } => {
            // Memory of a client is in no table of fixed buffers, so none of the pieces is looked for there.
            let (start, count) = (pieces.as_ptr(), pieces.len() as u32);
            let offset = offset + request.done as u64;
            on_file!(file, fd => opcode::Readv::new(fd, start, count).offset(offset).build())
        }
        Action::Write { file, offset, durability } => {
            let flags = match durability {
                Durability::Buffered => 0,
                Durability::Durable => libc::RWF_DSYNC,
            };
            write(file, offset + request.done as u64, pieces, flags, abilities, fixed)
        }
        Action::Datasync { file } => {
            on_file!(file, fd => opcode::Fsync::new(fd).flags(types::FsyncFlags::DATASYNC).build())
        }
        Action::Allocate { file, offset, bytes } => {
            on_file!(file, fd => opcode::Fallocate::new(fd, *bytes).offset(*offset).mode(0).build())
        }
        Action::Accept { listener } => {
            opcode::Accept::new(raw(listener), std::ptr::null_mut(), std::ptr::null_mut())
                .flags(libc::SOCK_CLOEXEC)
                .build()
        }
        Action::Connect { socket, address } => {
            opcode::Connect::new(raw(socket), address.as_ptr().cast(), address.addr_len()).build()
        }
        Action::Receive { socket, .. } => {
            let first = if background { POLL_FIRST } else { 0 };
            let piece = &pieces[0];
            opcode::Recv::new(raw(socket), piece.iov_base.cast(), length(piece)).ioprio(first).build()
        }
        Action::Send { socket, .. } => {
            return send(request, socket, manner, abilities, fixed);
        }
    };
    // A file is waited for by a kernel thread; sockets are polled.
    let entry = if background && request.is_on_file() { entry.flags(squeue::Flags::ASYNC) } else { entry };
    (entry, manner)
}

fn read(file: &RingFile, offset: u64, piece: &libc::iovec, fixed: Option<&FixedBuffers>) -> squeue::Entry {
    let (start, bytes) = (piece.iov_base.cast::<u8>(), length(piece));
    match fixed.and_then(|fixed| fixed.index(piece)) {
        Some(index) => {
            on_file!(file, fd => opcode::ReadFixed::new(fd, start, bytes, index).offset(offset).build())
        }
        None => on_file!(file, fd => opcode::Read::new(fd, start, bytes).offset(offset).build()),
    }
}

fn write(
    file: &RingFile,
    offset: u64,
    pieces: &[libc::iovec],
    flags: i32,
    abilities: Abilities,
    fixed: Option<&FixedBuffers>,
) -> squeue::Entry {
    let index = common_index(pieces, fixed);
    if let [piece] = pieces {
        let (start, bytes) = (piece.iov_base.cast::<u8>().cast_const(), length(piece));
        return match index {
            Some(index) => on_file!(file, fd => {
                opcode::WriteFixed::new(fd, start, bytes, index).offset(offset).rw_flags(flags).build()
            }),
            None => on_file!(file, fd => {
                opcode::Write::new(fd, start, bytes).offset(offset).rw_flags(flags).build()
            }),
        };
    }
    let (start, count) = (pieces.as_ptr(), pieces.len() as u32);
    match index.filter(|_| abilities.write_vectored_fixed) {
        Some(index) => on_file!(file, fd => {
            opcode::WritevFixed::new(fd, start, count, index).offset(offset).rw_flags(flags).build()
        }),
        None => on_file!(file, fd => {
            opcode::Writev::new(fd, start, count).offset(offset).rw_flags(flags).build()
        }),
    }
}

fn send(
    request: &Request,
    socket: &Socket,
    manner: Manner,
    abilities: Abilities,
    fixed: Option<&FixedBuffers>,
) -> (squeue::Entry, Manner) {
    let left = request.total - request.done;
    let zero_copy = abilities.send_zero_copy && socket.zero_copy() && left >= ZERO_COPY_BYTES_MIN;
    let first = if manner == Manner::Background { POLL_FIRST } else { 0 };
    let fd = raw(socket);
    let manner = if zero_copy { Manner::ZeroCopy } else { manner };
    if let [piece] = &request.pieces[..] {
        let (start, bytes) = (piece.iov_base.cast::<u8>().cast_const(), length(piece));
        let entry = if zero_copy {
            let index = fixed.and_then(|fixed| fixed.index(piece));
            let send = opcode::SendZc::new(fd, start, bytes).flags(SEND_FLAGS);
            send.zc_flags(first | REPORT_USAGE).buf_index(index).build()
        } else {
            opcode::Send::new(fd, start, bytes).flags(SEND_FLAGS).ioprio(first).build()
        };
        return (entry, manner);
    }
    let message: *const libc::msghdr = &**request.message.as_ref().expect("gathered");
    let entry = if zero_copy {
        opcode::SendMsgZc::new(fd, message).flags(SEND_FLAGS as u32).ioprio(first | REPORT_USAGE).build()
    } else {
        opcode::SendMsg::new(fd, message).flags(SEND_FLAGS as u32).ioprio(first).build()
    };
    (entry, manner)
}

/// The fixed buffer that all pieces lie in.
fn common_index(pieces: &[libc::iovec], fixed: Option<&FixedBuffers>) -> Option<u16> {
    let fixed = fixed?;
    let (first, rest) = pieces.split_first()?;
    let index = fixed.index(first)?;
    rest.iter().all(|piece| fixed.index(piece) == Some(index)).then_some(index)
}

fn raw(socket: &Socket) -> types::Fd {
    let fd: RawFd = socket.fd().as_raw_fd();
    types::Fd(fd)
}

/// The request's bytes fit 32 bits, so its pieces' do.
fn length(piece: &libc::iovec) -> u32 {
    u32::try_from(piece.iov_len).expect("an operation moves less than 4 GiB")
}
