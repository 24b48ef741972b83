//! The S3 client on an asynchronous runtime: many requests at a time, over memory shared with the server.
//!
//! ```text
//! cargo run --release --example many_at_once -- 127.0.0.1:9000 /run/crossdock.shm
//! ```
//!
//! with `AWS_ACCESS_KEY_ID` and `AWS_SECRET_ACCESS_KEY` as for any client, and a server started with `--shm /run/crossdock.shm`. The
//! library asks a runtime for four things, and here is how one gives them.

use crossdock_s3::{
    client::{AsyncClient, Credentials, Parallel, Policy, Runtime},
    protocol::http::Method,
};
use crossdock_transport::shm::{ShmClient, same_user_or_root};
use futures_lite::future::{block_on, zip};
use std::{
    error::Error,
    io,
    net::{TcpStream, ToSocketAddrs},
    os::fd::BorrowedFd,
    time::{Duration, SystemTime},
};

/// The reactor of `async-io`, which `smol` runs on.
struct Reactor;

impl Runtime for Reactor {
    type Stream = async_io::Async<TcpStream>;

    async fn connect(&self, host: &str) -> io::Result<Self::Stream> {
        let address = host.to_socket_addrs()?.next().ok_or(io::ErrorKind::NotFound)?;
        let stream = async_io::Async::<TcpStream>::connect(address).await?;
        stream.get_ref().set_nodelay(true)?;
        Ok(stream)
    }

    async fn readable(&self, descriptor: BorrowedFd<'_>) -> io::Result<()> {
        // A copy: the reactor wants one that it may take out of its set again.
        async_io::Async::new(descriptor.try_clone_to_owned()?)?.readable().await
    }

    async fn sleep(&self, time: Duration) {
        async_io::Timer::after(time).await;
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let (Some(host), Some(socket)) = (arguments.next(), arguments.next()) else {
        return Err("usage: many_at_once HOST:PORT SOCKET".into());
    };
    let variable = |name: &str| std::env::var(name).map_err(|_| format!("{name} is not set"));
    let (key, secret) = (variable("AWS_ACCESS_KEY_ID")?, variable("AWS_SECRET_ACCESS_KEY")?);
    run(&host, &socket, (&key, &secret))
}

fn run(host: &str, socket: &str, (key, secret): (&str, &str)) -> Result<(), Box<dyn Error>> {
    let credentials =
        Credentials { access_key: key.into(), secret: secret.into(), region: "us-east-1".into() };
    let client = AsyncClient::new(Reactor, host, credentials, now).policy(Policy::Require);
    block_on(async {
        let memory = ShmClient::connect(socket, 32 << 20, same_user_or_root)?;
        let session = client.bind_shm(memory).await?;
        client.exchange(Method::Put, "/many", &[], &[]).await?;
        let mut buffer = session.buffer(24 << 20)?;
        buffer.iter_mut().zip(0u32..).for_each(|(byte, at)| *byte = (at >> 9) as u8);

        // Five parts, three at a time, all of one exposure.
        let bytes = buffer.len();
        let parallel = Parallel { part_bytes: 5 << 20, in_flight: 3 };
        let uploaded = client.upload_from(("many", "large"), &[], buffer, bytes, parallel).await;
        let uploaded = uploaded.map_err(|failed| failed.error)?;
        println!("stored {bytes} bytes as {}: {:?}", uploaded.etag, uploaded.ways);

        // Two calls at a time, on connections of their own: the large one by ranges, and a small one beside it.
        let (all, some) = zip(
            client.gather_into("many", "large", uploaded.buffer, parallel),
            client.get_into("many", "large", Some(1 << 20..(1 << 20) + 100), session.buffer(100)?),
        )
        .await;
        let (all, some) = (all.map_err(|failed| failed.error)?, some.map_err(|failed| failed.error)?);
        assert!(all.buffer.get(1 << 20..(1 << 20) + 100) == some.buffer.get(..100));
        println!("got {} bytes: {:?}", all.bytes, all.ways);
        Ok(())
    })
}

#[allow(clippy::disallowed_methods, reason = "a client has the system's clock")]
fn now() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

#[cfg(test)]
mod tests {
    use crossdock_s3::{
        server::{Server, ServerLimits},
        service::{BucketDefaults, Policies, Secret, ServiceOptions},
    };
    use crossdock_transport::shm::{Shm, ShmOptions};
    use std::{collections::HashMap, net::SocketAddr, sync::Arc};

    /// The lesson works as it stands, beside a server in this process.
    #[test]
    fn the_lesson_works() {
        let directory = tempfile::tempdir().unwrap();
        let service = ServiceOptions {
            credentials: Arc::new(HashMap::from([("key".to_owned(), Secret::new("secret"))])),
            authorizer: Arc::new(Policies::default()),
            region: None,
            base_domains: Vec::new(),
            remote: Arc::default(),
            bucket_defaults: BucketDefaults::default(),
            lifecycle_interval: None,
        };
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        let server = Arc::new(Server::bind(any, 1, service, ServerLimits::default()).unwrap());
        let socket = directory.path().join("shm");
        let run = server.clone();
        let engine = crossdock::Engine::builder()
            .path(directory.path().join("data"))
            .cores(1)
            .transport(Arc::new(Shm::listen(&socket, ShmOptions::default()).unwrap()))
            .on_each_core(move |engine, driver| {
                let server = run.clone();
                async move { server.run(engine, driver).await }
            })
            .open()
            .unwrap();
        server.wait_until_listening().unwrap();
        let host = server.local_addr().to_string();
        super::run(&host, socket.to_str().unwrap(), ("key", "secret")).unwrap();
        engine.close();
    }
}
