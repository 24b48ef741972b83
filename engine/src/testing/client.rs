//! A client: does operations one after the other, and knows what each may answer.

use super::{
    harm::{Tolerance, shard_of},
    knowledge::{Knowledge, Known, KnownUpload, Made, Ticket, answers, write_condition},
    model::{Change, Line, Value, Versions, current},
    operation::{
        Body, Condition, GivesUp, Key, Operation, SHARED_BUCKET, Slice, list_delimiter, list_prefix,
        own_bucket,
    },
    readers::Held,
};
use crate::{
    core_engine::CoreEngine,
    error::{Error, Resource},
    layout::{EntityTag, Versioning},
    object::{
        get::Get,
        put::Put,
        types::{
            CommitOptions, Delete, Deleted, GetOptions, ListItem, ListOptions, ListStart, ObjectInfo,
            PutOptions, Select, VersionItem, VersionKind, Which, WriteCondition,
        },
    },
};
use bytes::Bytes;
use crossdock_transport::simulated::SimulatedNic;
use std::{cell::RefCell, fmt, future::Future, pin::pin, rc::Rc, task::Poll};

/// A client's knowledge, shared by its tasks.
pub type Shared = Rc<RefCell<Knowledge>>;

/// One operation on its way: whose, through which cores, and which errors are excused.
pub struct Call {
    /// Whose.
    pub known: Shared,
    /// The core that the client is on, and another one.
    pub engines: [CoreEngine; 2],
    /// What the faults excuse.
    pub tolerance: Tolerance,
    /// Different for every operation of a history.
    pub nonce: u64,
    /// What the client holds open.
    pub held: Held,
    /// Over which its memory is reached.
    pub card: SimulatedNic,
}

type Checked = Result<(), String>;

/// A change that was begun: its ticket, what it may be answered, and its condition.
type Asked = (Ticket, Vec<Result<(), Error>>, WriteCondition);

impl Call {
    /// Does it.
    ///
    /// # Errors
    /// An answer that can not be.
    pub async fn perform(&self, operation: &Operation) -> Checked {
        let outcome = match *operation {
            Operation::Put { key, body, declared, condition, gives_up } => {
                self.put(key, body, declared, condition, gives_up).await
            }
            Operation::Race { key, bodies, condition } => self.race(key, bodies, condition).await,
            Operation::Delete { key, condition } => self.delete(key, condition).await,
            Operation::Get { key, slice, gives_up } => self.get(key, slice, gives_up).await,
            Operation::Head { key } => self.head(key).await,
            Operation::List { own_bucket, prefix, delimiter, after, limit } => {
                self.list(own_bucket, prefix, delimiter, after, limit).await
            }
            Operation::Copy { from, to, condition } => self.copy(from, to, condition).await,
            Operation::CreateUpload { slot, key } => self.create_upload(slot, key).await,
            Operation::PutPart { slot, number, body, gives_up } => {
                self.put_part(slot, number, body, gives_up).await
            }
            Operation::CopyPart { slot, number, from } => self.copy_part(slot, number, from).await,
            Operation::ListParts { slot } => self.list_parts(slot).await,
            Operation::ListUploads { own_bucket } => self.list_uploads(own_bucket).await,
            Operation::Complete { .. } => self.complete(operation).await,
            Operation::Abort { slot } => self.abort(slot).await,
            Operation::CreateBucket => self.create_bucket().await,
            Operation::DeleteBucket => self.delete_bucket().await,
            Operation::Buckets => self.buckets().await,
            Operation::Checkpoint => self.checkpoint().await,
            Operation::SetVersioning { versioning } => self.set_versioning(versioning).await,
            Operation::ListVersions { own_bucket, prefix, delimiter, after, limit } => {
                self.list_versions(own_bucket, prefix, delimiter, after, limit).await
            }
            Operation::GetVersion { key, nth, slice } => self.get_version(key, nth, slice).await,
            Operation::DeleteVersion { key, nth, condition } => {
                self.delete_version(key, nth, condition).await
            }
            Operation::DeleteMany { own_bucket, names } => self.delete_many(own_bucket, names).await,
            Operation::SetAttributes { key, nth, seed } => self.set_attributes(key, nth, seed).await,
            Operation::SetDocument { seed } => self.set_document(seed).await,
            Operation::Scrub { yields } => self.scrub(yields).await,
            Operation::Repair { key, nth, others } => self.repair(key, nth, others).await,
            Operation::Hold { key, slice, chunks } => self.hold(key, slice, chunks).await,
            Operation::ReadOn => self.read_on().await,
            Operation::ReadAcross { key, other, slice, seed } => {
                self.read_across(key, other, slice, seed).await
            }
            Operation::GetRemote { key, slice, slack, misfortune } => {
                self.get_remote(key, slice, slack, misfortune).await
            }
            Operation::PutRemote { key, body, declared, condition, misfortune } => {
                self.put_remote(key, body, declared, condition, misfortune).await
            }
        };
        outcome.map_err(|wrong| format!("client {}, {operation:?}: {wrong}", self.client()))
    }

