//! What a client on the same host gets over shared memory, beside the device: whole S3 requests, signed, with the bytes read
//! from the device straight into the client's own pages.

use crate::{
    Plan,
    engine::{LARGE_BYTES, LARGE_OBJECTS, MIB},
};
use crossdock_benches::{
    fio::{Fio, Pattern},
    load,
    ratio::Ratio,
    report::{Report, Row, Target},
    server::{self, Server},
};
use crossdock_s3::client::{Client, Credentials, Policy, Way};
use crossdock_transport::{
    exposure::{Buffer, Session},
    shm::{ShmClient, ShmLink, same_user_or_root},
};
use std::{
    path::Path,
    time::{Duration, Instant, SystemTime},
};

/// What one object's reads and writes have in flight.
const DEPTH: u32 = 4;

pub(crate) fn measure(plan: &Plan, report: &mut Report) -> Result<(), String> {
    report.section(
        "S3 over shared memory, beside the device",
        &format!(
            "One client, one request at a time, whole objects of 64 MiB, {LARGE_OBJECTS} of them, into or out of one buffer; the \
             server reads past the page cache and verifies every byte. The rate of the client over that of fio: io_uring, the \
             same file system, blocks of 1 MiB, as many in flight, `O_DIRECT`, registered buffers and files. {}",
            plan.yardstick_text()?
        ),
    );
    let socket = plan.directory.join("shared.socket");
    let shm = ["--shm".to_owned(), socket.to_string_lossy().into_owned()];
    let server = Server::start(&plan.programs.join("s3-server"), &plan.directory.join("shared"), &shm)?;
    load::create_bucket(&server)?;
    let mut lane = Lane::new(&server, &socket)?;
    let comparisons: [(&str, f64, Pattern, Step); 2] = [
        ("PUT of 64 MiB over shared memory, durable", 0.90, Pattern::Write { sync_blocks: 64 }, Lane::put),
        ("GET of 64 MiB over shared memory, cold, verified", 0.92, Pattern::Read, Lane::get),
    ];
    for (name, target, pattern, step) in comparisons {
        let fio = Fio {
            yardstick: plan.yardstick()?,
            pattern,
            block_bytes: MIB as u32,
            depth: DEPTH,
            seconds: plan.seconds(),
            rate: None,
        };
        // Each object is stored at least once.
        for _ in 0..LARGE_OBJECTS {
            step(&mut lane)?;
        }
        let mut costs = Vec::new();
        let ratio = Ratio::take(
            plan.rounds(),
            || fio.run().map(|rates| rates.bytes),
            || {
                let before = server.cpu_seconds().map_err(|error| error.to_string())?;
                let (bytes, seconds) = lane.run(step, plan.seconds())?;
                let cost = server.cpu_seconds().map_err(|error| error.to_string())? - before;
                costs.push(cost / (bytes / (1 << 30) as f64));
                Ok::<f64, String>(bytes / seconds)
            },
        )?;
        report.push(Row::ratio(name, Target::AtLeast(target), &ratio, "fio"));
        report.push(Row::figures(
            format!("{name}: server processor time"),
            Target::None,
            &costs,
            "CPU-s/GiB",
        ));
    }
    Ok(())
}

type Step = fn(&mut Lane) -> Result<(), String>;

/// A client with a session and its buffer.
struct Lane {
    client: Client,
    // Behind the client and before the session, which must outlive it.
    buffer: Option<Buffer<ShmLink>>,
    _session: Session<ShmLink>,
    next: u64,
}

impl Lane {
    fn new(server: &Server, socket: &Path) -> Result<Lane, String> {
        let credentials = Credentials {
            access_key: server::ACCESS_KEY.into(),
            secret: server::SECRET_KEY.into(),
            region: server::REGION.into(),
        };
        let mut client = Client::new(&server.address().to_string(), credentials, now).policy(Policy::Require);
        let shared = ShmClient::connect(socket, 2 * LARGE_BYTES, same_user_or_root)
            .map_err(|error| format!("no shared memory with the server: {error}"))?;
        let session = client.bind_shm(shared).map_err(|error| error.to_string())?;
        let mut buffer = session.buffer(LARGE_BYTES as usize).map_err(|error| error.to_string())?;
        // No layer below can compress what is random, or share it.
        let mut random = fastrand::Rng::with_seed(1);
        buffer.fill_with(|| random.u8(..));
        Ok(Lane { client, buffer: Some(buffer), _session: session, next: 0 })
    }

    /// Repeats a step for a while; how many bytes it moved, in how many seconds.
    #[allow(clippy::disallowed_methods, reason = "a measurement reads the clock")]
    fn run(&mut self, step: Step, seconds: u32) -> Result<(f64, f64), String> {
        let begin = Instant::now();
        let mut done = 0;
        while begin.elapsed() < Duration::from_secs(seconds.into()) {
            step(self)?;
            done += 1;
        }
        Ok((done as f64 * LARGE_BYTES as f64, begin.elapsed().as_secs_f64()))
    }

    fn key(&mut self) -> String {
        self.next += 1;
        format!("large-{:03}", self.next % LARGE_OBJECTS)
    }

    fn put(&mut self) -> Result<(), String> {
        let (key, buffer) = (self.key(), self.take()?);
        match self.client.put_from("bench", &key, &[], buffer, LARGE_BYTES as usize) {
            Ok(stored) => self.give_back(stored.buffer, stored.way),
            Err(failed) => Err(failed.error.to_string()),
        }
    }

    fn get(&mut self) -> Result<(), String> {
        let (key, buffer) = (self.key(), self.take()?);
        match self.client.get_into("bench", &key, None, buffer) {
            Ok(got) if got.bytes as u64 == LARGE_BYTES => self.give_back(got.buffer, got.way),
            Ok(got) => Err(format!("{key}: {} bytes came", got.bytes)),
            Err(failed) => Err(failed.error.to_string()),
        }
    }

    fn take(&mut self) -> Result<Buffer<ShmLink>, String> {
        self.buffer.take().ok_or_else(|| "the buffer is in quarantine".to_owned())
    }

    fn give_back(&mut self, buffer: Buffer<ShmLink>, way: Way) -> Result<(), String> {
        self.buffer = Some(buffer);
        if way == Way::Transport { Ok(()) } else { Err(format!("a request went another way: {way:?}")) }
    }
}

#[allow(clippy::disallowed_methods, reason = "a measurement has the system's clock")]
fn now() -> u64 {
    // Before 1970 no signature is good anyway.
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs())
}
