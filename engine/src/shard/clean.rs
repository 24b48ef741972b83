//! The cleaner: moves packed payloads that are still wanted out of log zones that hold little else, so that the zones
//! can be written over.
//!
//! ```text
//!   covered zones ──choose──► few, with little in them ──walk of the catalog──► who has payloads there
//!        ▲                                                                          │ read, verified
//!        └── no live byte left: free ◄── old place forgotten ◄── MovePacked, durable ◄──┘
//! ```
//!
//! A move is a log entry like any other, and has an effect only if the payload is still where it was read: whoever
//! overwrote, deleted or completed it meanwhile has won. The old place is forgotten when the move is durable, and
//! is written over only then, and only when no reader holds it. A payload that can not be read, or does not hold its checksum, stays
//! where it is, and its zone with it: nobody may take damage for the object's bytes. Such a zone is left alone ([`Stuck`]) until
//! something more in it dies, or a while has passed: it would always be among the best to clean.
//!
//! What is read is kept until its group is durable. The shards of a core fill evenly, and their cleaners run at the same time: were each to
//! keep what it has and wait for more, all would wait for each other, and the core with them. So a group waits for memory
//! while it has none, and ends where there is no more ([`GroupMemory`]).

use super::{
    Shard, State,
    catalog::packed_of,
    space::{Packed, Pin, Worth},
};
use crate::{
    core_engine::CoreEngine,
    error::{DeviceOperation, Error, Region},
    events::FoundBy,
    index::{Index, key::decode},
    inspect::{Finding, Problem, Severity, name_in},
    layout::{BLOCK_BYTES, Content, Entry, LogPosition, PACKED_CHECKSUM_BYTES, PackedOwner, checksum},
    log::Proposal,
    planted::{Point, reach},
    reactor::{Core, Grant, Moment, yield_once},
};
use crossdock_transport::memory::{BufferLease, FrozenLease};
use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Bound,
    rc::Rc,
    time::Duration,
};

/// Zones cleaned in one walk of the catalog.
const VICTIMS_MAX: usize = 16;
/// Payloads of a pass: what is over waits for the next one.
const MOVES_MAX: usize = 64 * 1024;
/// Records looked at before other tasks run.
const WALK_STEP: usize = 256;
/// Bytes of leases that are filled before what was read is logged. A payload of little more than a block has a lease of 64 KiB.
const GROUP_BYTES: usize = 4 << 20;
/// Payloads in such a group.
const GROUP_PAYLOADS: usize = 256;

/// A zone is cleaned once so many percent of its payload are dead, as long as there is room: then what is written anew
/// is no more than what comes free.
const DEAD_PERCENT: u64 = 50;
/// The same when zones are short.
const DEAD_PERCENT_SHORT: u64 = 10;

/// Of a zone that an open found, what died before is not known: it is cleaned if what lives is so many percent of the zone at
/// most. That zones of small payloads are never full of them must not have all of them written anew after each open.
const FOUND_PERCENT: u64 = 25;
/// The same when zones are short: rather once too often than a store that is full of what is dead. What was moved is known from then on.
const FOUND_PERCENT_SHORT: u64 = 90;

/// How long a zone is left alone from which not all could be moved. A device that could not be read may be readable again.
const STUCK_FOR: Duration = Duration::from_secs(600);

/// A zone in which the cleaner had to leave something.
pub(super) struct Stuck {
    since: Moment,
    /// What lived in it then.
    live: u64,
    /// Where the payloads are that subscribers were told of.
    told: BTreeSet<u32>,
}

/// A payload to be moved.
struct Move {
    owner: PackedOwner,
    from: LogPosition,
    bytes: u32,
}

impl Move {
    /// Bytes between the start of the payload's first block and the payload, and bytes of all its blocks.
    fn blocks(&self) -> (usize, usize) {
        let lead = self.from.offset as usize % BLOCK_BYTES;
        (lead, (lead + self.bytes as usize).next_multiple_of(BLOCK_BYTES))
    }
}

