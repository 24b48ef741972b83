//! A request from its head to its answer, whatever it came by: the same for every front end.

use super::{
    ServerLimits,
    body::Body,
    digester::Digester,
    early::Early,
    memory::Memory,
    metrics::{Outcome, ServerMetrics},
    source::Source,
    wire::{Ended, unless},
};
use crate::{
    protocol::{
        auth::Verified,
        body::{BodyDecoder, BodyVerifier, DigestPlan, Expectations},
        checksum::{RequestChecksum, request_checksum},
        error::{ErrorCode, S3Error},
        http::{BodyFraming, Headers, Method, RequestHead},
        operation::OperationName,
        remote::Control,
        reply::{Reply, ReplyBody, ReplyContext},
    },
    service::{
        Admission, Admitted, Answer, Declined, Origin, Page, Service,
        remote::{Moved, Told},
    },
};
use crossdock::reactor::{Core, Moment};
use std::{cell::Cell, rc::Rc, sync::Arc};

/// A body that nobody wants is read to its end up to this size; beyond, the connection is closed instead.
const UNWANTED_BYTES: u64 = 256 * 1024;

/// The target (as `tracing` calls it) where each request leaves a line at `info`: who asked, for what, what became of it. A
/// program that does not want that filters it out. No secret is in it: no query, token or name of a session.
///
/// The status is the one that was sent: of a copy or a completion that took long it is 200, whatever came of it, and `code` tells.
///
/// Which way its bytes went, of any request:
///
/// | field | value |
/// |---|---|
/// | `over` | the transport that moved an object's bytes (`rdma`, `shm`, …); `http`; `-` if a way was proposed and nothing moved any way |
/// | `rail` | the place of its rail in the list of transports, from 0; `-` where there is none |
/// | `moved` | bytes that went over the transport; those of a body are `bytes` |
/// | `fallback` | why a way that was proposed was not taken: [`Declined::as_str`](crate::service::Declined::as_str); `-` if none was, or it was |
pub const ACCESS_LOG: &str = "crossdock_s3::access";

const SERVER: &str = concat!("crossdock/", env!("CARGO_PKG_VERSION"));

/// What answers requests on one core.
pub(crate) struct Front {
    pub(crate) core: Core,
    pub(crate) service: Service,
    pub(crate) limits: ServerLimits,
    /// What requests hold besides bytes of objects.
    pub(crate) memory: Memory,
    pub(crate) metrics: Arc<ServerMetrics>,
    /// Where bodies are digested.
    pub(crate) digester: Rc<Digester>,
}

/// What a reply needs to know of its request.
pub(crate) struct Asked {
    pub(crate) method: Method,
    pub(crate) operation: Option<OperationName>,
    pub(crate) request_id: String,
    /// When its first byte came.
    pub(crate) begun: Moment,
    origin: Origin,
    /// The code of the refusal, if it was one.
    refused: Option<&'static str>,
    /// For the access log, if there is one: the path, and who asked.
    logged: Option<(Box<str>, Option<String>)>,
    /// What its bytes went over, once that is known.
    moved: Cell<Option<Moved>>,
}

/// What is left of a request's body when its answer is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BodyLeft {
    /// Nothing: the next request follows.
    Nothing,
    /// So little that it is read and thrown away.
    Small,
    /// Too much, or nobody knows how much, or whether the client will send it.
    Unknown,
    /// The peer is gone.
    Gone,
}

impl Asked {
    /// The core of the session that its bytes went over, if they did.
    pub(crate) fn session_core(&self) -> Option<usize> {
        self.moved.get().and_then(|moved| moved.core())
    }
}

impl BodyLeft {
    fn unread(framing: BodyFraming, held_back: bool) -> BodyLeft {
        match framing {
            BodyFraming::None | BodyFraming::Length(0) if !held_back => BodyLeft::Nothing,
            _ => BodyLeft::Unknown,
        }
    }

    fn of(body: &Body<'_>) -> BodyLeft {
        if body.ended() == Some(Ended::Closed) {
            return BodyLeft::Gone;
        }
        if body.is_finished() && !body.is_held_back() {
            return BodyLeft::Nothing;
        }
        let small = body.remaining_bytes().is_some_and(|bytes| bytes <= UNWANTED_BYTES);
        if small && !body.is_held_back() && body.ended().is_none() {
            BodyLeft::Small
        } else {
            BodyLeft::Unknown
        }
    }
}

/// What a request's head says of what comes behind it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Announced {
    pub(crate) framing: BodyFraming,
    /// The client waits for permission to send it.
    pub(crate) held_back: bool,
    /// The client knows no chunks in a reply, and takes the end of the connection for its end.
    pub(crate) is_old: bool,
    /// Another request may follow on the connection.
    pub(crate) keep_alive: bool,
}