    pub(super) fn client(&self) -> usize {
        self.known.borrow().client
    }

    pub(super) fn engine(&self) -> &CoreEngine {
        &self.engines[0]
    }

    pub(super) fn with_key<T>(&self, key: Key, look: impl FnOnce(&mut Known) -> T) -> T {
        look(self.known.borrow_mut().key(key))
    }

    /// An error: excused by a fault, or wrong.
    pub(super) fn excuse(&self, error: &Error) -> Checked {
        if self.tolerance.excuses(error) {
            let mut known = self.known.borrow_mut();
            known.failed += 1;
            known.index_full += u64::from(*error == Error::Busy(Resource::Index));
            return Ok(());
        }
        Err(format!("answered {error:?}"))
    }

    /// As [`Call::excuse`], of an error about these keys only: no other shard than theirs has anything to do with it.
    pub(super) fn excuse_of(&self, keys: &[Key], error: &Error) -> Checked {
        let client = self.client();
        let place = |key: &Key| self.engine().shard_of(&key.bucket(client), &key.bytes(client));
        match shard_of(error) {
            Some(shard) if !keys.iter().any(|key| place(key) == shard) => {
                Err(format!("answered {error:?}, where {keys:?} are on other shards"))
            }
            _ => self.excuse(error),
        }
    }

    /// An error that a missing bucket explains.
    pub(super) fn explains_missing_bucket(&self, key: Key, error: &Error) -> bool {
        *error == Error::NoSuchBucket && self.known.borrow().bucket_of(key).1
    }

    pub(super) fn bucket_may_exist(&self, key: Key) -> Checked {
        match self.known.borrow().bucket_of(key).0 {
            true => Ok(()),
            false => Err("succeeded in a bucket that is not there".into()),
        }
    }

    // ── changes of a key ──

    /// A change of a key is asked for, one of these. None if the client has lost sight of the key.
    pub(super) fn begin(&self, key: Key, changes: Vec<Change>, condition: Condition) -> Option<Asked> {
        let mut known = self.known.borrow_mut();
        let under = known.under(key);
        let known = known.key(key);
        if known.is_murky() {
            return None;
        }
        let asked = (answers(condition, known), write_condition(condition, known.likely()));
        Some((known.begin(changes, under), asked.0, asked.1))
    }

    /// Takes down the answer to a change of a key that was begun.
    pub(super) fn settle(
        &self,
        key: Key,
        ticket: Ticket,
        allowed: &[Result<(), Error>],
        answer: Result<Made, Error>,
    ) -> Checked {
        self.settle_from(&[key], key, ticket, allowed, answer)
    }

    /// As [`Call::settle`], of a change of a key that others had part in.
    fn settle_from(
        &self,
        keys: &[Key],
        key: Key,
        ticket: Ticket,
        allowed: &[Result<(), Error>],
        answer: Result<Made, Error>,
    ) -> Checked {
        match answer {
            Ok(made) => {
                self.bucket_may_exist(key)?;
                if !allowed.contains(&Ok(())) {
                    return Err(format!("succeeded where it may be answered {allowed:?} only"));
                }
                self.with_key(key, |known| {
                    let before = known.clone();
                    match known.acknowledge(ticket, made) {
                        true => Ok(()),
                        false => Err(format!("made {made:?}, where {before:?} was")),
                    }
                })
            }
            Err(error) => {
                if !error.is_uncertain() {
                    self.with_key(key, |known| known.withdraw(ticket));
                }
                if allowed.contains(&Err(error.clone())) || self.explains_missing_bucket(key, &error) {
                    return Ok(());
                }
                self.excuse_of(keys, &error)
            }
        }
    }

