//! What is made on a device: a protection domain, registered memory, completion queues, queue pairs. Windows are in `window`, what is
//! posted in `work`.
//!
//! ```text
//!   Context ◄── Domain ◄── Region (memory that the device may touch)
//!                  ▲  ▲
//!                  │  └─── Window (a part of a region, for one queue pair)
//!   Completions ◄──┴────── QueuePair ── post ──► … device … ──► Completions::poll
//! ```
//!
//! Each keeps what it was made on, so there is one order in which they end. What cannot be destroyed is leaked, with the memory that
//! the device may still touch through it, and said so in the log.

#![allow(unsafe_code)]

use super::{
    device::{Context, not_blocking},
    error::RdmaError,
    info::PathMtu,
    sys::*,
    work::{Batch, Piece},
};
use std::{
    any::Any,
    cell::Cell,
    ffi::{c_int, c_uint},
    mem,
    os::fd::BorrowedFd,
    ptr::{self, NonNull},
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
};

/// A protection domain: regions, windows and queue pairs of one domain know each other.
pub(super) struct Domain {
    context: Arc<Context>,
    domain: NonNull<ibv_pd>,
}

// SAFETY: as for `Context`.
unsafe impl Send for Domain {}
// SAFETY: as for `Context`.
unsafe impl Sync for Domain {}

impl Domain {
    pub(super) fn new(context: Arc<Context>) -> Result<Domain, RdmaError> {
        // SAFETY: the context is open.
        let domain = unsafe { (context.library().alloc_pd)(context.as_ptr()) };
        let domain = NonNull::new(domain).ok_or_else(|| RdmaError::last("ibv_alloc_pd"))?;
        Ok(Domain { context, domain })
    }

    pub(super) fn context(&self) -> &Arc<Context> {
        &self.context
    }

    pub(super) fn as_ptr(&self) -> *mut ibv_pd {
        self.domain.as_ptr()
    }
}

impl Drop for Domain {
    fn drop(&mut self) {
        // SAFETY: it is deallocated once, and what was made on it is gone: each such thing keeps it.
        let result = unsafe { (self.context.library().dealloc_pd)(self.domain.as_ptr()) };
        if result != 0 {
            tracing::warn!(device = self.context.name(), result, "a protection domain is leaked");
        }
    }
}

/// What a region may be used for, besides being read by its own side.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum RegionAccess {
    /// The device writes it, for work that was posted here.
    Local,
    /// As that, and windows into it are made.
    Windows,
    /// The other side reads it.
    RemoteRead,
    /// The other side writes it.
    RemoteWrite,
}

/// Memory that the device may touch.
pub(super) struct Region {
    domain: Arc<Domain>,
    region: NonNull<ibv_mr>,
    /// Keeps the memory mapped. Empty only while it is dropped.
    memory: Option<Arc<dyn Any + Send + Sync>>,
}

// SAFETY: as for `Context`; the memory is kept by something that is `Send` and `Sync`.
unsafe impl Send for Region {}
// SAFETY: as for `Context`.
unsafe impl Sync for Region {}

impl Region {
    /// Registers `bytes` bytes from `start` on. Pins them, which takes time.
    ///
    /// # Safety
    /// They are mapped, and stay so as long as `memory` or a clone of it exists.
    pub(super) unsafe fn new(
        domain: Arc<Domain>,
        start: *mut u8,
        bytes: usize,
        access: RegionAccess,
        memory: Arc<dyn Any + Send + Sync>,
    ) -> Result<Region, RdmaError> {
        let access = match access {
            RegionAccess::Local => IBV_ACCESS_LOCAL_WRITE,
            RegionAccess::Windows => IBV_ACCESS_LOCAL_WRITE | IBV_ACCESS_MW_BIND,
            RegionAccess::RemoteRead => IBV_ACCESS_REMOTE_READ,
            // The device that writes for the other side writes (ibv_reg_mr(3)).
            RegionAccess::RemoteWrite => IBV_ACCESS_LOCAL_WRITE | IBV_ACCESS_REMOTE_WRITE,
        };
        let register = domain.context.library().reg_mr;
        // SAFETY: the domain exists; that the memory is mapped for as long as the region is the caller's promise, and `memory`
        // is held until the region is gone.
        let region = unsafe { register(domain.domain.as_ptr(), start.cast(), bytes, access) };
        let region = NonNull::new(region).ok_or_else(|| RdmaError::last("ibv_reg_mr"))?;
        Ok(Region { domain, region, memory: Some(memory) })
    }

