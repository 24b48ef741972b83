//! The S3 service behind hyper: for those who have an HTTP stack already, with its own connections, middleware and TLS.
//!
//! ```text
//! hyper-frontend --data ./data --access-key KEY --secret-key SECRET
//! ```
//!
//! The dozen lines that matter are in [`serve`]. Behind axum it is
//! `Router::new().fallback(move |ConnectInfo(address), request| async move { front.call(request, Peer { address, secure: false }).await })`.
//!
//! The engine's cores are threads of their own, and tokio's are others: a request goes from one to the other and back. Where
//! that matters, let the engine's cores take the connections, as `s3-server` does.

use clap::Parser;
use crossdock::Engine;
use crossdock_s3::{
    http::{HttpFront, Peer},
    server::ServerLimits,
    service::{BucketDefaults, Policies, Secret, ServiceOptions},
};
use hyper::{server::conn::http1, service::service_fn};
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    server::graceful::GracefulShutdown,
};
use std::{
    collections::HashMap, convert::Infallible, io, net::SocketAddr, path::PathBuf, sync::Arc, time::Duration,
};
use tokio::{
    net::{TcpListener, TcpStream},
    signal::unix::{SignalKind, signal},
};

/// How long requests in work may take to end.
const DRAIN: Duration = Duration::from_secs(30);
/// How long a head may take.
const HEAD: Duration = Duration::from_secs(30);
/// How often lifecycle rules are acted on. They count in days, from midnight on.
const LIFECYCLE_INTERVAL: Duration = Duration::from_secs(3600);

/// The S3 service behind hyper
#[derive(Parser)]
struct Options {
    /// Directory of the store, made if there is none
    #[arg(long, value_name = "PATH")]
    data: PathBuf,
    /// Open a store that is there, and never make one
    #[arg(long)]
    must_exist: bool,
    /// Address to listen on
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:9000")]
    listen: SocketAddr,
    /// Access key of the one identity
    #[arg(long, value_name = "KEY", env = "CROSSDOCK_ACCESS_KEY")]
    access_key: String,
    /// Secret key of the one identity
    #[arg(long, value_name = "KEY", env = "CROSSDOCK_SECRET_KEY", hide_env_values = true)]
    secret_key: String,
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let options = Options::parse();
    let engine = Engine::builder().path(&options.data).create(!options.must_exist).open()?;
    let keys = HashMap::from([(options.access_key, Secret::new(options.secret_key))]);
    let service = ServiceOptions {
        credentials: Arc::new(keys),
        authorizer: Arc::new(Policies::default()),
        region: None,
        base_domains: Vec::new(),
        remote: Arc::default(),
        bucket_defaults: BucketDefaults::default(),
        lifecycle_interval: Some(LIFECYCLE_INTERVAL),
    };
    let front = HttpFront::new(engine.clone(), service, ServerLimits::default());
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?
        .block_on(listen(options.listen, front))?;
    // Takes a checkpoint, so that the next start is quick. It waits for the cores, and must not on a thread of tokio's.
    engine.close();
    Ok(())
}

/// Serves until SIGTERM or SIGINT, and lets requests in work come to their end.
async fn listen(address: SocketAddr, front: HttpFront) -> io::Result<()> {
    let listener = TcpListener::bind(address).await?;
    println!("ready http://{}", listener.local_addr()?);
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let graceful = GracefulShutdown::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, peer)) => serve(front.clone(), stream, peer, &graceful),
                // Out of descriptors, or a connection that was reset while it waited.
                Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
            },
            _ = terminate.recv() => break,
            _ = interrupt.recv() => break,
        }
    }
    drop(listener);
    let _ = tokio::time::timeout(DRAIN, graceful.shutdown()).await;
    Ok(())
}

/// Serves one connection, in a task of its own.
fn serve(front: HttpFront, stream: TcpStream, address: SocketAddr, graceful: &GracefulShutdown) {
    let peer = Peer { address, secure: false };
    let answer = service_fn(move |request| {
        let front = front.clone();
        async move { Ok::<_, Infallible>(front.call(request, peer).await) }
    });
    // A head and the body behind it, or the other way round, must not wait for each other's acknowledgement.
    let _ = stream.set_nodelay(true);
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD)
        // A client that says it will send nothing more still gets its answer.
        .half_close(true)
        .serve_connection(TokioIo::new(stream), answer);
    tokio::spawn(graceful.watch(connection));
}
