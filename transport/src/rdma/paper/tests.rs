//! What becomes of sessions, leases and cores when cards do what they seldom do.

use super::{
    super::{sys::*, *},
    Host, LIBRARY,
};
use crate::{
    memory::{Arena, ArenaOptions, PagePolicy, Pool, ScatterList},
    operation::{OsError, Pending},
    remote::{
        Answer, ConnectError, Offer, Principal, RemoteKey, RemoteMemory, RemoteSlice, SessionId,
        SessionLimits, TransferError,
    },
};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll, Waker},
    time::Duration,
};

mod receives;

const FIRST: [u8; 4] = [10, 1, 0, 1];
const SECOND: [u8; 4] = [10, 2, 0, 1];
const CREDITS: usize = 16;
const SESSIONS_MAX: usize = 8;
const BYTES: usize = 4096;

/// Rounds of 1 ms that a test waits at most, for a thread of this process.
const ROUNDS_MAX: usize = 30_000;

struct World {
    // In the order in which they end.
    endpoint: Rc<dyn Endpoint>,
    transport: Rdma,
    pool: Pool,
    host: Arc<Host>,
    alice: Principal,
}

struct Pair {
    id: SessionId,
    session: Rc<dyn RemoteMemory>,
    /// Of the server's queue pair.
    number: u32,
}

fn arena() -> Arena {
    let options = ArenaOptions { bytes: 4 << 20, pools: 1, pages: PagePolicy::Plain, prefault: false };
    Arena::map(&options).unwrap()
}

fn options(core: u16) -> EndpointOptions {
    let mut number = 0u64;
    let entropy = move |bytes: &mut [u8]| {
        number += 1;
        bytes.iter_mut().zip(number.to_le_bytes()).for_each(|(byte, entropy)| *byte = entropy);
    };
    let limits = SessionLimits {
        sessions_max: SESSIONS_MAX,
        principal_sessions_max: SESSIONS_MAX,
        credits: CREDITS,
        idle_max: Duration::from_secs(300),
    };
    EndpointOptions { core, limits, entropy: Box::new(entropy) }
}

fn open(host: &Arc<Host>) -> World {
    open_with(host, options(0))
}

fn open_with(host: &Arc<Host>, options: EndpointOptions) -> World {
    let transport = Rdma::with(&LIBRARY, &RdmaOptions::default()).unwrap();
    let arena = arena();
    transport.register(&arena).unwrap();
    let endpoint = transport.open(options).unwrap();
    World { endpoint, transport, pool: arena.pool(0), host: Arc::clone(host), alice: Principal::new("alice") }
}

/// What a client says that is reached at the address with that last byte changed.
fn offer(address: [u8; 4]) -> Offer {
    let [a, b, c, _] = address;
    let gid = info::Gid::from_address(IpAddr::from([a, b, c, 99]));
    let side = path::Side { number: 77, gid, port: 1, lid: 0, sequence: 5, mtu: None, reads: 1 };
    Offer { token: side.token(), parameters: side.parameters(), ..Offer::default() }
}

impl World {
    fn connect(&self, address: [u8; 4]) -> Pair {
        self.pair(self.endpoint.connect(&self.alice, offer(address)).unwrap())
    }

    fn pair(&self, answer: Answer) -> Pair {
        let session = self.endpoint.session(answer.session, &self.alice).unwrap();
        let token: crate::token::HipToken = answer.token.parse().unwrap();
        Pair { id: answer.session, session, number: token.queue_pair }
    }

    fn write(&self, pair: &Pair) -> Pending {
        self.pool.drain_returns();
        let mut lease = self.pool.try_acquire(BYTES).unwrap();
        lease.set_len(BYTES);
        let slot = pair.session.credits().try_slot().unwrap();
        let target = RemoteSlice::new(4096, BYTES as u64, RemoteKey(9)).unwrap();
        pair.session.write(slot, lease.freeze().into(), target)
    }

    /// A write of so many pieces of a byte.
    fn write_pieces(&self, pair: &Pair, pieces: usize) -> Pending {
        self.pool.drain_returns();
        let mut lease = self.pool.try_acquire(pieces).unwrap();
        lease.set_len(pieces);
        let (lease, mut source) = (lease.freeze(), ScatterList::new());
        (0..pieces).for_each(|piece| source.push(lease.slice(piece..piece + 1)));
        let slot = pair.session.credits().try_slot().unwrap();
        let target = RemoteSlice::new(4096, pieces as u64, RemoteKey(9)).unwrap();
        pair.session.write(slot, source, target)
    }

