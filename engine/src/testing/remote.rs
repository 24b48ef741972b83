//! Objects to and from the memory of a client, over a card that does not exist: [`Get::write_to`](crate::Get::write_to) and
//! [`Put::read_from`](crate::Put::read_from) with the card's faults, and with clients that vanish, withdraw their
//! memory, have too little of it, set a deadline, or turn away.
//!
//! A client's memory lies between bytes that nobody may touch, and is itself full of such bytes. Whatever came of the
//! operation: outside of what was exposed nothing has changed, inside only what the object has at that place, and nothing
//! changes any more once the engine has answered.

use super::{
    client::{Call, Read, commit_options, made, select_of},
    model::{Change, Value, current},
    operation::{Body, Condition, Key, Slice},
};
use crate::{
    core_engine::CoreEngine,
    error::Error,
    layout::checksum,
    object::{
        remote::RemoteError,
        types::{GetOptions, PutOptions, Which},
        until::Until,
    },
};
use crossdock_transport::{
    loopback::LoopbackPeer,
    remote::{Access, Principal, RemoteMemory, RemoteSlice, SessionId, TransferError},
};
use std::{ops::Range, rc::Rc, time::Duration};

/// The card's name.
pub(super) const CARD: &str = "simulated";
/// What lies where nothing was written.
const POISON: u8 = 0xa5;
/// Bytes before and behind what is exposed.
const GUARD_BYTES: usize = 96;
/// Long enough for any card to do what it was told before.
const AFTERWARDS: Duration = Duration::from_millis(5);

/// What befalls the client during a transfer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Misfortune {
    /// Nothing.
    None,
    /// It vanishes after so many microseconds.
    Vanishes(u16),
    /// It withdraws its memory after so many microseconds.
    Withdraws(u16),
    /// It has a byte less than is needed.
    TooLittle,
    /// The operation must have been begun within so many microseconds.
    Late(u16),
    /// Its deadline is brought forward after so many microseconds.
    Ended(u16),
    /// Whoever asked for it turns away after so many microseconds.
    TurnsAway(u16),
}

impl Misfortune {
    /// Whether it explains the error.
    fn explains(self, error: &RemoteError) -> bool {
        match error {
            RemoteError::WrongSize { .. } => self == Misfortune::TooLittle,
            RemoteError::Late => matches!(self, Misfortune::Late(_) | Misfortune::Ended(_)),
            RemoteError::Transfer(TransferError::Refused) => matches!(self, Misfortune::Withdraws(_)),
            RemoteError::Transfer(TransferError::Ended) => {
                matches!(self, Misfortune::Vanishes(_) | Misfortune::Withdraws(_))
            }
            _ => false,
        }
    }
}

/// A client's memory and its session with one core.
struct Link {
    peer: LoopbackPeer,
    slice: RemoteSlice,
    exposed: Range<usize>,
    session: Rc<dyn RemoteMemory>,
    id: SessionId,
    principal: Principal,
}

impl Link {
    /// Memory of `bytes` with this in front, exposed to a new session. None where the card is gone with its core.
    fn open(call: &Call, bytes: usize, front: &[u8], access: Access) -> Option<Link> {
        let (engine, card) = (call.engine(), &call.card);
        let endpoint = engine.core().endpoint(CARD)?;
        let peer = LoopbackPeer::new(bytes + 2 * GUARD_BYTES);
        let exposed = GUARD_BYTES..GUARD_BYTES + bytes;
        peer.with_bytes(|memory| {
            memory.fill(POISON);
            memory[exposed.start..][..front.len()].copy_from_slice(front);
        });
        let slice = peer.expose(exposed.clone(), access);
        let principal = Principal::new("client");
        let answer = endpoint.connect(&principal, card.offer(&peer)).expect("there are few sessions");
        let session = endpoint.session(answer.session, &principal).expect("it was just made");
        Some(Link { peer, slice, exposed, session, id: answer.session, principal })
    }

    fn memory(&self) -> Vec<u8> {
        self.peer.with_bytes(|memory| memory.to_vec())
    }

