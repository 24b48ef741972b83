//! The client for callers without a runtime: each call blocks its thread until it is done.

use super::{
    AsyncClient, ClientError, Credentials, Failed, Gathered, Got, Pace, Parallel, Policy, ReplyHead, Stored,
    Uploaded,
    runtime::{Blocking, blocked_on},
};
use crate::protocol::http::Method;
use crossdock_transport::{
    exposure::{Buffer, Link, Session},
    rdma::{RdmaClient, RdmaLink},
    remote::{Answer, Offer, SessionId},
    shm::{ShmClient, ShmLink},
};
use std::ops::Range;

/// A client of one server that blocks. It is [`AsyncClient`] over [`Blocking`], where every wait is a system call that waits; parts and
/// ranges go one after the other.
#[derive(Debug)]
pub struct Client(AsyncClient<Blocking>);

impl Client {
    /// A client of the server at `host`, an address and a port. `now` gives the seconds since 1970, which are signed.
    pub fn new(host: &str, credentials: Credentials, now: impl Fn() -> u64 + 'static) -> Client {
        Client(AsyncClient::new(Blocking, host, credentials, now))
    }

    /// Which way bytes may go. Default: [`Policy::Prefer`].
    pub fn policy(self, policy: Policy) -> Client {
        Client(self.0.policy(policy))
    }

    /// See [`AsyncClient::tls`].
    #[cfg(feature = "tls")]
    pub fn tls(self, settings: super::TlsSettings) -> Client {
        Client(self.0.tls(settings))
    }

    /// How long transfers may take. Default: [`Pace::default`].
    pub fn pace(self, pace: Pace) -> Client {
        Client(self.0.pace(pace))
    }

    /// See [`AsyncClient::bind_shm`].
    ///
    /// # Errors
    /// As there.
    pub fn bind_shm(&mut self, memory: ShmClient) -> Result<Session<ShmLink>, ClientError> {
        blocked_on(self.0.bind_shm(memory))
    }

    /// See [`AsyncClient::open_shm`].
    ///
    /// # Errors
    /// As there.
    pub fn open_shm(&mut self, memory: ShmClient) -> Result<Session<ShmLink>, ClientError> {
        blocked_on(self.0.open_shm(memory))
    }

    /// See [`AsyncClient::connect_rdma`].
    ///
    /// # Errors
    /// As there.
    pub fn connect_rdma(&mut self, card: RdmaClient) -> Result<Session<RdmaLink>, ClientError> {
        blocked_on(self.0.connect_rdma(card))
    }

    /// See [`AsyncClient::bind`].
    ///
    /// # Errors
    /// As there.
    pub fn bind(&mut self, session: SessionId) -> Result<(), ClientError> {
        blocked_on(self.0.bind(session))
    }

    /// See [`AsyncClient::connect`].
    ///
    /// # Errors
    /// As there.
    pub fn connect(&mut self, offer: &Offer) -> Result<Answer, ClientError> {
        blocked_on(self.0.connect(offer))
    }

    /// See [`AsyncClient::disconnect`].
    ///
    /// # Errors
    /// As there.
    pub fn disconnect(&mut self, session: SessionId) -> Result<(), ClientError> {
        blocked_on(self.0.disconnect(session))
    }

    /// See [`AsyncClient::exchange`].
    ///
    /// # Errors
    /// As there.
    pub fn exchange(
        &mut self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> Result<(ReplyHead, Vec<u8>), ClientError> {
        blocked_on(self.0.exchange(method, path, headers, body))
    }

    /// See [`AsyncClient::get_into`].
    ///
    /// # Errors
    /// As there.
    pub fn get_into<L: Link>(
        &mut self,
        bucket: &str,
        key: &str,
        range: Option<Range<u64>>,
        buffer: Buffer<L>,
    ) -> Result<Got<L>, Failed<L>> {
        blocked_on(self.0.get_into(bucket, key, range, buffer))
    }

    /// See [`AsyncClient::put_from`].
    ///
    /// # Errors
    /// As there.
    ///
    /// # Panics
    /// As there.
    pub fn put_from<L: Link>(
        &mut self,
        bucket: &str,
        key: &str,
        headers: &[(&str, &str)],
        buffer: Buffer<L>,
        bytes: usize,
    ) -> Result<Stored<L>, Failed<L>> {
        blocked_on(self.0.put_from(bucket, key, headers, buffer, bytes))
    }

    /// See [`AsyncClient::put_part_from`].
    ///
    /// # Errors
    /// As there.
    ///
    /// # Panics
    /// As there.
    pub fn put_part_from<L: Link>(
        &mut self,
        object: (&str, &str),
        upload: &str,
        number: u16,
        buffer: Buffer<L>,
        bytes: usize,
    ) -> Result<Stored<L>, Failed<L>> {
        blocked_on(self.0.put_part_from(object, upload, number, buffer, bytes))
    }

    /// See [`AsyncClient::upload_from`].
    ///
    /// # Errors
    /// As there.
    ///
    /// # Panics
    /// As there.
    pub fn upload_from<L: Link>(
        &mut self,
        object: (&str, &str),
        headers: &[(&str, &str)],
        buffer: Buffer<L>,
        bytes: usize,
        parallel: Parallel,
    ) -> Result<Uploaded<L>, Failed<L>> {
        blocked_on(self.0.upload_from(object, headers, buffer, bytes, parallel))
    }

    /// See [`AsyncClient::gather_into`].
    ///
    /// # Errors
    /// As there.
    pub fn gather_into<L: Link>(
        &mut self,
        bucket: &str,
        key: &str,
        buffer: Buffer<L>,
        parallel: Parallel,
    ) -> Result<Gathered<L>, Failed<L>> {
        blocked_on(self.0.gather_into(bucket, key, buffer, parallel))
    }
}
