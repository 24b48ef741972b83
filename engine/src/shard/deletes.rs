//! Deletes, one or many: what goes for good, and what only a marker hides.
//!
//! ```text
//!                     the bucket keeps versions:   never             now              not any more
//!   no version named                               removes the key   adds a marker    a marker replaces the null version
//!   a version named                                removes it, whatever the bucket keeps
//! ```

use super::{Shard, State, commit::Ticket, requests::check_key};
use crate::{
    error::Error,
    layout::{BucketId, Content, EntityTag, Entry, Record, Versioning},
    log::Proposal,
    object::types::{Delete, DeleteMarker, Deleted, Which},
};
use bytes::Bytes;

/// What became of one delete, and what must be durable before anybody hears of it.
struct Judged {
    outcome: Result<Deleted, Error>,
    ticket: Option<Ticket>,
}

impl Shard {
    /// Does the deletes in their order; the results come in it too. All are in the log's queue before the first is written,
    /// so that a thousand make few batches. What is not there is no error: S3's DELETE is idempotent.
    pub(crate) async fn delete(&self, bucket: &str, deletes: Vec<Delete>) -> Vec<Result<Deleted, Error>> {
        if deletes.iter().any(|delete| self.makes_marker(&self.state.borrow(), bucket, delete.which)) {
            self.ready_to_add(bucket).await;
        } else {
            self.bucket_decided(bucket).await;
        }
        let judged: Vec<Judged> = {
            let mut state = self.state.borrow_mut();
            let state = &mut *state;
            deletes.into_iter().map(|delete| self.sequence_delete(state, bucket, delete)).collect()
        };
        let last = judged.iter().filter_map(|judged| judged.ticket).max();
        let all_durable = match last {
            Some(ticket) => self.applied(ticket).await.is_ok(),
            None => true,
        };
        let mut outcomes = Vec::with_capacity(judged.len());
        for judged in judged {
            // After a failure some may be durable all the same: then the shard knows, for it applied them.
            outcomes.push(if all_durable { judged.outcome } else { self.outcome_of(judged).await });
        }
        outcomes
    }

    async fn outcome_of(&self, Judged { outcome, ticket }: Judged) -> Result<Deleted, Error> {
        let Some(ticket) = ticket else { return outcome };
        match outcome {
            // There was nothing to delete, once what is pending is durable.
            Ok(nothing) if nothing == Deleted::default() => self.applied(ticket).await.map(|()| nothing),
            Ok(deleted) => self.durable(ticket).await.map(|()| deleted),
            Err(error) => Err(self.refused(error, Some(ticket)).await),
        }
    }

    fn makes_marker(&self, state: &State, bucket: &str, which: Which) -> bool {
        let bucket = self.known_bucket(state, bucket);
        which == Which::Current && bucket.is_ok_and(|bucket| bucket.record.versioning != Versioning::Never)
    }

    fn sequence_delete(&self, state: &mut State, bucket: &str, delete: Delete) -> Judged {
        let at_once = |error| Judged { outcome: Err(error), ticket: None };
        if let Err(error) = self.check_writable(state).and_then(|()| check_key(&delete.key)) {
            return at_once(error);
        }
        let (bucket, versioning) = match self.bucket_decided_by(state, bucket, delete.decided_by) {
            Ok(bucket) => (bucket.record.bucket, bucket.record.versioning),
            Err(error) => return at_once(error),
        };
        let (found, pending) = state.overlay.version(&state.catalog, bucket, &delete.key, delete.which);
        if let Err(error) = delete.condition.check(found.as_ref().and_then(|found| found.tag())) {
            // Refused for something that is itself not durable yet: whoever hears of it must find it there.
            return Judged { outcome: Err(error), ticket: pending.then(|| Self::newest_ticket(state)) };
        }
        let has_changed = found.as_ref().is_some_and(|found| {
            delete.attributes.as_ref().is_some_and(|judged_by| found.attributes != judged_by)
                || delete.version.is_some_and(|judged| found.version != judged)
        });
        if has_changed {
            let ticket = pending.then(|| Self::newest_ticket(state));
            return Judged { outcome: Err(Error::Changed), ticket };
        }
        if delete.which == Which::Current && versioning != Versioning::Never {
            return self.sequence_marker(state, bucket, delete.key, versioning);
        }
        let Some(found) = found else {
            let ticket = pending.then(|| Self::newest_ticket(state));
            return Judged { outcome: Ok(Deleted::default()), ticket };
        };
        let entry = Entry::RemoveVersion { bucket, key: delete.key, version: found.version };
        let ticket = self.sequence(state, Proposal { entry, payload: None, touches_data: false });
        let deleted = Deleted { removed: Some(found.version), marker: found.marker };
        Judged { outcome: Ok(deleted), ticket: Some(ticket) }
    }

    fn sequence_marker(
        &self,
        state: &mut State,
        bucket: BucketId,
        key: Box<[u8]>,
        versioning: Versioning,
    ) -> Judged {
        let null = versioning == Versioning::Suspended;
        let replaced = match null {
            true => state.overlay.version(&state.catalog, bucket, &key, Which::Null).0,
            false => None,
        };
        // A marker adds a record. One that replaces an object gives back more than it takes.
        if replaced.as_ref().is_none_or(|replaced| replaced.marker.is_some())
            && let Err(error) = self.check_room_for_marker(state)
        {
            return Judged { outcome: Err(error), ticket: None };
        }
        let record = Record {
            version: Self::next_version(state),
            null,
            delete_marker: true,
            size: 0,
            modified_ms: self.core.wall_clock_ms(),
            crc64: 0,
            etag: EntityTag::new(b"").expect("an empty tag is short enough"),
            attributes: Bytes::new(),
            content: Content::Empty,
            upload: None,
        };
        let marker = Some(DeleteMarker::of(&record));
        let entry = Entry::PutObject { bucket, key, record };
        let ticket = self.sequence(state, Proposal { entry, payload: None, touches_data: false });
        let deleted = Deleted { removed: replaced.map(|replaced| replaced.version), marker };
        Judged { outcome: Ok(deleted), ticket: Some(ticket) }
    }
}