    /// Lets the misfortune happen beside `transfer`. None if whoever asked turned away.
    async fn beset<T>(
        &self,
        engine: &CoreEngine,
        misfortune: Misfortune,
        until: &Until,
        transfer: impl Future<Output = T>,
    ) -> Option<T> {
        let after = match misfortune {
            Misfortune::Vanishes(us)
            | Misfortune::Withdraws(us)
            | Misfortune::TurnsAway(us)
            | Misfortune::Ended(us) => us,
            Misfortune::None | Misfortune::TooLittle | Misfortune::Late(_) => return Some(transfer.await),
        };
        let mut sleep = std::pin::pin!(engine.core().sleep(Duration::from_micros(after.into())));
        let mut transfer = std::pin::pin!(transfer);
        let mut happened = false;
        std::future::poll_fn(|cx| {
            if let std::task::Poll::Ready(result) = transfer.as_mut().poll(cx) {
                return std::task::Poll::Ready(Some(result));
            }
            if happened || sleep.as_mut().poll(cx).is_pending() {
                return std::task::Poll::Pending;
            }
            happened = true;
            match misfortune {
                Misfortune::Vanishes(_) => self.peer.vanish(),
                Misfortune::Ended(_) => until.end(engine.core().now()),
                Misfortune::TurnsAway(_) => return std::task::Poll::Ready(None),
                _ => self.peer.revoke(&self.slice),
            }
            std::task::Poll::Pending
        })
        .await
    }

    /// Ends the session. The memory is as it was when the engine answered, unless it never did.
    async fn close(self, engine: &CoreEngine, answered: Option<Vec<u8>>) -> Result<Vec<u8>, String> {
        if let Some(endpoint) = engine.core().endpoint(CARD) {
            endpoint.disconnect(self.id, &self.principal);
        }
        if answered.is_some() {
            engine.core().sleep(AFTERWARDS).await;
        } else {
            // What was begun before it turned away may go on, until the session lets go of it.
            while self.session.credits().in_flight() > 0 {
                engine.core().sleep(AFTERWARDS).await;
            }
        }
        let memory = self.memory();
        if answered.is_some_and(|answered| answered != memory) {
            return Err("the client's memory changed after the answer".into());
        }
        let guards = memory[..self.exposed.start].iter().chain(&memory[self.exposed.end..]);
        match guards.copied().all(|byte| byte == POISON) {
            true => Ok(memory[self.exposed].to_vec()),
            false => Err("bytes beside what the client exposed have changed".into()),
        }
    }
}

impl Call {
    /// Until when something may be begun.
    fn until(&self, misfortune: Misfortune) -> Until {
        let limit = match misfortune {
            Misfortune::Late(us) => Duration::from_micros(us.into()),
            _ => Duration::from_secs(3600),
        };
        Until::new(self.engine().core().now().after(limit))
    }

    /// A transfer that failed: a misfortune or a fault explains it, or it is wrong.
    fn explain(&self, misfortune: Misfortune, error: &RemoteError) -> Result<(), String> {
        let card = matches!(error, RemoteError::Transfer(TransferError::Ended | TransferError::TimedOut));
        if misfortune.explains(error) || card && self.tolerance.card {
            self.known.borrow_mut().transfers_failed += 1;
            return Ok(());
        }
        match error {
            RemoteError::Object(error) => self.excuse(error),
            error => Err(format!("answered {error:?}")),
        }
    }

