//! One object in many requests at a time: uploads in parts, and ranges that are fetched side by side.
//!
//! ```text
//!   buffer ── exposed once ──► part 1 │ part 2 │ part 3 │ …      each a request of its own, some at a time
//!      ▲                          moved: judged, counted; else remembered
//!      └── proof, once ◄──────────────────────────┘
//!   then those that were not moved, in bodies from and to the buffer
//! ```

use super::{
    AsyncClient, ClientError, Failed, Fallback, Policy, ReplyHead,
    calls::{crc64, rail_of, refused},
    request::{completion, element, object_path, part_path, upload_path},
    runtime::{Runtime, side_by_side},
    sessions::Known,
};
use crate::protocol::http::Method;
use crossdock_transport::exposure::{Buffer, Link};
use std::{fmt, ops::Range};

/// How an object is divided.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Parallel {
    /// Bytes of a part, but for the last. S3 wants at least 5 MiB of the parts of an upload, and at most 10 000 of them. Default: 16 MiB.
    pub part_bytes: usize,
    /// Requests under way at a time, each on a connection of its own. Over a transport no more than the server says that its session takes,
    /// which is one where it says nothing ([`Link::requests_max`]). Default: 4.
    pub in_flight: usize,
}

impl Default for Parallel {
    fn default() -> Parallel {
        Parallel { part_bytes: 16 << 20, in_flight: 4 }
    }
}

impl Parallel {
    /// Bytes of so many parts at a time, which share the way that they go.
    fn bytes_at_a_time(&self, at_a_time: usize) -> u64 {
        self.part_bytes.max(1).saturating_mul(at_a_time.max(1)) as u64
    }
}

/// Which way the parts of an object went.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Ways {
    /// Parts that went over the transport.
    pub over_transport: usize,
    /// Parts that went in bodies.
    pub over_http: usize,
    /// Why the last of those did.
    pub fallback: Option<Fallback>,
}

/// An upload that succeeded.
pub struct Uploaded<L: Link> {
    /// The buffer, out of reach again and unchanged.
    pub buffer: Buffer<L>,
    /// Which way its parts went.
    pub ways: Ways,
    /// Which of the server's rails, if parts went over the transport and it says so.
    pub rail: Option<Box<str>>,
    /// The object's ETag.
    pub etag: String,
}

/// Ranges that were all fetched. The buffer begins with the bytes.
pub struct Gathered<L: Link> {
    /// The buffer, out of reach again.
    pub buffer: Buffer<L>,
    /// How many bytes came.
    pub bytes: usize,
    /// Which way they came.
    pub ways: Ways,
    /// Which of the server's rails, if ranges came over the transport and it says so.
    pub rail: Option<Box<str>>,
    /// The object's headers, as HEAD has them.
    pub head: ReplyHead,
}

impl<L: Link> fmt::Debug for Uploaded<L> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Uploaded").field("ways", &self.ways).field("etag", &self.etag).finish_non_exhaustive()
    }
}

impl<L: Link> fmt::Debug for Gathered<L> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Gathered")
            .field("bytes", &self.bytes)
            .field("ways", &self.ways)
            .finish_non_exhaustive()
    }
}

/// One part of an object.
#[derive(Clone, Debug)]
struct Part {
    index: usize,
    bytes: Range<usize>,
}

fn parts(bytes: usize, part_bytes: usize) -> Vec<Part> {
    let part_bytes = part_bytes.max(1);
    let count = bytes.div_ceil(part_bytes).max(1);
    let part = |index| Part { index, bytes: index * part_bytes..bytes.min((index + 1) * part_bytes) };
    (0..count).map(part).collect()
}

/// What became of one part: something, or the reason to try it the other way.
type PartResult<T> = Result<Result<T, Fallback>, ClientError>;

/// What one pass over a transport came to: the buffer, the parts that went, those that are to go in bodies, and why.
struct Pass<L: Link, T> {
    buffer: Buffer<L>,
    moved: Vec<(Part, T)>,
    left: Vec<Part>,
    fallback: Option<Fallback>,
}

