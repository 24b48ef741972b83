//! Objects that are stored in parts.

use crate::options::Location;
use crossdock_s3::client::{Client, Way};
use crossdock_transport::exposure::{Buffer, Link};
use indicatif::ProgressBar;
use std::{fs::File, io::Read};

/// Which way parts went, and over which of the server's rails.
type Went = (Way, Option<Box<str>>);

/// An upload in parts.
pub(crate) struct Upload<'a> {
    target: &'a Location,
    path: String,
    id: String,
}

impl<'a> Upload<'a> {
    pub(crate) fn begin(client: &mut Client, target: &'a Location) -> Result<Upload<'a>, String> {
        let path = format!("/{}/{}", target.bucket, crossdock_s3::protocol::auth::encode_path(&target.key));
        let id = exchange(client, &format!("{path}?uploads="), b"")?;
        let id = id.split_once("<UploadId>").and_then(|(_, rest)| rest.split_once("</UploadId>"));
        let id = id.ok_or("the server began no upload")?.0.to_owned();
        Ok(Upload { target, path, id })
    }

    pub(crate) fn parts<L: Link>(
        &self,
        client: &mut Client,
        file: &mut File,
        bytes: u64,
        mut buffer: Buffer<L>,
        bar: &ProgressBar,
    ) -> Result<(Vec<String>, Went), String> {
        let (mut tags, mut at, mut way, mut rail) = (Vec::new(), 0, Way::Transport, None);
        while at < bytes {
            let number = u16::try_from(tags.len() + 1).map_err(|_| "the file has too many parts")?;
            let now = usize::try_from(bytes - at).unwrap_or(usize::MAX).min(buffer.len());
            let target = buffer.get_mut(..now).unwrap_or_default();
            file.read_exact(target).map_err(|error| format!("the file: {error}"))?;
            let object = (&*self.target.bucket, &*self.target.key);
            let stored = client.put_part_from(object, &self.id, number, buffer, now);
            let stored = stored.map_err(|failed| failed.error.to_string())?;
            tags.push(stored.head.get("etag").unwrap_or_default().to_owned());
            way = if stored.way == Way::Transport { way } else { stored.way };
            rail = stored.rail.or(rail);
            buffer = stored.buffer;
            at += now as u64;
            bar.set_position(at);
        }
        Ok((tags, (way, rail)))
    }

    pub(crate) fn complete(&self, client: &mut Client, tags: &[String]) -> Result<(), String> {
        let parts = tags.iter().zip(1..).map(|(tag, number)| {
            let tag = tag.replace('"', "&quot;");
            format!("<Part><PartNumber>{number}</PartNumber><ETag>{tag}</ETag></Part>")
        });
        let document =
            format!("<CompleteMultipartUpload>{}</CompleteMultipartUpload>", parts.collect::<String>());
        let id = crossdock_s3::protocol::auth::encode_query(&self.id);
        exchange(client, &format!("{}?uploadId={id}", self.path), document.as_bytes()).map(drop)
    }

    pub(crate) fn abort(&self, client: &mut Client) {
        let id = crossdock_s3::protocol::auth::encode_query(&self.id);
        let path = format!("{}?uploadId={id}", self.path);
        let aborted = client.exchange(crossdock_s3::protocol::http::Method::Delete, &path, &[], &[]);
        if !matches!(&aborted, Ok((head, _)) if head.status == 204) {
            eprintln!("rdma-client: the upload {} of {} is left behind", self.id, self.target);
        }
    }
}

/// POSTs, and gives the document of a success.
fn exchange(client: &mut Client, path: &str, body: &[u8]) -> Result<String, String> {
    let (head, document) = client
        .exchange(crossdock_s3::protocol::http::Method::Post, path, &[], body)
        .map_err(|error| error.to_string())?;
    let text = String::from_utf8_lossy(&document).into_owned();
    // A completion may answer 200 with an error in its document.
    if head.status == 200 && !text.contains("<Error>") {
        Ok(text)
    } else {
        Err(format!("{}: {text}", head.status))
    }
}
