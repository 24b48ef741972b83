//! What one client may expect of the store: its own history, with what is uncertain in it.
//!
//! A change whose answer the client did not get — the power went, a device failed, it turned away — has happened, will
//! happen, or never will. Until the store has come to rest such a change *floats*: it may land at any moment, also after a
//! later change was acknowledged. At rest what is there is read, and must be one of what could be.

use super::{
    model::{Change, Kept, Value, Versions, current},
    operation::{Condition, Key, UPLOADS},
};
use crate::{
    error::Error,
    layout::{EntityTag, UploadId, Version, Versioning},
    object::types::{TagMatch, WriteCondition},
};
use std::collections::{BTreeMap, BTreeSet};

/// So many changes of one key may be under way, and so many ways things may stand: what more a client could begin would be
/// lost in them.
const FLOATING_MAX: usize = 2;
const WAYS_MAX: usize = 100;

/// Names a change that was asked for.
pub type Ticket = u64;

/// One of the ways things may stand.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Way {
    versions: Versions,
    /// The floating changes that have happened in it. Those that replace what they would replace again are not noted:
    /// nothing comes of taking them for possible once more but a few more ways.
    landed: BTreeSet<Ticket>,
}

/// A change that may come: one of these, in a bucket that is one of those.
#[derive(Clone, Debug)]
struct Floating {
    changes: Vec<Change>,
    under: Vec<Versioning>,
}

/// What a client was told that a change did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Made {
    /// Made an object, of this number, the null version or not.
    Object(Version, bool),
    /// Made a delete marker, of this number, the null version or not; and whether a version went for it.
    Marker(Version, bool, bool),
    /// Made nothing; whether something went.
    Nothing(bool),
}

impl Made {
    fn number(self) -> Option<Version> {
        match self {
            Made::Object(number, _) | Made::Marker(number, ..) => Some(number),
            Made::Nothing(_) => None,
        }
    }

    /// Whether a change from this to that, which adds a version or does not, may be told so.
    fn fits(self, before: &Versions, after: &Versions, adds: bool) -> bool {
        let went = before.len() + usize::from(adds) > after.len();
        match (self, after.first().filter(|_| adds)) {
            (Made::Object(_, null), Some(newest)) => newest.null == null && newest.value.is_some(),
            (Made::Marker(_, null, removed), Some(newest)) => {
                newest.null == null && newest.value.is_none() && went == removed
            }
            (Made::Nothing(removed), None) => went == removed,
            _ => false,
        }
    }
}

/// What a name may hold.
#[derive(Clone, Debug)]
pub struct Known {
    /// One of these was so when the last acknowledged change or the last look was over. There is at least one.
    ways: Vec<Way>,
    /// Each of these may have come since, or may come.
    floating: BTreeMap<Ticket, Floating>,
    next: Ticket,
    /// No version from here down may come any more.
    pub version: Version,
}

impl Default for Known {
    fn default() -> Known {
        let ways = vec![Way { versions: Vec::new(), landed: BTreeSet::new() }];
        Known { ways, floating: BTreeMap::new(), next: 0, version: Version(0) }
    }
}

impl Known {
    /// Of a name that holds just this.
    pub fn of(kept: Kept) -> Known {
        Known { ways: vec![Way { versions: vec![kept], landed: BTreeSet::new() }], ..Known::default() }
    }

    /// Every way that things may stand now; without this change having come.
    fn reach(&self, without: Option<Ticket>) -> Vec<Way> {
        let mut found = self.ways.clone();
        let mut at = 0;
        while let Some(way) = found.get(at).cloned() {
            at += 1;
            let may_come = |ticket: &Ticket| Some(*ticket) != without && !way.landed.contains(ticket);
            for (ticket, floating) in self.floating.iter().filter(|(ticket, _)| may_come(ticket)) {
                for (change, versioning) in floating.each() {
                    let mut next = way.clone();
                    next.versions = change.apply(&way.versions, versioning);
                    if versioning == Versioning::Enabled && change.adds(versioning) {
                        next.landed.insert(*ticket);
                    }
                    if !found.contains(&next) {
                        found.push(next);
                    }
                }
            }
        }
        found
    }

    /// Everything that may be there.
    pub fn candidates(&self) -> Vec<Versions> {
        self.reach(None).into_iter().map(|way| way.versions).collect()
    }

    /// What is there, if that is certain.
    pub fn certain(&self) -> Option<&Versions> {
        match &self.ways[..] {
            [way] if !self.floats() => Some(&way.versions),
            _ => None,
        }
    }

    /// What a reader most likely gets.
    pub fn likely(&self) -> Option<&Value> {
        current(&self.ways[0].versions)
    }

    /// Whether something may land.
    pub fn floats(&self) -> bool {
        !self.floating.is_empty()
    }

    /// Whether something else may land than one change that is under way.
    pub fn floats_beside_one(&self) -> bool {
        self.floating.len() > 1
    }

    /// Whether so much is uncertain that one more change would be lost in it.
    pub fn is_murky(&self) -> bool {
        let keeps = |floating: &Floating| floating.under != [Versioning::Never];
        let uncertain = self.floating.len() > FLOATING_MAX && self.floating.values().any(keeps);
        uncertain || self.ways.len() > WAYS_MAX
    }