    /// Polls and works until `done`, with pauses in which other threads get on.
    fn drive(&self, what: &str, mut done: impl FnMut() -> bool) {
        for _ in 0..ROUNDS_MAX {
            self.endpoint.poll();
            if done() {
                return;
            }
            pause();
        }
        panic!("never: {what}");
    }

    /// What the operation came to, without any card's working.
    fn result(&self, pending: &mut Pending) -> Result<u32, TransferError> {
        let mut result = None;
        self.drive("an operation completes", || {
            result = completed(pending);
            result.is_some()
        });
        result.unwrap()
    }

    fn assert_works(&self, pair: &Pair, card: usize) {
        let mut write = self.write(pair);
        self.drive("a write is done", || {
            self.host.work(card);
            match completed(&mut write) {
                Some(result) => {
                    assert_eq!(result, Ok(BYTES as u32));
                    true
                }
                None => false,
            }
        });
    }

    fn leases(&self) -> usize {
        self.pool.drain_returns();
        self.pool.leases()
    }

    /// Ends everything, and looks for what was left behind.
    fn end(self) {
        let World { endpoint, transport, pool, host, .. } = self;
        drop((endpoint, transport));
        pool.drain_returns();
        assert_eq!(pool.leases(), 0);
        drop(pool);
        for _ in 0..ROUNDS_MAX {
            // A thread that connects may have the last of it.
            if host.objects() == 0 {
                return;
            }
            pause();
        }
        panic!("{} objects are left", host.objects());
    }
}

fn pause() {
    let _ = poll(&mut [], Some(&Timespec { tv_sec: 0, tv_nsec: 1_000_000 }));
}

fn completed(pending: &mut Pending) -> Option<Result<u32, TransferError>> {
    match Pin::new(pending).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(completion) => Some(completion.result.map_err(TransferError::from)),
        Poll::Pending => None,
    }
}

/// Whether something wakes whoever sleeps on the endpoint.
fn wakes(endpoint: &Rc<dyn Endpoint>) -> bool {
    let descriptor = endpoint.descriptor().unwrap();
    let limit = Timespec { tv_sec: 10, tv_nsec: 0 };
    poll(&mut [PollFd::new(&descriptor, PollFlags::IN)], Some(&limit)) == Ok(1)
}

#[test]
fn a_queue_that_is_full_earlier_than_it_said_is_waited_for() {
    // Shows that ENOMEM and ENOSPC from a post are back-pressure: everything is posted as room comes back, in its order, and nothing fails.
    for number in [libc::ENOMEM, libc::ENOSPC, libc::EAGAIN] {
        let host = Host::new(&[FIRST]);
        host.change(0, |card| card.room = (5, number));
        let world = open(&host);
        let pair = world.connect(FIRST);
        let mut posted: Vec<_> = (0..CREDITS).map(|_| world.write(&pair)).collect();
        world.drive("the queue is full", || host.in_work(0) == 5);
        let mut left = posted.len();
        world.drive("all are done", || {
            host.work(0);
            assert!(host.in_work(0) <= 5);
            while left > 0 {
                match completed(&mut posted[CREDITS - left]) {
                    Some(result) => assert_eq!(result, Ok(BYTES as u32)),
                    None => break,
                }
                left -= 1;
            }
            left == 0
        });
        assert!(pair.session.is_open());
        assert_eq!(world.leases(), 0);
        world.end();
    }
}

#[test]
fn a_queue_that_takes_nothing_is_a_typed_error() {
    // Shows that a refusal that nothing will ever change ends the session with the device's own number, and hangs nobody.
    let host = Host::new(&[FIRST]);
    host.change(0, |card| card.room = (0, libc::ENOMEM));
    let world = open(&host);
    let pair = world.connect(FIRST);
    let (mut first, mut second) = (world.write(&pair), world.write(&pair));
    assert_eq!(world.result(&mut first), Err(TransferError::Device(OsError(libc::ENOMEM))));
    assert_eq!(world.result(&mut second), Err(TransferError::Ended));
    assert!(!pair.session.is_open());
    host.change(0, |card| card.room = (usize::MAX, 0));
    world.assert_works(&world.connect(FIRST), 0);
    drop((first, second));
    world.end();
}