    pub(super) fn domain(&self) -> &Arc<Domain> {
        &self.domain
    }

    pub(super) fn as_ptr(&self) -> *mut ibv_mr {
        self.region.as_ptr()
    }

    /// What work that was posted here names it by.
    pub(super) fn local_key(&self) -> u32 {
        // SAFETY: the region is registered, and the library does not change it.
        unsafe { (*self.region.as_ptr()).lkey }
    }

    /// What the other side names it by.
    pub(super) fn remote_key(&self) -> u32 {
        // SAFETY: as above.
        unsafe { (*self.region.as_ptr()).rkey }
    }

    /// Ends the registration.
    ///
    /// # Errors
    /// The device did not: the memory is leaked, since it may still be reached.
    pub(super) fn deregister(mut self) -> Result<(), RdmaError> {
        self.end()
    }

    fn end(&mut self) -> Result<(), RdmaError> {
        let Some(memory) = self.memory.take() else { return Ok(()) };
        // SAFETY: it is registered, and this is done once: there was a memory to take.
        let result = unsafe { (self.domain.context.library().dereg_mr)(self.region.as_ptr()) };
        if result == 0 {
            return Ok(());
        }
        mem::forget(memory);
        Err(RdmaError::verb("ibv_dereg_mr", result))
    }
}

impl Drop for Region {
    fn drop(&mut self) {
        if let Err(error) = self.end() {
            tracing::error!(device = self.domain.context.name(), %error, "registered memory is leaked");
        }
    }
}

/// How work ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum WorkStatus {
    Done,
    /// It was in a queue pair that failed or was ended before.
    Flushed,
    /// The other side's memory is not to be reached in that way.
    Refused,
    /// The other side does not answer.
    TimedOut,
    /// A message was longer than the receive that it came to.
    TooLong,
    /// Anything else: the number that verbs have for it.
    Other(c_int),
}

/// One entry of a completion queue.
#[derive(Clone, Copy, Debug)]
pub(super) struct Completed {
    /// What the work was posted with.
    pub(super) id: u64,
    pub(super) status: WorkStatus,
    /// Of a receive: what came with it, and how many bytes went to its memory.
    pub(super) immediate: Option<u32>,
    pub(super) bytes: u32,
}

/// Entries that one call takes from a queue.
const BATCH: usize = 32;

/// Events that are acknowledged together: each acknowledgement takes a lock.
const EVENTS_UNACKNOWLEDGED_MAX: u32 = 64;

/// What a thread sleeps on for a completion queue.
struct Channel {
    context: Arc<Context>,
    channel: NonNull<ibv_comp_channel>,
}

impl Channel {
    fn new(context: Arc<Context>) -> Result<Channel, RdmaError> {
        // SAFETY: the context is open.
        let channel = unsafe { (context.library().create_comp_channel)(context.as_ptr()) };
        let channel = NonNull::new(channel).ok_or_else(|| RdmaError::last("ibv_create_comp_channel"))?;
        let channel = Channel { context, channel };
        not_blocking(channel.descriptor())?;
        Ok(channel)
    }

    fn descriptor(&self) -> BorrowedFd<'_> {
        // SAFETY: the channel exists.
        let descriptor = unsafe { (*self.channel.as_ptr()).fd };
        // SAFETY: it is open for as long as the channel is, which is borrowed.
        unsafe { BorrowedFd::borrow_raw(descriptor) }
    }
}

impl Drop for Channel {
    fn drop(&mut self) {
        // SAFETY: it is destroyed once, and its queue is gone, which owns it.
        let result = unsafe { (self.context.library().destroy_comp_channel)(self.channel.as_ptr()) };
        if result != 0 {
            tracing::warn!(device = self.context.name(), result, "a completion channel is leaked");
        }
    }
}

/// A completion queue, for whatever keeps it.
pub(super) struct CompletionQueue {
    channel: Channel,
    queue: NonNull<ibv_cq>,
    unacknowledged: AtomicU32,
}