    pub(super) async fn put(
        &self,
        key: Key,
        body: Body,
        declared: bool,
        condition: Condition,
        gives_up: GivesUp,
    ) -> Checked {
        let value = body.value();
        let Some((ticket, allowed, condition)) = self.begin(key, vec![Change::Put(value.clone())], condition)
        else {
            return Ok(());
        };
        let (client, engine) = (self.client(), self.engine());
        let size = declared.then_some(value.bytes.len() as u64);
        let put = engine.put(&key.bucket(client), &key.bytes(client), PutOptions { size }).await;
        let filled = match put {
            Ok(put) => fill(put, &value.bytes, gives_up).await,
            Err(error) => Err(error),
        };
        let answer = match filled {
            Ok(Some(put)) => {
                let commit = put.finish(commit_options(&value, condition));
                match give_up(commit, gives_up).await {
                    Some(answer) => answer.as_ref().map(made).map_err(Error::clone),
                    // It floats: it may come or not.
                    None => return Ok(()),
                }
            }
            Ok(None) => {
                self.with_key(key, |known| known.withdraw(ticket));
                return Ok(());
            }
            Err(error) => Err(error),
        };
        self.settle(key, ticket, &allowed, answer)
    }

    async fn race(&self, key: Key, bodies: [Body; 2], condition: Condition) -> Checked {
        let values = bodies.map(Body::value);
        let Some((first, allowed, asked)) = self.begin(key, vec![Change::Put(values[0].clone())], condition)
        else {
            return Ok(());
        };
        let under = self.known.borrow().under(key);
        let second = self.with_key(key, |known| known.begin(vec![Change::Put(values[1].clone())], under));
        let client = self.client();
        let tasks: Vec<_> = values
            .into_iter()
            .zip(&self.engines)
            .map(|(value, engine)| {
                let (engine, condition) = (engine.clone(), asked.clone());
                let core = engine.core().clone();
                core.spawn_own(async move {
                    let size = Some(value.bytes.len() as u64);
                    let put =
                        engine.put(&key.bucket(client), &key.bytes(client), PutOptions { size }).await?;
                    match fill(put, &value.bytes, GivesUp::No).await? {
                        Some(put) => put.finish(commit_options(&value, condition)).await,
                        None => Err(Error::Closed),
                    }
                })
            })
            .collect();
        let mut answers = Vec::new();
        for (ticket, task) in [first, second].into_iter().zip(tasks) {
            answers.push((ticket, task.await));
        }
        // In the order in which they happened, which their versions tell; what failed last.
        answers.sort_by_key(|(_, answer)| answer.as_ref().map_or(u64::MAX, |info| info.version.0));
        let count = answers.iter().filter(|(_, answer)| answer.is_ok()).count();
        let failed = answers.iter().any(|(_, answer)| answer.as_ref().is_err_and(Error::is_uncertain));
        if condition == Condition::Absent && count > 1 {
            return Err("two writers made a key that was absent".into());
        }
        for (ticket, answer) in answers {
            match answer {
                // The other one was first.
                Err(Error::ConditionFailed) if condition == Condition::Absent && (count > 0 || failed) => {
                    self.with_key(key, |known| known.withdraw(ticket));
                }
                answer => {
                    self.settle(key, ticket, &allowed, answer.as_ref().map(made).map_err(Error::clone))?
                }
            }
        }
        Ok(())
    }

    async fn delete(&self, key: Key, condition: Condition) -> Checked {
        // S3 knows no If-None-Match on DELETE.
        let condition = if condition == Condition::Absent { Condition::None } else { condition };
        let Some((ticket, allowed, condition)) = self.begin(key, vec![Change::Delete], condition) else {
            return Ok(());
        };
        let (client, engine) = (self.client(), self.engine());
        let delete = Delete { condition, ..Delete::current(&key.bytes(client)) };
        let answer = engine.delete(&key.bucket(client), delete).await;
        self.settle_delete(key, ticket, &allowed, answer)
    }

    pub(super) fn settle_delete(
        &self,
        key: Key,
        ticket: Ticket,
        allowed: &[Result<(), Error>],
        answer: Result<Deleted, Error>,
    ) -> Checked {
        if let Err(Error::Full { .. } | Error::Busy(_)) = answer
            && self.known.borrow().under(key) == [Versioning::Never]
        {
            return Err("a delete was refused for lack of room".into());
        }
        let made = answer.map(|deleted| match deleted.marker {
            Some(marker) => Made::Marker(marker.version, marker.is_null_version, deleted.removed.is_some()),
            None => Made::Nothing(deleted.removed.is_some()),
        });
        self.settle(key, ticket, allowed, made)
    }