impl<L: Link, T> Pass<L, T> {
    /// Nothing went.
    fn none(buffer: Buffer<L>, left: Vec<Part>, fallback: Fallback) -> Pass<L, T> {
        Pass { buffer, moved: Vec::new(), left, fallback: Some(fallback) }
    }

    /// Sorts what became of each.
    ///
    /// # Errors
    /// The first, if there is one.
    fn of(buffer: Buffer<L>, parts: Vec<Part>, results: Vec<PartResult<T>>) -> Result<Pass<L, T>, Failed<L>> {
        let mut pass = Pass { buffer, moved: Vec::new(), left: Vec::new(), fallback: None };
        for (part, result) in parts.into_iter().zip(results) {
            match result {
                Ok(Ok(value)) => pass.moved.push((part, value)),
                Ok(Err(reason)) => {
                    pass.fallback = Some(reason);
                    pass.left.push(part);
                }
                Err(error) => return Err(Failed::with(error, pass.buffer)),
            }
        }
        Ok(pass)
    }
}

/// What is told of a part that was stored: its tag, and the rail.
type Tagged = (String, Option<Box<str>>);

/// What is told of a range that came: its checksum, and the rail.
type Summed = (Option<String>, Option<Box<str>>);

impl<R: Runtime> AsyncClient<R> {
    /// Stores the first `bytes` of the buffer as an object, in parts. `headers` go with it. The buffer is exposed once for all of them;
    /// a part that is declined goes in a body, if the policy lets it.
    ///
    /// # Errors
    /// See [`ClientError`]. The upload is aborted then, and no object is made; but whether there is one is not known if the reply to the
    /// completion was lost.
    ///
    /// # Cancellation
    /// Dropping the future leaves the upload as it is, without an object: to be aborted, or ended by the bucket's lifecycle.
    ///
    /// # Panics
    /// If the buffer is not so long.
    pub async fn upload_from<L: Link>(
        &self,
        (bucket, key): (&str, &str),
        headers: &[(&str, &str)],
        buffer: Buffer<L>,
        bytes: usize,
        parallel: Parallel,
    ) -> Result<Uploaded<L>, Failed<L>> {
        assert!(bytes <= buffer.len(), "{bytes} bytes of a buffer of {}", buffer.len());
        let object = object_path(bucket, key);
        let upload = match self.begin_upload(&object, headers).await {
            Ok(upload) => upload,
            Err(error) => return Err(Failed::with(error, buffer)),
        };
        let stored = self.upload_parts((&object, &upload), buffer, bytes, parallel).await;
        let failed = match stored {
            Ok((buffer, tags, ways, rail)) => match self.complete(&object, &upload, &tags).await {
                Ok(etag) => return Ok(Uploaded { buffer, ways, rail, etag }),
                Err(error) => Failed::with(error, buffer),
            },
            Err(failed) => failed,
        };
        // Should this fail as well, what was stored stays until the bucket's lifecycle ends it: the first failure is what is told.
        drop(self.exchange(Method::Delete, &upload_path(&object, &upload), &[], &[]).await);
        Err(failed)
    }

    async fn begin_upload(&self, object: &str, headers: &[(&str, &str)]) -> Result<String, ClientError> {
        let (head, document) =
            self.exchange(Method::Post, &format!("{object}?uploads="), headers, &[]).await?;
        if head.status != 200 {
            return Err(refused(&head, &document));
        }
        element(&document, "UploadId").ok_or(ClientError::Malformed("no upload was begun"))
    }

    async fn complete(&self, object: &str, upload: &str, tags: &[String]) -> Result<String, ClientError> {
        let path = upload_path(object, upload);
        let (head, document) = self.exchange(Method::Post, &path, &[], completion(tags).as_bytes()).await?;
        // A completion may answer 200 with an error in its document, which may name the tag of a part.
        let is_done = head.status == 200 && element(&document, "Code").is_none();
        match element(&document, "ETag").filter(|_| is_done) {
            Some(etag) => Ok(etag),
            None => Err(refused(&head, &document)),
        }
    }

