//! The service behind any HTTP stack that speaks in the types of the `http` crate: hyper, axum and others.
//!
//! ```text
//!   the stack's runtime                          a core of the engine
//!   http::Request ── head ─────────────────────► admit, run          the same as behind our own server
//!                 ── pieces of the body ───────► Pieces ─► Body
//!   http::Response ◄─ head ────────────────────── answer
//!   ReplyBody      ◄─ verified chunks ────────────── Get
//! ```
//!
//! Nothing here needs a runtime: [`HttpFront::call`] is a future for whichever polls it. The body of a request is polled by
//! that future alone, on the stack's own thread, one piece ahead of the engine; chunks of a reply are read one ahead of
//! whoever takes them. So a slow disk slows the client down, and a slow client the disk.
//!
//! A request's bytes are copied once, into memory that the disk is written from: the stack received them elsewhere. A
//! reply's are not: its chunks are leases of the engine's memory until the stack drops them.
//!
//! # With hyper
//!
//! ```ignore
//! let front = HttpFront::new(engine, service, ServerLimits::default());
//! let service = service_fn(move |request| {
//!     let front = front.clone();
//!     async move { Ok::<_, Infallible>(front.call(request, Peer { address, secure: false }).await) }
//! });
//! http1::Builder::new().serve_connection(TokioIo::new(stream), service).await
//! ```
//!
//! `examples/hyper-frontend` is all of it.

mod head;
mod pieces;
mod reply;

pub(crate) use pieces::Pieces;
pub use reply::{BrokenOff, ReplyBody};

use crate::{
    protocol::{error::S3Error, http::Method, operation::Resource},
    server::{Announced, Front, STATUS, ServerLimits, ServerMetrics, Source, act_on_rules, rest_of, within},
    service::{Origin, Service, ServiceOptions, UNKNOWN},
};
use crossdock::{CoreEngine, Engine};
use futures_channel::oneshot;
use head::Head;
use pieces::Feed;
use reply::Made;
use std::{
    cell::RefCell,
    future::Future,
    net::SocketAddr,
    pin::pin,
    rc::Rc,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    task::{Context, Waker},
    time::Duration,
};

/// Where a request comes from, as the stack knows it: policies ask about it.
#[derive(Clone, Copy, Debug)]
pub struct Peer {
    /// The other end of the connection. What proxies say of others is not believed.
    pub address: SocketAddr,
    /// Whether the connection is encrypted. By which version of TLS is not asked: a policy that makes demands on it (`s3:TlsVersion`) is
    /// not satisfied then.
    pub secure: bool,
}

/// The service, for any thread and any runtime. Cheap to clone.
#[derive(Clone)]
pub struct HttpFront(Arc<Inner>);

struct Inner {
    engine: Engine,
    shared: Shared,
    /// The core whose turn it is, for requests that no core is better for than another.
    next: AtomicUsize,
}

/// What each core needs to know.
#[derive(Clone)]
struct Shared {
    service: Arc<ServiceOptions>,
    limits: ServerLimits,
    metrics: Arc<Vec<Arc<ServerMetrics>>>,
    rules: Arc<Rules>,
}

/// What acts on lifecycle rules: one task for all clones of a front, and until the last is gone.
struct Rules {
    interval: Option<Duration>,
    begun: AtomicBool,
}

impl Rules {
    /// Begins on this core, unless that was done before.
    fn begin(self: &Arc<Rules>, engine: &CoreEngine) {
        let Some(interval) = self.interval else { return };
        if self.begun.load(Ordering::Relaxed) || self.begun.swap(true, Ordering::Relaxed) {
            return;
        }
        // Fronts have it, and requests for as long as they take.
        let fronts = Arc::downgrade(self);
        let is_wanted = move || fronts.strong_count() > 0;
        engine.core().spawn(act_on_rules(engine.clone(), interval, is_wanted)).detach();
    }
}

impl HttpFront {
    /// The service on `engine`. Of `limits` those of bodies and sending count; connections and heads are the stack's.
    ///
    /// Lifecycle rules are acted on, as often as the service says, for as long as there is a clone of this.
    pub fn new(engine: Engine, service: ServiceOptions, limits: ServerLimits) -> HttpFront {
        let metrics = (0..engine.core_count()).map(|_| Arc::default()).collect();
        let rules = Arc::new(Rules { interval: service.lifecycle_interval, begun: AtomicBool::new(false) });
        let (service, metrics) = (Arc::new(service), Arc::new(metrics));
        let shared = Shared { service, limits, metrics, rules: rules.clone() };
        let front = HttpFront(Arc::new(Inner { engine, shared, next: AtomicUsize::new(0) }));
        // Once asked for it is on its way, and nobody waits for it: this may be called on any thread. What a core that is too busy to be
        // asked leaves undone, the first request does.
        let begin = front.0.engine.on_core(0, move |engine| async move {
            rules.begin(&engine);
        });
        drop(pin!(begin).as_mut().poll(&mut Context::from_waker(Waker::noop())));
        front
    }

    /// Each core's counters, by core.
    pub fn metrics(&self) -> &[Arc<ServerMetrics>] {
        &self.0.shared.metrics
    }