    async fn copy(&self, from: Key, to: Key, condition: Condition) -> Checked {
        let etag = format!("copy-{}", self.nonce).into_bytes();
        let sources = self.with_key(from, |known| known.candidates());
        let absent = sources.iter().any(|source| current(source).is_none());
        let copies = sources.iter().filter_map(|source| current(source)).map(|source| {
            let (bytes, attributes) = (source.bytes.clone(), b"copied".to_vec());
            Change::Put(Value { bytes, etag: etag.clone(), attributes })
        });
        let copies: Vec<Change> = copies.collect();
        let nothing = copies.is_empty();
        let Some((ticket, allowed, write)) = self.begin(to, copies, condition) else { return Ok(()) };
        let (client, engine) = (self.client(), self.engine());
        let (source, target) = (from.bytes(client), to.bytes(client));
        let options = CommitOptions {
            etag: EntityTag::new(&etag),
            attributes: Bytes::from_static(b"copied"),
            condition: write,
            decided_by: None,
        };
        let answer = engine
            .copy(
                (&from.bucket(client), &source, GetOptions::default()),
                (&to.bucket(client), &target),
                options,
            )
            .await;
        if let Err(error) = &answer
            && (is_absent(error) && absent || self.explains_missing_bucket(from, error))
        {
            self.with_key(to, |known| known.withdraw(ticket));
            return Ok(());
        }
        if nothing && answer.is_ok() {
            return Err("copied what is not there".into());
        }
        let answer = answer.as_ref().map(made).map_err(Error::clone);
        self.settle_from(&[from, to], to, ticket, &allowed, answer)
    }

    // ── looking ──

    async fn get(&self, key: Key, slice: Slice, gives_up: GivesUp) -> Checked {
        let client = self.client();
        let length = self.with_key(key, |known| known.likely().map_or(0, |value| value.bytes.len() as u64));
        let select = select_of(slice, length);
        let chunks_max = match gives_up {
            GivesUp::No => usize::MAX,
            GivesUp::After(count) | GivesUp::Committing(count) => usize::from(count),
        };
        let options = GetOptions { select, version: Which::Current };
        // Where reads are shared somebody else reads the same at the same time, and goes on when this one gives up.
        let other = self.engine().cache().takes(1).then(|| {
            let (engine, bucket, name) = (self.engine().clone(), key.bucket(client), key.bytes(client));
            let options = options.clone();
            let reading = async move { read(&engine, &bucket, &name, options, usize::MAX).await };
            self.engine().core().spawn_own(reading)
        });
        let found = read(self.engine(), &key.bucket(client), &key.bytes(client), options, chunks_max).await;
        let Some(other) = other else { return self.check_read(key, select, found) };
        // Nobody knows which of the two looked first, and what floats may have come in between.
        let (other, before) = (other.await, self.with_key(key, |known| known.clone()));
        let judge = |read: &Result<Read, Error>| self.check_read(key, select, read.clone());
        judge(&found).and_then(|()| judge(&other)).or_else(|_| {
            self.with_key(key, |known| *known = before);
            judge(&other).and_then(|()| judge(&found))
        })
    }

    /// Whether something read may be what a key holds.
    pub(super) fn check_read(&self, key: Key, select: Select, found: Result<Read, Error>) -> Checked {
        let found = match found {
            Ok(found) => found,
            Err(ref error) if is_absent(error) => {
                // A shard that has stopped writing could not take the record of a deleted bucket away; it goes at the
                // next open.
                if !self.tolerance.harm.any_may_have_stopped() {
                    self.bucket_may_exist(key)?;
                }
                let fits = |versions: &Versions| match (error, versions.first()) {
                    (Error::DeleteMarker(marker), Some(newest)) => {
                        newest.value.is_none()
                            && newest.null == marker.is_null_version
                            && newest.number.is_none_or(|number| number == marker.version)
                    }
                    (Error::NoSuchKey, newest) => newest.is_none(),
                    _ => false,
                };
                return self.with_key(key, |known| match known.observe(fits) {
                    true => Ok(()),
                    false => Err(format!("{error}, where {known:?} is")),
                });
            }
            Err(Error::RangeNotSatisfiable { size }) => {
                let fits = |versions: &Versions| {
                    current(versions).is_some_and(|value| value.bytes.len() as u64 == size)
                };
                return match self.with_key(key, |known| known.observe(fits))
                    && range_of(select, size).is_none()
                {
                    true => Ok(()),
                    false => Err(format!("range not satisfiable in {size} bytes")),
                };
            }
            Err(error) if self.explains_missing_bucket(key, &error) => return Ok(()),
            Err(error) => return self.excuse_of(&[key], &error),
        };
        self.bucket_may_exist(key)?;
        let fits = |versions: &Versions| current(versions).is_some_and(|value| found.is_of(value, select));
        self.with_key(key, |known| match known.observe(fits) {
            true => Ok(()),
            false => Err(format!("{found}, where {known:?} is")),
        })
    }

