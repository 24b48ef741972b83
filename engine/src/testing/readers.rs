//! Readers that take their time: an object is opened, and read to its end only after its client has done other things, among
//! which the object may be replaced, deleted, moved by the cleaner, and its space wanted by others. It must still be
//! what it was when it was opened.

use super::{
    client::{Call, Read, select_of},
    model::{Value, Versions, current},
    operation::{Body, Condition, GivesUp, Key, Slice},
};
use crate::{
    object::{
        get::Get,
        types::{GetOptions, Select, Which},
    },
    reactor::Core,
};
use std::{cell::RefCell, rc::Rc};

/// Objects longer than this are not held: several of them would take all the memory that readers have.
const HELD_BYTES_MAX: u64 = 300_000;

/// What a client holds open, shared by its tasks.
pub type Held = Rc<RefCell<Option<HeldReader>>>;

/// An object that was opened and is not read to its end.
pub struct HeldReader {
    /// Where it was opened and must be read.
    core: Core,
    get: Get,
    read: Read,
    select: Select,
    /// What it may be.
    values: Vec<Value>,
}

impl Call {
    /// Opens an object and reads its first chunks. Whatever was held before is let go of.
    pub(super) async fn hold(&self, key: Key, slice: Slice, chunks: u8) -> Result<(), String> {
        drop(self.held.take());
        let client = self.client();
        let length = self.with_key(key, |known| known.likely().map_or(0, |value| value.bytes.len() as u64));
        if length > HELD_BYTES_MAX {
            return Ok(());
        }
        let select = select_of(slice, length);
        let options = GetOptions { select, version: Which::Current };
        let mut get = match self.engine().get(&key.bucket(client), &key.bytes(client), options).await {
            Ok(get) => get,
            Err(error) => return self.check_read(key, select, Err(error)),
        };
        if get.info().size > HELD_BYTES_MAX {
            return Ok(());
        }
        self.bucket_may_exist(key)?;
        let mut read = Read::begin(&get);
        let fits = |versions: &Versions| current(versions).is_some_and(|value| read.is_of(value, select));
        let candidates = self.with_key(key, |known| known.candidates());
        if !self.with_key(key, |known| known.observe(fits)) {
            let known = self.with_key(key, |known| known.clone());
            return Err(format!("opened {read}, where {known:?} is"));
        }
        let values = candidates.iter().filter_map(|versions| current(versions));
        let values = values.filter(|value| read.is_of(value, select)).cloned().collect();
        if let Err(error) = read.go_on(&mut get, usize::from(chunks)).await {
            return self.excuse(&error);
        }
        let core = self.engine().core().clone();
        self.held.replace(Some(HeldReader { core, get, read, select, values }));
        Ok(())
    }

    /// Opens an object, replaces it by one as long, puts two more of that length elsewhere, and reads on: its space would be
    /// the first that those take.
    pub(super) async fn read_across(
        &self,
        key: Key,
        other: Key,
        slice: Slice,
        seed: u64,
    ) -> Result<(), String> {
        self.hold(key, slice, 0).await?;
        let length = self.held.borrow().as_ref().map(|held| held.get.info().size as u32);
        let Some(length) = length else { return Ok(()) };
        for (target, seed) in [key, other, other].into_iter().zip(seed..) {
            self.put(target, Body { seed, length }, true, Condition::None, GivesUp::No).await?;
        }
        self.read_on().await
    }

    /// Reads what is held to its end.
    pub(super) async fn read_on(&self) -> Result<(), String> {
        let Some(HeldReader { core, mut get, mut read, select, values }) = self.held.take() else {
            return Ok(());
        };
        let (read, result) = core
            .spawn_own(async move {
                let result = read.go_on(&mut get, usize::MAX).await;
                (read, result)
            })
            .await;
        if let Err(error) = result {
            return self.excuse(&error);
        }
        match values.iter().any(|value| read.is_of(value, select)) {
            true => Ok(()),
            false => Err(format!("{read} to its end, which began as {values:?}")),
        }
    }
}
