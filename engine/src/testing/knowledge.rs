//! What one client may expect of the store: its own history, with what is uncertain in it.
//!
//! A change whose answer the client did not get — the power went, a device failed, it turned away — has happened, will
//! happen, or never will. Until the store has come to rest such a change *floats*: it may land at any moment, also after a
//! later change was acknowledged. At rest what is there is read, and must be one of what could be.

use super::{
    model::Value,
    operation::{Condition, Key, UPLOADS},
};
use crate::{
    error::Error,
    layout::{EntityTag, UploadId, Version},
    object::types::{TagMatch, WriteCondition},
};
use std::collections::{BTreeMap, BTreeSet};

/// What may be under a name: a value, or none.
pub type State = Option<Value>;

/// What a name may hold.
#[derive(Clone, Debug)]
pub struct Known {
    /// One of these was there when the last acknowledged change or the last look was over.
    settled: Vec<State>,
    /// Each of these may have come since, or may come.
    floating: Vec<State>,
    /// No version from here down may come any more.
    pub version: Version,
}

impl Default for Known {
    fn default() -> Known {
        Known { settled: vec![None], floating: Vec::new(), version: Version(0) }
    }
}

impl Known {
    /// Everything that may be there.
    pub fn candidates(&self) -> impl Iterator<Item = &State> {
        self.settled.iter().chain(&self.floating)
    }

    /// What is there, if that is certain.
    pub fn certain(&self) -> Option<&State> {
        match (&self.settled[..], &self.floating[..]) {
            ([one], []) => Some(one),
            _ => None,
        }
    }

    /// What is most likely there.
    pub fn likely(&self) -> &State {
        &self.settled[0]
    }

    /// Whether something may land.
    pub fn floats(&self) -> bool {
        !self.floating.is_empty()
    }

    /// Whether something else may land than one change that is under way.
    pub fn floats_beside_one(&self) -> bool {
        self.floating.len() > 1
    }

    /// A change is asked for.
    pub fn begin(&mut self, state: State) {
        self.floating.push(state);
    }

    /// The change did not happen and will not.
    pub fn withdraw(&mut self, state: &State) {
        if let Some(index) = self.floating.iter().position(|floating| floating == state) {
            self.floating.swap_remove(index);
        }
    }

    /// The change has happened.
    pub fn acknowledge(&mut self, state: State) {
        self.withdraw(&state);
        self.settled = vec![state];
    }

    /// One of several changes has happened, nobody knows which.
    pub fn acknowledge_any(&mut self, states: Vec<State>) {
        states.iter().for_each(|state| self.withdraw(state));
        self.settled = states;
    }

    /// This is there. Says whether it may be.
    pub fn observe(&mut self, state: &State) -> bool {
        let possible = self.candidates().any(|candidate| candidate == state);
        if possible && !self.floats() {
            self.settled = vec![state.clone()];
        }
        possible
    }

    /// The store is at rest: nothing lands any more.
    pub fn come_to_rest(&mut self) {
        self.settled.append(&mut self.floating);
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
            uploads: [const { None }; UPLOADS],
            over: BTreeSet::new(),
            orphans_max: 0,
            operations: 0,
            failed: 0,
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
            if let Some(Some(value)) = self.keys.get(key).and_then(Known::certain)
                && value.etag == *etag
            {
                self.over.insert(*upload);
                *slot = None;
            }
        }
    }

    /// The own bucket is gone, and all that was in it.
    pub fn forget_bucket(&mut self) {
        self.bucket = vec![false];
        self.keys
            .iter_mut()
            .filter(|(key, _)| key.own_bucket)
            .for_each(|(_, known)| known.settled = vec![None]);
        for slot in &mut self.uploads {
            if let Some(gone) = slot.take_if(|upload| upload.key.own_bucket) {
                self.over.insert(gone.upload);
            }
        }
    }
}

/// The condition as the engine takes it, given what the client thinks is there.
pub fn write_condition(condition: Condition, likely: &State) -> WriteCondition {
    let tag = |bytes: &[u8]| TagMatch::Tags(EntityTag::new(bytes).into_iter().collect());
    let theirs = || tag(likely.as_ref().map_or(b"nothing", |value| &value.etag));
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
    let same = |state: &State| {
        state.is_some() && state.as_ref().map(|v| &v.etag) == known.likely().as_ref().map(|v| &v.etag)
    };
    let judge = |state: &State| match condition {
        Condition::None => Ok(()),
        Condition::Absent if state.is_some() => Err(Error::ConditionFailed),
        Condition::Matches | Condition::MatchesOther if state.is_none() => Err(Error::NoSuchKey),
        Condition::MatchesOther => Err(Error::ConditionFailed),
        Condition::Matches if !same(state) => Err(Error::ConditionFailed),
        Condition::Differs if same(state) => Err(Error::ConditionFailed),
        Condition::Absent | Condition::Matches | Condition::Differs => Ok(()),
    };
    known.candidates().map(judge).collect()
}
