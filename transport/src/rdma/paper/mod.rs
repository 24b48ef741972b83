//! A library of paper: what libibverbs exports, over cards that do what a test tells them.
//!
//! It shows what a real card seldom does: a queue that is full earlier than it said, memory that it does not take, an address that nobody
//! finds, a queue pair or a whole device that fails, an end that is refused. No byte moves.
//!
//! A test makes a [`Host`], which is that of its thread, and opens the transport on it. Every object that the library hands out is
//! known by its address, so that a call about one that is gone, or gone twice, is noticed.

#![allow(unsafe_code)]

mod tests;

use super::{library::Library, sys::*};
use rustix::event::{EventfdFlags, eventfd};
use std::{
    cell::RefCell,
    collections::{HashMap, VecDeque},
    ffi::{CString, c_char, c_int, c_uint, c_void},
    mem,
    os::fd::{AsRawFd, OwnedFd},
    ptr,
    sync::{Arc, Condvar, Mutex, MutexGuard},
};

/// Where the cards are.
pub(super) struct Host {
    state: Mutex<State>,
    /// Rung when a gate opens, or an event is acknowledged.
    gate: Condvar,
}

#[derive(Default)]
struct State {
    cards: Vec<Card>,
    /// What the list of devices is refused with.
    list: Option<c_int>,
    /// Lists of devices, each a number by whose address it is known.
    lists: HashMap<usize, Box<[u64]>>,
    /// Of contexts, domains and regions: the card that they are of.
    plain: HashMap<usize, usize>,
    channels: HashMap<usize, Channel>,
    queues: HashMap<usize, Queue>,
    pairs: HashMap<usize, Pair>,
}

/// A card with one port.
pub(super) struct Card {
    name: CString,
    address: [u8; 16],
    pub(super) active: bool,
    /// What opening is refused with.
    pub(super) opening: Option<c_int>,
    events: VecDeque<ibv_async_event>,
    bell: OwnedFd,
    /// What registrations are refused with.
    pub(super) registration: Option<c_int>,
    /// Work that one queue pair takes, whatever was asked for, and what one more is refused with.
    pub(super) room: (usize, c_int),
    /// Queue pairs wait here to be connected.
    pub(super) closed: bool,
    /// What a connection comes to.
    pub(super) connection: c_int,
    /// Queue pairs can not be destroyed.
    pub(super) keeps_pairs: bool,
    /// Work is done as it is posted.
    pub(super) eager: bool,
    /// What was in a queue pair that failed is not heard of again.
    pub(super) swallows: bool,
    /// What the doorbell is refused with, behind work that was taken.
    pub(super) doorbell: Option<c_int>,
    /// Queue pairs that were made: numbers are a card's own.
    made: u32,
}

struct Channel {
    bell: OwnedFd,
    queue: usize,
}

#[derive(Default)]
struct Queue {
    channel: usize,
    armed: bool,
    /// Events that were told of it, and not acknowledged.
    told: c_uint,
    entries: VecDeque<ibv_wc>,
}

struct Pair {
    card: usize,
    queue: usize,
    number: u32,
    failed: bool,
    /// Events that were told of it, and not acknowledged.
    told: u32,
    /// Posted and not done: the number of each, and whether it is signalled.
    work: VecDeque<(u64, bool)>,
}

thread_local! {
    static HOST: RefCell<Option<Arc<Host>>> = const { RefCell::new(None) };
}

/// Whose each object is.
static OBJECTS: Mutex<Option<HashMap<usize, Arc<Host>>>> = Mutex::new(None);

fn objects<R>(look: impl FnOnce(&mut HashMap<usize, Arc<Host>>) -> R) -> R {
    look(OBJECTS.lock().unwrap().get_or_insert_default())
}

/// The host of an object that the library handed out.
fn host<T>(object: *mut T) -> Arc<Host> {
    objects(|objects| objects.get(&object.addr()).cloned()).expect("an object that the library has")
}

/// Hands out an object.
fn hand_out<T>(host: &Arc<Host>, object: T) -> *mut T {
    let object = Box::into_raw(Box::new(object));
    objects(|objects| objects.insert(object.addr(), Arc::clone(host)));
    object
}

