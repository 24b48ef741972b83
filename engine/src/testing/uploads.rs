//! What a client does with uploads in parts. Each step is an operation of its own, so that crashes fall between them.

use super::{
    client::{Call, fill, give_up, is_absent, made, upload_in},
    knowledge::{Known, KnownUpload, Made, Ticket},
    model::{Change, Value, Versions, current},
    operation::{Body, GivesUp, Key, Operation},
};
use crate::{
    core_engine::{CompleteOptions, CoreEngine},
    error::Error,
    layout::{EntityTag, Version, Versioning},
    object::types::{
        CommitOptions, GetOptions, ListOptions, NamedPart, ObjectInfo, PartInfo, PutOptions, UploadInfo,
        UploadItem,
    },
};
use std::rc::Rc;

type Checked = Result<(), String>;

/// Pages of listed parts are this short, so that there are several.
const PARTS_PER_PAGE: usize = 2;
const UPLOADS_PER_PAGE: usize = 2;

/// All uploads of a bucket whose keys start with `prefix`.
pub(super) async fn list_all_uploads(
    engine: &CoreEngine,
    bucket: &str,
    prefix: &[u8],
    limit: usize,
) -> Result<Vec<UploadInfo>, Error> {
    let mut options = ListOptions { prefix: prefix.into(), limit, ..ListOptions::default() };
    let mut found = Vec::new();
    loop {
        let page = engine.list_uploads(bucket, &options).await?;
        found.extend(page.items.into_iter().filter_map(|item| match item {
            UploadItem::Upload(upload) => Some(upload),
            UploadItem::CommonPrefix(_) => None,
        }));
        match page.next {
            Some(next) => options.start = next,
            None => return Ok(found),
        }
    }
}

impl Call {
    fn with_upload<T>(&self, slot: u8, change: impl FnOnce(&mut Option<KnownUpload>) -> T) -> T {
        change(&mut self.known.borrow_mut().uploads[usize::from(slot)])
    }

    fn with_part<T>(&self, slot: u8, number: u8, change: impl FnOnce(&mut Known) -> T) -> Option<T> {
        self.with_upload(slot, |upload| {
            upload.as_mut().map(|upload| change(upload.parts.entry(number).or_default()))
        })
    }

    /// The upload is over.
    fn end(&self, slot: u8) {
        let mut known = self.known.borrow_mut();
        if let Some(upload) = known.uploads[usize::from(slot)].take() {
            known.over.insert(upload.upload);
        }
    }

    /// An error about an upload, in which these keys have a part too: that it is not there, if it may be over, or one that a fault excuses.
    fn excuse_upload(&self, slot: u8, also: &[Key], error: &Error) -> Checked {
        let Some(upload) = upload_in(&self.known, slot) else { return self.excuse(error) };
        if *error == Error::NoSuchUpload && upload.may_be_over
            || self.explains_missing_bucket(upload.key, error)
        {
            self.end(slot);
            return Ok(());
        }
        self.excuse_of(&[&[upload.key], also].concat(), error)
    }

    pub(super) async fn create_upload(&self, slot: u8, key: Key) -> Checked {
        if upload_in(&self.known, slot).is_some() {
            return Ok(());
        }
        let attributes = format!("upload {}", self.nonce).into_bytes();
        self.known.borrow_mut().orphans_max += 1;
        let client = self.client();
        let made = self
            .engine()
            .create_upload(&key.bucket(client), &key.bytes(client), attributes.clone().into())
            .await;
        match made {
            Ok(info) => {
                self.bucket_may_exist(key)?;
                let mut known = self.known.borrow_mut();
                known.orphans_max -= 1;
                known.uploads[usize::from(slot)] = Some(KnownUpload {
                    upload: info.upload,
                    key,
                    attributes,
                    parts: std::collections::BTreeMap::new(),
                    may_be_over: false,
                    completing: None,
                });
                Ok(())
            }
            Err(error) => {
                if !error.is_uncertain() {
                    self.known.borrow_mut().orphans_max -= 1;
                }
                match self.explains_missing_bucket(key, &error) {
                    true => Ok(()),
                    false => self.excuse_of(&[key], &error),
                }
            }
        }
    }

