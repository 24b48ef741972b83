//! Other S3 servers in Rust, to be measured beside ours. They are installed by `cargo xtask bench --peers`.

use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use crate::load;
use crate::server::{ACCESS_KEY, REGION, SECRET_KEY, Server};

/// A peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Peer {
    /// The sample server of the `s3s` library: a directory of files.
    S3sFs,
    /// Garage, on one node, as it comes.
    Garage,
    /// Garage, told to sync what it acknowledges.
    GarageDurable,
}

impl Peer {
    /// All of them.
    pub const ALL: [Peer; 3] = [Peer::S3sFs, Peer::Garage, Peer::GarageDurable];

    /// Name and version.
    pub fn name(self) -> &'static str {
        match self {
            Peer::S3sFs => "s3s-fs 0.14.1",
            Peer::Garage => "Garage 2.5.0",
            Peer::GarageDurable => "Garage 2.5.0, syncing",
        }
    }

    /// What must be known to read its figures.
    pub fn caveat(self) -> &'static str {
        match self {
            Peer::S3sFs => {
                "never syncs, so that its PUTs are not durable; leaves Nagle's algorithm on and sends head and body apart, \
                 which costs it about 40 ms of latency on a kept-alive connection and no processor time"
            }
            Peer::Garage => {
                "does not sync as it comes, so that its PUTs are not durable; replication factor 1; LMDB; leaves Nagle's \
                 algorithm on; stores blocks of 1 MiB, compressed where that helps (random bytes: not)"
            }
            Peer::GarageDurable => {
                "`metadata_fsync` and `data_fsync` are set: its PUTs are durable like ours"
            }
        }
    }

    /// The program below the directory that peers are installed to; none if it is not there.
    pub fn program(self, installed: &Path) -> Option<PathBuf> {
        let name = match self {
            Peer::S3sFs => "s3s-fs",
            Peer::Garage | Peer::GarageDurable => "garage",
        };
        Some(installed.join("bin").join(name)).filter(|program| program.is_file())
    }

    /// Starts it on an empty directory with the bucket that loads work in.
    ///
    /// # Errors
    /// A sentence.
    pub fn start_with_bucket(self, program: &Path, data: &Path) -> Result<Server, String> {
        let server = self.start(program, data)?;
        load::create_bucket(&server)?;
        Ok(server)
    }

    /// Starts it on an empty directory.
    ///
    /// # Errors
    /// A sentence.
    pub fn start(self, program: &Path, data: &Path) -> Result<Server, String> {
        std::fs::create_dir_all(data).map_err(|error| format!("cannot make {}: {error}", data.display()))?;
        let (address, second) = (free_address()?, free_address()?);
        match self {
            Peer::S3sFs => {
                let child = spawn(Command::new(program).args([
                    "--host",
                    "127.0.0.1",
                    "--port",
                    &address.port().to_string(),
                    "--access-key",
                    ACCESS_KEY,
                    "--secret-key",
                    SECRET_KEY,
                    &data.to_string_lossy(),
                ]))?;
                Server::adopt(self.name(), child, address)
            }
            Peer::Garage | Peer::GarageDurable => {
                let configuration = data.join("garage.toml");
                let durable = self == Peer::GarageDurable;
                let text = garage_configuration(data, address, second, durable);
                std::fs::write(&configuration, text)
                    .map_err(|error| format!("cannot write {}: {error}", configuration.display()))?;
                let garage = |arguments: &[&str]| {
                    let mut command = Command::new(program);
                    command.arg("-c").arg(&configuration).args(arguments);
                    command
                };
                let child = spawn(&mut garage(&["server", "--single-node"]))?;
                let server = Server::adopt(self.name(), child, address)?;
                for arguments in [
                    &["key", "import", "--yes", "-n", "bench", ACCESS_KEY, SECRET_KEY][..],
                    &["key", "allow", "--create-bucket", ACCESS_KEY],
                ] {
                    let done = garage(arguments).output().map_err(|error| error.to_string())?;
                    if !done.status.success() {
                        return Err(format!(
                            "garage {}: {}{}",
                            arguments.join(" "),
                            String::from_utf8_lossy(&done.stdout),
                            String::from_utf8_lossy(&done.stderr)
                        ));
                    }
                }
                Ok(server)
            }
        }
    }
}

fn spawn(command: &mut Command) -> Result<Child, String> {
    // What it says of each request is no part of its work here.
    let command = command.env("RUST_LOG", "error").stdin(Stdio::null());
    let child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn();
    child.map_err(|error| format!("cannot start {}: {error}", command.get_program().to_string_lossy()))
}

/// An address that was free a moment ago: these servers take a number, and do not say one they chose.
fn free_address() -> Result<SocketAddr, String> {
    TcpListener::bind("127.0.0.1:0")
        .and_then(|listener| listener.local_addr())
        .map_err(|error| error.to_string())
}

fn garage_configuration(data: &Path, s3: SocketAddr, rpc: SocketAddr, durable: bool) -> String {
    let data = data.display();
    // A secret of this run's own cluster of one, which listens on the loopback interface and ends with it.
    let secret = "5c".repeat(32);
    format!(
        "metadata_dir = \"{data}/meta\"\ndata_dir = \"{data}/data\"\ndb_engine = \"lmdb\"\n\
         replication_factor = 1\nmetadata_fsync = {durable}\ndata_fsync = {durable}\n\
         rpc_bind_addr = \"{rpc}\"\nrpc_public_addr = \"{rpc}\"\nrpc_secret = \"{secret}\"\n\
         [s3_api]\ns3_region = \"{REGION}\"\napi_bind_addr = \"{s3}\"\n"
    )
}