    async fn head(&self, key: Key) -> Checked {
        let client = self.client();
        let info = match self.engine().head(&key.bucket(client), &key.bytes(client), Which::Current).await {
            Ok(info) => info,
            Err(error) => return self.check_read(key, Select::Whole, Err(error)),
        };
        self.bucket_may_exist(key)?;
        let fits = |versions: &Versions| {
            versions.first().is_some_and(|newest| {
                newest.null == info.is_null_version
                    && newest.number.is_none_or(|number| number == info.version)
                    && newest.value.as_ref().is_some_and(|value| {
                        value.etag == info.etag.as_bytes()
                            && value.attributes == info.attributes[..]
                            && value.bytes.len() as u64 == info.size
                    })
            })
        };
        self.with_key(key, |known| match known.observe(fits) {
            true => Ok(()),
            false => Err(format!("found {info:?}, where {known:?} is")),
        })
    }

    async fn list(&self, own: bool, prefix: u8, delimiter: u8, after: Option<u8>, limit: u8) -> Checked {
        let client = self.client();
        let any_key = Key { own_bucket: own, name: 0 };
        let after = after.map(|name| Key { own_bucket: own, name }.bytes(client));
        let (prefix, delimiter) = (list_prefix(client, prefix), list_delimiter(delimiter));
        let bucket = any_key.bucket(client);
        let start = after.clone().map_or(ListStart::First, ListStart::After);
        let options = ListOptions {
            prefix: prefix.clone(),
            delimiter: delimiter.into(),
            start,
            limit: usize::from(limit),
        };
        let found = match list_all(self.engine(), &bucket, options).await {
            Ok(found) => found,
            Err(error) if self.explains_missing_bucket(any_key, &error) => return Ok(()),
            Err(error) => return self.excuse(&error),
        };
        self.bucket_may_exist(any_key)?;
        let known = self.known.borrow();
        let Some(model) = super::run::model_of_client(&known) else { return Ok(()) };
        let expected = model.list(&bucket, &prefix, delimiter, &after.unwrap_or_default());
        if found == expected { Ok(()) } else { Err(format!("expected {expected:?}, found {found:?}")) }
    }

    // ── buckets and care ──

    async fn create_bucket(&self) -> Checked {
        let name = own_bucket(self.client());
        let before = std::mem::replace(&mut self.known.borrow_mut().bucket, vec![true, false]);
        let answer = self.engine().create_bucket(&name, Bytes::from_static(b"own")).await;
        let mut known = self.known.borrow_mut();
        match answer {
            Ok(info) if before.contains(&false) && &info.attributes[..] == b"own" => {
                known.forget_bucket();
                known.bucket = vec![true];
                Ok(())
            }
            Err(Error::BucketExists) if before.contains(&true) => {
                known.bucket = vec![true];
                Ok(())
            }
            Err(error) => {
                if before == [true] || !error.is_uncertain() {
                    known.bucket = before;
                }
                drop(known);
                self.excuse(&error)
            }
            Ok(info) => Err(format!("made {info:?} where {before:?}")),
        }
    }