    /// Reads an object into a client's memory.
    pub(super) async fn get_remote(
        &self,
        key: Key,
        slice: Slice,
        slack: u16,
        misfortune: Misfortune,
    ) -> Result<(), String> {
        let (client, engine) = (self.client(), self.engine());
        let length = self.with_key(key, |known| known.likely().map_or(0, |value| value.bytes.len() as u64));
        let select = select_of(slice, length);
        let options = GetOptions { select, version: Which::Current };
        let get = match engine.get(&key.bucket(client), &key.bytes(client), options).await {
            Ok(get) => get,
            Err(error) => return self.check_read(key, select, Err(error)),
        };
        let range = get.range();
        let wanted = (range.end - range.start) as usize;
        let bytes = match misfortune {
            Misfortune::TooLittle if wanted == 0 => return Ok(()),
            Misfortune::TooLittle => wanted - 1,
            _ => wanted + usize::from(slack),
        };
        let Some(link) = Link::open(self, bytes, &[], Access::Write) else { return Ok(()) };
        let mut read = Read::begin(&get);
        let values = self.with_key(key, |known| known.candidates());
        let until = self.until(misfortune);
        let transfer = get.write_to(&*link.session, link.slice, &until);
        let answer = link.beset(engine, misfortune, &until, transfer).await;
        let answered = answer.is_some().then(|| link.memory());
        let memory = link.close(engine, answered).await?;
        let (front, slack) = memory.split_at(wanted.min(memory.len()));
        if slack.iter().any(|byte| *byte != POISON) {
            return Err("bytes behind the object's have changed".into());
        }
        match answer {
            Some(Ok(delivered)) if delivered.bytes == wanted as u64 && delivered.crc64 == checksum(front) => {
                self.known.borrow_mut().transfers += 1;
                read.finish_with(front);
                self.check_read(key, select, Ok(read))
            }
            Some(Ok(delivered)) => Err(format!("delivered {delivered:?} of {wanted} bytes")),
            failed => {
                let fits = |value: &&Value| read.may_become(value, select, front, POISON);
                let untouched = front.iter().all(|byte| *byte == POISON);
                if !untouched && values.iter().filter_map(|versions| current(versions)).find(fits).is_none() {
                    return Err(format!(
                        "{failed:?}, and the client's memory holds what the object does not"
                    ));
                }
                failed.map_or(Ok(()), |failed| match failed {
                    Err(error) => self.explain(misfortune, &error),
                    Ok(_) => unreachable!("looked at above"),
                })
            }
        }
    }

    /// Stores an object out of a client's memory.
    pub(super) async fn put_remote(
        &self,
        key: Key,
        body: Body,
        declared: bool,
        condition: Condition,
        misfortune: Misfortune,
    ) -> Result<(), String> {
        let value = body.value();
        let (client, engine) = (self.client(), self.engine());
        let bytes = &value.bytes[..];
        let short = usize::from(misfortune == Misfortune::TooLittle && declared && !bytes.is_empty());
        let there = &bytes[..bytes.len() - short];
        let Some(link) = Link::open(self, there.len(), there, Access::Read) else { return Ok(()) };
        let before = link.memory();
        let Some((ticket, allowed, condition)) = self.begin(key, vec![Change::Put(value.clone())], condition)
        else {
            link.close(engine, None).await?;
            return Ok(());
        };
        let size = declared.then_some(bytes.len() as u64);
        let put = engine.put(&key.bucket(client), &key.bytes(client), PutOptions { size }).await;
        let mut seen = Vec::new();
        let taken = match put {
            Ok(put) => {
                let look = |piece: &[u8]| seen.extend_from_slice(piece);
                let until = self.until(misfortune);
                let transfer = put.read_from(&*link.session, link.slice, &until, look);
                link.beset(engine, misfortune, &until, transfer).await
            }
            Err(error) => Some(Err(RemoteError::Object(error))),
        };
        let memory = link.close(engine, taken.is_some().then_some(before)).await?;
        if !there.starts_with(&seen) || memory != there {
            return Err("what was looked at is not what the client has, or that was changed".into());
        }
        match taken {
            Some(Ok(put)) if seen.len() == bytes.len() => {
                self.known.borrow_mut().transfers += 1;
                let answer = put.finish(commit_options(&value, condition)).await;
                self.settle(key, ticket, &allowed, answer.as_ref().map(made).map_err(Error::clone))
            }
            Some(Ok(_)) => Err(format!("took {} of {} bytes", seen.len(), bytes.len())),
            Some(Err(error)) => {
                self.with_key(key, |known| known.withdraw(ticket));
                match &error {
                    RemoteError::Object(error) if self.explains_missing_bucket(key, error) => Ok(()),
                    _ => self.explain(misfortune, &error),
                }
            }
            None => {
                self.with_key(key, |known| known.withdraw(ticket));
                Ok(())
            }
        }
    }
}