#[test]
fn a_device_that_does_not_let_go_is_made_to() {
    // Shows a session that ended, and a driver that loses the completions of what was in it: after a few seconds its queue pair is destroyed,
    // which gives the memory back, and not before; others go on.
    let host = Host::new(&[FIRST]);
    host.change(0, |card| card.swallows = true);
    let world = open(&host);
    let (lost, good) = (world.connect(FIRST), world.connect(FIRST));
    let mut posted = [world.write(&lost), world.write(&lost)];
    world.drive("they are posted", || host.in_work(0) == 2);
    assert!(world.endpoint.disconnect(lost.id, &world.alice));
    let start = Duration::from_secs(1000);
    for (after, over) in [(0, false), (4, false), (5, true), (6, true)] {
        world.endpoint.expire_idle(start + Duration::from_secs(after));
        world.endpoint.poll();
        for write in &mut posted {
            if write.is_in_flight() || after == 5 {
                assert_eq!(completed(write), over.then_some(Err(TransferError::Ended)), "after {after} s");
            }
        }
        assert_eq!(host.pairs(), 2 - usize::from(over));
    }
    assert_eq!(world.leases(), 0);
    world.assert_works(&good, 0);
    drop(posted);
    world.end();
}

#[test]
fn a_doorbell_that_fails_ends_its_session() {
    // Shows a driver that took everything and could not tell the device, whatever the number that it says so with: nobody waits for what
    // nobody does.
    for number in [libc::ENOMEM, libc::EIO] {
        let host = Host::new(&[FIRST]);
        host.change(0, |card| (card.doorbell, card.swallows) = (Some(number), true));
        let world = open(&host);
        let pair = world.connect(FIRST);
        let mut write = world.write(&pair);
        assert_eq!(world.result(&mut write), Err(TransferError::Ended));
        assert!(!pair.session.is_open());
        assert_eq!((world.leases(), host.pairs()), (0, 0));
        drop(write);
        world.end();
    }
}

#[test]
fn memory_that_a_device_does_not_take() {
    // Shows that a device without room for the arena is not used, others are, and that none is a typed error, or none needed.
    let host = Host::new(&[FIRST, SECOND]);
    host.change(0, |card| card.registration = Some(libc::ENOMEM));
    let world = open(&host);
    assert_eq!(world.transport.rails(), [("paper0/1".to_owned(), false), ("paper1/1".to_owned(), true)]);
    // Of one family, so the other rail has to do.
    let pair = world.connect(FIRST);
    world.assert_works(&pair, 1);
    world.end();

    let host = Host::new(&[FIRST]);
    host.change(0, |card| card.registration = Some(libc::ENOMEM));
    let refused = Rdma::with(&LIBRARY, &RdmaOptions::default()).unwrap();
    let error = refused.register(&arena()).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::OutOfMemory, "{error}");
    assert!(error.to_string().contains("ibv_reg_mr"), "{error}");
    let optional = Rdma::with(&LIBRARY, &RdmaOptions { optional: true, ..RdmaOptions::default() }).unwrap();
    optional.register(&arena()).unwrap();
    let endpoint = optional.open(options(0)).unwrap();
    let none = endpoint.connect(&Principal::new("alice"), offer(FIRST));
    assert!(matches!(none, Err(ConnectError::Unsupported(why)) if why.contains("memory")), "{none:?}");
    assert_eq!(endpoint.usable_rails(), [false]);
    drop((endpoint, optional, refused));
    assert_eq!(host.objects(), 0);
}

#[test]
fn each_device_has_its_sessions() {
    // Shows that a client is answered from the rail that is nearest to it, that each works by itself, and that sessions say which they are on.
    let host = Host::new(&[FIRST, SECOND]);
    let world = open(&host);
    let (first, second) = (world.connect(FIRST), world.connect(SECOND));
    assert_eq!(
        (first.session.rail(), second.session.rail()),
        (Some("paper0/1".into()), Some("paper1/1".into()))
    );
    let mut stuck = world.write(&first);
    world.drive("it is posted", || host.in_work(0) == 1);
    world.assert_works(&second, 1);
    assert_eq!(completed(&mut stuck), None);
    world.assert_works(&first, 0);
    assert_eq!(completed(&mut stuck), Some(Ok(BYTES as u32)));
    world.end();
}

