//! Copying inside the store: through this core's memory, chunk by chunk, verified on the way.

use super::{get::Get, put::Put, types::CommitOptions};
use crate::{
    error::Error,
    object::types::{ObjectInfo, PartInfo},
};

/// Pours everything that `source` gives into `target`.
pub(crate) async fn pour(source: &mut Get, target: &mut Put) -> Result<(), Error> {
    while let Some(chunk) = source.next().await {
        let chunk = chunk?;
        // A chunk that fills the next buffer just as it is goes on without being touched.
        if target.is_between_buffers() && chunk.len() == target.buffer_bytes() {
            match chunk.thaw() {
                Ok(lease) => target.push(lease).await?,
                Err(shared) => target.write(&shared).await?,
            }
        } else {
            target.write(&chunk).await?;
        }
    }
    Ok(())
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