    #[allow(clippy::type_complexity)]
    async fn upload_parts<L: Link>(
        &self,
        upload: (&str, &str),
        buffer: Buffer<L>,
        bytes: usize,
        parallel: Parallel,
    ) -> Result<(Buffer<L>, Vec<String>, Ways, Option<Box<str>>), Failed<L>> {
        let mut left = parts(bytes, parallel.part_bytes);
        let path = |part: &Part| part_path(upload.0, upload.1, number(part));
        let mut tags = vec![String::new(); left.len()];
        let (mut ways, mut rail) = (Ways::default(), None);
        let (mut known, mut buffer) = (Known::of(&buffer), buffer);
        let buffer = loop {
            let pass = self.put_pass(&path, buffer, left, parallel).await?;
            ways.over_transport += pass.moved.len();
            ways.fallback = pass.fallback;
            for (part, (tag, over)) in pass.moved {
                rail = over;
                put_at(&mut tags, part.index, tag);
            }
            left = pass.left;
            match pass.fallback {
                Some(fallback) if self.made_anew(&pass.buffer, &mut known, fallback).await => {
                    buffer = pass.buffer;
                }
                _ => break pass.buffer,
            }
        };
        if let Some(fallback) = ways.fallback.filter(|_| self.chosen_policy() == Policy::Require) {
            return Err(Failed::with(ClientError::NotMoved(fallback), buffer));
        }
        let put = |part: &Part| {
            let (path, bytes) = (path(part), slice(&buffer, part));
            async move {
                let head = self.put_body(&path, &[], bytes).await?;
                Ok::<_, ClientError>(head.get("etag").unwrap_or_default().to_owned())
            }
        };
        let results = side_by_side(parallel.in_flight, left.iter().map(put)).await;
        ways.over_http = left.len();
        for (part, result) in left.iter().zip(results) {
            match result {
                Ok(tag) => put_at(&mut tags, part.index, tag),
                Err(error) => return Err(Failed::with(error, buffer)),
            }
        }
        Ok((buffer, tags, ways, rail))
    }

    /// Stores parts of the buffer by tokens, over one exposure of it.
    async fn put_pass<L: Link>(
        &self,
        path: &impl Fn(&Part) -> String,
        buffer: Buffer<L>,
        parts: Vec<Part>,
        parallel: Parallel,
    ) -> Result<Pass<L, Tagged>, Failed<L>> {
        // Before: its bytes can not be looked at while the server may read them.
        let checksums: Vec<String> = match self.chosen_policy() {
            Policy::Off => Vec::new(),
            _ => parts.iter().map(|part| crc64(slice(&buffer, part))).collect(),
        };
        let exposed = match self.exposed(buffer, Buffer::expose_source).await? {
            Ok((exposed, _)) => exposed,
            Err((buffer, fallback)) => return Ok(Pass::none(buffer, parts, fallback)),
        };
        let at_a_time = parallel.in_flight.min(exposed.session().link().requests_max());
        let all = parallel.bytes_at_a_time(at_a_time);
        let put = |(part, checksum): (&Part, &String)| {
            let range = part.bytes.start as u64..part.bytes.end as u64;
            let (token, path, checksum) = (exposed.token(range.clone()), path(part), checksum.clone());
            async move {
                let Some(token) = token else { return Ok(Err(Fallback::NoSession)) };
                let bytes = range.end - range.start;
                let beside = all.saturating_sub(bytes);
                let stored = self.put_token(&path, &[], &token, (bytes, beside), Some(&checksum)).await?;
                Ok(match stored {
                    (head, None) => Ok((head.get("etag").unwrap_or_default().to_owned(), rail_of(&head))),
                    (_, Some(fallback)) => Err(fallback),
                })
            }
        };
        let results = side_by_side(at_a_time, parts.iter().zip(&checksums).map(put)).await;
        match self.proven(exposed, false).await {
            Some(buffer) => Pass::of(buffer, parts, results),
            None => Err(Failed { error: ClientError::Quarantined, buffer: None }),
        }
    }

