//! A front end of your own that moves objects into a client's memory: no S3 server, no HTTP beyond what is read here.
//!
//! ```text
//! cargo run --release --example front_end -- ./front-end-data
//! ```
//!
//! The engine's threads serve it. One call opens an object for both ways: its bytes are streamed out of leases to whoever sent no
//! token, and pushed into the memory of whoever did. The client is that of the S3 library, which holds any front end to the protocol
//! (`docs/PROTOCOL.md`): the header of the reply, the count, the checksum.

use crossdock::{
    CoreEngine, Engine, Error, GetOptions, Until,
    reactor::{Core, RingDriver},
};
use crossdock_s3::{
    client::{Client, Credentials, Policy, Way},
    protocol::{
        checksum::{Algorithm, Checksum},
        http::{HeadLimits, HeadParser, HeadStatus},
    },
};
use crossdock_transport::{
    memory::ScatterList,
    remote::{Access, Principal},
    shm::{Admission, Shm, ShmClient, ShmOptions, same_user_or_root},
    tcp::{TcpListener, TcpStream},
    token::Codecs,
};
use std::{net::SocketAddr, path::Path, rc::Rc, sync::Arc, sync::mpsc, time::Duration};

/// How long after a request bytes may begin to move.
const TRANSFER: Duration = Duration::from_secs(5);

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let path = std::env::args().nth(1).unwrap_or_else(|| "front-end-data".into());
    run(Path::new(&path))
}

fn run(path: &Path) -> Result<(), Box<dyn std::error::Error>> {
    std::fs::create_dir_all(path)?;
    // Whoever the kernel says is this user may have a session, and needs no password: nobody else reaches its memory through it.
    let admit = Arc::new(|peer: &_| match same_user_or_root(peer) {
        true => Admission::Bind(Principal::new("local")),
        false => Admission::Refuse,
    });
    let shm = Shm::listen(path.join("memory"), ShmOptions { admit, ..ShmOptions::default() })?;
    let (listening, address) = mpsc::channel();
    let engine = Engine::builder()
        .path(path.join("data"))
        .cores(2)
        .transport(Arc::new(shm))
        .on_each_core(move |engine, driver| {
            let listening = listening.clone();
            async move {
                if engine.core().index() == 0 {
                    let _ = listening.send(listen(engine, driver).await);
                }
            }
        })
        .open()?;
    let address: SocketAddr = address.recv()??;

    let text = "It went from the store to your memory. ".repeat(10_000);
    futures_lite::future::block_on(async {
        match engine.create_bucket("notes", bytes::Bytes::new()).await {
            Ok(_) | Err(Error::BucketExists) => {}
            Err(error) => return Err(error),
        }
        engine.put_bytes("notes", b"long", text.clone().into()).await
    })?;
    for policy in [Policy::Require, Policy::Off] {
        let (bytes, way) = fetch(path, &address.to_string(), policy)?;
        assert!(bytes == text.as_bytes());
        println!("got {} bytes: {way:?}", bytes.len());
    }
    engine.close();
    Ok(())
}

/// What a client does, in a process of its own as a rule.
fn fetch(path: &Path, host: &str, policy: Policy) -> Result<(Vec<u8>, Way), Box<dyn std::error::Error>> {
    // This front end does not look at signatures.
    let nobody = Credentials { access_key: "nobody".into(), secret: "-".into(), region: "-".into() };
    let mut client = Client::new(host, nobody, || 0).policy(policy);
    let session = client.open_shm(ShmClient::connect(path.join("memory"), 4 << 20, same_user_or_root)?)?;
    let buffer = session.buffer(1 << 20)?;
    let got = client.get_into("notes", "long", None, buffer).map_err(|failed| failed.error)?;
    Ok((got.buffer.get(..got.bytes).unwrap_or_default().to_vec(), got.way))
}

// ── the front end ──

/// Listens, and serves each connection by a task of its own on this core.
async fn listen(engine: CoreEngine, driver: Rc<RingDriver>) -> std::io::Result<SocketAddr> {
    let listener = TcpListener::bind(driver.ring(), SocketAddr::from(([127, 0, 0, 1], 0)), false)?;
    let address = listener.local_addr();
    let core = engine.core().clone();
    core.spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let engine = engine.clone();
            engine.core().clone().spawn(async move { serve(&engine, stream).await }).detach();
        }
    })
    .detach();
    Ok(address)
}

