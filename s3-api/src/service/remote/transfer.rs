//! GetObject, PutObject and UploadPart with a token.

use super::{
    Declined, Here, Moved, Options, Over, Route, STALL_MAX, known_name, route, shares::Share, used::Use,
};
use crate::{
    protocol::{
        auth::{PayloadMode, Signed},
        body::{BodyVerifier, DigestPlan, Digests, Expectations},
        checksum::Algorithm,
        error::{ErrorCode, S3Error},
        http::Headers,
        lifecycle::LifecycleConfiguration,
        operation::{PutObject, ReadObject, UploadPart},
        remote::{
            EXPOSURE, EXPOSURE_ENDED, PROTOCOL_STATUS, Proposal, RAIL, UNSUPPORTED, declined,
            memory_checksum, moved, taken,
        },
        reply::Reply,
    },
    service::{Answer, Principal, authorize::Looked, failure::failure, reads, standing::Decided, writes},
};
use crossdock::{
    Caller, CoreEngine, EntityTag, Put, PutOptions, RemoteError, TransferProgress, Until,
    reactor::{Core, Moment, Sleep},
};
use crossdock_transport::remote::{Access, Endpoint, RemoteMemory, RemoteSlice};
use std::{
    future::{Future, poll_fn},
    pin::{Pin, pin},
    rc::Rc,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

/// A request with a token, as it was admitted.
pub(in crate::service) struct Asked<'a> {
    pub(in crate::service) engine: &'a CoreEngine,
    pub(in crate::service) options: &'a Options,
    pub(in crate::service) principal: &'a Principal,
    pub(in crate::service) headers: &'a Headers,
    pub(in crate::service) payload: PayloadMode,
    pub(in crate::service) signed: Option<Signed>,
    pub(in crate::service) proposal: &'a Proposal,
    /// When objects of the bucket go by themselves.
    pub(in crate::service) lifecycle: Option<Arc<LifecycleConfiguration>>,
    /// When the head began to come.
    pub(in crate::service) begun: Moment,
}

impl Asked<'_> {
    fn route(&self) -> Result<Result<Route, Declined>, S3Error> {
        let deadline = self.begun.after(self.proposal.timeout);
        route(self.engine, self.options, self.principal, self.signed, self.proposal, deadline)
    }

    /// What the bytes in the client's memory must be. Its word about a body is about those, but for the hash of nothing,
    /// which is about the body there is not.
    fn expectations(&self) -> Result<Expectations, S3Error> {
        let payload = match self.payload {
            PayloadMode::Sha256(hash) if hash == empty_sha256() => PayloadMode::Unsigned,
            payload => payload,
        };
        Ok(Expectations::new(self.headers, &payload, memory_checksum(self.headers)?)?)
    }
}

/// The hash that clients send of a body there is not.
fn empty_sha256() -> [u8; 32] {
    use sha2::Digest;
    sha2::Sha256::digest([]).into()
}

/// What the session's core answers.
enum Outcome {
    /// The reply, what bytes went over, and how many.
    Moved(Reply, Over, u64),
    /// A reply without bytes, as a 304.
    Answered(Reply),
    Declined(Declined),
}

/// A session on its core, held for one request.
struct Session {
    engine: CoreEngine,
    here: Rc<Here>,
    endpoint: Rc<dyn Endpoint>,
    memory: Rc<dyn RemoteMemory>,
    route: Route,
    /// Whose answer it is for.
    caller: Caller,
    _share: Share,
}

impl Session {
    /// The session, if it is the sender's.
    ///
    /// # Errors
    /// `NoSuchRDMASession`; `SlowDown` if the sender has its share under way.
    fn find(engine: CoreEngine, route: Route, caller: Caller) -> Result<Session, S3Error> {
        let no_such = || S3Error::from(ErrorCode::NoSuchRdmaSession);
        let endpoint = engine.core().endpoint(&route.transport).ok_or_else(no_such)?;
        let memory = endpoint.session(route.session, &route.owner).ok_or_else(no_such)?;
        if !memory.is_open() {
            // An error ended it: the client is to connect again.
            endpoint.disconnect(route.session, &route.owner);
            return Err(no_such());
        }
        let here = engine.attached::<Here>().ok_or(ErrorCode::InternalError)?;
        // Before it waits for anything that others want, too.
        let share = here.shares.take(&route.owner, route.share_max).ok_or(ErrorCode::SlowDown)?;
        Ok(Session { engine, here, endpoint, memory, route, caller, _share: share })
    }