    /// One of these changes is asked for, of a key whose bucket is one of those.
    pub fn begin(&mut self, changes: Vec<Change>, under: Vec<Versioning>) -> Ticket {
        self.next += 1;
        self.floating.insert(self.next, Floating { changes, under });
        self.next
    }

    /// The key's bucket may come to be like this, and what floats may land in it.
    pub fn also_under(&mut self, versioning: Versioning) {
        for floating in self.floating.values_mut().filter(|floating| !floating.under.contains(&versioning)) {
            floating.under.push(versioning);
        }
    }

    /// The change did not happen and will not.
    pub fn withdraw(&mut self, ticket: Ticket) {
        self.floating.remove(&ticket);
    }

    /// The change has happened, and the client was told this. Says whether that may be.
    pub fn acknowledge(&mut self, ticket: Ticket, made: Made) -> bool {
        let before = self.reach(Some(ticket));
        let Some(asked) = self.floating.remove(&ticket) else { return false };
        let mut ways: Vec<Way> = Vec::new();
        for way in before {
            for (change, versioning) in asked.each() {
                let mut versions = change.apply(&way.versions, versioning);
                if !made.fits(&way.versions, &versions, change.adds(versioning)) {
                    continue;
                }
                if let (Some(number), Some(newest)) = (made.number(), versions.first_mut()) {
                    newest.number = Some(number);
                }
                let way = Way { versions, landed: way.landed.clone() };
                if !ways.contains(&way) {
                    ways.push(way);
                }
            }
        }
        let newer = made.number().is_none_or(|number| number > self.version);
        self.version = made.number().unwrap_or(self.version);
        if ways.is_empty() || !newer {
            return false;
        }
        self.ways = ways;
        true
    }

    /// Something was seen that is so in the ways that `fits` says. Says whether there is one.
    pub fn observe(&mut self, fits: impl Fn(&Versions) -> bool) -> bool {
        let mut ways = self.reach(None);
        ways.retain(|way| fits(&way.versions));
        let possible = !ways.is_empty();
        if possible {
            self.ways = ways;
        }
        possible
    }

    /// The versions were seen, with these numbers: as many as there are in each way that is left.
    pub fn number(&mut self, numbers: &[Version]) {
        for way in &mut self.ways {
            way.versions.iter_mut().zip(numbers).for_each(|(kept, number)| kept.number = Some(*number));
        }
        self.drop_twins();
    }

    /// The store is at rest: nothing lands any more.
    pub fn come_to_rest(&mut self) {
        self.ways = self.reach(None);
        self.ways.iter_mut().for_each(|way| way.landed.clear());
        self.floating.clear();
        self.drop_twins();
    }

    fn drop_twins(&mut self) {
        let mut distinct: Vec<Way> = Vec::new();
        for way in self.ways.drain(..) {
            if !distinct.contains(&way) {
                distinct.push(way);
            }
        }
        self.ways = distinct;
    }
}

impl Floating {
    fn each(&self) -> impl Iterator<Item = (&Change, Versioning)> {
        let changes = &self.changes;
        self.under.iter().flat_map(move |under| changes.iter().map(|change| (change, *under)))
    }
}

/// An upload that the client has begun.
#[derive(Clone, Debug)]
pub struct KnownUpload {
    /// Its id.
    pub upload: UploadId,
    /// The key it will be.
    pub key: Key,
    /// What it was begun with.
    pub attributes: Vec<u8>,
    /// What is known of each part.
    pub parts: BTreeMap<u8, Known>,
    /// Whether it may be over: nobody said so.
    pub may_be_over: bool,
    /// The tag of the object that it may have become, and whether nothing else could replace that at once.
    pub completing: Option<(Vec<u8>, bool)>,
}

/// Everything one client knows.
#[derive(Clone, Debug)]
pub struct Knowledge {
    /// Which client.
    pub client: usize,
    keys: BTreeMap<Key, Known>,
    /// Whether the client's own bucket exists: what it may be.
    pub bucket: Vec<bool>,
    /// Whether the client's own bucket keeps versions: what it may be.
    pub versioning: Vec<Versioning>,
    /// The document of the client's own bucket: what it may be.
    pub document: Vec<Option<Vec<u8>>>,
    /// Uploads under way.
    pub uploads: [Option<KnownUpload>; UPLOADS],
    /// Uploads that are over.
    pub over: BTreeSet<UploadId>,
    /// Uploads that may have been begun without the client knowing their ids.
    pub orphans_max: usize,
    /// Operations done.
    pub operations: u64,
    /// Operations that a fault let fail.
    pub failed: u64,
    /// Operations among them that the memory of an index had no room for.
    pub index_full: u64,
    /// Objects that went over a card.
    pub transfers: u64,
    /// Transfers that a card or a misfortune ended.
    pub transfers_failed: u64,
    /// Set when something came back that can not be.
    pub wrong: Option<String>,
}