/// The memory of a group, until the group is durable.
struct GroupMemory {
    core: Core,
    leased_bytes: usize,
    /// What it has of the share of its core's cleaners.
    shares: Vec<Grant>,
}

impl GroupMemory {
    fn of(core: &Core) -> GroupMemory {
        GroupMemory { core: core.clone(), leased_bytes: 0, shares: Vec::new() }
    }

    /// A lease for the next payload. The first is waited for, as long as it takes: nothing is held meanwhile that anybody waits for. None
    /// if what the group has is enough, or there is no more for it now.
    async fn lease(&mut self, bytes: usize) -> Option<BufferLease> {
        if self.leased_bytes == 0 {
            let lease = self.core.pool().acquire(bytes).await;
            self.leased_bytes = lease.capacity();
            return Some(lease);
        }
        // Counted by what leases take of the arena, which may be sixteen times what is in them.
        let room = GROUP_BYTES.checked_sub(self.leased_bytes)?;
        let lease = self.core.pool().try_acquire(bytes).filter(|lease| lease.capacity() <= room)?;
        // None: while a store is opened the payloads are moved one by one.
        self.shares.push(CoreEngine::of(&self.core)?.cleaning_share(lease.capacity())?);
        self.leased_bytes += lease.capacity();
        Some(lease)
    }
}

impl Shard {
    /// Cleans in the background, unless that is being done, or nothing is worth it.
    pub(super) fn clean_soon(&self) {
        let short = {
            let state = self.state.borrow();
            if state.cleaning || state.failed.is_some() || state.hole.is_some() || self.closing.get() {
                return;
            }
            let short = self.is_short(&state);
            if self.victims(&state, short).is_empty() {
                return;
            }
            short
        };
        let Some(shard) = self.strong() else { return };
        self.state.borrow_mut().cleaning = true;
        self.core
            .spawn_own(async move {
                if let Err(error) = shard.clean(short).await {
                    tracing::warn!(%error, shard = shard.id(), "cleaning stopped");
                }
                shard.state.borrow_mut().cleaning = false;
                shard.progressed();
            })
            .detach();
    }

    fn victims(&self, state: &State, short: bool) -> Vec<u32> {
        let dead_percent = if short { DEAD_PERCENT_SHORT } else { DEAD_PERCENT };
        let found_percent = if short { FOUND_PERCENT_SHORT } else { FOUND_PERCENT };
        let worth = Worth { dead_percent, found_percent };
        let (zone_bytes, now) = (self.zone_bytes(), state.tail.sequence);
        state.space.victims(VICTIMS_MAX, worth, zone_bytes, now, |zone| {
            let packed = state.catalog.packed_in(zone);
            // As if nothing were there to be moved, as nothing can be.
            if self.is_stuck(state, zone, packed.live) { Packed::default() } else { packed }
        })
    }

    fn is_stuck(&self, state: &State, zone: u32, live: u64) -> bool {
        let stuck = state.stuck_zones.get(&zone);
        stuck.is_some_and(|stuck| live >= stuck.live && self.core.now().since(stuck.since) < STUCK_FOR)
    }

    /// Notes that a payload stays where it is. Says whether it is the first time.
    fn leave_stuck(&self, place: LogPosition) -> bool {
        let mut state = self.state.borrow_mut();
        let (now, live) = (self.core.now(), state.catalog.packed_live(place.zone));
        let stuck =
            state.stuck_zones.entry(place.zone).or_insert(Stuck { since: now, live, told: BTreeSet::new() });
        (stuck.since, stuck.live) = (now, live);
        stuck.told.insert(place.offset)
    }

