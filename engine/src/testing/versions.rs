//! What a client does with the versions of its keys: all in its own bucket, which nobody else changes.

use super::{
    client::{Call, list_all_versions, range_of, read, select_of},
    knowledge::{Known, Made, answers, write_condition},
    model::{Change, Kept, Value, Versions},
    operation::{Condition, Key, NAMES, Slice, list_delimiter, list_prefix, own_bucket},
};
use crate::{
    error::{Corruption, Error},
    layout::{Version, Versioning},
    object::types::{
        BucketChange, Delete, GetOptions, ListOptions, ListStart, Select, VersionItem, VersionKind, Which,
    },
};

use bytes::Bytes;

type Checked = Result<(), String>;

/// How a version was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Seen {
    /// As it is.
    AsItIs,
    /// As damaged, at this place, where something is.
    Corrupt(Corruption),
    /// Not, for a fault's sake.
    Nothing,
}

impl Call {
    pub(super) async fn set_versioning(&self, versioning: Versioning) -> Checked {
        let name = own_bucket(self.client());
        let any_key = Key { own_bucket: true, name: 0 };
        let before = self.known.borrow_mut().begin_versioning(versioning);
        match self.engine().set_versioning(&name, versioning).await {
            Ok(info) => {
                self.bucket_may_exist(any_key)?;
                self.known.borrow_mut().versioning = vec![versioning];
                if info.versioning == versioning { Ok(()) } else { Err(format!("made {info:?}")) }
            }
            Err(error) if self.explains_missing_bucket(any_key, &error) => {
                self.known.borrow_mut().versioning = before;
                Ok(())
            }
            Err(error) => {
                // Some shards may have been told.
                if !error.is_uncertain() {
                    self.known.borrow_mut().versioning = before;
                }
                self.excuse(&error)
            }
        }
    }

    pub(super) async fn list_versions(
        &self,
        own: bool,
        prefix: u8,
        delimiter: u8,
        after: Option<u8>,
        limit: u8,
    ) -> Checked {
        let client = self.client();
        let any_key = Key { own_bucket: own, name: 0 };
        let after = after.map(|name| Key { own_bucket: own, name }.bytes(client));
        let (prefix, delimiter) = (list_prefix(client, prefix), list_delimiter(delimiter));
        let bucket = any_key.bucket(client);
        let start = after.clone().map_or(ListStart::First, ListStart::After);
        let limit = usize::from(limit);
        let options = ListOptions { prefix: prefix.clone(), delimiter: delimiter.into(), start, limit };
        let found = match list_all_versions(self.engine(), &bucket, options).await {
            Ok(found) => found,
            Err(error) if self.explains_missing_bucket(any_key, &error) => return Ok(()),
            Err(error) => return self.excuse(&error),
        };
        self.bucket_may_exist(any_key)?;
        let known = self.known.borrow();
        let Some(model) = super::run::model_of_client(&known) else { return Ok(()) };
        let expected = model.list_versions(&bucket, &prefix, delimiter, &after.unwrap_or_default());
        if found == expected { Ok(()) } else { Err(format!("expected {expected:?}, found {found:?}")) }
    }

    /// Looks at a key's versions and takes down what they are; none if a fault or a missing bucket is in the way.
    pub(super) async fn look_at_versions(&self, key: Key) -> Result<Option<Vec<Version>>, String> {
        let client = self.client();
        let name = key.bytes(client);
        let options = ListOptions { prefix: name.clone(), limit: usize::MAX, ..ListOptions::default() };
        let page = match self.engine().list_versions(&key.bucket(client), &options).await {
            Ok(page) => page,
            Err(error) if self.explains_missing_bucket(key, &error) => return Ok(None),
            Err(error) => return self.excuse(&error).map(|()| None),
        };
        // As when a key is read: the record of a deleted bucket may still be there.
        if !(page.items.is_empty() && self.tolerance.harm.any_may_have_stopped()) {
            self.bucket_may_exist(key)?;
        }
        let mut found = Vec::new();
        for item in page.items {
            match item {
                VersionItem::Version { key, is_current, kind } if key == name => {
                    if is_current != found.is_empty() {
                        return Err(format!("{kind:?} is current, after {} others", found.len()));
                    }
                    found.push(kind);
                }
                _ => {}
            }
        }
        let numbers: Vec<Version> = found.iter().map(VersionKind::version).collect();
        if !numbers.is_sorted_by(|newer, older| newer > older) {
            return Err(format!("versions {numbers:?} are not in their order"));
        }
        let fits = |versions: &Versions| {
            versions.len() == found.len() && versions.iter().zip(&found).all(|(kept, kind)| is(kept, kind))
        };
        self.with_key(key, |known| match known.observe(fits) {
            true => {
                known.number(&numbers);
                Ok(Some(numbers))
            }
            false => Err(format!("found {found:?}, where {known:?} is")),
        })
    }

