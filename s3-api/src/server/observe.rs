//! What operators ask for: `/metrics` and `/healthz`, on an address of their own.

use super::{
    Server, render,
    stream::Stream,
    transports::render_transports,
    wire::{INPUT_BYTES, Wire, unless, within},
};
use crate::protocol::http::{HeadLimits, HeadParser, HeadStatus, Method, ReplyHead};
use crossdock::{CoreEngine, reactor::RingDriver};
use crossdock_transport::tcp::{TcpListener, TcpStream};
use std::{io, net::SocketAddr, rc::Rc, time::Duration};

/// How long a whole exchange here may take: the next one waits for it.
const LIMIT: Duration = Duration::from_secs(5);

impl Server {
    /// Answers `GET /metrics` (Prometheus text) and `GET /healthz` (200, or 503 with the reasons) on `address` until the
    /// engine closes. For one core; one connection at a time.
    ///
    /// # Errors
    /// The address is taken, not ours, or not permitted.
    pub async fn observe(
        &self,
        engine: CoreEngine,
        driver: Rc<RingDriver>,
        address: SocketAddr,
    ) -> io::Result<()> {
        let listener = TcpListener::bind(driver.ring(), address, false)?;
        while let Some(accepted) = unless(engine.closing(), listener.accept()).await {
            if let Ok((stream, _)) = accepted {
                // One that is cut off was too slow; its connection closes.
                let _ = within(engine.core(), LIMIT, self.answer_observer(&engine, stream)).await;
            }
        }
        Ok(())
    }

    async fn answer_observer(&self, engine: &CoreEngine, stream: TcpStream) {
        let mut wire = Wire::new(engine.core().clone(), Stream::Plain(stream)).await;
        let mut parser = HeadParser::new(HeadLimits::default());
        let parsed = loop {
            wire.reserve(wire.pending().len() + INPUT_BYTES).await;
            if wire.receive(usize::MAX, LIMIT).await.is_err() {
                return;
            }
            match parser.parse(wire.pending()) {
                Ok(HeadStatus::NeedMore) => {}
                Ok(HeadStatus::Complete(parsed)) => break parsed,
                Err(_) => return,
            }
        };
        let (shards, cores) = (engine.statistics().await, engine.all_metrics().await);
        let (status, text) = match (parsed.head.method, &*parsed.head.path) {
            (Method::Get | Method::Head, "/metrics") => {
                let transports = render_transports(engine, self.remote_options()).await;
                (200, render(self.metrics(), &cores, &shards) + &transports)
            }
            (Method::Get | Method::Head, "/healthz") => {
                let missing = usize::from(engine.shard_count()) - shards.len();
                let read_only = shards.iter().filter(|shard| shard.read_only).count();
                match (missing, read_only) {
                    (0, 0) => (200, "ok\n".to_owned()),
                    _ => (503, format!("{missing} shards missing, {read_only} read only\n")),
                }
            }
            _ => (404, "only /metrics and /healthz\n".to_owned()),
        };
        let mut out = Vec::with_capacity(text.len() + 256);
        let mut head = ReplyHead::begin(&mut out, status);
        // Names and values are ours: none can be refused.
        let _ = head.header("Content-Type", b"text/plain; version=0.0.4; charset=utf-8");
        let _ = head.header("Connection", b"close");
        head.length("Content-Length", text.len() as u64);
        head.finish();
        if parsed.head.method != Method::Head {
            out.extend_from_slice(text.as_bytes());
        }
        if wire.send_bytes(&out, LIMIT).await.is_ok() {
            wire.close(LIMIT).await;
        }
    }
}