/// Takes one back.
fn take_back<T>(object: *mut T) {
    objects(|objects| objects.remove(&object.addr())).expect("an object that ends once");
    // SAFETY: it was in the table, so it was handed out by `hand_out`, and not taken back before; by its address it is of this type.
    drop(unsafe { Box::from_raw(object) });
}

impl Host {
    /// A host with cards of those IPv4 addresses, which is this thread's.
    pub(super) fn new(addresses: &[[u8; 4]]) -> Arc<Host> {
        let card = |(index, address): (usize, &[u8; 4])| {
            let [a, b, c, d] = *address;
            Card {
                name: CString::new(format!("paper{index}")).unwrap(),
                address: [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, a, b, c, d],
                active: true,
                opening: None,
                events: VecDeque::new(),
                bell: bell(EventfdFlags::SEMAPHORE),
                registration: None,
                room: (usize::MAX, 0),
                closed: false,
                connection: 0,
                keeps_pairs: false,
                eager: false,
                swallows: false,
                doorbell: None,
                made: 0,
            }
        };
        let cards = addresses.iter().enumerate().map(card).collect();
        let state = Mutex::new(State { cards, ..State::default() });
        let host = Arc::new(Host { state, gate: Condvar::new() });
        HOST.with(|current| current.replace(Some(Arc::clone(&host))));
        host
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    /// From now on the list of devices is refused.
    pub(super) fn refuse_list(&self, number: c_int) {
        self.lock().list = Some(number);
    }

    /// Changes what a card does.
    pub(super) fn change(&self, card: usize, change: impl FnOnce(&mut Card)) {
        change(&mut self.lock().cards[card]);
        self.gate.notify_all();
    }

    /// Work that is in a card.
    pub(super) fn in_work(&self, card: usize) -> usize {
        let state = self.lock();
        state.pairs.values().filter(|pair| pair.card == card).map(|pair| pair.work.len()).sum()
    }

    /// Does the oldest work of each queue pair of a card.
    pub(super) fn work(&self, card: usize) {
        let mut state = self.lock();
        let of_card = state.pairs.iter().filter(|(_, pair)| pair.card == card);
        let pairs: Vec<usize> = of_card.map(|(address, _)| *address).collect();
        for pair in pairs {
            let Some((id, signalled)) = state.pairs.get_mut(&pair).and_then(|pair| pair.work.pop_front())
            else {
                continue;
            };
            if signalled {
                state.complete(pair, id, IBV_WC_SUCCESS);
            }
        }
    }

    /// Something happens to a card, or to the queue pair of that number on it.
    pub(super) fn happens(&self, card: usize, event_type: c_int, number: Option<u32>) {
        let mut state = self.lock();
        let pair = number.map(|number| {
            let found = state.pairs.iter().find(|(_, pair)| (pair.card, pair.number) == (card, number));
            *found.expect("a queue pair of that number").0 as u64
        });
        let card = &mut state.cards[card];
        card.events.push_back(ibv_async_event { element: pair.unwrap_or(1), event_type });
        ring(&card.bell);
    }

    /// An entry in every completion queue that nobody's work led to.
    pub(super) fn invent(&self, id: u64) {
        let mut state = self.lock();
        for queue in state.queues.values_mut() {
            queue.entries.push_back(entry(id, IBV_WC_SUCCESS));
        }
    }

    /// Objects of the library that are not gone.
    pub(super) fn objects(self: &Arc<Host>) -> usize {
        objects(|objects| objects.values().filter(|host| Arc::ptr_eq(host, self)).count())
    }

    pub(super) fn pairs(&self) -> usize {
        self.lock().pairs.len()
    }
}

impl State {
    /// An entry for work of a queue pair.
    fn complete(&mut self, pair: usize, id: u64, status: c_int) {
        let Some(queue) = self.pairs.get(&pair).and_then(|pair| self.queues.get_mut(&pair.queue)) else {
            return;
        };
        queue.entries.push_back(entry(id, status));
        if mem::take(&mut queue.armed) {
            ring(&self.channels[&queue.channel].bell);
        }
    }

