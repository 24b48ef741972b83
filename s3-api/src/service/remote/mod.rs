//! Requests whose bytes go over a session of a transport instead of over HTTP.
//!
//! ```text
//!   proposal ─► token ─► which transport, which session ─► on the session's core: whose is it? used before? ─► move
//!      └── what can not be served as proposed is declined: a GET answers with a body, a PUT stores nothing
//! ```
//!
//! A session lives on one core, and the work goes there: bytes, memory and session meet on one thread, and the connection's
//! core only waits for the outcome.
//!
//! Invariants
//! * The reply goes out when no byte moves any more: past the deadline, or once the client closed its connection, nothing is
//!   begun, and what the session then is not done with in time (a second, unless the server was told otherwise) is ended with it; so is
//!   what the session is not getting on with ([`RemoteOptions::stall_max`]). Who waits for a disk or for memory ends nobody's session.
//! * The reply to a disconnect goes out when no byte of the session moves any more.
//! * No principal has more under way on a core than its share ([`RemoteOptions::principal_transfers_max`]), waiting or moving.
//! * One signature moves bytes once. A request that is sent again, by whomever, finds the client's memory in another use.
//! * To anybody but who made it a session does not exist.

mod control;
mod shares;
mod transfer;
mod under_way;
mod used;

pub(super) use control::control;
pub(super) use transfer::{Asked, get, put, put_part};

use super::Principal;
use crate::protocol::{
    auth::{SignaturePlace, Signed},
    error::{ErrorCode, S3Error},
    remote::Proposal,
};
use crossdock::{CoreEngine, reactor::Moment};
use crossdock_transport::{
    remote::{self, RemoteSlice, SessionId},
    token::{Codecs, TokenError},
};
use shares::Shares;
use std::{cell::RefCell, rc::Rc, sync::Arc, time::Duration};
use under_way::UnderWay;
use used::UsedSignatures;

/// How long nothing of a transfer's may complete. A card that loses packets is done with an operation, or gives up, within a few seconds; a
/// window of a transfer is 4 MiB, so that who is not given up moves 100 KiB a second at least.
const STALL_MAX: Duration = Duration::from_secs(10);

/// A quarter of the operations that a core has, and of those that wait for memory there far less than may.
const PRINCIPAL_TRANSFERS_MAX: usize = 256;

/// How tokens are read, and what moves the bytes of each kind.
#[derive(Debug)]
pub struct RemoteOptions {
    /// The kinds of tokens that are understood.
    pub codecs: Codecs,
    /// Names of codecs, and of the transport that moves the bytes for each. A kind that is not here is declined, and so is one
    /// whose transport the engine was opened without.
    pub transports: Vec<(Box<str>, Box<str>)>,
    /// How long what was begun may take once nothing is begun any more, because the deadline passed or the client closed its
    /// connection, before it is ended with its session.
    pub grace: Duration,
    /// How long a transfer may have operations in its session of which none completes, before it is ended with the session.
    pub stall_max: Duration,
    /// Transfers that one principal may have under way on one core, or waiting to be let in there. One more is told to slow down. Less than
    /// the operations that a core has, so that others have some. Default: 256.
    pub principal_transfers_max: usize,
}

impl Default for RemoteOptions {
    /// The standard codecs; `rc` over the transport `rdma`, and `shm` over `shm`; a second of grace, and ten
    /// for an operation.
    fn default() -> RemoteOptions {
        let transports = [("rc", "rdma"), ("shm", "shm")];
        RemoteOptions {
            codecs: Codecs::standard(),
            transports: transports.map(|(codec, transport)| (codec.into(), transport.into())).into(),
            grace: Duration::from_secs(1),
            stall_max: STALL_MAX,
            principal_transfers_max: PRINCIPAL_TRANSFERS_MAX,
        }
    }
}

impl RemoteOptions {
    fn transport_of(&self, codec: &str) -> Option<&str> {
        self.transports.iter().find(|(known, _)| **known == *codec).map(|(_, transport)| &**transport)
    }
}

/// Why a proposal is declined.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Declined {
    /// No codec knows the token.
    UnknownToken,
    /// The token is of a kind that nothing here moves bytes for.
    NotServed,
    /// The request is presigned: whoever has the URL could have the bytes moved again.
    Presigned,
    /// The signature moved bytes before.
    Replayed,
    /// The signature is older than what is remembered of the session.
    TooOld,
    /// The client's memory is smaller than what it asked for.
    TooSmall,
    /// The time for it passed.
    Late,
    /// The transfer failed.
    Failed,
    /// The client closed its connection.
    Cancelled,
}

impl Declined {
    /// Every reason.
    pub const ALL: [Declined; 9] = [
        Declined::UnknownToken,
        Declined::NotServed,
        Declined::Presigned,
        Declined::Replayed,
        Declined::TooOld,
        Declined::TooSmall,
        Declined::Late,
        Declined::Failed,
        Declined::Cancelled,
    ];

    /// For metrics and messages.
    pub fn as_str(self) -> &'static str {
        match self {
            Declined::UnknownToken => "unknown_token",
            Declined::NotServed => "not_served",
            Declined::Presigned => "presigned",
            Declined::Replayed => "replayed",
            Declined::TooOld => "too_old",
            Declined::TooSmall => "too_small",
            Declined::Late => "late",
            Declined::Failed => "failed",
            Declined::Cancelled => "cancelled",
        }
    }
}