    /// Takes note that bytes are to move by the request's signature; declined if they did before. To be asked last of all: a request whose
    /// object was replaced meanwhile is decided anew, and comes here again.
    fn take_signature(&self) -> Result<(), Declined> {
        let Session { endpoint, route, .. } = self;
        let Some(signed) = &route.signed else { return Ok(()) };
        let is_there = {
            let (endpoint, id, owner) = (endpoint.clone(), route.session, route.owner.clone());
            move || endpoint.session(id, &owner).is_some()
        };
        match self.here.used.borrow_mut().take(route.session, is_there, signed, route.now_seconds) {
            Use::First => Ok(()),
            Use::Again => Err(Declined::Replayed),
            Use::TooOld => Err(Declined::TooOld),
        }
    }

    /// What is told of bytes that moved: over which rail, and whether the exposure of the client's memory has ended with it.
    fn moved(&self, reply: Reply, bytes: u64, ended: bool) -> Outcome {
        let name = self.memory.rail();
        let rails = self.endpoint.rails();
        let place = name.as_deref().and_then(|name| rails.iter().position(|rail| rail == name));
        let over = Over {
            transport: known_name(&self.route.transport),
            rail: place,
            core: self.engine.core().index(),
        };
        let reply = reply
            .optional(RAIL, name.map(|name| name.to_string()))
            .optional(EXPOSURE, ended.then(|| EXPOSURE_ENDED.to_owned()));
        Outcome::Moved(reply, over, bytes)
    }

    /// Waits for the transfer that `begin` begins. When the client has closed its connection nothing more is begun; what hangs in its session
    /// behind its deadline, or behind that, or for too long at any time, is ended with the session.
    ///
    /// With the result comes whether the exposure of the client's memory has ended with it.
    async fn fenced<T>(
        &mut self,
        access: Access,
        begin: impl AsyncFnOnce(&dyn RemoteMemory, RemoteSlice, &Until) -> Result<T, RemoteError>,
    ) -> Result<(T, bool), RemoteError> {
        let Session { engine, here, endpoint, memory, route, caller, .. } = self;
        memory.begin_request(&route.slice, access)?;
        let (core, until) = (engine.core(), Until::new(route.deadline));
        let under_way = here.under_way.enter(route.session, &route.owner, &until);
        let mut transfer = pin!(begin(&**memory, route.slice, &until));
        let mut patience = Patience::new(core, route);
        let (mut is_over, mut is_wanted) = (false, true);
        let result = poll_fn(|cx| {
            if let Poll::Ready(value) = transfer.as_mut().poll(cx) {
                return Poll::Ready(match value {
                    // What nobody waits for is not stored either.
                    Ok(_) if !is_wanted => Err(RemoteError::Late),
                    // It failed because it was ended, and it was ended because it was late.
                    Err(RemoteError::Transfer(_)) if is_over => Err(RemoteError::Late),
                    value => value,
                });
            }
            if is_wanted && Pin::new(&mut *caller).poll(cx).is_ready() {
                is_wanted = false;
                until.end(core.now());
                patience.shorten(core, core.now().after(route.grace));
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            if !is_over && patience.poll_lost(core, until.progress(), cx).is_ready() {
                is_over = true;
                tracing::warn!(transport = &*route.transport, "a transfer hangs: its session is ended");
                endpoint.disconnect(route.session, &route.owner);
                cx.waker().wake_by_ref();
            }
            Poll::Pending
        })
        .await;
        let ended = memory.end_request(&route.slice);
        drop(under_way);
        result.map(|value| (value, ended))
    }
}

/// How long a transfer is waited for that has something in its session. One that has nothing there waits for something else, which ends by
/// itself, and would not for the session's end.
struct Patience {
    /// When nothing of it may be in the session any more.
    end: Moment,
    stall_max: Duration,
    /// How far it was when it last got on, and when that was, as far as anybody looked.
    progress: TransferProgress,
    since: Moment,
    alarm: Sleep,
}

impl Patience {
    fn new(core: &Core, route: &Route) -> Patience {
        let (since, end) = (core.now(), route.deadline.after(route.grace));
        let alarm = core.sleep(end.min(since.after(route.stall_max)).since(since));
        Patience { end, stall_max: route.stall_max, progress: TransferProgress::default(), since, alarm }
    }

    /// Nobody waits for the transfer any more.
    fn shorten(&mut self, core: &Core, end: Moment) {
        self.end = self.end.min(end);
        self.alarm = core.sleep(self.end.min(self.since.after(self.stall_max)).since(core.now()));
    }