    pub(super) async fn put_part(&self, slot: u8, number: u8, body: Body, gives_up: GivesUp) -> Checked {
        let Some(upload) = upload_in(&self.known, slot) else { return Ok(()) };
        // A part has no conditions; its tag and attributes are given like an object's.
        let value = body.value();
        let Some(ticket) = self.begin_part(slot, number, vec![value.clone()]) else { return Ok(()) };
        let (client, key) = (self.client(), upload.key);
        let (bucket, name) = (key.bucket(client), key.bytes(client));
        let size = Some(value.bytes.len() as u64);
        let put =
            self.engine().put_part(&bucket, &name, upload.upload, number.into(), PutOptions { size }).await;
        let filled = match put {
            Ok(put) => fill(put, &value.bytes, gives_up).await,
            Err(error) => Err(error),
        };
        let answer = match filled {
            Ok(Some(put)) => {
                let commit = put.finish_part(super::client::commit_options(&value, Default::default()));
                match give_up(commit, gives_up).await {
                    Some(answer) => answer,
                    None => return Ok(()),
                }
            }
            Ok(None) => {
                self.with_part(slot, number, |part| part.withdraw(ticket));
                return Ok(());
            }
            Err(error) => Err(error),
        };
        self.settle_part((slot, number, ticket), &[], &[value], answer)
    }

    pub(super) async fn copy_part(&self, slot: u8, number: u8, from: Key) -> Checked {
        let Some(upload) = upload_in(&self.known, slot) else { return Ok(()) };
        // Of a part whose bytes are one of several, an object could be made whose bytes the client does not know.
        let Some(source) = self.with_key(from, |known| known.certain().cloned()) else { return Ok(()) };
        let etag = format!("part-{}", self.nonce).into_bytes();
        let values: Vec<Value> = current(&source)
            .map(|source| Value { bytes: source.bytes.clone(), etag: etag.clone(), attributes: Vec::new() })
            .into_iter()
            .collect();
        let Some(ticket) = self.begin_part(slot, number, values.clone()) else { return Ok(()) };
        let (client, key) = (self.client(), upload.key);
        let (source, target) = (from.bytes(client), key.bytes(client));
        let options = CommitOptions { etag: EntityTag::new(&etag), ..CommitOptions::default() };
        let answer = self
            .engine()
            .copy_part(
                (&from.bucket(client), &source, GetOptions::default()),
                (&key.bucket(client), &target, upload.upload, number.into()),
                options,
            )
            .await;
        match answer {
            Err(error)
                if is_absent(&error) && values.is_empty() || self.explains_missing_bucket(from, &error) =>
            {
                self.with_part(slot, number, |part| part.withdraw(ticket));
                Ok(())
            }
            Ok(_) if values.is_empty() => Err("copied what is not there".into()),
            answer => self.settle_part((slot, number, ticket), &[from], &values, answer),
        }
    }

    /// A part is asked for, which will be one of these.
    fn begin_part(&self, slot: u8, number: u8, values: Vec<Value>) -> Option<Ticket> {
        let changes = values.into_iter().map(Change::Put).collect();
        self.with_part(slot, number, |part| part.begin(changes, vec![Versioning::Never]))
    }

    fn settle_part(
        &self,
        (slot, number, ticket): (u8, u8, Ticket),
        also: &[Key],
        values: &[Value],
        answer: Result<PartInfo, Error>,
    ) -> Checked {
        match answer {
            Ok(info) => {
                let matches = |value: &Value| {
                    value.bytes.len() as u64 == info.size && value.etag == info.etag.as_bytes()
                };
                if info.number != u16::from(number) || !values.iter().any(matches) {
                    return Err(format!("made part {info:?}"));
                }
                // Parts have no versions: they are told apart by the order in which the client puts them.
                self.with_part(slot, number, |part| {
                    let next = Version(part.version.0 + 1);
                    part.acknowledge(ticket, Made::Object(next, true));
                });
                Ok(())
            }
            Err(error) => {
                if !error.is_uncertain() {
                    self.with_part(slot, number, |part| part.withdraw(ticket));
                }
                self.excuse_upload(slot, also, &error)
            }
        }
    }

    pub(super) async fn list_parts(&self, slot: u8) -> Checked {
        let Some(upload) = upload_in(&self.known, slot) else { return Ok(()) };
        let client = self.client();
        let (bucket, key) = (upload.key.bucket(client), upload.key.bytes(client));
        let mut found: Vec<PartInfo> = Vec::new();
        loop {
            let after = found.last().map_or(0, |part| part.number);
            let page = self.engine().list_parts(&bucket, &key, upload.upload, after, PARTS_PER_PAGE).await;
            match page {
                Ok((info, _, _)) if info.attributes[..] != upload.attributes[..] => {
                    return Err(format!("found upload {info:?}"));
                }
                Ok((_, parts, more)) => {
                    found.extend(parts);
                    if !more {
                        return self.check_parts(slot, &found);
                    }
                }
                Err(error) => return self.excuse_upload(slot, &[], &error),
            }
        }
    }