impl Front {
    /// A request whose first byte came at `begun`.
    pub(crate) fn asked(&self, method: Method, origin: Origin, begun: Moment) -> Asked {
        Asked {
            method,
            operation: None,
            request_id: format!("{:016X}", self.core.random()),
            begun,
            origin,
            refused: None,
            logged: None,
            moved: Cell::new(None),
        }
    }

    /// Answers a request. What is left of its body says whether another can follow.
    pub(crate) async fn answer(
        &self,
        asked: &mut Asked,
        head: RequestHead,
        announced: Announced,
        source: Source<'_>,
    ) -> (Answer, BodyLeft) {
        if tracing::enabled!(target: ACCESS_LOG, tracing::Level::INFO) {
            asked.logged = Some((head.path.clone(), None));
        }
        let page = self.service.page_of(&head);
        let (answer, left) = self.perform(asked, head, announced, source, page.as_ref()).await;
        let mut answer = answer.unwrap_or_else(|error| self.refusal(asked, &error));
        if let ReplyBody::Bytes(document) = &answer.reply.body {
            match self.memory.document(document.len()) {
                Ok(room) => answer.room = room,
                // What was asked for may have been done: it can be asked for again.
                Err(code) => answer = self.refusal(asked, &code.into()),
            }
        }
        if let Some(page) = &page
            && asked.method != Method::Options
        {
            answer.reply = self.service.add_cors(page, answer.reply).await;
        }
        (answer, left)
    }

    async fn perform(
        &self,
        asked: &mut Asked,
        head: RequestHead,
        announced: Announced,
        mut source: Source<'_>,
        page: Option<&Page>,
    ) -> (Result<Answer, S3Error>, BodyLeft) {
        let Announced { framing, held_back, .. } = announced;
        let unread = BodyLeft::unread(framing, held_back);
        let (mut admitted, verified) = match self.service.admit(head, framing, asked.origin).await {
            Err(error) => return (Err(error), unread),
            Ok(Admission::Answered(answer)) => return (Ok(*answer), unread),
            Ok(Admission::Control(control, headers, principal)) => {
                if let Some((_, who)) = &mut asked.logged {
                    *who = principal.identity().map(|identity| identity.arn().to_owned());
                }
                let came_to = if control == Control::Connect { source.came_to() } else { None };
                let answer = self.service.control(control, &headers, &principal, came_to).await;
                if matches!(control, Control::Connect | Control::Bind) {
                    let status = answer.as_ref().map_or_else(S3Error::status, |answer| answer.reply.status);
                    self.metrics.count_connected(status);
                }
                return (answer, unread);
            }
            Ok(Admission::Operation(admitted, verified)) => (admitted, verified),
        };
        asked.operation = Some(admitted.routed.operation);
        if let Some((_, who)) = &mut asked.logged {
            *who = admitted.principal().identity().map(|identity| identity.arn().to_owned());
        }
        let (decoder, verifier) = match body_of(&admitted, framing, &verified) {
            Err(error) => return (Err(error), unread),
            Ok(parts) => parts,
        };
        let closed = admitted.proposal.as_ref().map(|_| source.closed());
        let asked = &*asked;
        let takes_long = admitted.routed.operation.may_take_long();
        let early = takes_long.then(|| Early::new(self, asked, page, announced));
        let mut body = Body::new(source, decoder, verifier, announced, self, early);
        let run = self.service.run(&mut admitted, asked.begun, &mut body);
        let answer = match closed {
            None => run.await,
            // Nobody waits for a transfer any more: it is to end.
            Some(closed) => match unless(closed, run).await {
                Some(answer) => answer,
                None => {
                    self.note(asked, Moved::Nothing(Declined::Cancelled));
                    return (Err(ErrorCode::IncompleteBody.into()), BodyLeft::Gone);
                }
            },
        };
        self.metrics.received_bytes.add(body.received_bytes());
        if answer.is_ok() && body.is_finished() {
            // An empty body that the operation had no reason to ask for: the client waits all the same.
            // Should it be gone, so it is for the reply.
            body.permit().await.ok();
        }
        let left = BodyLeft::of(&body);
        if answer.is_err() || left != BodyLeft::Small || body.has_begun() {
            return (answer, left);
        }
        // An operation that takes no body was sent one.
        match body.discard().await {
            Ok(()) => (answer, BodyLeft::Nothing),
            Err(error) => (Err(error), BodyLeft::Unknown),
        }
    }

