//! A session as its client has it: buffers in their three states, and the quarantine.
//!
//! Invariants
//! * What the link has exposed and what `out` lists are the same, but for what the link proved and no poll took yet.
//! * Neither `out` nor the link is in use while a waker runs or memory is dropped: both may come back here.

use super::{Link, LinkError};
use crate::remote::{Access, Answer, ConnectError, Offer, RemoteKey, RemoteSlice};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use std::{
    cell::{Cell, RefCell},
    collections::{HashMap, VecDeque},
    fmt,
    future::Future,
    io,
    marker::PhantomData,
    mem,
    ops::{Deref, DerefMut, Range},
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, Waker},
    time::Duration,
};

/// A client's session over one link. Cheap to clone; the session ends with the last clone, buffer, exposure and withdrawal.
pub struct Session<L: Link>(Rc<Shared<L>>);

struct Shared<L: Link> {
    out: RefCell<HashMap<Name, Out<L::Memory>>>,
    /// Notices that came while somebody waited for another one.
    notices: RefCell<VecDeque<u32>>,
    /// Somebody has its [`Renewal`].
    renewing: Cell<bool>,
    /// Who waits until nobody has it.
    renewed: RefCell<Vec<Waker>>,
    /// Who waits for one.
    notified: RefCell<Vec<Waker>>,
    link: L,
}

/// Notices that are kept for whoever waits for them: of older ones nobody asked.
const NOTICES_MAX: usize = 1024;

/// What tells exposures of one session apart.
type Name = (u64, RemoteKey);

struct Out<M> {
    bytes: u64,
    state: State<M>,
}

enum State<M> {
    /// Somebody has its [`Exposed`].
    Exposed,
    /// Somebody has its [`Withdrawal`].
    Withdrawing(Option<Waker>),
    /// Proven, and not fetched.
    Returned(M),
    /// Nobody has it. Freed if it is proven.
    Quarantined,
}

impl<L: Link> Session<L> {
    /// A session over `link`.
    pub fn new(link: L) -> Session<L> {
        let (out, notices, notified, renewing, renewed) = Default::default();
        Session(Rc::new(Shared { out, notices, notified, renewing, renewed, link }))
    }

    /// `bytes` bytes of the session's memory, holding anything.
    ///
    /// # Errors
    /// See [`LinkError`].
    pub fn buffer(&self, bytes: usize) -> Result<Buffer<L>, LinkError> {
        self.poll();
        let memory = self.0.link.allocate(bytes)?;
        Ok(Buffer { memory, session: self.clone() })
    }

    /// What is below.
    pub fn link(&self) -> &L {
        &self.0.link
    }

    /// Whether the session goes on.
    pub fn is_open(&self) -> bool {
        self.0.link.is_open()
    }

    /// Whether the server tells when bytes are there.
    pub fn is_notified(&self) -> bool {
        self.0.link.is_notified()
    }

    /// Whether that notice has come, which is taken then: what it speaks of is in the memory. Does not wait: call it again when
    /// [`wait`](Session::wait) returns. Others that have come meanwhile are kept, up to 1024 of them.
    pub fn take_notice(&self, notice: u32) -> bool {
        self.poll();
        let mut notices = self.0.notices.borrow_mut();
        let place = notices.iter().position(|come| *come == notice);
        place.is_some_and(|place| notices.remove(place).is_some())
    }

    /// As [`take_notice`](Session::take_notice), for one of several who wait: whoever looks at the session first takes what has come from
    /// its descriptor, which then wakes nobody else, but wakes those who asked here. They too have to look when the descriptor is
    /// readable.
    pub fn poll_notice(&self, notice: u32, context: &mut Context<'_>) -> Poll<()> {
        if self.take_notice(notice) {
            return Poll::Ready(());
        }
        let mut notified = self.0.notified.borrow_mut();
        if !notified.iter().any(|waker| waker.will_wake(context.waker())) {
            notified.push(context.waker().clone());
        }
        Poll::Pending
    }

    /// Fetches the notices that have come with the last look at the link.
    fn gather_notices(&self) {
        let mut notices = self.0.notices.borrow_mut();
        let mut some = false;
        while let Some(come) = self.0.link.take_notice() {
            if notices.len() >= NOTICES_MAX {
                notices.pop_front();
            }
            notices.push_back(come);
            some = true;
        }
        drop(notices);
        if some {
            self.0.notified.take().into_iter().for_each(Waker::wake);
        }
    }

