//! Requests about sessions: connect, bind, disconnect, and what there is.

use super::{Here, RemoteOptions, known_name, owner};
use crate::{
    protocol::{
        error::{ErrorCode, S3Error},
        http::Headers,
        remote::{
            Control, PARAMETER, REPLY, SESSION, TIMEOUT_DEFAULT, TIMEOUT_MAX, TOKEN, foreign, format_session,
            parse_session,
        },
        reply::{Reply, ReplyBody},
    },
    service::{Principal, writes::BODY_BYTES_MAX},
};
use crossdock::CoreEngine;
use crossdock_transport::remote::{ConnectError, MESSAGES, Offer, SessionId, SessionLimits};
use std::{
    future::{Future, poll_fn},
    net::IpAddr,
    pin::pin,
    task::Poll,
    time::Duration,
};

/// Performs the request of somebody who may.
pub(in crate::service) async fn control(
    engine: &CoreEngine,
    options: &RemoteOptions,
    control: Control,
    (principal, came_to): (&Principal, Option<IpAddr>),
    headers: &Headers,
) -> Result<Reply, S3Error> {
    match control {
        Control::Connect => connect(engine, options, (principal, came_to), headers),
        Control::Disconnect => disconnect(engine, options, principal, headers).await,
        Control::Bind => bind(engine, principal, headers).await,
        Control::Transports => Ok(transports(engine, options)),
        Control::Foreign => Ok(foreign()),
    }
}

/// Connects a queue pair of the client's to one of this core's.
fn connect(
    engine: &CoreEngine,
    options: &RemoteOptions,
    (principal, came_to): (&Principal, Option<IpAddr>),
    headers: &Headers,
) -> Result<Reply, S3Error> {
    // "A server without RC answers connect with 404 or 405": nothing to connect to.
    let endpoint = options.transport_of("rc").and_then(|transport| engine.core().endpoint(transport));
    let endpoint = endpoint.ok_or(ErrorCode::MethodNotAllowed)?;
    let token = headers.text(TOKEN).ok_or(ErrorCode::InvalidRdmaToken)?.to_owned();
    let parameters = headers.iter().filter_map(|(name, value)| {
        // Nothing here receives messages: a client that was told so would end its session by the first one.
        let name = name.strip_prefix(PARAMETER).filter(|rest| name != TOKEN && *rest != MESSAGES)?;
        Some((name.to_owned(), core::str::from_utf8(value).ok()?.to_owned()))
    });
    let offer = Offer { token, parameters: parameters.collect(), descriptor: None, came_to };
    let answer = endpoint.connect(&owner(principal), offer).map_err(refusal)?;
    let mut reply = Reply::new(200)
        .header(SESSION, format_session(answer.session.to_bytes()))
        .header(REPLY, format!("200:{}", answer.token));
    for (name, value) in answer.parameters {
        reply = reply.header(format!("{PARAMETER}{name}"), value);
    }
    Ok(reply)
}

fn refusal(error: ConnectError) -> S3Error {
    match error {
        ConnectError::Malformed(why) => S3Error::with_message(ErrorCode::InvalidRdmaToken, why),
        ConnectError::Unsupported(why) => S3Error::with_message(ErrorCode::NotImplemented, why),
        ConnectError::TooMany => ErrorCode::SlowDown.into(),
        error => {
            tracing::warn!(%error, "a session could not be made");
            ErrorCode::InternalError.into()
        }
    }
}

fn session_of(headers: &Headers) -> Option<SessionId> {
    headers.text(SESSION).and_then(parse_session).map(SessionId::from_bytes)
}

/// A session of shared memory becomes the sender's: from then on its tokens are good.
async fn bind(engine: &CoreEngine, principal: &Principal, headers: &Headers) -> Result<Reply, S3Error> {
    let no_such = S3Error::from(ErrorCode::NoSuchRdmaSession);
    let session = session_of(headers).ok_or(no_such.clone())?;
    let owner = owner(principal);
    let bound = engine.on_core(usize::from(session.core()), move |engine| async move {
        let endpoint = engine.core().endpoint("shm").ok_or(ErrorCode::NoSuchRdmaSession)?;
        let token = format_session(session.to_bytes());
        endpoint.connect(&owner, Offer { token, ..Offer::default() }).map(drop).map_err(|error| match error {
            ConnectError::TooMany => ErrorCode::SlowDown,
            _ => ErrorCode::NoSuchRdmaSession,
        })
    });
    // A core that there is not has no sessions.
    bound.await.map_err(|_| no_such)??;
    Ok(Reply::new(200).header(SESSION, format_session(session.to_bytes())))
}

