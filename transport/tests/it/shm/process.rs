//! A client in a process of its own: this very test program, started again to be one.
//!
//! ```text
//!   parent                                     child, its standard input is a socket to the parent
//!   start ── socket of the session (SCM) ────► ShmClient::over
//!   expose, store, load … ── a request ──────► does it
//!         ◄───────────────────── the answer ──┘
//! ```

use crossdock_transport::{
    conformance::Client,
    remote::{Access, Answer, Offer, RemoteKey, RemoteSlice},
    shm::{Event, ShmClient},
};
use rustix::{
    event::{PollFd, PollFlags, poll},
    net::{
        AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
        SendAncillaryMessage, SendFlags, SocketFlags, SocketType, recvmsg, sendmsg, socketpair,
    },
};
use std::{
    io::{IoSlice, IoSliceMut, Read, Write},
    mem::MaybeUninit,
    ops::Range,
    os::{
        fd::{AsFd, OwnedFd},
        unix::net::UnixStream,
    },
    process::{Child, Command, Stdio},
};

/// Set for the child.
const MARK: &str = "CROSSDOCK_SHM_CLIENT";

const EXPOSE_READ: u8 = 1;
const EXPOSE_WRITE: u8 = 2;
const WITHDRAW: u8 = 3;
const LOAD: u8 = 4;
const STORE: u8 = 5;
const ANSWERED: u8 = 6;

/// The parent's end.
pub(crate) struct Process {
    child: Child,
    control: UnixStream,
    offered: Option<OwnedFd>,
}

