//! Sessions: from memory of this process to a session that the server knows, and to its end.
//!
//! ```text
//!   ShmClient ── the server names it ─► Session ── POST /.crossdock-shm/bind ─► this client's
//!   RdmaClient ── POST /.s3rdma-rc/connect, its queue pair ─► the server's queue pair ─► Session, this client's
//!   Session, lost ── POST /.s3rdma-rc/connect ─► the same memory, another session
//!                 ── POST /.crossdock-shm/bind ─► the same memory, which was nobody's for want of use
//! ```

use super::{AsyncClient, ClientError, Fallback, calls::refused, runtime::Runtime};
use crate::protocol::{
    http::Method,
    remote::{PARAMETER, REPLY, SESSION, TOKEN, format_session, parse_session},
};
use crossdock_transport::{
    exposure::{Buffer, Link, Renewal, Session},
    rdma::{RdmaClient, RdmaLink},
    remote::{Answer, Offer, SessionId},
    shm::{ShmClient, ShmLink},
};
use std::{
    future::{Future, poll_fn},
    io, mem,
    pin::pin,
    task::{Context, Poll, Waker},
    time::Duration,
};

/// How long a server may take to name a session of shared memory.
const NAMED: Duration = Duration::from_secs(5);
/// How often, and how long at a time, a call waits for another that makes their session anew: half a minute. A runtime that blocks counts no
/// step that is so short, since there whoever is at it waits for this very call.
const RENEWAL_STEPS: usize = 600;
const RENEWAL_STEP: Duration = Duration::from_millis(50);

/// The session that a call began with, and whether it was made anew since.
pub(super) struct Known {
    session: Option<SessionId>,
    tried: bool,
}

impl Known {
    pub(super) fn of<L: Link>(buffer: &Buffer<L>) -> Known {
        Known { session: buffer.session().link().session(), tried: false }
    }
}

impl<R: Runtime> AsyncClient<R> {
    /// A session of shared memory with the server that `memory` is connected to, as large as that; it is this client's. It ends with the last
    /// of its clones and buffers.
    ///
    /// # Errors
    /// [`ClientError::NotTaken`] if the server does not want the memory; [`ClientError::Refused`] if it does not want it of this client;
    /// [`ClientError::Connection`] if it is too slow, or can not be reached.
    ///
    /// # Cancellation
    /// Dropping the future ends the session.
    ///
    /// # Examples
    /// Of the client that blocks, which has the same:
    /// ```no_run
    /// use crossdock_s3::client::{Client, Credentials, Policy, Way};
    /// use crossdock_transport::shm::{ShmClient, same_user_or_root};
    ///
    /// # fn example(seconds_since_1970: fn() -> u64) -> Result<(), Box<dyn std::error::Error>> {
    /// let who = Credentials { access_key: "key".into(), secret: "secret".into(), region: "us-east-1".into() };
    /// let mut client = Client::new("127.0.0.1:9000", who, seconds_since_1970).policy(Policy::Require);
    /// let memory = ShmClient::connect("/run/crossdock.shm", 64 << 20, same_user_or_root)?;
    /// let session = client.bind_shm(memory)?;
    ///
    /// let mut buffer = session.buffer(1 << 20)?;
    /// buffer.fill(7);
    /// let stored = client.put_from("bucket", "key", &[], buffer, 1 << 20).map_err(|failed| failed.error)?;
    /// let got = client.get_into("bucket", "key", None, stored.buffer).map_err(|failed| failed.error)?;
    /// assert_eq!((got.bytes, got.way), (1 << 20, Way::Transport));
    /// # Ok(()) }
    /// ```
    pub async fn bind_shm(&self, memory: ShmClient) -> Result<Session<ShmLink>, ClientError> {
        let session = self.open_shm(memory).await?;
        // It has a name: that is what open means.
        if let Some(name) = session.link().session() {
            self.bind(name).await?;
        }
        Ok(session)
    }

    /// As [`bind_shm`](AsyncClient::bind_shm), of a server that knows by the user of this process whose the session is
    /// ([`Admission::Bind`](crossdock_transport::shm::Admission)), and has to be told by no request.
    ///
    /// # Errors
    /// As there.
    pub async fn open_shm(&self, memory: ShmClient) -> Result<Session<ShmLink>, ClientError> {
        let session = Session::new(ShmLink::new(memory));
        let mut limit = pin!(self.runtime().sleep(NAMED));
        loop {
            session.poll();
            if session.link().session().is_some() {
                return Ok(session);
            }
            if !session.is_open() {
                let why = session.link().refusal().unwrap_or_else(|| "it hung up".to_owned());
                return Err(ClientError::NotTaken(why));
            }
            let mut wait = pin!(self.wait(&session));
            let late = poll_fn(|cx| match limit.as_mut().poll(cx) {
                Poll::Ready(()) => Poll::Ready(true),
                Poll::Pending => wait.as_mut().poll(cx).map(|()| false),
            });
            if late.await {
                return Err(ClientError::Connection(io::ErrorKind::TimedOut.into()));
            }
        }
    }

    /// A session by RDMA of a queue pair of this client's, which `card` has, with one of the server's. Its memory is that of the card.
    /// The server keeps it for minutes after its last use, unless it is told [`disconnect`](AsyncClient::disconnect).
    ///
    /// # Errors
    /// As [`connect`](AsyncClient::connect); [`ClientError::NoWay`] if there is no way to what the server answers.
    ///
    /// # Cancellation
    /// Dropping the future leaves the server with a session that is not used.
    pub async fn connect_rdma(&self, card: RdmaClient) -> Result<Session<RdmaLink>, ClientError> {
        let link = RdmaLink::new(card);
        let answer = self.connect(&link.offer()).await?;
        match link.connect(&answer) {
            Ok(()) => Ok(Session::new(link)),
            Err(error) => {
                // Nobody will use it. Should this fail as well, it ends by itself.
                drop(self.disconnect(answer.session).await);
                Err(ClientError::NoWay(error))
            }
        }
    }

