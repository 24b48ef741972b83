//! What one whole S3 request takes of the heap, and copies: from the bytes that come to the bytes that go, its parsing, who sent it,
//! whether that is allowed, the engine, the reply. Over a socket, on a core of this thread, so that what is counted is the server's
//! and none of the client's, which has a thread of its own.

use crate::system_calls::{Client, OBJECT_BYTES, builder, server};
use crossdock_s3::{protocol::http::Method, server::Server};
use std::{
    path::Path,
    sync::mpsc::{Receiver, Sender, TryRecvError, channel},
};

/// Objects that are stored and read, one after the other, again and again.
const OBJECTS: u64 = 50;

/// So many requests of a kind.
type Wanted = (Method, u64);

/// Counts GET and PUT of 4 KiB over one connection, in a store at `directory`, which is made and removed. `print` is given a name and
/// something that does it so many times.
pub(crate) fn count(directory: &Path, print: fn(&str, &mut dyn FnMut(u64))) -> Result<(), String> {
    let _ = std::fs::remove_dir_all(directory);
    std::fs::create_dir_all(directory).map_err(|error| error.to_string())?;
    let server = server().map_err(|error| error.to_string())?;
    let run = server.clone();
    let builder = builder(directory).on_each_core(move |engine, driver| {
        let server = run.clone();
        async move { server.run(engine, driver).await }
    });
    let core = builder.open_here().map_err(|error| error.to_string())?;
    let (ask, asked) = channel();
    let (tell, told) = channel();
    let outcome = std::thread::scope(|scope| {
        scope.spawn(move || client(&server, &asked, &tell));
        // The core makes progress only here, and the client only meanwhile.
        let mut failed = None;
        let mut wait = || loop {
            let _ = core.poll();
            match told.try_recv() {
                Ok(Ok(())) => return,
                Ok(Err(error)) => {
                    failed.get_or_insert(error);
                    return;
                }
                Err(TryRecvError::Empty) => std::thread::yield_now(),
                Err(TryRecvError::Disconnected) => return,
            }
        };
        wait();
        for (name, method) in [("http-put-4k-1", Method::Put), ("http-get-4k-1", Method::Get)] {
            print(name, &mut |times| {
                // Nobody listens only if the client has failed, and said so.
                let _ = ask.send((method, times));
                wait();
            });
        }
        drop(ask);
        failed.map_or(Ok(()), Err)
    });
    core.close();
    outcome?;
    std::fs::remove_dir_all(directory).map_err(|error| error.to_string())
}

/// Makes the bucket, and then does what is wanted until nothing is; says each time when it is done.
fn client(server: &Server, asked: &Receiver<Wanted>, tell: &Sender<Result<(), String>>) {
    let mut connection = None;
    let mut call = |method, path: &str, body: &[u8]| -> Result<(), String> {
        let client = match &mut connection {
            Some(client) => client,
            none => {
                server.wait_until_listening().map_err(|error| error.to_string())?;
                none.insert(Client::connect(server.local_addr())?)
            }
        };
        client.call(method, path, body)
    };
    let _ = tell.send(call(Method::Put, "/bench", &[]));
    let body = [7; OBJECT_BYTES];
    while let Ok((method, times)) = asked.recv() {
        let body = if method == Method::Put { &body[..] } else { &[] };
        let done =
            (0..times).try_for_each(|number| call(method, &format!("/bench/{}", number % OBJECTS), body));
        if tell.send(done).is_err() {
            return;
        }
    }
}