#[test]
fn equally_near_rails_share_the_sessions() {
    // Shows that clients of one network are spread over its rails, whichever core they come to; that one which came to a rail's address is
    // served there; and that what has ended counts no more.
    let host = Host::new(&[[10, 0, 0, 1], [10, 0, 0, 2]]);
    let world = open(&host);
    let another_core = world.transport.open(options(1)).unwrap();
    let client = [10, 0, 0, 9];
    let rail = |pair: &Pair| pair.session.rail().unwrap().to_string();
    let pairs: Vec<Pair> = (0..4).map(|_| world.connect(client)).collect();
    let rails: Vec<String> = pairs.iter().map(rail).collect();
    assert_eq!(rails, ["paper0/1", "paper1/1", "paper0/1", "paper1/1"]);
    let elsewhere = another_core.connect(&world.alice, offer(client)).unwrap();
    let third = world.connect(client);
    assert_eq!(rail(&third), "paper1/1", "the other core has one more on the first");
    let came_to = |address: [u8; 4]| Offer { came_to: Some(address.into()), ..offer(client) };
    for _ in 0..3 {
        let pair = world.pair(world.endpoint.connect(&world.alice, came_to([10, 0, 0, 1])).unwrap());
        assert_eq!(rail(&pair), "paper0/1");
    }
    another_core.disconnect(elsewhere.session, &world.alice);
    drop(another_core);
    world.end();
}

#[test]
fn a_queue_pair_that_fails_ends_its_session_alone() {
    // Shows that the core whose session it is hears of it asleep, although another core exists, and that nothing else ends.
    let host = Host::new(&[FIRST]);
    let world = open(&host);
    let other = world.transport.open(options(1)).unwrap();
    let (failing, good) = (world.connect(FIRST), world.connect(FIRST));
    let answer = other.connect(&world.alice, offer(FIRST)).unwrap();
    let elsewhere = other.session(answer.session, &world.alice).unwrap();
    world.assert_works(&failing, 0);
    let mut stuck = world.write(&failing);
    world.drive("it is posted", || host.in_work(0) > 0);
    world.drive("the core may sleep", || world.endpoint.begin_wait());
    host.happens(0, IBV_EVENT_QP_FATAL, Some(failing.number));
    assert!(wakes(&world.endpoint));
    assert_eq!(world.result(&mut stuck), Err(TransferError::Ended));
    assert!(!failing.session.is_open());
    other.poll();
    assert!(good.session.is_open() && elsewhere.is_open());
    world.assert_works(&good, 0);
    drop((other, stuck, elsewhere));
    world.end();
}

#[test]
fn a_device_that_fails_ends_its_sessions_on_every_core() {
    // Shows that both cores hear of it, that what was in flight comes back, and that another device goes on.
    let host = Host::new(&[FIRST, SECOND]);
    let world = open(&host);
    let other = world.transport.open(options(1)).unwrap();
    let (failing, good) = (world.connect(FIRST), world.connect(SECOND));
    let answer = other.connect(&world.alice, offer(FIRST)).unwrap();
    let elsewhere = other.session(answer.session, &world.alice).unwrap();
    let mut stuck = world.write(&failing);
    world.drive("it is posted", || host.in_work(0) == 1);
    host.happens(0, IBV_EVENT_DEVICE_FATAL, None);
    assert_eq!(world.result(&mut stuck), Err(TransferError::Ended));
    world.drive("the other core hears of it", || {
        other.poll();
        !elsewhere.is_open()
    });
    world.assert_works(&good, 1);
    // The rail that is left is of the same family.
    assert_eq!(world.connect(FIRST).session.rail(), Some("paper1/1".into()));
    drop((other, stuck, elsewhere));
    world.end();
}

