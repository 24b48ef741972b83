//! Objects that are stored in parts: what goes over HTTP of it.

use crate::options::Location;
use crossdock_s3::{
    client::Client,
    protocol::{
        auth::{encode_path, encode_query},
        http::Method,
    },
};

/// Parts of an upload at most: S3's own bound.
pub(crate) const PARTS_MAX: u16 = 10_000;

/// An upload in parts.
pub(crate) struct Upload<'a> {
    target: &'a Location,
    path: String,
    id: String,
}

impl<'a> Upload<'a> {
    pub(crate) fn begin(client: &mut Client, target: &'a Location) -> Result<Upload<'a>, String> {
        let path = format!("/{}/{}", target.bucket, encode_path(&target.key));
        let id = exchange(client, &format!("{path}?uploads="), b"")?;
        let id = id.split_once("<UploadId>").and_then(|(_, rest)| rest.split_once("</UploadId>"));
        let id = id.ok_or("the server began no upload")?.0.to_owned();
        Ok(Upload { target, path, id })
    }

    pub(crate) fn id(&self) -> &str {
        &self.id
    }

    pub(crate) fn complete(&self, client: &mut Client, tags: &[&str]) -> Result<(), String> {
        let parts = tags.iter().zip(1..).map(|(tag, number)| {
            let tag = tag.replace('"', "&quot;");
            format!("<Part><PartNumber>{number}</PartNumber><ETag>{tag}</ETag></Part>")
        });
        let document =
            format!("<CompleteMultipartUpload>{}</CompleteMultipartUpload>", parts.collect::<String>());
        let id = encode_query(&self.id);
        exchange(client, &format!("{}?uploadId={id}", self.path), document.as_bytes()).map(drop)
    }

    pub(crate) fn abort(&self, client: &mut Client) {
        let path = format!("{}?uploadId={}", self.path, encode_query(&self.id));
        let aborted = client.exchange(Method::Delete, &path, &[], &[]);
        if !matches!(&aborted, Ok((head, _)) if head.status == 204) {
            eprintln!("rdma-client: the upload {} of {} is left behind", self.id, self.target);
        }
    }
}

/// POSTs, and gives the document of a success.
fn exchange(client: &mut Client, path: &str, body: &[u8]) -> Result<String, String> {
    let (head, document) =
        client.exchange(Method::Post, path, &[], body).map_err(|error| error.to_string())?;
    let text = String::from_utf8_lossy(&document).into_owned();
    // A completion may answer 200 with an error in its document.
    if head.status == 200 && !text.contains("<Error>") {
        Ok(text)
    } else {
        Err(format!("{}: {text}", head.status))
    }
}