    /// As [`Call::list_parts`], when nothing is under way: the upload is there for certain from here on, or over.
    pub(super) async fn list_parts_at_rest(&self, slot: u8) -> Checked {
        let before = upload_in(&self.known, slot);
        self.list_parts(slot).await?;
        let completing = before.and_then(|before| before.completing);
        if upload_in(&self.known, slot).is_none() && completing.is_some_and(|(_, alone)| alone) {
            return Err("the upload is over, and its object is not there".into());
        }
        self.with_upload(slot, |upload| {
            upload.iter_mut().for_each(|upload| (upload.may_be_over, upload.completing) = (false, None));
        });
        Ok(())
    }

    /// Whether the parts found may be those of the upload; takes down which they are.
    pub(super) fn check_parts(&self, slot: u8, found: &[PartInfo]) -> Checked {
        let numbers: Vec<u16> = found.iter().map(|part| part.number).collect();
        if !numbers.is_sorted() || numbers.iter().any(|number| !(1..5).contains(number)) {
            return Err(format!("found parts {numbers:?}"));
        }
        for number in 1..5u8 {
            let info = found.iter().find(|part| part.number == u16::from(number));
            let fits = |versions: &Versions| match (current(versions), info) {
                (None, None) => true,
                (Some(value), Some(info)) => {
                    value.etag == info.etag.as_bytes()
                        && value.bytes.len() as u64 == info.size
                        && value.attributes == info.attributes[..]
                }
                _ => false,
            };
            let possible = self.with_part(slot, number, |part| part.observe(fits));
            if possible == Some(false) {
                let known = self.with_part(slot, number, |part| part.clone());
                return Err(format!("part {number}: found {info:?}, where {known:?} is"));
            }
        }
        Ok(())
    }

    pub(super) async fn list_uploads(&self, own_bucket: bool) -> Checked {
        let client = self.client();
        let key = Key { own_bucket, name: 0 };
        let prefix = format!("c{client}/").into_bytes();
        let found =
            match list_all_uploads(self.engine(), &key.bucket(client), &prefix, UPLOADS_PER_PAGE).await {
                Ok(found) => found,
                Err(error) if self.explains_missing_bucket(key, &error) => return Ok(()),
                Err(error) => return self.excuse(&error),
            };
        self.bucket_may_exist(key)?;
        let known = self.known.borrow();
        let mine = || known.uploads.iter().flatten().filter(|upload| upload.key.own_bucket == own_bucket);
        if let Some(missing) = mine()
            .find(|upload| !upload.may_be_over && !found.iter().any(|info| info.upload == upload.upload))
        {
            return Err(format!("upload {missing:?} is not listed"));
        }
        if let Some(info) = found.iter().find(|info| known.over.contains(&info.upload)) {
            return Err(format!("{info:?} is listed and over"));
        }
        let unknown = found.iter().filter(|info| !mine().any(|upload| upload.upload == info.upload)).count();
        if unknown > known.orphans_max || !found.is_sorted_by_key(|info| info.key.clone()) {
            return Err(format!("{unknown} uploads are listed that nobody began, or out of order"));
        }
        Ok(())
    }

    pub(super) async fn abort(&self, slot: u8) -> Checked {
        let Some(upload) = upload_in(&self.known, slot) else { return Ok(()) };
        let client = self.client();
        let may_be_over = upload.may_be_over;
        self.with_upload(slot, |upload| upload.iter_mut().for_each(|upload| upload.may_be_over = true));
        let (bucket, key) = (upload.key.bucket(client), upload.key.bytes(client));
        match self.engine().abort_upload(&bucket, &key, upload.upload).await {
            Ok(()) => {
                self.end(slot);
                let again = self.engine().abort_upload(&bucket, &key, upload.upload).await;
                match again {
                    Err(Error::NoSuchUpload) => Ok(()),
                    Ok(()) => Err("aborted twice".into()),
                    Err(error) => self.excuse(&error),
                }
            }
            Err(error) => {
                if !error.is_uncertain() {
                    self.with_upload(slot, |upload| {
                        upload.iter_mut().for_each(|upload| upload.may_be_over = may_be_over);
                    });
                }
                self.excuse_upload(slot, &[], &error)
            }
        }
    }