    /// One of the key's versions, if there is one and nothing may come in between.
    pub(super) async fn choose(&self, key: Key, nth: u8) -> Result<Option<(Version, Kept)>, String> {
        let Some(numbers) = self.look_at_versions(key).await? else { return Ok(None) };
        let versions = self.with_key(key, |known| known.certain().cloned());
        let index = usize::from(nth) % numbers.len().max(1);
        let chosen = versions.and_then(|versions| versions.get(index).cloned());
        Ok(chosen.and_then(|kept| Some((*numbers.get(index)?, kept))))
    }

    pub(super) async fn get_version(&self, key: Key, nth: u8, slice: Slice) -> Checked {
        let Some((number, kept)) = self.choose(key, nth).await? else { return Ok(()) };
        // Half of the null versions are asked for by that name.
        let version = if kept.null && nth.is_multiple_of(2) { Which::Null } else { Which::Version(number) };
        let length = kept.value.as_ref().map_or(0, |value| value.bytes.len() as u64);
        self.check_version(key, version, &kept, select_of(slice, length)).await.map(drop)
    }

    /// Reads a version that is there for certain.
    pub(super) async fn check_version(
        &self,
        key: Key,
        version: Which,
        kept: &Kept,
        select: Select,
    ) -> Result<Seen, String> {
        let client = self.client();
        let options = GetOptions { select, version };
        let found = read(self.engine(), &key.bucket(client), &key.bytes(client), options, usize::MAX).await;
        match (found, &kept.value) {
            (Ok(found), Some(value)) if found.is_of(value, select) => Ok(Seen::AsItIs),
            (Ok(found), _) => Err(format!("{version:?}: {found}, where {kept:?} is")),
            (Err(Error::DeleteMarker(marker)), None) if Some(marker.version) == kept.number => {
                Ok(Seen::AsItIs)
            }
            (Err(Error::RangeNotSatisfiable { size }), Some(Value { bytes, .. }))
                if size == bytes.len() as u64 && range_of(select, size).is_none() =>
            {
                Ok(Seen::AsItIs)
            }
            (Err(Error::Corrupt(at)), _) => {
                self.excuse_of(&[key], &Error::Corrupt(at)).map(|()| Seen::Corrupt(at))
            }
            (Err(error), _) => self.excuse_of(&[key], &error).map(|()| Seen::Nothing),
        }
    }

    pub(super) async fn delete_version(&self, key: Key, nth: u8, condition: Condition) -> Checked {
        let Some((number, kept)) = self.choose(key, nth).await? else { return Ok(()) };
        let by_name = kept.null && nth.is_multiple_of(2);
        let (change, which) = match by_name {
            true => (Change::RemoveNull, Which::Null),
            false => (Change::Remove(number), Which::Version(number)),
        };
        // Conditions are about the version that is to go.
        let only = Known::of(kept.clone());
        let condition = if condition == Condition::Absent { Condition::None } else { condition };
        let Some((ticket, _, _)) = self.begin(key, vec![change], Condition::None) else { return Ok(()) };
        let allowed = answers(condition, &only);
        // A quarter is judged by the attributes that it has, and some by others.
        let (judged, stale) =
            (nth % 4 == 3, kept.value.is_some() && nth % 32 == 31 && condition == Condition::None);
        let has = kept.value.as_ref().map_or(&[][..], |value| &value.attributes);
        let has = if stale { Bytes::from([has, b"!"].concat()) } else { Bytes::copy_from_slice(has) };
        let attributes = judged.then_some(has);
        let condition = write_condition(condition, only.likely());
        let client = self.client();
        let delete = Delete { which, condition, attributes, ..Delete::current(&key.bytes(client)) };
        let answer = self.engine().delete(&key.bucket(client), delete).await;
        if stale {
            return match answer {
                Err(Error::Changed) => {
                    self.with_key(key, |known| known.withdraw(ticket));
                    Ok(())
                }
                Ok(deleted) => Err(format!("{deleted:?}, judged by attributes it has not")),
                Err(error) => self.settle(key, ticket, &allowed, Err(error)),
            };
        }
        let answer = match answer {
            Err(Error::Full { .. } | Error::Busy(_)) => {
                return Err("a delete was refused for lack of room".into());
            }
            Ok(deleted) if deleted.removed != Some(number) => {
                return Err(format!("{deleted:?}, where {kept:?} was to go"));
            }
            Ok(deleted) if deleted.marker.is_some() != kept.value.is_none() => {
                return Err(format!("{deleted:?}, where {kept:?} was to go"));
            }
            Ok(_) => Ok(Made::Nothing(true)),
            Err(error) => Err(error),
        };
        self.settle(key, ticket, &allowed, answer)
    }