/// One request of a connection: enough for a lesson.
async fn serve(engine: &CoreEngine, stream: TcpStream) -> Option<()> {
    let mut parser = HeadParser::new(HeadLimits::default());
    let mut input = engine.core().pool().acquire(4096).await;
    input.set_len(0);
    let head = loop {
        let (lease, received) = stream.receive(input, usize::MAX).await;
        input = lease;
        if received.ok()? == 0 {
            return None;
        }
        if let HeadStatus::Complete(parsed) = parser.parse(input.as_slice()).ok()? {
            break parsed.head;
        }
    };
    let (bucket, key) = head.path.trim_start_matches('/').split_once('/')?;
    match head.headers.text("x-amz-rdma-token") {
        Some(token) => {
            let reply = push(engine, bucket, key, token).await;
            send(engine.core(), &stream, &reply.unwrap_or_else(refusal)).await
        }
        None => stream_out(engine, &stream, bucket, key).await,
    }
}

/// Into the memory that the token names. The work goes to the core where its session lives.
async fn push(engine: &CoreEngine, bucket: &str, key: &str, token: &str) -> Result<String, Error> {
    let refused = || Error::InvalidArgument("no such session");
    let named = Codecs::standard().parse(token).map_err(|_| refused())?;
    let (slice, id) = (named.slice, named.session.ok_or_else(refused)?);
    let (bucket, key) = (bucket.to_owned(), key.to_owned());
    let work = move |engine: CoreEngine| async move {
        let endpoint = engine.core().endpoint("shm").ok_or_else(refused)?;
        let memory = endpoint.session(id, &Principal::new("local")).ok_or_else(refused)?;
        let get = engine.get(&bucket, key.as_bytes(), GetOptions::default()).await?;
        let size = get.info().size;
        memory.begin_request(&slice, Access::Write).map_err(|_| refused())?;
        let until = Until::new(engine.core().now().after(TRANSFER));
        let delivered = get.write_to(&*memory, slice, &until).await;
        // Only now no byte moves any more, and the client may be told so.
        let ended = memory.end_request(&slice);
        delivered
            .map(|delivered| (delivered, size, ended))
            .map_err(|_| Error::InvalidArgument("it was not moved"))
    };
    let (delivered, size, ended) = engine.on_core(usize::from(id.core()), work).await??;
    let checksum =
        Checksum::from_crc(Algorithm::Crc64Nvme, delivered.crc64).map(|checksum| checksum.to_string());
    Ok(format!(
        "HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\nx-amz-rdma-reply: 200\r\n\
         x-amz-rdma-bytes-transferred: {}\r\nx-amz-rdma-object-size: {size}\r\n\
         x-amz-rdma-checksum-crc64nvme: {}\r\n{}\r\n",
        delivered.bytes,
        checksum.unwrap_or_default(),
        if ended { "x-amz-rdma-exposure: ended\r\n" } else { "" },
    ))
}

/// Out of the leases that the device filled, as they are.
async fn stream_out(engine: &CoreEngine, stream: &TcpStream, bucket: &str, key: &str) -> Option<()> {
    let mut get = match engine.get(bucket, key.as_bytes(), GetOptions::default()).await {
        Ok(get) => get,
        Err(error) => return send(engine.core(), stream, &refusal(error)).await,
    };
    let bytes = get.info().size;
    let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {bytes}\r\nconnection: close\r\n\r\n");
    send(engine.core(), stream, &head).await?;
    while let Some(chunk) = get.next().await {
        stream.send_all(ScatterList::from(chunk.ok()?)).await.ok()?;
    }
    Some(())
}

fn refusal(error: Error) -> String {
    let text = error.to_string();
    format!("HTTP/1.1 404 No\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{text}", text.len())
}

async fn send(core: &Core, stream: &TcpStream, text: &str) -> Option<()> {
    let mut lease = core.pool().acquire(text.len()).await;
    lease.set_len(text.len());
    lease.as_mut_slice().copy_from_slice(text.as_bytes());
    stream.send_all(ScatterList::from(lease.freeze())).await.ok()
}

#[cfg(test)]
mod tests {
    /// The lesson works as it stands.
    #[test]
    fn the_lesson_works() {
        let directory = tempfile::tempdir().unwrap();
        super::run(directory.path()).unwrap();
        super::run(directory.path()).unwrap();
    }
}