impl Knowledge {
    /// Of a fresh store.
    pub fn new(client: usize) -> Knowledge {
        Knowledge {
            client,
            keys: BTreeMap::new(),
            bucket: vec![false],
            versioning: vec![Versioning::Never],
            document: vec![None],
            uploads: [const { None }; UPLOADS],
            over: BTreeSet::new(),
            orphans_max: 0,
            operations: 0,
            failed: 0,
            index_full: 0,
            transfers: 0,
            transfers_failed: 0,
            wrong: None,
        }
    }

    /// What is known of a key.
    pub fn key(&mut self, key: Key) -> &mut Known {
        self.keys.entry(key).or_default()
    }

    /// Every key ever touched, with what is known of it.
    pub fn keys(&self) -> impl Iterator<Item = (Key, &Known)> {
        self.keys.iter().map(|(key, known)| (*key, known))
    }

    /// Whether the key's bucket may be there, and whether it may be missing.
    pub fn bucket_of(&self, key: Key) -> (bool, bool) {
        if key.own_bucket {
            (self.bucket.contains(&true), self.bucket.contains(&false))
        } else {
            (true, false)
        }
    }

    /// What the key's bucket may keep.
    pub fn under(&self, key: Key) -> Vec<Versioning> {
        if key.own_bucket { self.versioning.clone() } else { vec![Versioning::Never] }
    }

    /// The own bucket may come to keep versions, or not: says what it may have kept before.
    pub fn begin_versioning(&mut self, versioning: Versioning) -> Vec<Versioning> {
        let before = self.versioning.clone();
        if !before.contains(&versioning) {
            self.versioning.push(versioning);
        }
        self.own_keys().for_each(|known| known.also_under(versioning));
        before
    }

    fn own_keys(&mut self) -> impl Iterator<Item = &mut Known> {
        self.keys.iter_mut().filter(|(key, _)| key.own_bucket).map(|(_, known)| known)
    }

    /// The store is at rest, and its buckets are known: nothing lands any more.
    pub fn come_to_rest(&mut self) {
        self.keys.values_mut().for_each(Known::come_to_rest);
        for upload in self.uploads.iter_mut().flatten() {
            upload.parts.values_mut().for_each(Known::come_to_rest);
        }
        if self.bucket == [false] {
            self.forget_bucket();
        }
    }

    /// The keys have been read: an upload whose object is there is over.
    pub fn resolve_completions(&mut self) {
        for slot in &mut self.uploads {
            let Some(KnownUpload { upload, key, completing: Some((etag, _)), .. }) = slot else { continue };
            let is_it = |value: &Value| value.etag == *etag;
            if let Some(versions) = self.keys.get(key).and_then(Known::certain)
                && versions.iter().filter_map(|kept| kept.value.as_ref()).any(is_it)
            {
                self.over.insert(*upload);
                *slot = None;
            }
        }
    }

    /// The own bucket is gone, and all that was in it.
    pub fn forget_bucket(&mut self) {
        self.bucket = vec![false];
        // What floats may land in the next one of the name.
        self.versioning = vec![Versioning::Never];
        self.document = vec![None];
        for known in self.own_keys() {
            known.ways = Known::default().ways;
            known.also_under(Versioning::Never);
        }
        for slot in &mut self.uploads {
            if let Some(gone) = slot.take_if(|upload| upload.key.own_bucket) {
                self.over.insert(gone.upload);
            }
        }
    }
}

/// The condition as the engine takes it, given what the client thinks is there.
pub fn write_condition(condition: Condition, likely: Option<&Value>) -> WriteCondition {
    let tag = |bytes: &[u8]| TagMatch::Tags(EntityTag::new(bytes).into_iter().collect());
    let theirs = || tag(likely.map_or(b"nothing", |value| &value.etag));
    match condition {
        Condition::None => WriteCondition::default(),
        Condition::Absent => WriteCondition::absent(),
        Condition::Matches => WriteCondition { if_match: Some(theirs()), if_none_match: None },
        Condition::MatchesOther => WriteCondition { if_match: Some(tag(b"other")), if_none_match: None },
        Condition::Differs => WriteCondition { if_match: None, if_none_match: Some(theirs()) },
    }
}

/// What a change may be answered: `Ok` if the condition holds.
pub fn answers(condition: Condition, known: &Known) -> Vec<Result<(), Error>> {
    let likely = known.likely().map(|value| &value.etag);
    let judge = |versions: Versions| {
        let value = current(&versions);
        let same = value.is_some() && value.map(|value| &value.etag) == likely;
        match condition {
            Condition::None => Ok(()),
            Condition::Absent if value.is_some() => Err(Error::ConditionFailed),
            Condition::Matches | Condition::MatchesOther if value.is_none() => Err(Error::NoSuchKey),
            Condition::MatchesOther => Err(Error::ConditionFailed),
            Condition::Matches if !same => Err(Error::ConditionFailed),
            Condition::Differs if same => Err(Error::ConditionFailed),
            Condition::Absent | Condition::Matches | Condition::Differs => Ok(()),
        }
    };
    known.candidates().into_iter().map(judge).collect()
}