    /// Begins to make the session anew, over the same memory, after it was lost: what is left of it ends. None if the link can not
    /// ([`Link::renew`]), or somebody is at it already ([`poll_renewed`](Session::poll_renewed)).
    pub fn renew(&self) -> Option<Renewal<L>> {
        if self.0.renewing.replace(true) {
            return None;
        }
        match self.0.link.renew() {
            Some(offer) => {
                // What they speak of was lost with the session.
                self.gather_notices();
                self.0.notices.borrow_mut().clear();
                Some(Renewal { offer, session: self.clone() })
            }
            None => {
                self.0.renewing.set(false);
                None
            }
        }
    }

    /// Whether nobody makes the session anew, or not any more: then it is open, or somebody else may [try](Session::renew).
    pub fn poll_renewed(&self, context: &mut Context<'_>) -> Poll<()> {
        if !self.0.renewing.get() {
            return Poll::Ready(());
        }
        let mut renewed = self.0.renewed.borrow_mut();
        if !renewed.iter().any(|waker| waker.will_wake(context.waker())) {
            renewed.push(context.waker().clone());
        }
        Poll::Pending
    }

    /// Bytes that nobody has, and that are not free because nothing proves yet that their exposure has ended.
    pub fn quarantined_bytes(&self) -> u64 {
        let out = self.0.out.borrow();
        let quarantined = out.values().filter(|entry| matches!(entry.state, State::Quarantined));
        quarantined.map(|entry| entry.bytes).sum()
    }

    /// Takes notice of exposures that have ended, and wakes those who wait for them, or for notices. Does not wait.
    pub fn poll(&self) {
        while let Some((slice, memory)) = self.0.link.poll() {
            self.returned(&slice, memory);
        }
        // Behind the looks, each of which may have found some: the descriptor tells of none of them again.
        self.gather_notices();
        if !self.0.link.is_open() {
            self.wake_all();
        }
    }

    fn returned(&self, slice: &RemoteSlice, memory: L::Memory) {
        let mut out = self.0.out.borrow_mut();
        let Some(entry) = out.get_mut(&name(slice)) else { panic!("a link returns what it exposed, once") };
        let (waker, nobodys) = match mem::replace(&mut entry.state, State::Quarantined) {
            State::Withdrawing(waker) => {
                entry.state = State::Returned(memory);
                (waker, None)
            }
            State::Quarantined => {
                out.remove(&name(slice));
                (None, Some(memory))
            }
            State::Exposed | State::Returned(_) => panic!("a link returns what was withdrawn, once"),
        };
        drop(out);
        drop(nobodys);
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// There will be no proof any more: those who wait are told.
    fn wake_all(&self) {
        let mut out = self.0.out.borrow_mut();
        let wakers: Vec<_> = out
            .values_mut()
            .filter_map(|entry| match &mut entry.state {
                State::Withdrawing(waker) => waker.take(),
                _ => None,
            })
            .collect();
        drop(out);
        wakers.into_iter().chain(self.0.notified.take()).for_each(Waker::wake);
    }

    /// Waits until there may be something to [`poll`](Session::poll), for at most `limit`: for clients that block. Returns at once
    /// if polls find everything by themselves.
    ///
    /// # Errors
    /// The descriptor cannot be waited for.
    pub fn wait(&self, limit: Duration) -> io::Result<()> {
        let Some(descriptor) = self.0.link.descriptor() else { return Ok(()) };
        let limit = Timespec::try_from(limit).unwrap_or(Timespec { tv_sec: i64::MAX, tv_nsec: 0 });
        match poll(&mut [PollFd::new(&descriptor, PollFlags::IN)], Some(&limit)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Nobody has the exposure any more: it is ended, and its memory comes back by itself.
    fn quarantine(&self, slice: &RemoteSlice) {
        let state = {
            let mut out = self.0.out.borrow_mut();
            let Some(entry) = out.get_mut(&name(slice)) else { return };
            match mem::replace(&mut entry.state, State::Quarantined) {
                State::Returned(memory) => {
                    out.remove(&name(slice));
                    State::Returned(memory)
                }
                state => state,
            }
        };
        if matches!(state, State::Exposed) {
            self.0.link.withdraw(slice);
        }
    }
}

fn name(slice: &RemoteSlice) -> Name {
    (slice.address(), slice.key())
}

impl<L: Link> Clone for Session<L> {
    fn clone(&self) -> Self {
        Session(Rc::clone(&self.0))
    }
}

impl<L: Link> fmt::Debug for Session<L> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut session = formatter.debug_struct("Session");
        session.field("is_open", &self.is_open()).field("exposed", &self.0.out.borrow().len()).finish()
    }
}

/// A session that is being made anew. Dropping it leaves the session as it is after its end.
#[must_use = "the offer is to be answered"]
pub struct Renewal<L: Link> {
    offer: Offer,
    session: Session<L>,
}

impl<L: Link> Renewal<L> {
    /// What is to be answered.
    pub fn offer(&self) -> &Offer {
        &self.offer
    }