    fn card_of<T>(&mut self, object: *mut T) -> &mut Card {
        let card = self.plain[&object.addr()];
        &mut self.cards[card]
    }
}

fn bell(flags: EventfdFlags) -> OwnedFd {
    eventfd(0, flags | EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK).unwrap()
}

fn ring(bell: &OwnedFd) {
    rustix::io::write(bell, &1u64.to_ne_bytes()).unwrap();
}

fn entry(id: u64, status: c_int) -> ibv_wc {
    // SAFETY: integers only, for which zeros are a value.
    let mut entry: ibv_wc = unsafe { mem::zeroed() };
    (entry.wr_id, entry.status) = (id, status);
    entry
}

/// What C functions do that fail.
fn failed<T: FromFailure>(number: c_int) -> T {
    // SAFETY: the address of this thread's own error number.
    let place = unsafe { libc::__errno_location() };
    // SAFETY: as above.
    unsafe { *place = number };
    T::from_failure()
}

trait FromFailure {
    fn from_failure() -> Self;
}

impl<T> FromFailure for *mut T {
    fn from_failure() -> Self {
        ptr::null_mut()
    }
}

impl FromFailure for c_int {
    fn from_failure() -> Self {
        -1
    }
}

/// Writes what a function returns by a pointer.
fn give<T>(place: *mut T, value: T) {
    // SAFETY: each caller of the library gives places of that type to be written.
    unsafe { place.write(value) };
}

pub(super) static LIBRARY: Library = Library {
    get_device_list,
    free_device_list,
    get_device_name,
    open_device,
    close_device,
    query_device,
    query_port,
    query_gid_table,
    get_async_event,
    ack_async_event,
    alloc_pd,
    dealloc_pd,
    reg_mr,
    dereg_mr,
    create_comp_channel,
    destroy_comp_channel,
    create_cq,
    destroy_cq,
    get_cq_event,
    ack_cq_events,
    create_qp,
    modify_qp,
    destroy_qp,
};

/// What devices of a list are known by.
fn addresses(devices: &[u64]) -> impl Iterator<Item = usize> {
    devices.iter().map(|device| ptr::from_ref(device).addr())
}

unsafe extern "C" fn get_device_list(count: *mut c_int) -> *mut *mut ibv_device {
    let host = HOST.with(|host| host.borrow().clone()).expect("this thread has a host");
    if let Some(number) = host.lock().list {
        return failed(number);
    }
    let cards = host.lock().cards.len();
    let devices: Box<[u64]> = (0..cards as u64).collect();
    let list: Vec<*mut ibv_device> = addresses(&devices).map(ptr::without_provenance_mut).collect();
    let list = Box::leak(list.into_boxed_slice()).as_mut_ptr();
    give(count, cards as c_int);
    objects(|objects| {
        let known = addresses(&devices).chain([list.addr()]);
        objects.extend(known.map(|address| (address, Arc::clone(&host))));
    });
    host.lock().lists.insert(list.addr(), devices);
    list
}

unsafe extern "C" fn free_device_list(list: *mut *mut ibv_device) {
    let host = host(list);
    let devices = host.lock().lists.remove(&list.addr()).expect("a list that is freed once");
    let whole = ptr::slice_from_raw_parts_mut(list, devices.len());
    objects(|objects| {
        objects.remove(&list.addr());
        addresses(&devices).for_each(|device| drop(objects.remove(&device)));
    });
    // SAFETY: it was leaked by `get_device_list` with that length, and is in the table no more.
    drop(unsafe { Box::from_raw(whole) });
}

/// The place of a device among the cards.
fn index(device: *mut ibv_device) -> (Arc<Host>, usize) {
    let host = host(device);
    let index =
        host.lock().lists.values().find_map(|list| addresses(list).position(|known| known == device.addr()));
    (host, index.expect("a device of a list"))
}

unsafe extern "C" fn get_device_name(device: *mut ibv_device) -> *const c_char {
    let (host, index) = index(device);
    host.lock().cards[index].name.as_ptr()
}

unsafe extern "C" fn open_device(device: *mut ibv_device) -> *mut ibv_context {
    let (host, index) = index(device);
    if let Some(number) = host.lock().cards[index].opening {
        return failed(number);
    }
    // SAFETY: null pointers, no functions and integers, for which zeros are a value.
    let mut context: ibv_context = unsafe { mem::zeroed() };
    context.ops.poll_cq = Some(poll_cq);
    context.ops.req_notify_cq = Some(req_notify_cq);
    context.ops.post_send = Some(post_send);
    context.async_fd = host.lock().cards[index].bell.as_raw_fd();
    let context = hand_out(&host, context);
    host.lock().plain.insert(context.addr(), index);
    context
}

unsafe extern "C" fn close_device(context: *mut ibv_context) -> c_int {
    end_plain(context)
}

fn end_plain<T>(object: *mut T) -> c_int {
    host(object).lock().plain.remove(&object.addr()).expect("an object that ends once");
    take_back(object);
    0
}

unsafe extern "C" fn query_device(context: *mut ibv_context, attributes: *mut ibv_device_attr) -> c_int {
    assert!(host(context).lock().plain.contains_key(&context.addr()));
    // SAFETY: integers only, for which zeros are a value.
    let mut device: ibv_device_attr = unsafe { mem::zeroed() };
    (device.max_qp, device.max_qp_wr, device.max_sge) = (1000, 1000, 30);
    (device.max_cq, device.max_cqe, device.max_mr) = (1000, 100_000, 1000);
    (device.max_qp_rd_atom, device.max_qp_init_rd_atom, device.phys_port_cnt) = (16, 16, 1);
    give(attributes, device);
    0
}

unsafe extern "C" fn query_port(context: *mut ibv_context, _: u8, attributes: *mut ibv_port_attr) -> c_int {
    let host = host(context);
    let mut state = host.lock();
    // SAFETY: integers only, for which zeros are a value.
    let mut port: ibv_port_attr = unsafe { mem::zeroed() };
    port.state = if state.card_of(context).active { IBV_PORT_ACTIVE } else { 1 };
    (port.active_mtu, port.gid_tbl_len, port.max_msg_sz) = (IBV_MTU_1024, 1, 1 << 20);
    port.link_layer = IBV_LINK_LAYER_ETHERNET;
    give(attributes, port);
    0
}

unsafe extern "C" fn query_gid_table(
    context: *mut ibv_context,
    entries: *mut ibv_gid_entry,
    room: usize,
    _: u32,
    _: usize,
) -> isize {
    assert_eq!(room, 1);
    let raw = host(context).lock().card_of(context).address;
    let gid = ibv_gid { raw };
    let gid_type = IBV_GID_TYPE_ROCE_V2;
    give(entries, ibv_gid_entry { gid, gid_index: 0, port_num: 1, gid_type, ndev_ifindex: 0 });
    1
}

unsafe extern "C" fn get_async_event(context: *mut ibv_context, event: *mut ibv_async_event) -> c_int {
    let host = host(context);
    let mut state = host.lock();
    let card = state.card_of(context);
    if let Err(error) = rustix::io::read(&card.bell, &mut [0; 8]) {
        return failed(error.raw_os_error());
    }
    let happened = card.events.pop_front().expect("rung for each");
    if let Some(pair) = state.pairs.get_mut(&(happened.element as usize)) {
        pair.told += 1;
    }
    give(event, happened);
    0
}

unsafe extern "C" fn ack_async_event(event: *mut ibv_async_event) {
    // SAFETY: the caller gives an event to be read.
    let element = unsafe { (*event).element } as usize;
    // Events about a device or a port are of nobody.
    let known = objects(|objects| objects.get(&element).cloned());
    let Some(host) = known else { return };
    if let Some(pair) = host.lock().pairs.get_mut(&element) {
        pair.told = pair.told.checked_sub(1).expect("what was told is acknowledged once");
    }
    host.gate.notify_all();
}

unsafe extern "C" fn alloc_pd(context: *mut ibv_context) -> *mut ibv_pd {
    let host = host(context);
    let domain = hand_out(&host, ibv_pd { context, handle: 0 });
    let card = host.lock().plain[&context.addr()];
    host.lock().plain.insert(domain.addr(), card);
    domain
}

unsafe extern "C" fn dealloc_pd(domain: *mut ibv_pd) -> c_int {
    end_plain(domain)
}

unsafe extern "C" fn reg_mr(domain: *mut ibv_pd, addr: *mut c_void, length: usize, _: c_int) -> *mut ibv_mr {
    let host = host(domain);
    let card = host.lock().plain[&domain.addr()];
    if let Some(number) = host.lock().cards[card].registration {
        return failed(number);
    }
    let key = 100 + card as u32;
    let context = ptr::null_mut();
    let region = ibv_mr { context, pd: domain, addr, length, handle: 0, lkey: key, rkey: key };
    let region = hand_out(&host, region);
    host.lock().plain.insert(region.addr(), card);
    region
}

unsafe extern "C" fn dereg_mr(region: *mut ibv_mr) -> c_int {
    end_plain(region)
}

unsafe extern "C" fn create_comp_channel(context: *mut ibv_context) -> *mut ibv_comp_channel {
    let host = host(context);
    let bell = bell(EventfdFlags::empty());
    let channel = hand_out(&host, ibv_comp_channel { context, fd: bell.as_raw_fd(), refcnt: 0 });
    host.lock().channels.insert(channel.addr(), Channel { bell, queue: 0 });
    channel
}

unsafe extern "C" fn destroy_comp_channel(channel: *mut ibv_comp_channel) -> c_int {
    host(channel).lock().channels.remove(&channel.addr()).expect("a channel that ends once");
    take_back(channel);
    0
}

unsafe extern "C" fn create_cq(
    context: *mut ibv_context,
    cqe: c_int,
    cq_context: *mut c_void,
    channel: *mut ibv_comp_channel,
    _: c_int,
) -> *mut ibv_cq {
    let host = host(context);
    let queue = hand_out(&host, ibv_cq { context, channel, cq_context, handle: 0, cqe });
    let mut state = host.lock();
    state.queues.insert(queue.addr(), Queue { channel: channel.addr(), ..Queue::default() });
    state.channels.get_mut(&channel.addr()).expect("a channel").queue = queue.addr();
    queue
}

unsafe extern "C" fn destroy_cq(queue: *mut ibv_cq) -> c_int {
    let host = host(queue);
    let mut state = host.lock();
    if state.pairs.values().any(|pair| pair.queue == queue.addr()) {
        return libc::EBUSY;
    }
    assert_eq!(state.queues[&queue.addr()].told, 0, "the library would wait for ever");
    state.queues.remove(&queue.addr()).expect("a queue that ends once");
    drop(state);
    take_back(queue);
    0
}

unsafe extern "C" fn get_cq_event(
    channel: *mut ibv_comp_channel,
    queue: *mut *mut ibv_cq,
    _: *mut *mut c_void,
) -> c_int {
    let host = host(channel);
    let mut state = host.lock();
    let channel = &state.channels[&channel.addr()];
    if let Err(error) = rustix::io::read(&channel.bell, &mut [0; 8]) {
        return failed(error.raw_os_error());
    }
    let place = channel.queue;
    give(queue, ptr::without_provenance_mut(place));
    state.queues.get_mut(&place).expect("a queue").told += 1;
    0
}

unsafe extern "C" fn ack_cq_events(queue: *mut ibv_cq, count: c_uint) {
    let host = host(queue);
    let mut state = host.lock();
    let known = state.queues.get_mut(&queue.addr()).expect("a queue");
    known.told = known.told.checked_sub(count).expect("what was told is acknowledged once");
}

unsafe extern "C" fn create_qp(domain: *mut ibv_pd, attributes: *mut ibv_qp_init_attr) -> *mut ibv_qp {
    let host = host(domain);
    // SAFETY: the caller gives attributes to be read.
    let queue = unsafe { (*attributes).send_cq };
    // SAFETY: null pointers and integers, for which zeros are a value.
    let mut pair: ibv_qp = unsafe { mem::zeroed() };
    let mut state = host.lock();
    let card = state.plain[&domain.addr()];
    state.cards[card].made += 1;
    let number = state.cards[card].made;
    pair.qp_num = number;
    let pair = hand_out(&host, pair);
    let posted = Pair { card, queue: queue.addr(), number, failed: false, told: 0, work: VecDeque::new() };
    state.pairs.insert(pair.addr(), posted);
    pair
}

unsafe extern "C" fn modify_qp(pair: *mut ibv_qp, attributes: *mut ibv_qp_attr, _: c_int) -> c_int {
    let host = host(pair);
    // SAFETY: the caller gives attributes to be read.
    let wanted = unsafe { (*attributes).qp_state };
    let mut state = host.lock();
    match wanted {
        IBV_QPS_RTR => {
            let card = state.pairs[&pair.addr()].card;
            let state = host.gate.wait_while(state, |state| state.cards[card].closed).unwrap();
            return state.cards[card].connection;
        }
        IBV_QPS_ERR => {
            let known = state.pairs.get_mut(&pair.addr()).expect("a queue pair");
            known.failed = true;
            let (card, flushed) = (known.card, mem::take(&mut known.work));
            if !state.cards[card].swallows {
                flushed.iter().for_each(|(id, _)| state.complete(pair.addr(), *id, IBV_WC_WR_FLUSH_ERR));
            }
        }
        _ => {}
    }
    0
}

unsafe extern "C" fn destroy_qp(pair: *mut ibv_qp) -> c_int {
    let host = host(pair);
    let mut state = host.lock();
    let card = state.pairs[&pair.addr()].card;
    if state.cards[card].keeps_pairs {
        return libc::EBUSY;
    }
    // As the library does: whoever looks at an event of it has it until then.
    state = host.gate.wait_while(state, |state| state.pairs[&pair.addr()].told > 0).unwrap();
    state.pairs.remove(&pair.addr());
    drop(state);
    take_back(pair);
    0
}

unsafe extern "C" fn poll_cq(queue: *mut ibv_cq, room: c_int, entries: *mut ibv_wc) -> c_int {
    let host = host(queue);
    let mut state = host.lock();
    let queue = state.queues.get_mut(&queue.addr()).expect("a queue");
    let count = queue.entries.len().min(room as usize);
    for (place, entry) in queue.entries.drain(..count).enumerate() {
        give(entries.wrapping_add(place), entry);
    }
    count as c_int
}

unsafe extern "C" fn req_notify_cq(queue: *mut ibv_cq, _: c_int) -> c_int {
    host(queue).lock().queues.get_mut(&queue.addr()).expect("a queue").armed = true;
    0
}

unsafe extern "C" fn post_send(
    pair: *mut ibv_qp,
    mut request: *mut ibv_send_wr,
    refused: *mut *mut ibv_send_wr,
) -> c_int {
    let host = host(pair);
    let mut state = host.lock();
    while !request.is_null() {
        // SAFETY: the caller gives a list of requests to be read.
        let ibv_send_wr { wr_id, next, send_flags, .. } = unsafe { *request };
        let known = &state.pairs[&pair.addr()];
        let card = &state.cards[known.card];
        let (room, number) = card.room;
        let signalled = send_flags & IBV_SEND_SIGNALED != 0;
        if known.failed {
            if !card.swallows {
                state.complete(pair.addr(), wr_id, IBV_WC_WR_FLUSH_ERR);
            }
        } else if known.work.len() >= room {
            give(refused, request);
            return number;
        } else if !card.eager {
            state.pairs.get_mut(&pair.addr()).expect("just seen").work.push_back((wr_id, signalled));
        } else if signalled {
            state.complete(pair.addr(), wr_id, IBV_WC_SUCCESS);
        }
        request = next;
    }
    let card = state.pairs[&pair.addr()].card;
    state.cards[card].doorbell.unwrap_or(0)
}
