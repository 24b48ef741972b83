//! Packets and descriptors over a Unix socket, without ever waiting.

use super::line::LINE_BYTES_MAX;
use rustix::{
    io::Errno,
    net::{
        AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags,
        SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketAddrUnix, SocketFlags, SocketType,
        accept_with, bind, connect, listen, recvmsg, send, sendmsg, socket_with, sockopt,
    },
};
use std::{
    io::{self, IoSlice, IoSliceMut},
    mem::MaybeUninit,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    path::Path,
};

/// Clients that wait to be accepted. Those past it are refused by the kernel.
const BACKLOG: i32 = 64;

/// Who is at the other end of a Unix socket, as the kernel saw it when it was connected
/// (`SO_PEERCRED`, <https://man7.org/linux/man-pages/man7/unix.7.html>).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PeerCredentials {
    /// Its effective user.
    pub user: u32,
    /// Its effective group.
    pub group: u32,
    /// The process, for messages only: the number may be another process's by now.
    pub process: i32,
}

impl PeerCredentials {
    pub(super) fn of(socket: impl AsFd) -> io::Result<PeerCredentials> {
        let peer = sockopt::socket_peercred(socket)?;
        let process = peer.pid.as_raw_nonzero().get();
        Ok(PeerCredentials { user: peer.uid.as_raw(), group: peer.gid.as_raw(), process })
    }
}

/// What came.
pub(super) enum Received {
    /// Nothing yet.
    Nothing,
    /// The other side is gone.
    End,
    /// One packet, which is in the buffer, and at most one descriptor.
    Packet { bytes: usize, descriptor: Option<OwnedFd> },
    /// A packet that is too long, or with more descriptors than one.
    Malformed,
}

/// One packet, with descriptors or without. Those past the first are closed here or never leave the kernel.
pub(super) fn receive(socket: BorrowedFd<'_>, line: &mut [u8; LINE_BYTES_MAX]) -> io::Result<Received> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let flags = RecvFlags::DONTWAIT | RecvFlags::CMSG_CLOEXEC;
    let message = loop {
        match recvmsg(socket, &mut [IoSliceMut::new(line)], &mut control, flags) {
            // A peer that hung up without having read everything resets the connection. That is told once, and what it had
            // sent before comes after.
            Err(Errno::INTR | Errno::CONNRESET) => {}
            Err(Errno::AGAIN) => return Ok(Received::Nothing),
            result => break result?,
        }
    };
    let mut descriptors: Vec<OwnedFd> = Vec::new();
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(rights) = message {
            descriptors.extend(rights);
        }
    }
    if message.flags.intersects(ReturnFlags::TRUNC | ReturnFlags::CTRUNC) || descriptors.len() > 1 {
        return Ok(Received::Malformed);
    }
    match (message.bytes, descriptors.pop()) {
        // No line is empty, so an empty packet may pass for the end.
        (0, _) => Ok(Received::End),
        (bytes, descriptor) => Ok(Received::Packet { bytes, descriptor }),
    }
}

/// Bytes of all packets that were sent here and not received yet
/// (`FIONREAD`; for this type of socket too it is the sum of them: `unix_inq_len` in net/unix/af_unix.c).
pub(super) fn unread(socket: impl AsFd) -> io::Result<u64> {
    Ok(rustix::io::ioctl_fionread(socket)?)
}

/// Sends one line, now or not at all.
///
/// # Errors
/// The other side is gone, or leaves what it was sent unread (`WouldBlock`).
pub(super) fn send_line(socket: impl AsFd, line: &str, descriptor: Option<BorrowedFd<'_>>) -> io::Result<()> {
    let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
    let sent = loop {
        let result = match &descriptor {
            None => send(&socket, line.as_bytes(), flags),
            Some(descriptor) => {
                let descriptors = [*descriptor];
                let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
                let mut control = SendAncillaryBuffer::new(&mut space);
                let pushed = control.push(SendAncillaryMessage::ScmRights(&descriptors));
                debug_assert!(pushed, "there is room for one");
                sendmsg(&socket, &[IoSlice::new(line.as_bytes())], &mut control, flags)
            }
        };
        match result {
            Err(Errno::INTR) => {}
            result => break result?,
        }
    };
    // Packets go whole.
    if sent == line.len() { Ok(()) } else { Err(io::ErrorKind::WriteZero.into()) }
}