// SAFETY: as for `Context`: the library's functions may be called by any thread.
unsafe impl Send for CompletionQueue {}
// SAFETY: as above; of its fields only the atomic one changes.
unsafe impl Sync for CompletionQueue {}

/// Takes completions from a queue. Stays on its thread.
pub(super) struct Completions {
    shared: Arc<CompletionQueue>,
    /// Whether the descriptor becomes readable with the next completion, or is.
    armed: Cell<bool>,
}

impl Completions {
    /// A queue with room for `entries`.
    pub(super) fn new(context: Arc<Context>, entries: usize) -> Result<Completions, RdmaError> {
        let channel = Channel::new(Arc::clone(&context))?;
        let entries = c_int::try_from(entries).unwrap_or(c_int::MAX);
        // SAFETY: context and channel exist, and are kept.
        let queue = unsafe {
            let create = context.library().create_cq;
            create(context.as_ptr(), entries, ptr::null_mut(), channel.channel.as_ptr(), 0)
        };
        let queue = NonNull::new(queue).ok_or_else(|| RdmaError::last("ibv_create_cq"))?;
        let shared = Arc::new(CompletionQueue { channel, queue, unacknowledged: AtomicU32::new(0) });
        Ok(Completions { shared, armed: Cell::new(false) })
    }

    fn context(&self) -> &Arc<Context> {
        self.shared.context()
    }

    /// What queue pairs keep.
    pub(super) fn shared(&self) -> &Arc<CompletionQueue> {
        &self.shared
    }

    fn queue(&self) -> *mut ibv_cq {
        self.shared.queue.as_ptr()
    }

    /// Becomes readable when the queue was armed and has something.
    pub(super) fn descriptor(&self) -> BorrowedFd<'_> {
        self.shared.channel.descriptor()
    }

    /// Takes what there is, up to a batch. Empty if there is nothing.
    ///
    /// # Errors
    /// The queue can not be read any more.
    pub(super) fn poll(&self) -> Result<impl Iterator<Item = Completed> + use<>, RdmaError> {
        // SAFETY: integers only, for which zeros are a value.
        let mut entries: [ibv_wc; BATCH] = unsafe { mem::zeroed() };
        let poll = self.context().ops().poll_cq.ok_or_else(|| missing("ibv_poll_cq"))?;
        // SAFETY: the queue exists; the function is its driver's, and writes as many entries as is said at most.
        let count = unsafe { poll(self.queue(), BATCH as c_int, entries.as_mut_ptr()) };
        let count = usize::try_from(count).map_err(|_| RdmaError::verb("ibv_poll_cq", libc::EIO))?;
        Ok(entries.into_iter().take(count).map(|entry| completed(&entry)))
    }

    /// Makes the descriptor readable as soon as there is a completion that was not there before. Whoever sleeps polls once more
    /// behind this.
    ///
    /// # Errors
    /// The device refused.
    pub(super) fn arm(&self) -> Result<(), RdmaError> {
        if self.armed.get() {
            return Ok(());
        }
        let arm = self.context().ops().req_notify_cq.ok_or_else(|| missing("ibv_req_notify_cq"))?;
        // SAFETY: the queue exists; the function is its driver's.
        let result = unsafe { arm(self.queue(), 0) };
        if result != 0 {
            return Err(RdmaError::verb("ibv_req_notify_cq", result));
        }
        self.armed.set(true);
        Ok(())
    }

    /// Makes the descriptor unreadable again.
    pub(super) fn take_event(&self) {
        if !self.armed.get() {
            return;
        }
        let (mut queue, mut nothing) = (ptr::null_mut(), ptr::null_mut());
        // SAFETY: the channel exists; the two are to be written. It does not block: see `Channel::new`.
        let result = unsafe {
            let get = self.context().library().get_cq_event;
            get(self.shared.channel.channel.as_ptr(), &mut queue, &mut nothing)
        };
        if result != 0 {
            return;
        }
        debug_assert_eq!(queue, self.queue(), "a channel has one queue");
        self.armed.set(false);
        if self.shared.unacknowledged.fetch_add(1, Ordering::Relaxed) + 1 >= EVENTS_UNACKNOWLEDGED_MAX {
            self.shared.acknowledge();
        }
    }
}

impl CompletionQueue {
    fn context(&self) -> &Arc<Context> {
        &self.channel.context
    }

