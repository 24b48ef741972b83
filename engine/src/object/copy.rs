//! Copying inside the store: through this core's memory, chunk by chunk, verified on the way.

use super::{get::Get, put::Put, types::CommitOptions};
use crate::{
    error::Error,
    object::types::{ObjectInfo, PartInfo},
};
use crossdock_transport::memory::{BufferLease, CopyReason, copy_payload};

/// Pours everything that `source` gives into `target`.
pub(crate) async fn pour(source: &mut Get, target: &mut Put) -> Result<(), Error> {
    let mut tail: Option<BufferLease> = None;
    while let Some(chunk) = source.next().await {
        let chunk = chunk?;
        // A chunk that fills the next buffer just as it is goes on without being touched.
        let chunk = match (&tail, chunk.len() == target.buffer_bytes()) {
            (None, true) => match chunk.thaw() {
                Ok(lease) => {
                    target.push(lease).await?;
                    continue;
                }
                Err(shared) => shared,
            },
            _ => chunk,
        };
        let mut rest = &chunk[..];
        while !rest.is_empty() {
            let mut lease = match tail.take() {
                Some(lease) => lease,
                None => target.buffer().await?,
            };
            let (at, limit) = (lease.len(), target.buffer_bytes());
            let (now, later) = rest.split_at(rest.len().min(limit - at));
            lease.set_len(at + now.len());
            copy_payload(&mut lease.as_mut_slice()[at..], now, CopyReason::Foreign);
            rest = later;
            if lease.len() == limit {
                target.push(lease).await?;
            } else {
                tail = Some(lease);
            }
        }
    }
    match tail {
        Some(lease) => target.push(lease).await,
        None => Ok(()),
    }
}

/// Pours and commits an object.
pub(crate) async fn copy(
    mut source: Get,
    mut target: Put,
    options: CommitOptions,
) -> Result<ObjectInfo, Error> {
    pour(&mut source, &mut target).await?;
    target.finish(options).await
}

/// Pours and commits a part.
pub(crate) async fn copy_part(
    mut source: Get,
    mut target: Put,
    options: CommitOptions,
) -> Result<PartInfo, Error> {
    pour(&mut source, &mut target).await?;
    target.finish_part(options).await
}