    /// Resolves when it has come to its end. To be asked whenever the transfer was polled, with how far it is.
    fn poll_lost(&mut self, core: &Core, progress: TransferProgress, cx: &mut Context<'_>) -> Poll<()> {
        let now = core.now();
        if self.progress.in_flight == 0 || progress.completed != self.progress.completed {
            self.since = now;
        }
        self.progress = progress;
        while Pin::new(&mut self.alarm).poll(cx).is_ready() {
            let next = match progress.in_flight {
                0 if now < self.end => self.end.min(now.after(self.stall_max)),
                // Past its deadline it begins nothing, so there will be nothing to end either.
                0 => now.after(STALL_MAX),
                _ => self.end.min(self.since.after(self.stall_max)),
            };
            if progress.in_flight > 0 && next <= now {
                return Poll::Ready(());
            }
            self.alarm = core.sleep(next.since(now));
        }
        Poll::Pending
    }
}

/// A GET into the client's memory, or with a body if it is declined.
pub(in crate::service) async fn get(
    asked: &Asked<'_>,
    request: &ReadObject,
    looked: &Looked,
) -> Result<Answer, S3Error> {
    let reason = match asked.route()? {
        Err(reason) => reason,
        Ok(route) => {
            let (request, looked, principal) = (request.clone(), looked.clone(), asked.principal.clone());
            let lifecycle = asked.lifecycle.clone();
            let core = usize::from(route.session.core());
            let work = move |engine, caller| async move {
                get_here(engine, (route, caller), &request, &looked, &principal, lifecycle.as_deref()).await
            };
            match asked.engine.on_core_for(core, work).await.map_err(failure)?? {
                Outcome::Answered(reply) => return Ok(reply.into()),
                Outcome::Declined(reason) => reason,
                Outcome::Moved(reply, over, bytes) => {
                    let moved = Some(Moved::Written { over, bytes });
                    return Ok(Answer { moved, ..Answer::from(reply) });
                }
            }
        }
    };
    let mut answer =
        reads::get(asked.engine, request, looked, asked.principal, asked.lifecycle.as_deref()).await?;
    if answer.payload.is_some() {
        let unsupported = (reason == Declined::NotServed).then(|| UNSUPPORTED.to_owned());
        answer.reply = declined(answer.reply).optional(PROTOCOL_STATUS, unsupported);
    }
    answer.moved = Some(Moved::Declined(reason));
    Ok(answer)
}

async fn get_here(
    engine: CoreEngine,
    (route, caller): (Route, Caller),
    request: &ReadObject,
    looked: &Looked,
    principal: &Principal,
    lifecycle: Option<&LifecycleConfiguration>,
) -> Result<Outcome, S3Error> {
    let mut session = Session::find(engine, route, caller)?;
    let answer = reads::get(&session.engine, request, looked, principal, lifecycle).await?;
    let Some(get) = answer.payload else { return Ok(Outcome::Answered(answer.reply)) };
    if let Err(reason) = session.take_signature() {
        return Ok(Outcome::Declined(reason));
    }
    let size = get.info().size;
    let delivered =
        session.fenced(Access::Write, async |memory, slice, until| get.write_to(memory, slice, until).await);
    match delivered.await {
        Ok((delivered, ended)) => {
            let reply = moved(answer.reply, delivered.bytes, size, delivered.crc64);
            Ok(session.moved(reply, delivered.bytes, ended))
        }
        Err(RemoteError::Object(error)) => Err(failure(error)),
        Err(error) => Ok(Outcome::Declined(reason(&error))),
    }
}

fn reason(error: &RemoteError) -> Declined {
    match error {
        RemoteError::WrongSize { .. } => Declined::TooSmall,
        RemoteError::Late => Declined::Late,
        error => {
            tracing::debug!(%error, "a transfer failed");
            Declined::Failed
        }
    }
}

/// A PUT from the client's memory.
pub(in crate::service) async fn put(
    asked: &Asked<'_>,
    request: PutObject,
    decided: Decided,
) -> Result<Answer, S3Error> {
    let expected = asked.expectations()?;
    let check = writes::precheck(asked.engine, &request.bucket, request.key.as_bytes(), &request.conditions);
    check.await?;
    let lifecycle = asked.lifecycle.clone();
    take(asked, move |engine, route, caller| async move {
        let size = Some(writes::check_size(route.slice.bytes())?);
        let options = PutOptions { size };
        let (bucket, key) = (request.bucket.clone(), request.key.clone());
        let beside = engine.clone();
        receive(
            engine.clone(),
            (route, caller),
            expected,
            async move {
                let put = engine.put(&bucket, key.as_bytes(), options).await.map_err(failure)?;
                Ok((put, None))
            },
            async move |put: Put, digests: Digests| {
                let outcome = outcome(&digests)?;
                let decided_by = decided.check(&beside).await?;
                writes::commit(put, request, outcome, decided_by, lifecycle.as_deref()).await
            },
        )
        .await
    })
    .await
}

/// The same for a part.
pub(in crate::service) async fn put_part(
    asked: &Asked<'_>,
    request: UploadPart,
    decided: Decided,
) -> Result<Answer, S3Error> {
    let expected = asked.expectations()?;
    take(asked, move |engine, route, caller| async move {
        let size = writes::check_size(route.slice.bytes())?;
        let (begin, beside) = (request.clone(), engine.clone());
        receive(
            engine.clone(),
            (route, caller),
            expected,
            async move { writes::begin_part(&engine, &begin, size).await },
            async move |put: Put, digests: Digests| {
                let outcome = outcome(&digests)?;
                let decided_by = decided.check(&beside).await?;
                writes::commit_part(put, outcome, decided_by).await
            },
        )
        .await
    })
    .await
}

/// The tag, which is the engine's unless the client named the MD5; and the checksum to store.
fn outcome(
    digests: &Digests,
) -> Result<(Option<EntityTag>, Option<crate::protocol::checksum::Checksum>), S3Error> {
    let etag = match digests.md5 {
        Some(md5) => Some(writes::etag_of(&md5)?),
        None => None,
    };
    let stored = digests.checksum.filter(|checksum| checksum.algorithm() != Algorithm::Crc64Nvme);
    Ok((etag, stored))
}

/// Has `work` done on the session's core.
async fn take<W, F>(asked: &Asked<'_>, work: W) -> Result<Answer, S3Error>
where
    W: FnOnce(CoreEngine, Route, Caller) -> F + Send + 'static,
    F: Future<Output = Result<Outcome, S3Error>> + 'static,
{
    let reason = match asked.route()? {
        Err(reason) => reason,
        Ok(route) => {
            let core = usize::from(route.session.core());
            let work = move |engine, caller| work(engine, route, caller);
            match asked.engine.on_core_for(core, work).await.map_err(failure)?? {
                Outcome::Answered(reply) => return Ok(reply.into()),
                Outcome::Declined(reason) => reason,
                Outcome::Moved(reply, over, bytes) => {
                    let moved = Some(Moved::Read { over, bytes });
                    return Ok(Answer { moved, ..Answer::from(reply) });
                }
            }
        }
    };
    // What could have been moved and was not is an error of a PUT; what was never going to be is declined.
    let code = match reason {
        Declined::Late | Declined::Failed => ErrorCode::RdmaTransferFailed,
        _ => ErrorCode::RdmaNotSupported,
    };
    let error = S3Error::new(code).field("Reason", reason.as_str());
    Err(if reason == Declined::NotServed { error.header(PROTOCOL_STATUS, UNSUPPORTED) } else { error })
}

/// Reads the client's memory into what `begin` begins, with a checksum by the algorithm it names if the client brings none, compares it
/// with what the client said of it, and commits.
async fn receive(
    engine: CoreEngine,
    (route, caller): (Route, Caller),
    expected: Expectations,
    begin: impl Future<Output = Result<(Put, Option<Algorithm>), S3Error>>,
    commit: impl AsyncFnOnce(Put, Digests) -> Result<Reply, S3Error>,
) -> Result<Outcome, S3Error> {
    let mut session = Session::find(engine, route, caller)?;
    let (put, missing) = begin.await?;
    if let Err(reason) = session.take_signature() {
        return Ok(Outcome::Declined(reason));
    }
    let plan = DigestPlan { default_checksum: missing, ..DigestPlan::default() };
    let mut verifier = BodyVerifier::new(expected, plan);
    let slice = session.route.slice;
    let taken_in = session.fenced(Access::Read, async |memory, slice, until| {
        put.read_from(memory, slice, until, |bytes| verifier.update(bytes)).await
    });
    let (put, ended) = match taken_in.await {
        Ok(taken_in) => taken_in,
        Err(RemoteError::Object(error)) => return Err(failure(error)),
        Err(error) => return Ok(Outcome::Declined(reason(&error))),
    };
    let digests = verifier.finish(None, None)?;
    let reply = commit(put, digests).await?;
    Ok(session.moved(taken(reply, slice.bytes()), slice.bytes(), ended))
}