    /// Gets an object to the front of `buffer` by ranges, all of the same version: asked for at the same time, into one exposure.
    ///
    /// # Errors
    /// See [`ClientError`]; [`ClientError::Refused`] with status 412 if the object was replaced under way.
    pub async fn gather_into<L: Link>(
        &self,
        bucket: &str,
        key: &str,
        buffer: Buffer<L>,
        parallel: Parallel,
    ) -> Result<Gathered<L>, Failed<L>> {
        let object = object_path(bucket, key);
        let (head, bytes, etag) = match self.look_at(&object, buffer.len()).await {
            Ok(found) => found,
            Err(error) => return Err(Failed::with(error, buffer)),
        };
        if bytes == 0 {
            return Ok(Gathered { buffer, bytes, ways: Ways::default(), rail: None, head });
        }
        let (mut ways, mut rail) = (Ways::default(), None);
        let mut left = parts(bytes, parallel.part_bytes);
        let (mut known, mut buffer) = (Known::of(&buffer), buffer);
        let mut buffer = loop {
            let pass = self.get_pass((&object, &etag), buffer, left, parallel).await?;
            ways.over_transport += pass.moved.len();
            ways.fallback = pass.fallback;
            rail = pass.moved.into_iter().find_map(|(_, (_, over))| over).or(rail);
            left = pass.left;
            match pass.fallback {
                Some(fallback) if self.made_anew(&pass.buffer, &mut known, fallback).await => {
                    buffer = pass.buffer;
                }
                _ => break pass.buffer,
            }
        };
        if let Some(fallback) = ways.fallback.filter(|_| self.chosen_policy() == Policy::Require) {
            return Err(Failed::with(ClientError::NotMoved(fallback), buffer));
        }
        ways.over_http = left.len();
        let result = self.fetch_bodies((&object, &etag), &mut buffer, &left, parallel).await;
        match result {
            Ok(()) => Ok(Gathered { buffer, bytes, ways, rail, head }),
            Err(error) => Err(Failed::with(error, buffer)),
        }
    }

    /// Fetches ranges by tokens, into one exposure of the buffer.
    async fn get_pass<L: Link>(
        &self,
        (object, etag): (&str, &str),
        buffer: Buffer<L>,
        parts: Vec<Part>,
        parallel: Parallel,
    ) -> Result<Pass<L, Summed>, Failed<L>> {
        let exposed = match self.exposed(buffer, Buffer::expose_target).await? {
            Ok((exposed, _)) => exposed,
            Err((buffer, fallback)) => return Ok(Pass::none(buffer, parts, fallback)),
        };
        let session = exposed.session().clone();
        let key = exposed.slice(0..0).map(|slice| slice.key().0);
        let at_a_time = parallel.in_flight.min(session.link().requests_max());
        let all = parallel.bytes_at_a_time(at_a_time);
        let get = |part: &Part| {
            let wanted = part.bytes.start as u64..part.bytes.end as u64;
            let (token, range) = (exposed.token(wanted.clone()), range_header(part));
            async move {
                let Some(token) = token else { return Ok(Err(Fallback::NoSession)) };
                let headers = [("range", &*range), ("if-match", etag)];
                let reply = self.propose((Method::Get, object), &headers, &token, all).await?;
                let bytes = wanted.end - wanted.start;
                Ok(match self.judged(object, reply, bytes, Some(&wanted)).await? {
                    Ok((_, count, _)) if count != bytes => {
                        return Err(ClientError::Unproven("fewer bytes than the object has there"));
                    }
                    Ok((head, _, checksum)) => Ok((checksum, rail_of(&head))),
                    Err((_, fallback)) => Err(fallback),
                })
            }
        };
        let results = side_by_side(at_a_time, parts.iter().map(get)).await;
        let Some(buffer) = self.proven(exposed, false).await else {
            return Err(Failed { error: ClientError::Quarantined, buffer: None });
        };
        let pass = Pass::of(buffer, parts, results)?;
        // All are parts of one exposure, and have its number. Replies may have overtaken the bytes.
        let notices = pass.moved.iter().filter_map(|_| key).collect();
        if !self.noticed(&session, notices).await {
            let error = ClientError::Unproven("no notice that the bytes are there");
            return Err(Failed::with(error, pass.buffer));
        }
        let damaged = pass.moved.iter().any(|(part, (checksum, _))| {
            checksum.as_ref().is_some_and(|checksum| *checksum != crc64(slice(&pass.buffer, part)))
        });
        if damaged {
            return Err(Failed::with(ClientError::Damaged, pass.buffer));
        }
        Ok(pass)
    }