    fn acknowledge(&self) {
        let count: c_uint = self.unacknowledged.swap(0, Ordering::Relaxed);
        if count > 0 {
            // SAFETY: the queue exists, and so many of its events were taken and not acknowledged.
            unsafe { (self.context().library().ack_cq_events)(self.queue.as_ptr(), count) };
        }
    }
}

pub(super) fn missing(what: &'static str) -> RdmaError {
    RdmaError::verb(what, libc::ENOSYS)
}

fn completed(entry: &ibv_wc) -> Completed {
    let status = status(entry);
    // Of one that failed the flags mean nothing.
    let with_immediate = status == WorkStatus::Done && entry.wc_flags & IBV_WC_WITH_IMM != 0;
    let immediate = with_immediate.then(|| u32::from_be(entry.imm_data));
    let bytes = if status == WorkStatus::Done { entry.byte_len } else { 0 };
    Completed { id: entry.wr_id, status, immediate, bytes }
}

fn status(entry: &ibv_wc) -> WorkStatus {
    match entry.status {
        IBV_WC_SUCCESS => WorkStatus::Done,
        IBV_WC_WR_FLUSH_ERR => WorkStatus::Flushed,
        IBV_WC_REM_ACCESS_ERR | IBV_WC_REM_INV_REQ_ERR => WorkStatus::Refused,
        IBV_WC_RETRY_EXC_ERR | IBV_WC_RNR_RETRY_EXC_ERR | IBV_WC_RESP_TIMEOUT_ERR => WorkStatus::TimedOut,
        IBV_WC_LOC_LEN_ERR => WorkStatus::TooLong,
        other => WorkStatus::Other(other),
    }
}

impl Drop for CompletionQueue {
    fn drop(&mut self) {
        // Or destroying it would wait for ever (ibv_destroy_cq(3)).
        self.acknowledge();
        // SAFETY: it is destroyed once, and its queue pairs are gone: each keeps it.
        let result = unsafe { (self.context().library().destroy_cq)(self.queue.as_ptr()) };
        if result != 0 {
            tracing::warn!(device = self.context().name(), result, "a completion queue is leaked");
        }
    }
}

/// How many of what a queue pair has room for.
#[derive(Clone, Copy, Debug)]
pub(super) struct QueuePairSize {
    /// Work that was posted and is not known to be done.
    pub(super) depth: u32,
    /// Receives that were posted and are not done.
    pub(super) receives: u32,
    /// Pieces of one work request.
    pub(super) pieces: u32,
}

/// The way to the other queue pair.
#[derive(Clone, Copy, Debug)]
pub(super) struct Path {
    pub(super) port: u8,
    /// The place of our address among those of the port.
    pub(super) gid_index: u8,
    pub(super) mtu: PathMtu,
    pub(super) peer_gid: [u8; 16],
    pub(super) peer_lid: u16,
    pub(super) peer_number: u32,
    /// The number of our first packet, and of the peer's: 24 bits.
    pub(super) sequence: u32,
    pub(super) peer_sequence: u32,
    /// READs of ours that the peer answers at a time.
    pub(super) reads_asked: u8,
    /// READs of the peer's that we answer at a time.
    pub(super) reads_answered: u8,
}

/// Retries after a time-out. One less than the most: with 7, soft-RoCE goes on for ever when the other queue pair is gone, where with 6
/// it gives up after half a second (measured on Linux 6.12).
const RETRIES: u8 = 6;
/// 4.096 µs × 2¹⁴ = 67 ms until a packet counts as lost.
const TIMEOUT: u8 = 14;
/// One less than for ever: a peer says so of memory that it has to fetch first, and one that says nothing else is given up after seconds.
const RECEIVER_RETRIES: u8 = 6;
/// 0.64 ms until such a retry.
const RECEIVER_TIMER: u8 = 12;
/// Routers between the two.
const HOP_LIMIT: u8 = 64;

/// A queue pair of a Reliable Connection. One thread at a time has it.
pub(super) struct QueuePair {
    domain: Arc<Domain>,
    /// Held for as long as the queue pair exists.
    _completions: Arc<CompletionQueue>,
    pair: NonNull<ibv_qp>,
    destroyed: bool,
}

// SAFETY: as for `Context`; whoever has it is the only one who uses it.
unsafe impl Send for QueuePair {}