    /// The reply to what is refused.
    pub(crate) fn refusal(&self, asked: &mut Asked, error: &S3Error) -> Answer {
        tracing::debug!(
            peer = %asked.origin.peer,
            request = asked.request_id,
            operation = asked.operation.map_or("?", OperationName::as_str),
            code = error.code.as_str(),
            message = %error.message,
            "refused"
        );
        if matches!(error.code, ErrorCode::RdmaNotSupported | ErrorCode::RdmaTransferFailed) {
            let reason = error.fields.iter().find(|(name, _)| *name == "Reason");
            let reason =
                reason.and_then(|(_, text)| Declined::ALL.iter().find(|reason| reason.as_str() == &**text));
            if let Some(reason) = reason {
                self.note(asked, Moved::Nothing(*reason));
            }
        }
        asked.refused = Some(error.code.as_str());
        Reply::error(error, &asked.request_id, &self.host_id()).into()
    }

    /// The first bytes of an answer's payload, read and verified, so that what can not be read is still answered as an
    /// error. None for an answer without payload.
    pub(crate) async fn first_chunk(
        &self,
        asked: &mut Asked,
        answer: &mut Answer,
    ) -> Option<crossdock_transport::memory::FrozenLease> {
        let get = answer.payload.as_mut().filter(|_| asked.method != Method::Head)?;
        match get.next().await? {
            Ok(chunk) => Some(chunk),
            Err(error) => {
                tracing::error!(%error, request = asked.request_id, "an object can not be read");
                *answer = self.refusal(asked, &ErrorCode::InternalError.into());
                None
            }
        }
    }

    /// What every reply says.
    pub(crate) fn context<'a>(
        &self,
        asked: &'a Asked,
        host_id: &'a str,
        keep_alive: bool,
    ) -> ReplyContext<'a> {
        ReplyContext {
            method: asked.method,
            request_id: &asked.request_id,
            host_id,
            server: SERVER,
            date_seconds: self.core.wall_clock_ms() / 1_000,
            keep_alive,
        }
    }

    /// Who answers: `x-amz-id-2`.
    pub(crate) fn host_id(&self) -> String {
        format!("core-{}", self.core.index())
    }

    /// Counts what became of a proposal to use a transport, if there was one.
    pub(crate) fn count_moved(&self, asked: &Asked, answer: &Answer) {
        if let Some(moved) = answer.moved {
            self.note(asked, moved);
        }
    }

    fn note(&self, asked: &Asked, moved: Moved) {
        self.metrics.count_moved(&moved);
        asked.moved.set(Some(moved));
    }

    /// Counts a request that is over, and leaves its line in the access log.
    pub(crate) fn count(&self, asked: &Asked, status: u16, bytes: u64) {
        let elapsed = self.core.now().since(asked.begun);
        self.metrics.count(asked.operation, &Outcome { status, elapsed });
        let Some((path, who)) = &asked.logged else { return };
        let told = asked.moved.get().map_or(Told::HTTP, |moved| moved.told());
        let rail = told.rail.map_or("-".to_owned(), |rail| rail.to_string());
        // The path as it was sent, without the query, which may hold a signature; nothing in it can break the line.
        tracing::info!(
            target: ACCESS_LOG,
            peer = %asked.origin.peer,
            secure = asked.origin.secure,
            request = asked.request_id,
            host = self.host_id(),
            requester = who.as_deref().unwrap_or("-"),
            method = asked.method.as_str(),
            path = ?path,
            operation = asked.operation.map_or("-", OperationName::as_str),
            status,
            code = asked.refused.unwrap_or("-"),
            bytes,
            micros = elapsed.as_micros() as u64,
            over = told.over,
            rail,
            moved = told.bytes,
            fallback = told.fallback,
        );
    }
}

/// How the body is taken apart and what is computed over it.
fn body_of(
    admitted: &Admitted,
    framing: BodyFraming,
    verified: &Verified,
) -> Result<(BodyDecoder, BodyVerifier), S3Error> {
    let (operation, headers): (OperationName, &Headers) = (admitted.routed.operation, &admitted.headers);
    // CompleteMultipartUpload names the checksum of the object in the headers that elsewhere name that of the body, and a
    // request whose bytes go another way that of those.
    let has_body = operation.takes_object_body() && admitted.proposal.is_none();
    let is_document = operation.document_bytes_max().is_some();
    let names_body = has_body || (is_document && operation != OperationName::CompleteMultipartUpload);
    let checksum = if names_body { request_checksum(headers)? } else { RequestChecksum::None };
    let decoder = BodyDecoder::new(headers, framing, verified, &checksum)?;
    let expected = match admitted.proposal {
        None => Expectations::new(headers, &verified.payload, checksum)?,
        Some(_) => Expectations::default(),
    };
    let plan = DigestPlan { md5: has_body, default_checksum: None, supplied: None };
    Ok((decoder, BodyVerifier::new(expected, plan)))
}