#[test]
fn a_port_without_a_link_is_a_rail_that_is_down() {
    // Shows that it is noticed without any core's doing, and that the rail is used again when it has a link.
    let host = Host::new(&[FIRST]);
    let world = open(&host);
    let usable = || world.transport.rails().iter().any(|(_, usable)| *usable);
    for (active, event) in [(false, IBV_EVENT_PORT_ERR), (true, IBV_EVENT_PORT_ACTIVE)] {
        host.change(0, |card| card.active = active);
        host.happens(0, event, None);
        (0..ROUNDS_MAX).find(|_| {
            pause();
            usable() == active
        });
        assert_eq!(usable(), active);
        let result = world.endpoint.connect(&world.alice, offer(FIRST));
        assert_eq!(result.is_ok(), active, "{result:?}");
    }
    world.end();
}

#[test]
fn a_link_that_comes_late_is_served_when_it_comes() {
    // Shows that a host whose ports have no link yet is opened, says so, and serves when one has, without being opened again.
    let host = Host::new(&[FIRST]);
    host.change(0, |card| card.active = false);
    let world = open(&host);
    assert!(world.transport.rails().iter().all(|(_, usable)| !usable));
    let refused = world.endpoint.connect(&world.alice, offer(FIRST));
    assert!(matches!(refused, Err(ConnectError::Unsupported(why)) if why.contains("link")), "{refused:?}");
    assert_eq!(
        (world.endpoint.rails(), world.endpoint.usable_rails()),
        (vec!["paper0/1".to_owned()], vec![false])
    );
    host.change(0, |card| card.active = true);
    host.happens(0, IBV_EVENT_PORT_ACTIVE, None);
    (0..ROUNDS_MAX).find(|_| {
        pause();
        world.transport.rails().iter().any(|(_, usable)| *usable)
    });
    let pair = world.connect(FIRST);
    world.assert_works(&pair, 0);
    world.end();
}

#[test]
fn a_peer_that_is_hard_to_find_keeps_nobody_waiting() {
    // Shows that a core goes on while the kernel looks for a peer, and that operations wait for their queue pair, or fail as it did.
    let host = Host::new(&[FIRST, SECOND]);
    let world = open(&host);
    host.change(0, |card| card.closed = true);
    let (found, unfound) = (world.connect(FIRST), world.connect(FIRST));
    let other = world.connect(SECOND);
    let (mut early, mut late) = (world.write(&found), world.write(&found));
    drop(world.write(&found));
    world.assert_works(&other, 1);
    assert_eq!((completed(&mut early), host.in_work(0)), (None, 0), "nothing is posted before");
    let [mut first, mut second] = [world.write(&unfound), world.write(&unfound)];

    // One by one: the first gets through before the next one is let.
    world.endpoint.disconnect(unfound.id, &world.alice);
    assert_eq!(world.result(&mut first), Err(TransferError::Ended));
    assert_eq!(world.result(&mut second), Err(TransferError::Ended));
    host.change(0, |card| card.closed = false);
    world.drive("both are done", || {
        host.work(0);
        host.in_work(0) == 0 && completed(&mut early) == Some(Ok(BYTES as u32))
    });
    assert_eq!(world.result(&mut late), Ok(BYTES as u32));
    world.drive("what nobody wants is gone", || host.pairs() == 2);

    host.change(0, |card| card.connection = libc::ETIMEDOUT);
    let lost = world.connect(FIRST);
    let [mut first, mut second] = [world.write(&lost), world.write(&lost)];
    assert_eq!(world.result(&mut first), Err(TransferError::TimedOut));
    assert_eq!(world.result(&mut second), Err(TransferError::TimedOut));
    let mut after = world.write(&lost);
    assert_eq!(world.result(&mut after), Err(TransferError::TimedOut));
    assert!(!lost.session.is_open());
    drop((early, late, first, second, after));
    world.end();
}