    /// Answers a request. Never fails: what goes wrong is an answer of S3.
    ///
    /// # Cancellation
    /// A body that was not taken in whole is stored nowhere; what was begun otherwise may come to its end.
    pub async fn call<B: http_body::Body>(
        &self,
        request: http::Request<B>,
        peer: Peer,
    ) -> http::Response<ReplyBody> {
        let (parts, body) = request.into_parts();
        let head = Head::of(&parts, &body);
        let core = self.core_for(&head);
        // Held until there is an answer, or nobody waits for it any more.
        let (feed, pieces, _waiting) = Feed::new();
        let (sender, mut made) = oneshot::channel();
        let shared = self.0.shared.clone();
        let work = self.0.engine.on_core(core, move |engine| async move {
            shared.rules.begin(&engine);
            let front = front_of(&engine, &shared);
            serve(&front, head, peer, pieces, sender).await;
        });
        let (mut work, mut feed) = (pin!(work), pin!(feed.pump(body)));
        let (mut worked, mut fed) = (false, false);
        let made = std::future::poll_fn(|cx| {
            if !worked {
                worked = work.as_mut().poll(cx).is_ready();
            }
            if !fed {
                fed = feed.as_mut().poll(cx).is_ready();
            }
            std::pin::Pin::new(&mut made).poll(cx)
        });
        // None: the engine is closed.
        made.await.unwrap_or_else(|_| Made::closed()).into_response()
    }

    /// The core that owns the key's shard, which saves the object's metadata a message.
    fn core_for(&self, head: &Result<Head, S3Error>) -> usize {
        let Inner { engine, next, .. } = &*self.0;
        let resource = head.as_ref().ok().and_then(|head| Resource::path_style(&head.request.path).ok());
        match resource {
            Some(Resource::Object { bucket, key }) => {
                engine.core_of(engine.shard_of(&bucket, key.as_bytes()))
            }
            _ => next.fetch_add(1, Ordering::Relaxed) % engine.core_count().max(1),
        }
    }
}

/// The fronts that one core has: one for each [`HttpFront`] on its engine.
#[derive(Default)]
struct Fronts(RefCell<Vec<(Arc<ServiceOptions>, Rc<Front>)>>);

fn front_of(engine: &CoreEngine, shared: &Shared) -> Rc<Front> {
    let fronts = engine.attached::<Fronts>().unwrap_or_else(|| {
        let made = Rc::new(Fronts::default());
        engine.attach(made.clone());
        made
    });
    let known = fronts
        .0
        .borrow()
        .iter()
        .find_map(|(options, front)| Arc::ptr_eq(options, &shared.service).then(|| front.clone()));
    known.unwrap_or_else(|| {
        let core = engine.core().clone();
        let front = Rc::new(Front {
            service: Service::new(shared.service.clone(), engine.clone()),
            limits: shared.limits,
            memory: crate::server::Memory::new(&core, &shared.limits),
            metrics: shared.metrics.get(core.index()).cloned().unwrap_or_default(),
            digester: crate::server::Digester::new(core.clone()),
            core,
        });
        fronts.0.borrow_mut().push((shared.service.clone(), front.clone()));
        front
    })
}

/// Answers a request on a core.
async fn serve(
    front: &Front,
    head: Result<Head, S3Error>,
    peer: Peer,
    pieces: pieces::Receiver,
    reply: oneshot::Sender<Made>,
) {
    let tls_version = peer.secure.then_some(UNKNOWN);
    let now_ms = front.core.wall_clock_ms();
    let origin = Origin { peer: peer.address, secure: peer.secure, tls_version, now_ms };
    let mut asked =
        front.asked(head.as_ref().map_or(Method::Get, |head| head.request.method), origin, front.core.now());
    let mut pieces = Pieces::new(front.core.clone(), pieces, reply);
    let mut answer = match head {
        Ok(Head { request, framing }) => {
            // How its connection goes on is the stack's.
            let announced = Announced { framing, held_back: false, is_old: false, keep_alive: true };
            front.answer(&mut asked, request, announced, Source::Pieces(&mut pieces)).await.0
        }
        Err(error) => front.refusal(&mut asked, &error),
    };
    let (reply, rest) = pieces.into_reply();
    if let Some(rest) = rest {
        let document = bytes::Bytes::copy_from_slice(rest_of(&answer.reply));
        within(&front.core, front.limits.send, rest.end(document)).await;
        return front.count(&asked, STATUS, 0);
    }
    // None: it was to be begun, and nobody waited for it.
    let Some(reply) = reply else { return front.count(&asked, 499, 0) };
    let first = front.first_chunk(&mut asked, &mut answer).await;
    front.count_moved(&asked, &answer);
    let host_id = front.host_id();
    let room = answer.room.take();
    let context = front.context(&asked, &host_id, true);
    let (made, payload, taken) = Made::of(answer.reply, &context, first.is_some(), room.is_some());
    let (status, bytes) = (made.status(), made.payload_bytes());
    // Who does not wait for the answer any more takes no payload either.
    let sent = reply.send(made).is_ok();
    if sent && let (Some(payload), Some(first), Some(get)) = (payload, first, answer.payload) {
        reply::send(front, payload, first, get).await;
    }
    front.count(&asked, status, bytes);
    if sent && let Some(taken) = taken {
        // The document is there until the stack drops it.
        let _ = taken.await;
    }
    drop(room);
}