    /// One pass: chooses zones, finds what is in them, and moves it, one zone after the other.
    async fn clean(self: &Rc<Self>, short: bool) -> Result<(), Error> {
        let victims: BTreeSet<u32> = self.victims(&self.state.borrow(), short).into_iter().collect();
        let mut found = self.find_packed(&victims).await;
        // The emptiest first: each gives its zone back before the next one takes room.
        let mut order: Vec<u32> = victims.into_iter().collect();
        order.sort_by_key(|zone| self.state.borrow().catalog.packed_live(*zone));
        for zone in order {
            let moves = found.remove(&zone).unwrap_or_default();
            let mut rest = &moves[..];
            while !rest.is_empty() {
                rest = self.move_some(rest).await?;
                if self.closing.get() {
                    return Ok(());
                }
            }
            let mut state = self.state.borrow_mut();
            // What was moved out of it is no sign that more can be.
            let live = state.catalog.packed_live(zone);
            match state.stuck_zones.get_mut(&zone) {
                Some(stuck) => stuck.live = live,
                None => state.counts.zones_cleaned += 1,
            }
        }
        Ok(())
    }

    /// Who has payloads in these zones, by zone. Uploads first, as in a checkpoint: a part that becomes an object's
    /// during the walk is then found at least once.
    async fn find_packed(&self, zones: &BTreeSet<u32>) -> BTreeMap<u32, Vec<Move>> {
        let mut found = BTreeMap::new();
        let mut count = 0;
        let mut note = |content: &Content, owner: &dyn Fn() -> PackedOwner| {
            packed_of(content, &mut |from, bytes| {
                if zones.contains(&from.zone) && count < MOVES_MAX {
                    count += 1;
                    let moves: &mut Vec<Move> = found.entry(from.zone).or_default();
                    moves.push(Move { owner: owner(), from, bytes });
                }
            });
        };
        for upload in self.state.borrow().catalog.uploads() {
            for part in upload.parts.values() {
                let upload = upload.record.upload;
                note(&part.content, &|| PackedOwner::Part { upload, number: part.number });
            }
        }
        let mut after: Option<Box<[u8]>> = None;
        loop {
            let last = {
                let state = self.state.borrow();
                let from = match &after {
                    None => Bound::Unbounded,
                    Some(key) => Bound::Excluded(&**key),
                };
                let mut last = None;
                for (encoded, record) in state.catalog.index.range(from).take(WALK_STEP) {
                    last = Some(encoded);
                    let owner = |part| {
                        let (bucket, key, version) = decode(encoded);
                        PackedOwner::Version { bucket, key: key.into(), version, part }
                    };
                    match &record.content {
                        Content::Parts(parts) => {
                            parts.iter().for_each(|part| note(&part.content, &|| owner(Some(part.number))));
                        }
                        content => note(content, &|| owner(None)),
                    }
                }
                last.map(Box::from)
            };
            if last.is_none() {
                return found;
            }
            after = last;
            yield_once().await;
        }
    }