    /// Connects the session to what answered.
    ///
    /// # Errors
    /// See [`Link::renewed`].
    pub fn answered(self, answer: &Answer) -> Result<(), ConnectError> {
        self.session.0.link.renewed(answer)
    }
}

impl<L: Link> Drop for Renewal<L> {
    fn drop(&mut self) {
        self.session.0.renewing.set(false);
        self.session.0.renewed.take().into_iter().for_each(Waker::wake);
    }
}

impl<L: Link> fmt::Debug for Renewal<L> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Renewal").field("session", &self.session).finish_non_exhaustive()
    }
}

/// Memory of a session that no server reaches. Dropping it makes it free.
pub struct Buffer<L: Link> {
    memory: L::Memory,
    session: Session<L>,
}

impl<L: Link> Buffer<L> {
    /// The session it is of.
    pub fn session(&self) -> &Session<L> {
        &self.session
    }

    /// Lets the server write it: the target of a GET.
    ///
    /// # Errors
    /// With the buffer, which was not exposed.
    pub fn expose_target(self) -> Result<Exposed<L, Target>, ExposeError<L>> {
        self.expose(L::expose)
    }

    /// As [`expose_target`](Buffer::expose_target), for one request. See [`Link::expose_once`].
    ///
    /// # Errors
    /// With the buffer, which was not exposed.
    pub fn expose_target_once(self) -> Result<Exposed<L, Target>, ExposeError<L>> {
        self.expose(L::expose_once)
    }

    /// Lets the server read it: the source of a PUT.
    ///
    /// # Errors
    /// With the buffer, which was not exposed.
    pub fn expose_source(self) -> Result<Exposed<L, Source>, ExposeError<L>> {
        self.expose(L::expose)
    }

    /// As [`expose_source`](Buffer::expose_source), for one request. See [`Link::expose_once`].
    ///
    /// # Errors
    /// With the buffer, which was not exposed.
    pub fn expose_source_once(self) -> Result<Exposed<L, Source>, ExposeError<L>> {
        self.expose(L::expose_once)
    }

    #[allow(clippy::type_complexity)]
    fn expose<D: Direction>(
        self,
        expose: impl FnOnce(&L, L::Memory, Access) -> Result<RemoteSlice, (LinkError, L::Memory)>,
    ) -> Result<Exposed<L, D>, ExposeError<L>> {
        let Buffer { memory, session } = self;
        let bytes = memory.len();
        let result = expose(&session.0.link, memory, D::ACCESS);
        // The link may have waited, and found what others wait for.
        session.poll();
        match result {
            Ok(slice) => {
                // They are of an exposure that had the name before: nobody was told the new one yet.
                session.0.notices.borrow_mut().retain(|notice| *notice != slice.key().0);
                assert_eq!(slice.bytes(), bytes as u64, "a link exposes what it was given");
                let out = Out { bytes: slice.bytes(), state: State::Exposed };
                let known = session.0.out.borrow_mut().insert(name(&slice), out);
                assert!(known.is_none(), "a link gave one name to two exposures");
                Ok(Exposed { slice, session: Some(session), direction: PhantomData })
            }
            Err((error, memory)) => Err(ExposeError { error, buffer: Buffer { memory, session } }),
        }
    }
}

impl<L: Link> Deref for Buffer<L> {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.memory
    }
}

impl<L: Link> DerefMut for Buffer<L> {
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut self.memory
    }
}

impl<L: Link> fmt::Debug for Buffer<L> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Buffer").field("bytes", &self.len()).finish()
    }
}

/// A buffer could not be exposed, and is still one's own.
#[derive(thiserror::Error)]
#[error("a buffer could not be exposed: {error}")]
pub struct ExposeError<L: Link> {
    /// Why.
    #[source]
    pub error: LinkError,
    /// The buffer.
    pub buffer: Buffer<L>,
}

impl<L: Link> fmt::Debug for ExposeError<L> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("ExposeError")
            .field("error", &self.error)
            .field("buffer", &self.buffer)
            .finish()
    }
}

/// What a server may do with an exposed buffer: [`Target`] or [`Source`].
pub trait Direction: sealed::Sealed {
    /// The same as a value.
    const ACCESS: Access;
}

/// Marks what a server may write, and not read.
#[derive(Debug)]
pub enum Target {}

/// Marks what a server may read, and not write.
#[derive(Debug)]
pub enum Source {}

impl Direction for Target {
    const ACCESS: Access = Access::Write;
}

impl Direction for Source {
    const ACCESS: Access = Access::Read;
}

mod sealed {
    pub trait Sealed {}
    impl Sealed for super::Target {}
    impl Sealed for super::Source {}
}