    /// The object's head, its size, which fits in `room`, and its tag.
    async fn look_at(&self, object: &str, room: usize) -> Result<(ReplyHead, usize, String), ClientError> {
        let (head, document) = self.exchange(Method::Head, object, &[], &[]).await?;
        if head.status != 200 {
            return Err(refused(&head, &document));
        }
        let bytes = head.get("content-length").and_then(|length| length.parse::<u64>().ok());
        let bytes = bytes.ok_or(ClientError::Malformed("an object without a length"))?;
        let etag = head.get("etag").ok_or(ClientError::Malformed("an object without an ETag"))?.to_owned();
        let fits = usize::try_from(bytes).ok().filter(|bytes| *bytes <= room);
        Ok((head, fits.ok_or(ClientError::TooLarge { bytes })?, etag))
    }

    async fn fetch_bodies(
        &self,
        (object, etag): (&str, &str),
        target: &mut [u8],
        left: &[Part],
        parallel: Parallel,
    ) -> Result<(), ClientError> {
        let mut wanted = left.iter().peekable();
        let pieces: Vec<(&Part, &mut [u8])> = target
            .chunks_mut(parallel.part_bytes.max(1))
            .enumerate()
            .filter_map(|(index, piece)| {
                let part = wanted.next_if(|part| part.index == index)?;
                Some((part, piece.get_mut(..part.bytes.len())?))
            })
            .collect();
        let futures = pieces.into_iter().map(|(part, piece)| {
            let range = range_header(part);
            async move {
                let headers = [("range", &*range), ("if-match", etag)];
                let reply = self.call(Method::Get, object, &headers, &[]).await?;
                let wanted = part.bytes.start as u64..part.bytes.end as u64;
                let (head, bytes) = self.body_into(reply, Some(&wanted), piece).await?;
                // One that takes no notice of the condition may have another object by now.
                if head.get("etag").is_some_and(|tag| tag != etag) {
                    return Err(ClientError::Unproven("another object's bytes"));
                }
                match bytes == part.bytes.len() {
                    true => Ok(()),
                    false => Err(ClientError::Malformed("fewer bytes than the object has there")),
                }
            }
        });
        side_by_side(parallel.in_flight, futures).await.into_iter().collect()
    }
}

fn number(part: &Part) -> u16 {
    u16::try_from(part.index + 1).unwrap_or(u16::MAX)
}

fn slice<'a>(bytes: &'a [u8], part: &Part) -> &'a [u8] {
    bytes.get(part.bytes.clone()).unwrap_or_default()
}

fn put_at(tags: &mut [String], index: usize, tag: String) {
    if let Some(place) = tags.get_mut(index) {
        *place = tag;
    }
}

fn range_header(part: &Part) -> String {
    format!("bytes={}-{}", part.bytes.start, part.bytes.end.saturating_sub(1))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// Shows that parts lie behind each other and are all of the object, and that each but the last is as long as was asked for.
        #[test]
        fn parts_are_the_object(bytes in 0usize..100_000, part_bytes in 0usize..40_000) {
            let all = parts(bytes, part_bytes);
            let mut at = 0;
            for (index, part) in all.iter().enumerate() {
                prop_assert_eq!((part.index, part.bytes.start), (index, at));
                prop_assert!(index + 1 == all.len() || part.bytes.len() == part_bytes.max(1));
                at = part.bytes.end;
            }
            prop_assert_eq!(at, bytes);
        }
    }
}