    /// Moves the first of these, and says which are left. Resolves when the moves are durable.
    async fn move_some<'a>(self: &Rc<Self>, moves: &'a [Move]) -> Result<&'a [Move], Error> {
        let mut group = Vec::new();
        let mut taken = 0;
        let mut memory = GroupMemory::of(&self.core);
        for wanted in moves.iter().take(GROUP_PAYLOADS) {
            let (_, whole) = wanted.blocks();
            let Some(lease) = memory.lease(whole).await else { break };
            taken += 1;
            let Some((content, pin)) = self.pin_packed(wanted) else { continue };
            let read = self.read_packed(wanted, &content, lease).await;
            self.close_object(pin);
            let Some(payload) = read else { continue };
            group.push((wanted, content, payload));
        }
        let ticket = {
            let mut state = self.state.borrow_mut();
            self.check_running(&state)?;
            let mut ticket = None;
            for (wanted, to, payload) in group {
                let (owner, from) = (wanted.owner.clone(), wanted.from);
                let entry = Entry::MovePacked { owner, from, to };
                let proposal = Proposal { entry, payload: Some(payload), touches_data: false };
                state.counts.payloads_moved += 1;
                ticket = Some(self.sequence(&mut state, proposal));
            }
            ticket
        };
        reach(Point::Relocating);
        if let Some(ticket) = ticket {
            self.durable(ticket).await?;
            reach(Point::Relocated);
        }
        drop(memory);
        Ok(moves.get(taken..).unwrap_or_default())
    }

    /// The payload's content, if it is still where it was found, with its zone held against reuse.
    fn pin_packed(&self, wanted: &Move) -> Option<(Content, Pin)> {
        let mut state = self.state.borrow_mut();
        let content = state.catalog.packed(&wanted.owner, wanted.from)?.clone();
        let pin = state.space.pin(&content);
        Some((content, pin))
    }

    /// Reads and verifies a packed payload; what it gives begins with it. None if it can not be read or does not hold: it is
    /// told of then, once, and its zone is stuck.
    async fn read_packed(&self, wanted: &Move, content: &Content, lease: BufferLease) -> Option<FrozenLease> {
        let Content::Packed { place, checksums, .. } = content else { return None };
        let ((lead, whole), bytes) = (wanted.blocks(), wanted.bytes as usize);
        let offset = self.log_offset(*place) - lead as u64;
        let device = self.device(Region::Log);
        let slot = device.queue().slot().await;
        let (result, mut lease) = device.read(slot, offset, lease, 0, whole).await.into_lease();
        // What the device does not give is as good as zeros: it does not hold.
        lease.set_len(result.as_ref().map_or(0, |count| (*count as usize).min(whole)));
        let payload = lease.as_slice().get(lead..lead + bytes).unwrap_or_default();
        let found = payload.chunks(PACKED_CHECKSUM_BYTES).map(checksum);
        if !found.eq(checksums.iter().copied()) {
            if self.leave_stuck(*place) {
                let error = result.err().map(|source| {
                    self.device_error(Region::Log, DeviceOperation::Read, offset, whole as u64, source)
                });
                tracing::error!(
                    shard = self.id(),
                    ?place,
                    bytes,
                    ?error,
                    "a packed payload is damaged: its zone is kept"
                );
                self.tell(self.damaged_payload(wanted, payload, checksums), FoundBy::Cleaner);
            }
            return None;
        }
        let end = lease.len();
        Some(lease.freeze().slice(lead..end))
    }

    /// The first block that does not hold, as a finding. `payload`: nothing if it can not be read.
    fn damaged_payload(&self, wanted: &Move, payload: &[u8], checksums: &[u64]) -> Finding {
        let blocks = payload.chunks(PACKED_CHECKSUM_BYTES).zip(checksums).enumerate();
        let mut wrong = blocks.filter(|(_, (block, expected))| checksum(block) != **expected);
        let (index, bytes, expected, found) = match wrong.next() {
            Some((index, (block, expected))) => (index, block.len(), *expected, checksum(block)),
            // Nothing of it can be read.
            None => {
                let expected = checksums.first().copied().unwrap_or_default();
                (0, (wanted.bytes as usize).min(PACKED_CHECKSUM_BYTES), expected, 0)
            }
        };
        let state = self.state.borrow();
        let object = match &wanted.owner {
            PackedOwner::Version { bucket, key, version, part } => {
                Some(name_in(&state.catalog, *bucket, key, Some(*version), *part))
            }
            PackedOwner::Part { upload, number } => state.catalog.upload(*upload).map(|known| {
                name_in(&state.catalog, known.record.bucket, &known.record.key, None, Some(*number))
            }),
        };
        let offset = self.log_offset(wanted.from) + (index * PACKED_CHECKSUM_BYTES) as u64;
        let problem = Problem::Bytes { bytes: bytes as u32, expected, found };
        let (region, offset) = self.files.locate(Region::Log, offset);
        let (shard, region) = (Some(self.id()), Some(region));
        Finding { shard, region, offset: Some(offset), object, severity: Severity::Damage, problem }
    }
}