    async fn delete_bucket(&self) -> Checked {
        let name = own_bucket(self.client());
        let (before, may_be_empty, may_hold) = {
            let mut known = self.known.borrow_mut();
            let before = std::mem::replace(&mut known.bucket, vec![true, false]);
            let own = || known.keys().filter(|(key, _)| key.own_bucket);
            let may_be_empty = own().all(|(_, known)| known.candidates().iter().any(Vec::is_empty));
            let may_hold = own().any(|(_, known)| known.candidates().iter().any(|c| !c.is_empty()));
            (before, may_be_empty, may_hold)
        };
        let answer = self.engine().delete_bucket(&name).await;
        let mut known = self.known.borrow_mut();
        match answer {
            Ok(()) if before.contains(&true) && may_be_empty => {
                known.forget_bucket();
                Ok(())
            }
            Err(Error::NoSuchBucket) if before.contains(&false) => {
                known.forget_bucket();
                Ok(())
            }
            Err(Error::BucketNotEmpty) if before.contains(&true) && may_hold => {
                // Not for certain there: one whose making failed may hold something where it was made.
                known.bucket = before;
                Ok(())
            }
            Ok(()) => Err(format!("deleted where it may exist: {before:?}, be empty: {may_be_empty}")),
            Err(error) => {
                if before == [false] || !error.is_uncertain() {
                    known.bucket = before;
                }
                drop(known);
                self.excuse(&error)
            }
        }
    }

    async fn buckets(&self) -> Checked {
        let found = match self.engine().buckets().await {
            Ok(found) => found,
            Err(error) => return self.excuse(&error),
        };
        let names: Vec<&str> = found.iter().map(|bucket| &*bucket.name).collect();
        let own = names.contains(&&*own_bucket(self.client()));
        if !names.is_sorted() || !names.contains(&SHARED_BUCKET) || !self.known.borrow().bucket.contains(&own)
        {
            return Err(format!("found {names:?}, own bucket {:?}", self.known.borrow().bucket));
        }
        Ok(())
    }

    async fn checkpoint(&self) -> Checked {
        match self.engine().checkpoint().await {
            Ok(()) => Ok(()),
            Err(error) => self.excuse(&error),
        }
    }
}

// ── reading and writing ──

pub(super) fn commit_options(value: &Value, condition: WriteCondition) -> CommitOptions {
    let attributes = Bytes::from(value.attributes.clone());
    CommitOptions { etag: EntityTag::new(&value.etag), attributes, condition, decided_by: None }
}

/// Pours bytes in; none if the writer turned away before the end.
pub(super) async fn fill(mut put: Put, bytes: &[u8], gives_up: GivesUp) -> Result<Option<Put>, Error> {
    for (index, piece) in bytes.chunks(50_000).enumerate() {
        if gives_up == GivesUp::After(index as u8) {
            return Ok(None);
        }
        put.write(piece).await?;
    }
    Ok(if matches!(gives_up, GivesUp::After(_)) { None } else { Some(put) })
}

/// Looks at the future so many times at most, then drops it.
pub(super) async fn give_up<T>(future: impl Future<Output = T>, gives_up: GivesUp) -> Option<T> {
    let GivesUp::Committing(looks) = gives_up else { return Some(future.await) };
    let mut future = pin!(future);
    let mut left = looks;
    std::future::poll_fn(|cx| {
        if let Poll::Ready(value) = future.as_mut().poll(cx) {
            return Poll::Ready(Some(value));
        }
        left = left.saturating_sub(1);
        if left == 0 {
            return Poll::Ready(None);
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    })
    .await
}

/// What an object that was made is to its client.
pub(super) fn made(info: &ObjectInfo) -> Made {
    Made::Object(info.version, info.is_null_version)
}

/// Whether the answer says that the key has no current object.
pub(super) fn is_absent(error: &Error) -> bool {
    matches!(error, Error::NoSuchKey | Error::DeleteMarker(_))
}

/// What a reader got.
#[derive(Clone)]
pub(super) struct Read {
    bytes: Vec<u8>,
    etag: Vec<u8>,
    attributes: Vec<u8>,
    is_whole: bool,
}

impl fmt::Display for Read {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes tagged {}", self.bytes.len(), self.etag.escape_ascii())
    }
}

impl Read {
    /// Of an object of which nothing was read.
    pub(super) fn begin(get: &Get) -> Read {
        Read {
            bytes: Vec::new(),
            etag: get.info().etag.as_bytes().to_vec(),
            attributes: get.info().attributes.to_vec(),
            is_whole: false,
        }
    }

    /// Reads on, but no more than so many chunks.
    pub(super) async fn go_on(&mut self, get: &mut Get, chunks_max: usize) -> Result<(), Error> {
        for _ in 0..chunks_max {
            match get.next().await {
                Some(chunk) => self.bytes.extend_from_slice(&chunk?),
                None => {
                    self.is_whole = true;
                    break;
                }
            }
        }
        Ok(())
    }

