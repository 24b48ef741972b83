//! The server as a process: started, killed, asked to stop.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use super::client::{ACCESS_KEY, SECRET_KEY};
use crate::clock;

/// How long a server may take to drain and close.
const STOP_LIMIT: Duration = Duration::from_secs(60);

/// How the server is started, on whichever store.
#[derive(Clone)]
pub(crate) struct Program {
    pub(crate) path: PathBuf,
    pub(crate) extra: Vec<String>,
    /// Where its standard error goes.
    pub(crate) log: PathBuf,
    /// At which of its named places it dies, and the how-manieth time it gets there: `POINT:N`.
    pub(crate) dies_at: Option<String>,
}

/// What became of a server that was started.
pub(crate) enum Started {
    Ready(Server),
    /// It ended before it was ready.
    Ended(ExitStatus),
}

/// A running server. It is killed when dropped.
pub(crate) struct Server {
    child: Child,
    address: SocketAddr,
    /// How long it took from start to ready.
    pub(crate) opened_in: Duration,
}

impl Server {
    pub(crate) fn start(program: &Program, data: &Path) -> Result<Self, String> {
        match Self::launch(program, data)? {
            Started::Ready(server) => Ok(server),
            Started::Ended(status) => {
                let said = std::fs::read_to_string(&program.log).unwrap_or_default();
                let tail: Vec<&str> = said.lines().rev().take(12).collect();
                let tail: Vec<&str> = tail.into_iter().rev().collect();
                Err(format!("the server ended before it was ready ({status}):\n{}", tail.join("\n")))
            }
        }
    }

    /// As [`Server::start`], for one that may well end before it is ready.
    pub(crate) fn launch(program: &Program, data: &Path) -> Result<Started, String> {
        let log = std::fs::File::options()
            .create(true)
            .append(true)
            .open(&program.log)
            .map_err(|error| format!("cannot open {}: {error}", program.log.display()))?;
        let begin = clock::now();
        let mut child = Command::new(&program.path)
            .args(["--listen", "127.0.0.1:0", "--data"])
            .arg(data)
            .args(&program.extra)
            .env("CROSSDOCK_ACCESS_KEY", ACCESS_KEY)
            .env("CROSSDOCK_SECRET_KEY", SECRET_KEY)
            .envs(program.dies_at.iter().map(|place| ("CROSSDOCK_DIE_AT", place)))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .map_err(|error| format!("cannot start {}: {error}", program.path.display()))?;
        let stdout = child.stdout.take().expect("standard output was asked for");
        let mut lines = BufReader::new(stdout).lines();
        let address = lines.by_ref().map_while(Result::ok).find_map(|line| ready_address(&line));
        let Some(address) = address else {
            let _ = child.kill();
            let status = child.wait().map_err(|error| format!("cannot wait for the server: {error}"))?;
            return Ok(Started::Ended(status));
        };
        // The pipe is read to its end, or a server that prints would come to a halt.
        clock::spawn(move || lines.for_each(drop));
        Ok(Started::Ready(Self { child, address, opened_in: begin.elapsed() }))
    }

    /// Waits until it ends by itself; none if it does not within the limit.
    pub(crate) fn ends_within(&mut self, limit: Duration) -> Result<Option<ExitStatus>, String> {
        let begin = clock::now();
        loop {
            let ended = self.child.try_wait();
            match ended.map_err(|error| format!("cannot wait for the server: {error}"))? {
                None if begin.elapsed() < limit => clock::pause(Duration::from_millis(10)),
                ended => return Ok(ended),
            }
        }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// SIGKILL: the process has no chance to do anything more.
    pub(crate) fn kill(mut self) -> Result<(), String> {
        self.child.kill().map_err(|error| format!("cannot kill the server: {error}"))?;
        self.child.wait().map_err(|error| format!("cannot wait for the server: {error}"))?;
        Ok(())
    }

    /// SIGTERM: the server drains, closes its store and ends without an error.
    pub(crate) fn stop(mut self) -> Result<(), String> {
        let id = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw).expect("a child has an id");
        kill_process(id, Signal::TERM).map_err(|error| format!("cannot signal the server: {error}"))?;
        let begin = clock::now();
        while begin.elapsed() < STOP_LIMIT {
            let ended =
                self.child.try_wait().map_err(|error| format!("cannot wait for the server: {error}"))?;
            match ended {
                Some(status) if status.success() => return Ok(()),
                Some(status) => return Err(format!("the server ended with {status} after SIGTERM")),
                None => clock::pause(Duration::from_millis(20)),
            }
        }
        Err(format!("the server did not end within {STOP_LIMIT:?} of SIGTERM"))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Already ended is fine; a server left behind is not.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The address in a line such as `ready http://127.0.0.1:9000 …`.
fn ready_address(line: &str) -> Option<SocketAddr> {
    let rest = line.strip_prefix("ready http://")?;
    rest.split([' ', '/']).next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ready_line_names_the_address() {
        // Only the line that begins with the word counts, whatever follows the address.
        let address = "127.0.0.1:41000".parse().ok();
        assert_eq!(ready_address("ready http://127.0.0.1:41000 region us-east-1"), address);
        assert_eq!(ready_address("ready http://127.0.0.1:41000/"), address);
        assert_eq!(ready_address("not ready http://127.0.0.1:41000"), None);
    }
}