impl QueuePair {
    /// A queue pair that is not connected.
    pub(super) fn new(
        domain: Arc<Domain>,
        completions: Arc<CompletionQueue>,
        size: QueuePairSize,
    ) -> Result<QueuePair, RdmaError> {
        let mut attributes = ibv_qp_init_attr {
            qp_context: ptr::null_mut(),
            send_cq: completions.queue.as_ptr(),
            recv_cq: completions.queue.as_ptr(),
            srq: ptr::null_mut(),
            cap: ibv_qp_cap {
                max_send_wr: size.depth,
                // Some drivers take no 0.
                max_recv_wr: size.receives.max(1),
                max_send_sge: size.pieces,
                max_recv_sge: 1,
                max_inline_data: 0,
            },
            qp_type: IBV_QPT_RC,
            sq_sig_all: 0,
        };
        // SAFETY: domain and queue exist, are of one context, and are kept; the attributes are read, and written with what became
        // of them.
        let pair = unsafe { (domain.context.library().create_qp)(domain.domain.as_ptr(), &mut attributes) };
        let pair = NonNull::new(pair).ok_or_else(|| RdmaError::last("ibv_create_qp"))?;
        Ok(QueuePair { domain, _completions: completions, pair, destroyed: false })
    }

    /// Its number, 24 bits.
    pub(super) fn number(&self) -> u32 {
        // SAFETY: the queue pair exists, and its number does not change.
        unsafe { (*self.pair.as_ptr()).qp_num }
    }

    /// Connects it. `remote_access` lets the other side reach windows and regions of this domain, as each of them says.
    ///
    /// The attributes are those that the states need (ibv_modify_qp(3)). On Ethernet the kernel looks for the peer's hardware
    /// address, which takes a second if nobody has it.
    ///
    /// # Errors
    /// The device or the kernel refused: there is no way to that peer, for instance.
    pub(super) fn connect(&self, path: &Path, remote_access: bool) -> Result<(), RdmaError> {
        let remote = if remote_access { IBV_ACCESS_REMOTE_READ | IBV_ACCESS_REMOTE_WRITE } else { 0 };
        let mut attributes = no_attributes();
        attributes.qp_state = IBV_QPS_INIT;
        attributes.port_num = path.port;
        attributes.qp_access_flags = remote.cast_unsigned();
        self.modify(&mut attributes, IBV_QP_STATE | IBV_QP_PKEY_INDEX | IBV_QP_PORT | IBV_QP_ACCESS_FLAGS)?;

        let mut attributes = no_attributes();
        attributes.qp_state = IBV_QPS_RTR;
        attributes.path_mtu = path.mtu as c_int;
        attributes.dest_qp_num = path.peer_number;
        attributes.rq_psn = path.peer_sequence;
        attributes.max_dest_rd_atomic = path.reads_answered;
        attributes.min_rnr_timer = RECEIVER_TIMER;
        attributes.ah_attr.port_num = path.port;
        attributes.ah_attr.dlid = path.peer_lid;
        attributes.ah_attr.is_global = 1;
        attributes.ah_attr.grh.dgid.raw = path.peer_gid;
        attributes.ah_attr.grh.sgid_index = path.gid_index;
        attributes.ah_attr.grh.hop_limit = HOP_LIMIT;
        let to_receive = IBV_QP_STATE | IBV_QP_AV | IBV_QP_PATH_MTU | IBV_QP_DEST_QPN | IBV_QP_RQ_PSN;
        self.modify(&mut attributes, to_receive | IBV_QP_MAX_DEST_RD_ATOMIC | IBV_QP_MIN_RNR_TIMER)?;

        let mut attributes = no_attributes();
        attributes.qp_state = IBV_QPS_RTS;
        attributes.sq_psn = path.sequence;
        attributes.max_rd_atomic = path.reads_asked;
        attributes.timeout = TIMEOUT;
        attributes.retry_cnt = RETRIES;
        attributes.rnr_retry = RECEIVER_RETRIES;
        let to_send = IBV_QP_STATE | IBV_QP_SQ_PSN | IBV_QP_MAX_QP_RD_ATOMIC | IBV_QP_TIMEOUT;
        self.modify(&mut attributes, to_send | IBV_QP_RETRY_CNT | IBV_QP_RNR_RETRY)
    }