    /// Gives one of the key's versions other attributes, judged by those it has, by others, or by none.
    pub(super) async fn set_attributes(&self, key: Key, nth: u8, seed: u8) -> Checked {
        let Some((number, kept)) = self.choose(key, nth).await? else { return Ok(()) };
        let which = if kept.null && nth.is_multiple_of(2) { Which::Null } else { Which::Version(number) };
        let attributes = vec![seed; usize::from(seed % 16)];
        let has = kept.value.as_ref().map_or(Vec::new(), |value| value.attributes.clone());
        let (judged_by, stale) = match seed % 4 {
            0 => (Some(Bytes::from([&has[..], b"!"].concat())), true),
            1 => (Some(Bytes::from(has)), false),
            _ => (None, false),
        };
        let change = Change::SetAttributes(number, attributes.clone());
        let Some((ticket, _, _)) = self.begin(key, vec![change], Condition::None) else { return Ok(()) };
        let client = self.client();
        let (bucket, name) = (key.bucket(client), key.bytes(client));
        let set = self.engine().set_attributes(&bucket, &name, which, judged_by, attributes.into()).await;
        match (set, &kept.value) {
            (Err(Error::DeleteMarker(marker)), None) if marker.version == number => {
                self.with_key(key, |known| known.withdraw(ticket));
                Ok(())
            }
            (Err(Error::Changed), Some(_)) if stale => {
                self.with_key(key, |known| known.withdraw(ticket));
                Ok(())
            }
            (Ok(set), Some(_)) if set == number && !stale => {
                self.settle(key, ticket, &[Ok(())], Ok(Made::Nothing(false)))
            }
            (Err(error), _) => self.settle(key, ticket, &[Ok(())], Err(error)),
            (answer, _) => Err(format!("{answer:?}, where {kept:?} is")),
        }
    }

    /// Sets a document of the client's bucket, or removes it.
    pub(super) async fn set_document(&self, seed: u8) -> Checked {
        let name = own_bucket(self.client());
        let any_key = Key { own_bucket: true, name: 0 };
        let wanted = (!seed.is_multiple_of(4)).then(|| vec![seed; usize::from(seed) * 8]);
        let before = self.known.borrow().document.clone();
        self.known.borrow_mut().document.push(wanted.clone());
        let documents = vec![("document".into(), wanted.clone().map(Bytes::from))];
        let change = BucketChange { documents, ..BucketChange::default() };
        match self.engine().change_bucket(&name, change).await {
            Ok(info) => {
                self.bucket_may_exist(any_key)?;
                let found = info.documents.get("document").map(|bytes| bytes.to_vec());
                let right = found == wanted;
                self.known.borrow_mut().document = vec![wanted];
                if right { Ok(()) } else { Err(format!("made {info:?}")) }
            }
            Err(error) if self.explains_missing_bucket(any_key, &error) => {
                self.known.borrow_mut().document = before;
                Ok(())
            }
            Err(error) => {
                // Some shards may have been told.
                if !error.is_uncertain() {
                    self.known.borrow_mut().document = before;
                }
                self.excuse(&error)
            }
        }
    }

    pub(super) async fn delete_many(&self, own: bool, names: u8) -> Checked {
        let client = self.client();
        let keys = (0..NAMES.len() as u8).filter(|name| names & 1 << name != 0);
        let (mut deletes, mut asked) = (Vec::new(), Vec::new());
        for key in keys.map(|name| Key { own_bucket: own, name }) {
            if let Some((ticket, allowed, condition)) = self.begin(key, vec![Change::Delete], Condition::None)
            {
                deletes.push(Delete { condition, ..Delete::current(&key.bytes(client)) });
                asked.push((key, ticket, allowed));
            }
        }
        let any_key = Key { own_bucket: own, name: 0 };
        let answers = match self.engine().delete_many(&any_key.bucket(client), deletes).await {
            Ok(answers) if answers.len() == asked.len() => answers,
            Ok(answers) => return Err(format!("{} answers for {} deletes", answers.len(), asked.len())),
            Err(error) => {
                if !error.is_uncertain() {
                    asked.iter().for_each(|(key, ticket, _)| self.with_key(*key, |k| k.withdraw(*ticket)));
                }
                return self.excuse(&error);
            }
        };
        for ((key, ticket, allowed), answer) in asked.into_iter().zip(answers) {
            self.settle_delete(key, ticket, &allowed, answer)?;
        }
        Ok(())
    }
}

/// Whether this is what the listing says.
fn is(kept: &Kept, kind: &VersionKind) -> bool {
    let same = match (kind, &kept.value) {
        (VersionKind::DeleteMarker(_), None) => true,
        (VersionKind::Object(info), Some(value)) => {
            value.etag == info.etag.as_bytes()
                && value.attributes == info.attributes[..]
                && value.bytes.len() as u64 == info.size
        }
        _ => false,
    };
    same && kept.null == kind.is_null_version() && kept.number.is_none_or(|number| number == kind.version())
}
