//! The S3 server as a process whose processor time is counted, and connections to it.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use crossdock_s3::protocol::auth::{PayloadMode, Signer};
use crossdock_s3::protocol::http::{Method, RequestHead};

const ACCESS_KEY: &str = "CROSSDOCKBENCHMARKS";
const SECRET_KEY: &str = "benchmarks-secret";

/// Clock ticks in a second, as `/proc` counts them: fixed by the kernel's interface, whatever its own tick.
const TICKS_PER_SECOND: f64 = 100.0;

/// A running server. It is killed when dropped.
pub struct Server {
    child: Child,
    address: SocketAddr,
}

impl Server {
    /// Starts `program` on the store at `data`, on a port of its own, and waits until it is ready.
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
            Some(address) => Ok(Self { child, address }),
            None => {
                let _ = child.kill();
                let _ = child.wait();
                Err(format!("{} ended before it was ready", program.display()))
            }
        }
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

    /// A new connection.
    ///
    /// # Errors
    /// The server does not take it.
    pub fn connect(&self) -> io::Result<Connection> {
        let stream = TcpStream::connect(self.address)?;
        stream.set_nodelay(true)?;
        Ok(Connection { stream: BufReader::with_capacity(256 << 10, stream) })
    }

    /// A signed request head with its empty line. It may be sent again for some minutes.
    pub fn head(&self, method: Method, path: &str, body_bytes: u64, now_seconds: u64) -> Vec<u8> {
        let mut head = RequestHead::for_client(method, path, "", &self.address.to_string());
        head.headers.push("content-length", body_bytes.to_string().as_bytes());
        let signer =
            Signer { access_key: ACCESS_KEY, secret: SECRET_KEY, region: "us-east-1", session_token: None };
        signer.sign_header(&mut head, &PayloadMode::Unsigned, now_seconds);
        let mut bytes = format!("{} {} HTTP/1.1\r\n", head.method.as_str(), head.path).into_bytes();
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

/// One kept-alive connection.
pub struct Connection {
    stream: BufReader<TcpStream>,
}

impl Connection {
    /// Sends a request and throws its reply's body away; returns how many bytes that body had.
    ///
    /// # Errors
    /// The connection breaks, or the status is not 2xx.
    pub fn call(&mut self, head: &[u8], body: &[u8]) -> io::Result<u64> {
        let stream = self.stream.get_mut();
        stream.write_all(head)?;
        stream.write_all(body)?;
        let status_line = self.read_line()?;
        if !status_line.starts_with("HTTP/1.1 2") {
            return Err(io::Error::other(format!("the server answered {status_line}")));
        }
        let mut length = 0;
        loop {
            let line = self.read_line()?;
            if line.is_empty() {
                break;
            }
            if let Some((name, value)) = line.split_once(':')
                && name.eq_ignore_ascii_case("content-length")
            {
                length = value.trim().parse().map_err(io::Error::other)?;
            }
        }
        let read = io::copy(&mut (&mut self.stream).take(length), &mut io::sink())?;
        if read == length { Ok(length) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
    }

    fn read_line(&mut self) -> io::Result<String> {
        let mut line = String::new();
        if self.stream.read_line(&mut line)? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(line.trim_end_matches(['\r', '\n']).to_owned())
    }
}
