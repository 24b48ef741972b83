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
    calls::{crc64, refused},
    request::{completion, element, object_path, part_path, upload_path},
    runtime::{Runtime, side_by_side},
};
use crate::protocol::http::Method;
use crossdock_transport::exposure::{Buffer, Link};
use std::{fmt, ops::Range};

/// How an object is divided.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Parallel {
    /// Bytes of a part, but for the last. S3 wants at least 5 MiB of the parts of an upload, and at most 10 000 of them. Default: 16 MiB.
    pub part_bytes: usize,
    /// Requests under way at a time, each on a connection of its own. Default: 4.
    pub in_flight: usize,
}

impl Default for Parallel {
    fn default() -> Parallel {
        Parallel { part_bytes: 16 << 20, in_flight: 4 }
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

/// Those that came to something, and those that are to go in bodies. The first error, if there is one.
#[allow(clippy::type_complexity)]
fn sorted<T>(
    parts: Vec<Part>,
    results: Vec<PartResult<T>>,
) -> Result<(Vec<(Part, T)>, Vec<Part>, Option<Fallback>), ClientError> {
    let (mut moved, mut left, mut fallback) = (Vec::new(), Vec::new(), None);
    for (part, result) in parts.into_iter().zip(results) {
        match result? {
            Ok(value) => moved.push((part, value)),
            Err(reason) => {
                fallback = Some(reason);
                left.push(part);
            }
        }
    }
    Ok((moved, left, fallback))
}

impl<R: Runtime> AsyncClient<R> {
    /// Stores the first `bytes` of the buffer as an object, in parts. `headers` go with it. The buffer is exposed once for all of them;
    /// a part that is declined goes in a body, if the policy lets it.
    ///
    /// # Errors
    /// See [`ClientError`]. The upload is aborted then, and no object is made.
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
            Ok((buffer, tags, ways)) => match self.complete(&object, &upload, &tags).await {
                Ok(etag) => return Ok(Uploaded { buffer, ways, etag }),
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
        // A completion may answer 200 with an error in its document.
        match element(&document, "ETag").filter(|_| head.status == 200) {
            Some(etag) => Ok(etag),
            None => Err(refused(&head, &document)),
        }
    }

    async fn upload_parts<L: Link>(
        &self,
        (object, upload): (&str, &str),
        buffer: Buffer<L>,
        bytes: usize,
        parallel: Parallel,
    ) -> Result<(Buffer<L>, Vec<String>, Ways), Failed<L>> {
        let all = parts(bytes, parallel.part_bytes);
        let path = |part: &Part| part_path(object, upload, number(part));
        let checksums: Vec<String> = match self.chosen_policy() {
            Policy::Off => Vec::new(),
            _ => all.iter().map(|part| crc64(slice(&buffer, part))).collect(),
        };
        let mut tags = vec![String::new(); all.len()];
        let mut ways = Ways::default();
        let (buffer, left) = match self.exposed(buffer, Buffer::expose_source).await? {
            Err((buffer, fallback)) => {
                ways.fallback = Some(fallback);
                (buffer, all)
            }
            Ok((exposed, _)) => {
                let put = |part: &Part| {
                    let range = part.bytes.start as u64..part.bytes.end as u64;
                    let (token, checksum) = (exposed.token(range.clone()), checksums.get(part.index));
                    let path = path(part);
                    async move {
                        let Some(token) = token else { return Ok(Err(Fallback::NoSession)) };
                        let bytes = range.end - range.start;
                        let stored =
                            self.put_token(&path, &[], &token, bytes, checksum.map(String::as_str)).await?;
                        Ok(match stored {
                            (head, None) => Ok(head.get("etag").unwrap_or_default().to_owned()),
                            (_, Some(fallback)) => Err(fallback),
                        })
                    }
                };
                let results = side_by_side(parallel.in_flight, all.iter().map(put)).await;
                let Some(buffer) = self.proven(exposed, false).await else {
                    return Err(Failed { error: ClientError::Quarantined, buffer: None });
                };
                match sorted(all, results) {
                    Err(error) => return Err(Failed::with(error, buffer)),
                    Ok((moved, left, fallback)) => {
                        ways.over_transport = moved.len();
                        ways.fallback = fallback;
                        moved.into_iter().for_each(|(part, tag)| put_at(&mut tags, part.index, tag));
                        (buffer, left)
                    }
                }
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
        Ok((buffer, tags, ways))
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
            return Ok(Gathered { buffer, bytes, ways: Ways::default(), head });
        }
        let all = parts(bytes, parallel.part_bytes);
        let mut ways = Ways::default();
        let (mut buffer, left) = match self.exposed(buffer, Buffer::expose_target).await? {
            Err((buffer, fallback)) => {
                ways.fallback = Some(fallback);
                (buffer, all)
            }
            Ok((exposed, _)) => {
                let session = exposed.session().clone();
                let key = exposed.slice(0..0).map(|slice| slice.key().0);
                let get = |part: &Part| {
                    let wanted = part.bytes.start as u64..part.bytes.end as u64;
                    let (token, range) = (exposed.token(wanted.clone()), range_header(part));
                    let (object, etag) = (&object, &etag);
                    async move {
                        let Some(token) = token else { return Ok(Err(Fallback::NoSession)) };
                        let headers = [("range", &*range), ("if-match", &**etag)];
                        let reply = self.get_token(object, &headers, &token).await?;
                        let bytes = wanted.end - wanted.start;
                        Ok(match self.judged(reply, bytes, Some(&wanted)).await? {
                            Ok((_, count, _)) if count != bytes => {
                                return Err(ClientError::Unproven("fewer bytes than the object has there"));
                            }
                            Ok((_, _, checksum)) => Ok(checksum),
                            Err((_, fallback)) => Err(fallback),
                        })
                    }
                };
                let results = side_by_side(parallel.in_flight, all.iter().map(get)).await;
                let Some(buffer) = self.proven(exposed, false).await else {
                    return Err(Failed { error: ClientError::Quarantined, buffer: None });
                };
                let (moved, left, fallback) = match sorted(all, results) {
                    Ok(sorted) => sorted,
                    Err(error) => return Err(Failed::with(error, buffer)),
                };
                let damaged = moved.iter().any(|(part, checksum)| {
                    checksum.as_ref().is_some_and(|checksum| *checksum != crc64(slice(&buffer, part)))
                });
                if damaged {
                    return Err(Failed::with(ClientError::Damaged, buffer));
                }
                // All are parts of one exposure, and have its number.
                let notices = moved.iter().filter_map(|_| key).collect();
                if !self.noticed(&session, notices).await {
                    let error = ClientError::Unproven("no notice that the bytes are there");
                    return Err(Failed::with(error, buffer));
                }
                (ways.over_transport, ways.fallback) = (moved.len(), fallback);
                (buffer, left)
            }
        };
        if let Some(fallback) = ways.fallback.filter(|_| self.chosen_policy() == Policy::Require) {
            return Err(Failed::with(ClientError::NotMoved(fallback), buffer));
        }
        ways.over_http = left.len();
        let result = self.fetch_bodies((&object, &etag), &mut buffer, &left, parallel).await;
        match result {
            Ok(()) => Ok(Gathered { buffer, bytes, ways, head }),
            Err(error) => Err(Failed::with(error, buffer)),
        }
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
                let (_, bytes) = self.body_into(reply, piece).await?;
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
