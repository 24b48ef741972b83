//! An S3 server as a process whose processor time is counted: ours, or a peer.

use std::io::{self, BufRead, BufReader};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crossdock_s3::protocol::auth::{PayloadMode, Signer};
use crossdock_s3::protocol::http::{Method, RequestHead};

// Keys that every server accepts; one of them insists on this form.
/// The access key of every server.
pub const ACCESS_KEY: &str = "GK31c2f218a2e44f485b94239e";
/// Its secret.
pub const SECRET_KEY: &str = "b892c0665f0ada8a4755dae98baa3b133590e11dae3bcc1f9d769d67f16c3835";
/// Where it says it is.
pub const REGION: &str = "us-east-1";

/// Clock ticks in a second, as `/proc` counts them: fixed by the kernel's interface, whatever its own tick.
const TICKS_PER_SECOND: f64 = 100.0;
/// How long a server may take until it answers.
const READY: Duration = Duration::from_secs(60);

/// A running server. It is killed when dropped.
pub struct Server {
    child: Child,
    address: SocketAddr,
    name: String,
}

impl Server {
    /// Starts our server on the store at `data`, on a port of its own, and waits until it is ready.
    ///
    /// # Errors
    /// A sentence: it does not start, or ends before it is ready.
    pub fn start(program: &Path, data: &Path, extra: &[String]) -> Result<Self, String> {
        let mut child = Command::new(program)
            .args(["--listen", "127.0.0.1:0", "--data"])
            .arg(data)
            .args(extra)
            .env("CROSSDOCK_ACCESS_KEY", ACCESS_KEY)
            .env("CROSSDOCK_SECRET_KEY", SECRET_KEY)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|error| format!("cannot start {}: {error}", program.display()))?;
        let stdout = child.stdout.take().expect("standard output was asked for");
        let address = BufReader::new(stdout)
            .lines()
            .map_while(Result::ok)
            .find_map(|line| line.strip_prefix("ready http://")?.split([' ', '/']).next()?.parse().ok());
        match address {
            Some(address) => Ok(Self { child, address, name: "Crossdock".to_owned() }),
            None => {
                let _ = child.kill();
                let _ = child.wait();
                Err(format!("{} ended before it was ready", program.display()))
            }
        }
    }

    /// Waits until a program that was told to listen on `address` does.
    ///
    /// # Errors
    /// A sentence: it ends, or does not listen for too long.
    #[allow(clippy::disallowed_methods, reason = "a benchmark has no reactor to ask for the time")]
    pub(crate) fn adopt(name: &str, mut child: Child, address: SocketAddr) -> Result<Self, String> {
        let begin = Instant::now();
        loop {
            if TcpStream::connect(address).is_ok() {
                return Ok(Self { child, address, name: name.to_owned() });
            }
            let ended = child.try_wait().ok().flatten();
            if ended.is_some() || begin.elapsed() > READY {
                let _ = child.kill();
                let _ = child.wait();
                return Err(format!("{name} does not listen on {address} (ended: {ended:?})"));
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// What it is called.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The process.
    pub fn process(&self) -> u32 {
        self.child.id()
    }

    /// Processor time the server has used so far, user and system, seconds.
    ///
    /// # Errors
    /// The process is gone, or `/proc` is not what it is.
    pub fn cpu_seconds(&self) -> io::Result<f64> {
        let text = std::fs::read_to_string(format!("/proc/{}/stat", self.child.id()))?;
        // The second field is the name in parentheses, which may hold anything; utime and stime are fields 14 and
        // 15, the twelfth and thirteenth behind it (proc_pid_stat(5)).
        let fields = text.rsplit_once(')').map_or("", |(_, fields)| fields);
        let ticks: Vec<f64> =
            fields.split_whitespace().skip(11).take(2).filter_map(|field| field.parse().ok()).collect();
        match ticks.as_slice() {
            [user, system] => Ok((user + system) / TICKS_PER_SECOND),
            _ => Err(io::Error::other("unexpected /proc/PID/stat")),
        }
    }

    /// A signed request head with its empty line. It may be sent again for some minutes.
    pub fn head(
        &self,
        method: Method,
        path: &str,
        query: &str,
        body_bytes: u64,
        now_seconds: u64,
    ) -> Vec<u8> {
        let mut head = RequestHead::for_client(method, path, query, &self.address.to_string());
        head.headers.push("content-length", body_bytes.to_string().as_bytes());
        let signer =
            Signer { access_key: ACCESS_KEY, secret: SECRET_KEY, region: REGION, session_token: None };
        signer.sign_header(&mut head, &PayloadMode::Unsigned, now_seconds);
        let mark = if query.is_empty() { "" } else { "?" };
        let mut bytes =
            format!("{} {}{mark}{query} HTTP/1.1\r\n", head.method.as_str(), head.path).into_bytes();
        for (name, value) in head.headers.iter() {
            bytes.extend([name.as_bytes(), b": ", value, b"\r\n"].concat());
        }
        bytes.extend(b"\r\n");
        bytes
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