/// A buffer that the server may reach. It has a name and no bytes.
///
/// Dropping it begins its withdrawal, and puts its memory in quarantine until that is proven.
#[must_use = "dropping it withdraws the exposure"]
pub struct Exposed<L: Link, D: Direction> {
    slice: RemoteSlice,
    /// Taken by the withdrawal only.
    session: Option<Session<L>>,
    direction: PhantomData<D>,
}

impl<L: Link, D: Direction> Exposed<L, D> {
    /// The session it is of.
    pub fn session(&self) -> &Session<L> {
        self.session.as_ref().expect("taken by the withdrawal only")
    }

    /// How many bytes it is.
    pub fn len(&self) -> u64 {
        self.slice.bytes()
    }

    /// True if it is no byte.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// A part of it, in bytes from its front, as the server knows it. None if it is not inside.
    pub fn slice(&self, range: Range<u64>) -> Option<RemoteSlice> {
        self.slice.slice(range)
    }

    /// The text that names a part of it in a request. Whoever has the text can reach the part until the withdrawal. None if the part is
    /// not inside, or the link has no text for it.
    pub fn token(&self, range: Range<u64>) -> Option<String> {
        let slice = self.slice(range)?;
        self.session.as_ref()?.0.link.token(&slice)
    }

    /// Ends the exposure. Await it for the proof and the buffer; drop it to have the memory freed when there is the proof.
    pub fn withdraw(self) -> Withdrawal<L> {
        self.end(L::withdraw)
    }

    /// As [`withdraw`](Exposed::withdraw), after the server said with the reply to the request that the exposure has ended.
    pub fn confirmed(self) -> Withdrawal<L> {
        self.end(L::confirm)
    }

    fn end(mut self, end: impl FnOnce(&L, &RemoteSlice)) -> Withdrawal<L> {
        let session = self.session.take().expect("taken here only");
        if let Some(entry) = session.0.out.borrow_mut().get_mut(&name(&self.slice)) {
            entry.state = State::Withdrawing(None);
        }
        end(&session.0.link, &self.slice);
        Withdrawal { slice: self.slice, session: Some(session) }
    }
}

impl<L: Link, D: Direction> Drop for Exposed<L, D> {
    fn drop(&mut self) {
        if let Some(session) = self.session.take() {
            session.quarantine(&self.slice);
        }
    }
}

impl<L: Link, D: Direction> fmt::Debug for Exposed<L, D> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Exposed").field("slice", &self.slice).field("access", &D::ACCESS).finish()
    }
}

/// An exposure that is being ended. Resolves with the buffer when nothing can reach it any more.
///
/// It polls its session when it is polled; whoever waits for its waker has to call [`Session::poll`] when the link's descriptor is
/// readable.
///
/// # Cancellation
/// Dropping it puts the memory in quarantine; the withdrawal goes on.
#[must_use = "the buffer comes back from here"]
pub struct Withdrawal<L: Link> {
    slice: RemoteSlice,
    /// Empty once it is ready.
    session: Option<Session<L>>,
}

/// The session ended before the exposure was proven to have. The memory is in quarantine for as long as the session is not dropped.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("nothing proves that {bytes} bytes are out of the server's reach")]
pub struct Unproven {
    /// How many bytes there are no more.
    pub bytes: u64,
}

impl<L: Link> Future for Withdrawal<L> {
    type Output = Result<Buffer<L>, Unproven>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let session = self.session.clone().expect("polled again after it was ready");
        session.poll();
        let open = session.is_open();
        let mut out = session.0.out.borrow_mut();
        let name = name(&self.slice);
        let proven = match out.get_mut(&name).map(|entry| &mut entry.state) {
            Some(State::Withdrawing(waker)) if open => {
                let replaced = waker.replace(context.waker().clone());
                drop(out);
                drop(replaced);
                return Poll::Pending;
            }
            Some(State::Returned(_)) => out.remove(&name),
            Some(state) => {
                *state = State::Quarantined;
                None
            }
            None => unreachable!("listed until its withdrawal is ready or dropped"),
        };
        drop(out);
        self.session = None;
        match proven {
            Some(Out { state: State::Returned(memory), .. }) => Poll::Ready(Ok(Buffer { memory, session })),
            _ => Poll::Ready(Err(Unproven { bytes: self.slice.bytes() })),
        }
    }
}

impl<L: Link> Drop for Withdrawal<L> {
    fn drop(&mut self) {
        if let Some(session) = self.session.take() {
            session.quarantine(&self.slice);
        }
    }
}

impl<L: Link> fmt::Debug for Withdrawal<L> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Withdrawal").field("slice", &self.slice).finish_non_exhaustive()
    }
}