impl Process {
    /// A client with `bytes` zeros, which has said its hello when this returns.
    pub(crate) fn start(bytes: usize) -> Process {
        let (control, theirs) = UnixStream::pair().unwrap();
        let child = Command::new(std::env::current_exe().unwrap())
            .args(["shm::process::is_a_client", "--exact", "--ignored", "--nocapture", "--test-threads=1"])
            .env(MARK, "1")
            .stdin(Stdio::from(OwnedFd::from(theirs)))
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let flags = SocketFlags::CLOEXEC;
        let (session, offered) = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None).unwrap();
        let descriptors = [session.as_fd()];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut rights = SendAncillaryBuffer::new(&mut space);
        assert!(rights.push(SendAncillaryMessage::ScmRights(&descriptors)));
        let text = (bytes as u64).to_le_bytes();
        sendmsg(&control, &[IoSlice::new(&text)], &mut rights, SendFlags::empty()).unwrap();
        let mut process = Process { child, control, offered: Some(offered) };
        assert_eq!(process.number(), bytes as u64);
        process
    }

    /// Kills it, in the middle of whatever it does.
    pub(crate) fn kill(&mut self) {
        // It may be gone already.
        let _ = self.child.kill();
        self.child.wait().unwrap();
    }

    fn ask(&mut self, what: u8, numbers: [u64; 2], bytes: &[u8]) {
        let mut request = vec![what];
        numbers.iter().for_each(|number| request.extend_from_slice(&number.to_le_bytes()));
        request.extend_from_slice(bytes);
        self.control.write_all(&request).unwrap();
    }

    fn number(&mut self) -> u64 {
        number(&mut self.control).expect("the client lives")
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

impl Client for Process {
    fn offer(&mut self) -> Offer {
        Offer { descriptor: self.offered.take(), ..Offer::default() }
    }

    fn answered(&mut self, answer: &Answer) {
        self.ask(ANSWERED, [0; 2], &[]);
        let mut id = [0; 16];
        self.control.read_exact(&mut id).unwrap();
        assert_eq!(id, answer.session.to_bytes());
    }

    fn expose(&mut self, range: Range<usize>, access: Access) -> RemoteSlice {
        let what = if access == Access::Read { EXPOSE_READ } else { EXPOSE_WRITE };
        self.ask(what, [range.start as u64, range.len() as u64], &[]);
        RemoteSlice::new(self.number(), range.len() as u64, RemoteKey(0)).unwrap()
    }

    fn revoke(&mut self, slice: &RemoteSlice) {
        self.ask(WITHDRAW, [slice.address(), slice.bytes()], &[]);
        self.number();
    }

    fn load(&self, range: Range<usize>) -> Vec<u8> {
        let mut control = self.control.try_clone().unwrap();
        let mut request = vec![LOAD];
        request.extend_from_slice(&(range.start as u64).to_le_bytes());
        request.extend_from_slice(&(range.len() as u64).to_le_bytes());
        control.write_all(&request).unwrap();
        let mut bytes = vec![0; range.len()];
        control.read_exact(&mut bytes).unwrap();
        bytes
    }

    fn store(&mut self, at: usize, source: &[u8]) {
        self.ask(STORE, [at as u64, source.len() as u64], source);
        self.number();
    }

    fn vanish(&mut self) {
        self.kill();
    }
}

fn number(stream: &mut impl Read) -> Option<u64> {
    let mut bytes = [0; 8];
    stream.read_exact(&mut bytes).ok()?;
    Some(u64::from_le_bytes(bytes))
}

/// What a child runs: a client that does what its parent says, until the parent hangs up.
#[test]
#[ignore = "the other end of other tests, which start it"]
fn is_a_client() {
    // Shows nothing by itself.
    if std::env::var_os(MARK).is_none() {
        return;
    }
    let mut control = UnixStream::from(std::io::stdin().as_fd().try_clone_to_owned().unwrap());
    let (bytes, session) = receive_session(&control);
    let client = ShmClient::over(session, bytes).unwrap();
    control.write_all(&bytes.to_le_bytes()).unwrap();
    let mut what = [0];
    while control.read_exact(&mut what).is_ok() {
        let (Some(first), Some(second)) = (number(&mut control), number(&mut control)) else { return };
        let range = first as usize..first.saturating_add(second) as usize;
        match what[0] {
            EXPOSE_READ | EXPOSE_WRITE => {
                let access = if what[0] == EXPOSE_READ { Access::Read } else { Access::Write };
                let slice = client.expose(range, access).unwrap();
                control.write_all(&slice.address().to_le_bytes()).unwrap();
            }
            WITHDRAW => {
                client.withdraw(&RemoteSlice::new(first, second, RemoteKey(0)).unwrap()).unwrap();
                control.write_all(&first.to_le_bytes()).unwrap();
            }
            LOAD => {
                let mut bytes = vec![0; range.len()];
                client.load(range.start, &mut bytes);
                control.write_all(&bytes).unwrap();
            }
            STORE => {
                let mut bytes = vec![0; range.len()];
                control.read_exact(&mut bytes).unwrap();
                client.store(range.start, &bytes);
                control.write_all(&first.to_le_bytes()).unwrap();
            }
            ANSWERED => control.write_all(&session_name(&client)).unwrap(),
            other => panic!("request {other}"),
        }
    }
}

fn session_name(client: &ShmClient) -> [u8; 16] {
    loop {
        match client.poll() {
            Some(Event::Session(id)) => return id.to_bytes(),
            Some(event) => panic!("{event:?} in place of a session"),
            None => {
                poll(&mut [PollFd::new(&client.descriptor(), PollFlags::IN)], None).unwrap();
            }
        }
    }
}

fn receive_session(control: &UnixStream) -> (u64, OwnedFd) {
    let mut bytes = [0; 8];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut rights = RecvAncillaryBuffer::new(&mut space);
    recvmsg(control, &mut [IoSliceMut::new(&mut bytes)], &mut rights, RecvFlags::CMSG_CLOEXEC).unwrap();
    let message = rights.drain().next();
    let Some(RecvAncillaryMessage::ScmRights(mut descriptors)) = message else { panic!("no socket came") };
    (u64::from_le_bytes(bytes), descriptors.next().unwrap())
}