#[test]
fn ends_before_the_connection_is_made() {
    // Shows that a core that ends while the kernel looks for a peer leaves nothing behind, and that the core is woken by a connection.
    let host = Host::new(&[FIRST]);
    host.change(0, |card| card.closed = true);
    let world = open(&host);
    let pair = world.connect(FIRST);
    let mut waiting = world.write(&pair);
    world.drive("the core may sleep", || world.endpoint.begin_wait());
    host.change(0, |card| card.closed = false);
    assert!(wakes(&world.endpoint), "a connection that is made wakes its core");
    world.drive("it is posted", || host.in_work(0) == 1);
    host.change(0, |card| card.closed = true);
    let unmade = world.connect(FIRST);
    let mut never = world.write(&unmade);
    let World { endpoint, transport, pool, host, .. } = world;
    drop((endpoint, transport));
    assert_eq!(completed(&mut waiting), Some(Err(TransferError::Ended)));
    assert_eq!(completed(&mut never), Some(Err(TransferError::Ended)));
    pool.drain_returns();
    assert_eq!(pool.leases(), 0);
    drop((pair, unmade, pool));
    host.change(0, |card| card.closed = false);
    (0..ROUNDS_MAX).find(|_| {
        pause();
        host.objects() == 0
    });
    assert_eq!(host.objects(), 0);
}

#[test]
fn who_comes_and_goes_is_bounded() {
    // Shows that queue pairs which the kernel still has, and nobody wants, are so many and no more.
    let host = Host::new(&[FIRST]);
    host.change(0, |card| card.closed = true);
    let world = open(&host);
    let mut made = 0;
    let refused = loop {
        match world.endpoint.connect(&world.alice, offer(FIRST)) {
            Ok(answer) => made += usize::from(world.endpoint.disconnect(answer.session, &world.alice)),
            Err(error) => break error,
        }
        assert!(made <= SESSIONS_MAX);
    };
    assert!(matches!(refused, ConnectError::TooMany), "{refused:?}");
    assert_eq!((made, host.pairs()), (SESSIONS_MAX, SESSIONS_MAX));
    host.change(0, |card| card.closed = false);
    world.drive("there is room again", || world.endpoint.connect(&world.alice, offer(FIRST)).is_ok());
    world.end();
}

#[test]
fn who_comes_and_goes_keeps_nobody_out() {
    // Shows that one principal's queue pairs that nobody wants leave room for another's, and that those are counted until they come
    // back, and no longer.
    let host = Host::new(&[FIRST]);
    host.change(0, |card| card.closed = true);
    let mut options = options(0);
    options.limits.principal_sessions_max = SESSIONS_MAX / 2;
    let world = open_with(&host, options);
    let bob = Principal::new("bob");
    for _ in 0..SESSIONS_MAX / 2 {
        let answer = world.endpoint.connect(&world.alice, offer(FIRST)).unwrap();
        world.endpoint.disconnect(answer.session, &world.alice);
    }
    let refused = world.endpoint.connect(&world.alice, offer(FIRST));
    assert!(matches!(refused, Err(ConnectError::TooMany)), "{refused:?}");
    world.endpoint.connect(&bob, offer(FIRST)).unwrap();
    host.change(0, |card| card.closed = false);
    world.drive("there is room again", || world.endpoint.connect(&world.alice, offer(FIRST)).is_ok());
    world.end();
}

#[test]
fn who_has_all_its_sessions_may_replace_one() {
    // Shows that sessions which wait for their queue pairs do not count as unwanted ones: whoever ends one of them may have another.
    let host = Host::new(&[FIRST]);
    host.change(0, |card| card.closed = true);
    let mut options = options(0);
    options.limits.principal_sessions_max = 3;
    let world = open_with(&host, options);
    let connect = || world.endpoint.connect(&world.alice, offer(FIRST));
    let mut last = [(); 3].map(|()| connect().unwrap()).map(|answer| answer.session)[2];
    // Each leaves a pair that nobody wants, of which there may be as many as sessions.
    for _ in 0..2 {
        assert!(matches!(connect(), Err(ConnectError::TooMany)));
        assert!(world.endpoint.disconnect(last, &world.alice));
        last = connect().unwrap().session;
    }
    assert!(world.endpoint.disconnect(last, &world.alice));
    assert!(matches!(connect(), Err(ConnectError::TooMany)));
    host.change(0, |card| card.closed = false);
    world.drive("there is room again", || connect().is_ok());
    world.end();
}