    /// Ends what it has in flight: everything that was posted completes, as done or as flushed, and nothing new moves.
    pub(super) fn fail(&self) -> Result<(), RdmaError> {
        let mut attributes = no_attributes();
        attributes.qp_state = IBV_QPS_ERR;
        self.modify(&mut attributes, IBV_QP_STATE)
    }

    fn modify(&self, attributes: &mut ibv_qp_attr, mask: c_int) -> Result<(), RdmaError> {
        // SAFETY: the queue pair exists; the attributes are read.
        let result =
            unsafe { (self.domain.context.library().modify_qp)(self.pair.as_ptr(), attributes, mask) };
        if result == 0 { Ok(()) } else { Err(RdmaError::verb("ibv_modify_qp", result)) }
    }

    /// Posts what is in the batch, which is rung for once. Returns how many were taken, from the front, and the error number that
    /// the next one was refused with; the batch is as it was.
    ///
    /// # Safety
    /// Of each request that is taken, the device may touch the pieces until its completion, that of a later one of this queue
    /// pair, or the end of [`destroy`](QueuePair::destroy): until then they stay where they are, are written by nobody, and if the
    /// device writes them, are read by nobody. Windows and regions that they name exist until then.
    pub(super) unsafe fn post(&self, batch: &mut Batch) -> (usize, Option<c_int>) {
        let Some(first) = batch.link() else { return (0, None) };
        let mut refused = ptr::null_mut();
        let Some(post) = self.domain.context.ops().post_send else { return (0, Some(libc::ENOSYS)) };
        // SAFETY: the queue pair exists; the requests are linked, in the batch, and are not changed during the call; what becomes
        // of their pieces is the caller's promise.
        let result = unsafe { post(self.pair.as_ptr(), first, &mut refused) };
        if result == 0 {
            return (batch.len(), None);
        }
        let taken = batch.before(refused);
        // Drivers return the number, some of them negative.
        (taken, Some(result.abs()))
    }

    /// Posts a receive: for a message, or without memory, for the immediate data of a write.
    ///
    /// # Errors
    /// The error number that it was refused with.
    ///
    /// # Safety
    /// As for [`post`](QueuePair::post): the device may write the piece until the completion, or the end of
    /// [`destroy`](QueuePair::destroy).
    pub(super) unsafe fn post_receive(&self, id: u64, piece: Option<Piece>) -> Result<(), c_int> {
        let mut sge =
            piece.map(|piece| ibv_sge { addr: piece.address, length: piece.bytes, lkey: piece.local_key });
        let sg_list = sge.as_mut().map_or(ptr::null_mut(), ptr::from_mut);
        let num_sge = c_int::from(!sg_list.is_null());
        let mut request = ibv_recv_wr { wr_id: id, next: ptr::null_mut(), sg_list, num_sge };
        let mut refused = ptr::null_mut();
        let post = self.domain.context.ops().post_recv.ok_or(libc::ENOSYS)?;
        // SAFETY: the queue pair exists; the request and its list live through the call, which takes them apart; what becomes of the
        // piece is the caller's promise.
        let result = unsafe { post(self.pair.as_ptr(), &mut request, &mut refused) };
        if result == 0 { Ok(()) } else { Err(result.abs()) }
    }

    /// Ends it. Nothing that was posted touches memory any more when it returns.
    ///
    /// # Errors
    /// The device did not: whatever was posted may still be under way, for ever.
    pub(super) fn destroy(mut self) -> Result<(), RdmaError> {
        self.end()
    }

    fn end(&mut self) -> Result<(), RdmaError> {
        if mem::replace(&mut self.destroyed, true) {
            return Ok(());
        }
        // SAFETY: it exists, and is destroyed once.
        let result = unsafe { (self.domain.context.library().destroy_qp)(self.pair.as_ptr()) };
        if result == 0 { Ok(()) } else { Err(RdmaError::verb("ibv_destroy_qp", result)) }
    }
}

impl Drop for QueuePair {
    fn drop(&mut self) {
        if let Err(error) = self.end() {
            tracing::error!(device = self.domain.context.name(), %error, "a queue pair is leaked");
        }
    }
}

fn no_attributes() -> ibv_qp_attr {
    // SAFETY: integers only, for which zeros are a value.
    unsafe { mem::zeroed() }
}