    /// Makes a session of shared memory this client's. That the server answers shows that it speaks the protocol.
    ///
    /// # Errors
    /// The server refused: it does not know the session, or does not speak of sessions.
    pub async fn bind(&self, session: SessionId) -> Result<(), ClientError> {
        let session = format_session(session.to_bytes());
        let (head, body) =
            self.exchange(Method::Post, "/.crossdock-shm/bind", &[(SESSION, &session)], &[]).await?;
        match head.status {
            200 => Ok(()),
            _ => Err(refused(&head, &body)),
        }
    }

    /// Connects a queue pair of this client's, which `offer` describes, to one of the server's; what the client's side has to be connected to
    /// is the answer. The session is this client's from then on.
    ///
    /// # Errors
    /// The server refused: it has no such transport, no way to the client's address, or no room; or it answered something else.
    pub async fn connect(&self, offer: &Offer) -> Result<Answer, ClientError> {
        let parameters: Vec<(String, &str)> =
            offer.parameters.iter().map(|(name, value)| (format!("{PARAMETER}{name}"), &**value)).collect();
        let mut headers = vec![(TOKEN, &*offer.token)];
        headers.extend(parameters.iter().map(|(name, value)| (&**name, *value)));
        let (head, body) = self.exchange(Method::Post, "/.s3rdma-rc/connect", &headers, &[]).await?;
        if head.status != 200 {
            return Err(refused(&head, &body));
        }
        let session =
            head.get(SESSION).and_then(parse_session).ok_or(ClientError::Malformed("no session"))?;
        let token = head.get(REPLY).and_then(|reply| reply.strip_prefix("200:"));
        let token = token.ok_or(ClientError::Malformed("no queue pair to connect to"))?.to_owned();
        let parameters = head.headers().filter_map(|(name, value)| {
            let name = name.strip_prefix(PARAMETER).filter(|_| name != SESSION && name != REPLY)?;
            Some((name.to_owned(), value.to_owned()))
        });
        Ok(Answer { session: SessionId::from_bytes(session), token, parameters: parameters.collect() })
    }

    /// Ends a session of this client's. What the server still has under way is ended first.
    ///
    /// # Errors
    /// No reply came, or the server refused: the session ends by itself when it has not been used for some minutes.
    pub async fn disconnect(&self, session: SessionId) -> Result<(), ClientError> {
        let session = format_session(session.to_bytes());
        let (head, body) =
            self.exchange(Method::Post, "/.s3rdma-rc/disconnect", &[(SESSION, &session)], &[]).await?;
        match head.status {
            204 => Ok(()),
            _ => Err(refused(&head, &body)),
        }
    }

    // ── sessions that were lost ──

    /// Makes the session of `buffer` anew if `fallback` says that it was lost, and it was not tried before, or waits for another call that does:
    /// whether the call is to be made again. Nothing was stored and no byte moved then: the request was refused for want of a session, or never sent.
    pub(super) async fn made_anew<L: Link>(
        &self,
        buffer: &Buffer<L>,
        known: &mut Known,
        fallback: Fallback,
    ) -> bool {
        let session = buffer.session();
        let is_lost = match fallback {
            Fallback::SessionEnded => true,
            // Not sent: this side knew by itself.
            Fallback::NotExposed | Fallback::NoSession => !session.is_open(),
            Fallback::Off | Fallback::Declined | Fallback::Ignored => false,
        };
        if !is_lost || mem::replace(&mut known.tried, true) {
            return false;
        }
        if fallback == Fallback::SessionEnded {
            // What the server has said meanwhile: another name, or that it is gone.
            session.poll();
            if let Some(name) = session.link().bindable() {
                return self.bind(name).await.is_ok();
            }
        }
        for _ in 0..RENEWAL_STEPS {
            let lost = session.link().session();
            if lost != known.session && session.is_open() {
                // Another call has made it anew meanwhile.
                return true;
            }
            if let Some(renewal) = session.renew() {
                return self.answered(renewal, lost).await;
            }
            if session.poll_renewed(&mut Context::from_waker(Waker::noop())).is_ready() {
                // Nobody is at it: the link can not.
                return false;
            }
            let mut step = pin!(self.runtime().sleep(RENEWAL_STEP));
            poll_fn(|cx| match session.poll_renewed(cx) {
                Poll::Ready(()) => Poll::Ready(()),
                Poll::Pending => step.as_mut().poll(cx),
            })
            .await;
        }
        false
    }

    /// Connects what is to be the session instead of the lost one. Whether it is now.
    async fn answered<L: Link>(&self, renewal: Renewal<L>, lost: Option<SessionId>) -> bool {
        if let Some(lost) = lost {
            // The server may still have what this side only knows to be of no use.
            drop(self.disconnect(lost).await);
        }
        let Ok(answer) = self.connect(renewal.offer()).await else { return false };
        let is_reached = renewal.answered(&answer).is_ok();
        if !is_reached {
            // Nobody will use it. Should this fail as well, it ends by itself.
            drop(self.disconnect(answer.session).await);
        }
        is_reached
    }

    /// Waits until there may be something new about the session.
    pub(super) async fn wait<L: Link>(&self, session: &Session<L>) {
        // Where there is none each look finds everything; one that can not be waited for shows again with the next look.
        if let Some(descriptor) = session.link().descriptor() {
            drop(self.runtime().readable(descriptor).await);
        }
    }
}
