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
    os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd},
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
    /// The process, for messages only: the number may be another process's by now. 0 if it can not be seen from here, as a
    /// process of another container.
    pub process: i32,
}

impl PeerCredentials {
    pub(super) fn of(socket: impl AsFd) -> io::Result<PeerCredentials> {
        let mut peer = libc::ucred { pid: 0, uid: 0, gid: 0 };
        let mut bytes = size_of_val(&peer) as libc::socklen_t;
        let descriptor = socket.as_fd().as_raw_fd();
        // rustix has a call for it that takes a process to be no 0, which is just what the kernel says of one in another namespace.
        // SAFETY: the descriptor is open as long as `socket` is borrowed; `peer` is of three integers, any bytes are a value of it, and
        // it and `bytes`, which says how long it is, are this function's own and written by nobody else.
        #[allow(unsafe_code)]
        let result = unsafe {
            libc::getsockopt(
                descriptor,
                libc::SOL_SOCKET,
                libc::SO_PEERCRED,
                (&raw mut peer).cast(),
                &raw mut bytes,
            )
        };
        if result != 0 {
            return Err(io::Error::last_os_error());
        }
        // Of another kind of socket the kernel says less.
        if bytes as usize != size_of_val(&peer) {
            return Err(io::ErrorKind::InvalidData.into());
        }
        Ok(PeerCredentials { user: peer.uid, group: peer.gid, process: peer.pid })
    }
}

/// What came; a descriptor is what the receiver makes of it.
pub(super) enum Received<D> {
    /// Nothing yet.
    Nothing,
    /// The other side is gone.
    End,
    /// One packet, which is in the buffer, and at most one descriptor.
    Packet { bytes: usize, descriptor: Option<D> },
    /// A packet that is too long, or with more descriptors than one.
    Malformed,
}

/// Descriptors that a packet can bring (`SCM_MAX_FD`, include/net/scm.h of Linux).
const DESCRIPTORS_MAX: usize = 253;

/// One packet, with descriptors or without. Each descriptor goes through `take` as soon as it is there, whatever becomes of its packet:
/// whoever must not close it here gives it to somebody else. All that a packet can bring are received, since the kernel would close what
/// there is no room for, and in this call.
pub(super) fn receive<D>(
    socket: BorrowedFd<'_>,
    line: &mut [u8; LINE_BYTES_MAX],
    take: impl Fn(OwnedFd) -> D,
) -> io::Result<Received<D>> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS_MAX))];
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
    let mut descriptors: Vec<D> = Vec::new();
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(rights) = message {
            descriptors.extend(rights.map(&take));
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

/// Tells the other side at once that nothing more is heard or said. What is unread stays until the socket is closed.
pub(super) fn hang_up(socket: impl AsFd) {
    // It may have hung up itself.
    let _ = rustix::net::shutdown(socket, rustix::net::Shutdown::Both);
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
        let mut next = || receive(theirs.as_fd(), &mut line, |descriptor| descriptor).unwrap();
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

    /// Set for a child whose standard input is a socket of a process that it can not see.
    const ELSEWHERE: &str = "CROSSDOCK_PEER_ELSEWHERE";

    #[test]
    fn a_peer_of_another_container_is_known_by_its_user() {
        // Shows that of a peer in a process namespace that can not be seen from here the user is known, and that its process is 0.
        if std::env::var_os(ELSEWHERE).is_some() {
            let peer = PeerCredentials::of(std::io::stdin()).unwrap();
            // The user who runs this is root of its own user namespace.
            assert_eq!((peer.process, peer.user), (0, 0));
            return;
        }
        let (_ours, theirs) = pair().unwrap();
        let name = "shm::socket::tests::a_peer_of_another_container_is_known_by_its_user";
        let mut unshare = std::process::Command::new("unshare");
        unshare.args(["--user", "--map-root-user", "--pid", "--fork"]).arg(std::env::current_exe().unwrap());
        let child = unshare.args(["--exact", name]).env(ELSEWHERE, "1").stdin(theirs).output();
        let output = match child {
            Ok(output) if !output.stderr.starts_with(b"unshare:") => output,
            other => {
                eprintln!("skipped: no namespaces here: {other:?}");
                if let Some(log) = std::env::var_os("CROSSDOCK_SKIP_LOG") {
                    let mut log = std::fs::OpenOptions::new().append(true).create(true).open(log).unwrap();
                    std::io::Write::write_all(&mut log, format!("{name}: no namespaces here\n").as_bytes())
                        .unwrap();
                }
                return;
            }
        };
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success() && said.contains("1 passed"), "{said}");
    }
}