/// What bytes went over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Over {
    /// The transport.
    pub(crate) transport: &'static str,
    /// Which of its rails, where they have names.
    pub(crate) rail: Option<usize>,
    /// The core that the session lives on.
    pub(crate) core: usize,
}

/// What became of a request with a token.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Moved {
    /// Bytes were written to the client's memory.
    Written { over: Over, bytes: u64 },
    /// Bytes were read from it.
    Read { over: Over, bytes: u64 },
    /// Declined, and why: the bytes are in the reply's body.
    Declined(Declined),
    /// Declined, failed or given up, and why: nothing moved any way, or nobody knows how much.
    Nothing(Declined),
}

impl Moved {
    /// For the access log.
    pub(crate) fn told(&self) -> Told {
        match *self {
            Moved::Written { over, bytes } | Moved::Read { over, bytes } => {
                Told { over: over.transport, rail: over.rail, bytes, fallback: "-" }
            }
            Moved::Declined(reason) => Told { fallback: reason.as_str(), ..Told::HTTP },
            Moved::Nothing(reason) => Told { over: "-", fallback: reason.as_str(), ..Told::HTTP },
        }
    }

    /// The core of the session that bytes went over.
    pub(crate) fn core(&self) -> Option<usize> {
        match self {
            Moved::Written { over, .. } | Moved::Read { over, .. } => Some(over.core),
            Moved::Declined(_) | Moved::Nothing(_) => None,
        }
    }
}

/// What the access log says of the way that a request's bytes went.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Told {
    /// The transport, or `http`, or `-` for none.
    pub(crate) over: &'static str,
    /// The rail's place in the list of transports.
    pub(crate) rail: Option<usize>,
    /// Bytes that went over a transport.
    pub(crate) bytes: u64,
    /// Why a way that was proposed was not taken.
    pub(crate) fallback: &'static str,
}

impl Told {
    /// Of a request that proposed nothing else.
    pub(crate) const HTTP: Told = Told { over: "http", rail: None, bytes: 0, fallback: "-" };
}

/// What is kept on a core for the sessions that live there.
#[derive(Default)]
pub(super) struct Here {
    used: RefCell<UsedSignatures>,
    under_way: UnderWay,
    shares: Shares,
}

/// Where a proposal leads: everything its session's core needs to know.
#[derive(Clone)]
struct Route {
    transport: Box<str>,
    session: SessionId,
    slice: RemoteSlice,
    owner: remote::Principal,
    signed: Option<Signed>,
    now_seconds: u64,
    deadline: Moment,
    /// How long it may take to end behind that.
    grace: Duration,
    /// How long nothing of it may complete.
    stall_max: Duration,
    /// How many transfers its owner may have.
    share_max: usize,
}

/// The sender of a request, as transports know it. No name of a key is that of everybody.
fn owner(principal: &Principal) -> remote::Principal {
    match principal {
        Principal::Anonymous => remote::Principal::new("anonymous"),
        Principal::Identity(identity) => remote::Principal::new(&format!("key {}", identity.access_key)),
    }
}

/// Reads the token. The inner error declines.
///
/// # Errors
/// 400 `InvalidRDMAToken`, 404 `NoSuchRDMASession`.
fn route(
    engine: &CoreEngine,
    options: &RemoteOptions,
    principal: &Principal,
    signed: Option<Signed>,
    proposal: &Proposal,
    deadline: Moment,
) -> Result<Result<Route, Declined>, S3Error> {
    let named = match options.codecs.parse(&proposal.token.0) {
        Ok(named) => named,
        Err(TokenError::Malformed) => return Err(ErrorCode::InvalidRdmaToken.into()),
        Err(TokenError::Unknown) => return Ok(Err(Declined::UnknownToken)),
    };
    let served =
        options.transport_of(named.codec).filter(|transport| engine.core().endpoint(transport).is_some());
    let (Some(transport), Some(session)) = (served, named.session) else {
        return Ok(Err(Declined::NotServed));
    };
    if signed.is_some_and(|signed| signed.place == SignaturePlace::Query) {
        return Ok(Err(Declined::Presigned));
    }
    if usize::from(session.core()) >= engine.core().count() {
        return Err(ErrorCode::NoSuchRdmaSession.into());
    }
    Ok(Ok(Route {
        transport: transport.into(),
        session,
        slice: named.slice,
        owner: owner(principal),
        signed,
        now_seconds: engine.core().wall_clock_ms() / 1_000,
        deadline,
        grace: options.grace,
        stall_max: options.stall_max,
        share_max: options.principal_transfers_max,
    }))
}

/// The transport's name for metrics, which outlive every request.
fn known_name(transport: &str) -> &'static str {
    match transport {
        "rdma" => "rdma",
        "shm" => "shm",
        "loopback" => "loopback",
        _ => "other",
    }
}

/// Prepares a core for sessions that live there.
pub(crate) fn attach(engine: &CoreEngine) {
    if engine.attached::<Here>().is_none() {
        engine.attach(Rc::new(Here::default()));
    }
}

/// Shared by everything here.
pub(super) type Options = Arc<RemoteOptions>;