#[test]
fn a_device_that_does_not_let_go_keeps_the_memory() {
    // Shows that a lease the device may still touch is leaked and never reused, that its waiter is not told that it is free, and that
    // sessions without work in the device end as ever.
    let host = Host::new(&[FIRST]);
    let world = open(&host);
    let (stuck, idle) = (world.connect(FIRST), world.connect(FIRST));
    let mut write = world.write(&stuck);
    world.drive("it is posted", || host.in_work(0) == 1);
    host.change(0, |card| card.keeps_pairs = true);
    host.happens(0, IBV_EVENT_DEVICE_FATAL, None);
    world.drive("sessions end", || !stuck.session.is_open() && !idle.session.is_open());
    for _ in 0..5 {
        world.endpoint.poll();
    }
    assert_eq!((completed(&mut write), world.leases()), (None, 1));
    drop(write);
    assert_eq!(world.leases(), 1, "not even when nobody waits for it");
}

#[test]
fn completions_of_nothing_are_not_believed() {
    // Shows that numbers of work that was never posted, of sessions that are not there, and of the past complete nothing.
    let host = Host::new(&[FIRST]);
    let world = open(&host);
    let pair = world.connect(FIRST);
    world.assert_works(&pair, 0);
    let mut write = world.write(&pair);
    world.drive("it is posted", || host.in_work(0) == 1);
    for id in [0, 1 << 32, u64::MAX, 500, 7 << 32 | 1] {
        host.invent(id);
        world.endpoint.poll();
        assert_eq!(completed(&mut write), None, "{id:#x}");
    }
    host.work(0);
    assert_eq!(world.result(&mut write), Ok(BYTES as u32));
    drop(write);
    world.end();
}

#[test]
fn numbers_of_two_devices_are_not_mistaken() {
    // Shows that a queue pair which comes back from being connected, and is nobody's any more, is not taken for that of a session
    // on another device that has its place by now, though both have one number: numbers are a device's own.
    let host = Host::new(&[FIRST, SECOND]);
    let world = open(&host);
    host.change(0, |card| card.closed = true);
    host.change(1, |card| card.closed = true);
    let gone = world.connect(FIRST);
    world.endpoint.disconnect(gone.id, &world.alice);
    let there = world.connect(SECOND);
    assert_eq!(gone.number, there.number, "the case that is looked at");
    let mut write = world.write(&there);
    // The first comes back, to nobody.
    host.change(0, |card| card.closed = false);
    for _ in 0..200 {
        world.endpoint.poll();
        pause();
    }
    assert_eq!((host.in_work(0), host.in_work(1)), (0, 0), "bytes of one session go to the peer of another");
    host.change(1, |card| card.closed = false);
    world.drive("it is posted where it belongs", || host.in_work(1) == 1);
    host.work(1);
    assert_eq!(world.result(&mut write), Ok(BYTES as u32));
    drop(write);
    world.end();
}

#[test]
fn a_host_without_devices_says_what_to_do() {
    // Shows what is said where the kernel has no RDMA, where it has no device, and where it does not let this process have one: each by a
    // type of its own, with the answer of the library and what helps, whoever asks.
    let asked = |host: &Arc<Host>| {
        let answers = [
            device::devices_of(&LIBRARY).map(|found| found.len()),
            Rdma::with(&LIBRARY, &RdmaOptions::default()).map(|_| 0),
        ];
        assert_eq!(host.objects(), 0);
        answers
    };
    let host = Host::new(&[FIRST]);
    host.refuse_list(libc::ENOSYS);
    for answer in asked(&host) {
        let error = answer.unwrap_err();
        assert!(matches!(error, RdmaError::NoKernel { .. }), "{error}");
        let text = error.to_string();
        assert!(text.contains("load ib_uverbs") && text.contains("os error 38"), "{text}");
        assert_eq!(io::Error::from(error).kind(), io::ErrorKind::Unsupported);
    }
    host.refuse_list(libc::ENOMEM);
    for answer in asked(&host) {
        assert!(matches!(answer, Err(RdmaError::Device { what: "ibv_get_device_list", .. })), "{answer:?}");
    }

    let [devices, transport] = asked(&Host::new(&[]));
    assert_eq!(devices.unwrap(), 0);
    let text = transport.unwrap_err().to_string();
    assert!(text.contains("no RDMA device") && text.contains("rdma link add"), "{text}");

    let host = Host::new(&[FIRST]);
    for (number, advice) in
        [(libc::ENOENT, "a container"), (libc::EACCES, "this user"), (libc::EIO, "os error 5")]
    {
        host.change(0, |card| card.opening = Some(number));
        for answer in asked(&host) {
            let text = answer.unwrap_err().to_string();
            assert!(text.contains("paper0") && text.contains(advice), "{text}");
        }
    }
}