/// How long a disconnect waits for what is under way: for a card to let go of memory, or for a disk that fills it. Its client waits for
/// half a minute.
const END_WAIT: Duration = Duration::from_secs(10);

/// Ends a session of the sender's, and answers when no byte of it moves any more. That it is gone, never was, or is somebody else's looks
/// the same.
///
/// # Errors
/// 503 `ServiceUnavailable`: the session has ended, and something of it is still under way after [`END_WAIT`].
async fn disconnect(
    engine: &CoreEngine,
    options: &RemoteOptions,
    principal: &Principal,
    headers: &Headers,
) -> Result<Reply, S3Error> {
    if let Some(session) = session_of(headers) {
        let owner = owner(principal);
        let transports: Vec<Box<str>> = options.transports.iter().map(|(_, name)| name.clone()).collect();
        let ended = engine.on_core(usize::from(session.core()), move |engine| async move {
            let endpoints = transports.iter().filter_map(|name| engine.core().endpoint(name));
            for endpoint in endpoints {
                endpoint.disconnect(session, &owner);
            }
            let Some(here) = engine.attached::<Here>() else { return true };
            // Also of a session that was ended before, by an error or by whoever asked first.
            here.under_way.of(session, &owner).iter().for_each(|until| until.end(engine.core().now()));
            let (mut none_left, mut limit) =
                (pin!(here.under_way.none_left(session, &owner)), pin!(engine.core().sleep(END_WAIT)));
            poll_fn(|cx| match none_left.as_mut().poll(cx) {
                Poll::Ready(()) => Poll::Ready(true),
                Poll::Pending => limit.as_mut().poll(cx).map(|()| false),
            })
            .await
        });
        // A core that there is not has no sessions.
        if !ended.await.unwrap_or(true) {
            let why = "Bytes of the session are still moving; try again.";
            return Err(S3Error::with_message(ErrorCode::ServiceUnavailable, why));
        }
    }
    Ok(Reply::new(204))
}

/// What this server can move bytes by now, so that no PUT without a body is sent to one that would store an empty object.
fn transports(engine: &CoreEngine, options: &RemoteOptions) -> Reply {
    let lines = options.transports.iter().filter_map(|(codec, name)| {
        let endpoint = engine.core().endpoint(name)?;
        // What no session can be made on now is no way to this server.
        let usable = endpoint.usable_rails();
        if !usable.contains(&true) {
            return None;
        }
        let rails = endpoint.rails();
        let rails = rails.iter().zip(usable).filter(|(_, usable)| *usable);
        let rails: Vec<String> = rails.map(|(rail, _)| format!("\"{}\"", rail.escape_default())).collect();
        let SessionLimits { sessions_max, principal_sessions_max, credits, idle_max } = endpoint.limits();
        // Names of ours, or of the embedder's: escaped all the same.
        let connect = match known_name(name) {
            "rdma" => "\"POST /.s3rdma-rc/connect\"",
            "shm" => "\"POST /.crossdock-shm/bind\"",
            _ => "null",
        };
        Some(format!(
            "{{\"transport\":\"{}\",\"token\":\"{}\",\"connect\":{connect},\"rails\":[{}],\
             \"sessions\":{{\"max\":{sessions_max},\"principal_max\":{principal_sessions_max},\
             \"in_flight\":{credits},\"idle_ms\":{}}}}}",
            name.escape_default(),
            codec.escape_default(),
            rails.join(","),
            idle_max.as_millis(),
        ))
    });
    let text = format!(
        "{{\"protocol\":\"x-amz-rdma\",\"transports\":[{}],\"cores\":{},\"put_bytes_max\":{BODY_BYTES_MAX},\
         \"timeout_ms\":{{\"default\":{},\"max\":{}}}}}\n",
        lines.collect::<Vec<_>>().join(","),
        engine.core().count(),
        TIMEOUT_DEFAULT.as_millis(),
        TIMEOUT_MAX.as_millis(),
    );
    let mut reply = Reply::new(200).header("Content-Type", "application/json");
    reply.body = ReplyBody::Bytes(text.into_bytes());
    reply
}