    pub(super) async fn complete(&self, operation: &Operation) -> Checked {
        let Operation::Complete { slot, leave_out, again, at_once, etag_seed, condition } = *operation else {
            return Ok(());
        };
        let Some(upload) = upload_in(&self.known, slot) else { return Ok(()) };
        let (mut bytes, mut named, mut certain) = (Vec::new(), Vec::new(), true);
        for (number, part) in &upload.parts {
            certain &= part.certain().is_some();
            if let Some(value) = part.likely()
                && (named.is_empty() || leave_out & 1 << number == 0)
            {
                bytes.extend_from_slice(&value.bytes);
                named.push(NamedPart { number: u16::from(*number), etag: EntityTag::new(&value.etag) });
            }
        }
        let etag = format!("{etag_seed:x}-{}", named.len()).into_bytes();
        let size = bytes.len() as u64;
        let value =
            Value { bytes: Rc::new(bytes), etag: etag.clone(), attributes: upload.attributes.clone() };
        let key = upload.key;
        let Some((ticket, mut allowed, condition)) = self.begin(key, vec![Change::Put(value)], condition)
        else {
            return Ok(());
        };
        if named.is_empty() {
            allowed = vec![Err(Error::InvalidArgument("no parts"))];
        }
        let may_be_over = upload.may_be_over;
        let alone = !self.with_key(key, |known| known.floats_beside_one());
        self.with_upload(slot, |upload| {
            if let Some(upload) = upload {
                upload.may_be_over = true;
                upload.completing = Some((etag.clone(), alone));
            }
        });
        let client = self.client();
        let (bucket, name) = (key.bucket(client), key.bytes(client));
        let attempt = |which: usize| {
            let engine = self.engines[which].clone();
            let (bucket, name, named) = (bucket.clone(), name.clone(), named.clone());
            let options = CompleteOptions {
                etag: EntityTag::new(&etag),
                attributes: None,
                condition: condition.clone(),
                decided_by: None,
            };
            let core = engine.core().clone();
            let id = upload.upload;
            core.spawn_own(async move { engine.complete_upload(&bucket, &name, id, named, options).await })
        };
        let rival = at_once.then(|| attempt(1));
        let mut answer = attempt(0).await;
        if let Some(rival) = rival {
            let other = rival.await;
            self.check_repetition(key, &answer, &other)?;
            let unsure = other.as_ref().is_err_and(Error::is_uncertain);
            if answer.is_err() && (other.is_ok() || unsure) {
                answer = other;
            }
        }
        if answer.is_ok() && again {
            let second = attempt(0).await;
            self.check_repetition(key, &answer, &second)?;
        }
        match &answer {
            Ok(info) => {
                if info.size != size || usize::from(info.part_count) != named.len() {
                    return Err(format!("completed as {info:?}"));
                }
                self.end(slot);
            }
            Err(error) if error.is_uncertain() => {}
            Err(error) => {
                self.with_upload(slot, |upload| {
                    if let Some(upload) = upload {
                        upload.may_be_over = may_be_over;
                        upload.completing = None;
                    }
                });
                if *error == Error::NoSuchUpload && may_be_over {
                    self.end(slot);
                }
                let moved = matches!(error, Error::InvalidPart(_)) && !certain;
                if moved || *error == Error::NoSuchUpload && may_be_over {
                    allowed.push(Err(error.clone()));
                }
            }
        }
        self.settle(key, ticket, &allowed, answer.as_ref().map(made).map_err(Error::clone))
    }

    /// A completion that is asked for twice is answered twice the same, unless something else came in between.
    fn check_repetition(
        &self,
        key: Key,
        first: &Result<ObjectInfo, Error>,
        second: &Result<ObjectInfo, Error>,
    ) -> Checked {
        let others_float = self.with_key(key, |known| known.floats_beside_one());
        match (first, second) {
            (Ok(first), Ok(second)) if first.version == second.version && first.etag == second.etag => Ok(()),
            (Ok(_), Err(Error::NoSuchUpload)) | (Err(Error::NoSuchUpload), Ok(_)) if others_float => Ok(()),
            // Something that landed between the two was judged by one of them only.
            (Err(first), Err(second)) if first == second || others_float => Ok(()),
            (Ok(_), Err(Error::ConditionFailed | Error::NoSuchKey))
            | (Err(Error::ConditionFailed | Error::NoSuchKey), Ok(_))
                if others_float =>
            {
                Ok(())
            }
            // A fault may have met either.
            (Err(first), Err(second)) => self.excuse(first).or_else(|_| self.excuse(second)),
            (Ok(_), Err(error)) | (Err(error), Ok(_)) => self.excuse(error),
            _ => Err(format!("completed twice: {first:?} and {second:?}")),
        }
    }
}