    /// All of it came, by another way.
    pub(super) fn finish_with(&mut self, bytes: &[u8]) {
        self.bytes = bytes.to_vec();
        self.is_whole = true;
    }

    /// Whether it is of this value, and each of these bytes is the selected one at its place or `untouched`.
    pub(super) fn may_become(&self, value: &Value, select: Select, bytes: &[u8], untouched: u8) -> bool {
        let Some(range) = range_of(select, value.bytes.len() as u64) else { return false };
        let part = &value.bytes[range.start as usize..range.end as usize];
        let same = |(byte, there): (&u8, &u8)| byte == there || *there == untouched;
        self.is_of(value, select) && bytes.len() <= part.len() && part.iter().zip(bytes).all(same)
    }

    /// Whether it is the selected bytes of this value, or their beginning.
    pub(super) fn is_of(&self, value: &Value, select: Select) -> bool {
        let Some(range) = range_of(select, value.bytes.len() as u64) else { return false };
        let part = &value.bytes[range.start as usize..range.end as usize];
        let bytes_match = if self.is_whole { part == self.bytes } else { part.starts_with(&self.bytes) };
        value.etag == self.etag && value.attributes == self.attributes && bytes_match
    }
}

/// Reads the selected bytes, but no more than so many chunks.
pub(super) async fn read(
    engine: &CoreEngine,
    bucket: &str,
    key: &[u8],
    options: GetOptions,
    chunks_max: usize,
) -> Result<Read, Error> {
    let mut get = engine.get(bucket, key, options).await?;
    let mut read = Read::begin(&get);
    read.go_on(&mut get, chunks_max).await?;
    Ok(read)
}

/// Every page of a listing.
pub(super) async fn list_all(
    engine: &CoreEngine,
    bucket: &str,
    mut options: ListOptions,
) -> Result<Vec<Line>, Error> {
    let mut found = Vec::new();
    loop {
        let page = engine.list(bucket, &options).await?;
        found.extend(page.items.into_iter().map(|item| match item {
            ListItem::Object { key, .. } => Line::Key(key),
            ListItem::CommonPrefix(prefix) => Line::Prefix(prefix),
        }));
        match page.next {
            Some(next) => options.start = next,
            None => return Ok(found),
        }
    }
}

/// As [`list_all`], of the versions.
pub(super) async fn list_all_versions(
    engine: &CoreEngine,
    bucket: &str,
    mut options: ListOptions,
) -> Result<Vec<Line>, Error> {
    let mut found = Vec::new();
    loop {
        let page = engine.list_versions(bucket, &options).await?;
        found.extend(page.items.into_iter().map(|item| match item {
            VersionItem::CommonPrefix(prefix) => Line::Prefix(prefix),
            VersionItem::Version { key, is_current, kind } => {
                let null = kind.is_null_version();
                let tag = match kind {
                    VersionKind::Object(info) => Some(info.etag.as_bytes().to_vec()),
                    VersionKind::DeleteMarker(_) => None,
                };
                Line::Version(key, null, is_current, tag)
            }
        }));
        match page.next {
            Some(next) => options.start = next,
            None => return Ok(found),
        }
    }
}

pub(super) fn select_of(slice: Slice, length: u64) -> Select {
    let place = |fraction: u8| length * u64::from(fraction) / 256;
    match slice {
        Slice::Whole => Select::Whole,
        Slice::From(fraction) => Select::From(place(fraction)),
        Slice::Stretch(fraction, bytes) => {
            Select::Between(place(fraction), place(fraction) + u64::from(bytes) - 1)
        }
        Slice::Last(bytes) => Select::Last(bytes.into()),
        Slice::PastEnd => Select::From(length),
    }
}

/// RFC 9110 §14.1.2, once more and in other words than the engine's.
pub(super) fn range_of(select: Select, size: u64) -> Option<std::ops::Range<u64>> {
    let (start, end) = match select {
        Select::Whole => return Some(0..size),
        Select::From(first) => (first, size),
        Select::Between(first, last) => (first, size.min(last + 1)),
        Select::Last(count) => (size - count.min(size), size),
        Select::Part(_) => return None,
    };
    (start < end).then_some(start..end)
}

/// For uploads: what a client keeps of one.
pub(super) fn upload_in(known: &Shared, slot: u8) -> Option<KnownUpload> {
    known.borrow().uploads.get(usize::from(slot)).cloned().flatten()
}