/// A socket to be connected to by that path.
pub(super) fn listen_at(path: &Path) -> io::Result<OwnedFd> {
    let socket = seqpacket(SocketFlags::CLOEXEC | SocketFlags::NONBLOCK)?;
    bind(&socket, &SocketAddrUnix::new(path)?)?;
    listen(&socket, BACKLOG)?;
    Ok(socket)
}

/// The next client, if one waits.
pub(super) fn accept(listener: BorrowedFd<'_>) -> io::Result<Option<OwnedFd>> {
    loop {
        match accept_with(listener, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK) {
            Ok(socket) => return Ok(Some(socket)),
            Err(Errno::INTR | Errno::CONNABORTED) => {}
            Err(Errno::AGAIN) => return Ok(None),
            Err(error) => return Err(error.into()),
        }
    }
}

/// A socket connected to the server at that path. Waits while the server's backlog is full.
pub(super) fn connect_to(path: &Path) -> io::Result<OwnedFd> {
    let socket = seqpacket(SocketFlags::CLOEXEC)?;
    let address = SocketAddrUnix::new(path)?;
    loop {
        match connect(&socket, &address) {
            Err(Errno::INTR) => {}
            result => {
                result?;
                return Ok(socket);
            }
        }
    }
}

/// The two ends of a connection within this process, of which one may be given to another.
pub(super) fn pair() -> io::Result<(OwnedFd, OwnedFd)> {
    let flags = SocketFlags::CLOEXEC;
    Ok(rustix::net::socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)?)
}

/// Whether it is a socket of the kind that all this needs. A stream would cut lines anywhere.
pub(super) fn is_seqpacket(socket: impl AsFd) -> bool {
    let unix = sockopt::socket_domain(&socket).is_ok_and(|domain| domain == AddressFamily::UNIX);
    unix && sockopt::socket_type(&socket).is_ok_and(|kind| kind == SocketType::SEQPACKET)
}

fn seqpacket(flags: SocketFlags) -> io::Result<OwnedFd> {
    Ok(socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::net::SendAncillaryMessage::ScmRights;

    #[test]
    fn a_line_brings_one_descriptor_at_most() {
        // Shows that a descriptor arrives with its line, that more than one are refused and closed, that a line that is too
        // long is refused, and that the end is told.
        let (ours, theirs) = pair().unwrap();
        let mut line = [0; LINE_BYTES_MAX];
        let mut next = || receive(theirs.as_fd(), &mut line).unwrap();
        assert!(matches!(next(), Received::Nothing));
        let (reader, writer) = std::io::pipe().unwrap();
        send_line(&ours, "hello", Some(writer.as_fd())).unwrap();
        let Received::Packet { bytes: 5, descriptor: Some(received) } = next() else { panic!("no packet") };
        assert_eq!(rustix::io::write(&received, b"x"), Ok(1));
        drop((received, writer));

        let (reader_two, writer_two) = std::io::pipe().unwrap();
        for count in [2, 3, 200] {
            let many = vec![writer_two.as_fd(); count];
            let mut space = vec![MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(200))];
            let mut control = SendAncillaryBuffer::new(&mut space);
            assert!(control.push(ScmRights(&many)));
            sendmsg(&ours, &[IoSlice::new(b"hello")], &mut control, SendFlags::DONTWAIT).unwrap();
            assert!(matches!(next(), Received::Malformed), "{count} descriptors");
        }
        drop(writer_two);
        // All copies are closed when the pipe has an end.
        let mut byte = [0; 4];
        assert_eq!(rustix::io::read(&reader_two, &mut byte), Ok(0));
        assert_eq!(rustix::io::read(&reader, &mut byte), Ok(1));

        send_line(&ours, &"x".repeat(LINE_BYTES_MAX + 1), None).unwrap();
        assert!(matches!(next(), Received::Malformed));
        drop(ours);
        assert!(matches!(next(), Received::End));
    }
}