#[test]
fn a_device_that_can_not_be_opened_keeps_no_other_away() {
    // Shows that of all devices those that open are used, and that one which is named has to.
    let host = Host::new(&[FIRST, SECOND]);
    host.change(0, |card| card.opening = Some(libc::EACCES));
    assert_eq!(device::devices_of(&LIBRARY).unwrap().len(), 1);
    let world = open(&host);
    assert_eq!(world.transport.rails(), [("paper1/1".to_owned(), true)]);
    world.assert_works(&world.connect(SECOND), 1);
    world.end();
    let options = RdmaOptions { devices: vec!["paper0".to_owned()], ..RdmaOptions::default() };
    let refused = Rdma::with(&LIBRARY, &options);
    assert!(matches!(refused, Err(RdmaError::NotOpened { .. })), "{refused:?}");
}

#[test]
fn what_waits_for_its_queue_pair_is_given_up_when_it_is_cancelled() {
    // Shows that operations which wait for their queue pair complete as cancelled without it, with their memory, and that nothing of them is
    // posted when it comes; what was not cancelled is.
    let host = Host::new(&[FIRST]);
    let world = open(&host);
    host.change(0, |card| card.closed = true);
    let pair = world.connect(FIRST);
    let [mut first, mut second, mut third] = [(); 3].map(|()| world.write(&pair));
    first.cancel();
    third.cancel();
    assert_eq!(world.result(&mut first), Err(TransferError::Cancelled));
    assert_eq!(completed(&mut third), None, "those before it come first");
    second.cancel();
    assert_eq!(world.result(&mut second), Err(TransferError::Cancelled));
    assert_eq!(world.result(&mut third), Err(TransferError::Cancelled));
    assert_eq!(world.leases(), 0);
    let mut kept = world.write(&pair);
    host.change(0, |card| card.closed = false);
    world.drive("it is posted", || host.in_work(0) > 0);
    assert_eq!(host.in_work(0), 1, "and nothing else");
    host.work(0);
    assert_eq!(world.result(&mut kept), Ok(BYTES as u32));
    assert!(pair.session.is_open());
    drop((first, second, third, kept));
    world.end();
}

#[test]
fn what_waits_for_room_is_given_up_when_it_is_cancelled() {
    // Shows that of operations which wait for room in the device's queue nothing is posted after they were cancelled, and that those in the
    // device are done as ever, in their order.
    for number in [0, libc::ENOMEM] {
        let host = Host::new(&[FIRST]);
        // The device says so, or it is the session that knows.
        let room = if number == 0 { usize::MAX } else { 5 };
        host.change(0, |card| card.room = (room, number));
        let world = open(&host);
        let pair = world.connect(FIRST);
        world.assert_works(&pair, 0);
        let pieces = 200;
        let mut posted: Vec<_> = (0..CREDITS).map(|_| world.write_pieces(&pair, pieces)).collect();
        world.drive("the queue is full", || host.in_work(0) > 0);
        world.endpoint.poll();
        let in_device = host.in_work(0);
        posted.iter().for_each(Pending::cancel);
        let (mut results, mut done) = (Vec::new(), 0);
        world.drive("all are done", || {
            done += host.in_work(0);
            host.work(0);
            done -= host.in_work(0);
            while let Some(pending) = posted.get_mut(results.len()) {
                let Some(result) = completed(pending) else { break };
                results.push(result);
            }
            results.len() == posted.len()
        });
        let whole = in_device / pieces.div_ceil(16);
        let expected = |place| if place < whole { Ok(pieces as u32) } else { Err(TransferError::Cancelled) };
        assert_eq!(results, (0..CREDITS).map(expected).collect::<Vec<_>>());
        // One more than was in it already says when the device is done with the operation that was in it in part.
        assert_eq!(done, in_device + 1);
        assert!(pair.session.is_open());
        assert_eq!(world.leases(), 0);
        host.change(0, |card| card.room = (usize::MAX, 0));
        world.assert_works(&pair, 0);
        world.end();
    }
}
