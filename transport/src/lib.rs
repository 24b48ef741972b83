//! One registered memory arena, the driver of a core, and the transports that move bytes.
//!
//! ```text
//!   disk ──┐                      ┌── socket
//!          ├── leases of one arena┤
//!   NIC  ──┘                      └── another process
//! ```
//!
//! * [`memory`]: the arena and the leases it is handed out in.
//! * [`operation`]: slot, lease, completion, the one idiom at every asynchronous edge.
//! * [`ring`]: the driver of a core; disks and sockets share it.
//! * [`tcp`]: byte streams on the ring.
//! * [`remote`]: memory of somebody else, and the traits of the transports that reach it.
//! * [`loopback`]: the reference transport, within one process.
//! * [`shm`]: memory of other processes of this host.
//! * [`rdma`]: memory of other hosts, by verbs.
//! * [`middleware`]: what looks at the operations of any transport, delays them or makes them fail.
//! * [`simulated`]: a network card with faults by seed.
//! * [`exposure`]: the client's side of all of them: buffers that a server may reach.
//! * [`token`]: how a client names its memory in the text of a request.
//! * [`conformance`]: the tests that every transport passes.
//!
//! Everything but arena, leases and wake-ups stays on the thread that made it: a core shares nothing.

pub mod conformance;
mod dice;
pub mod exposure;
pub mod loopback;
mod mapping;
pub mod memory;
pub mod middleware;
pub mod operation;
pub mod rdma;
pub mod remote;
pub mod ring;
pub mod shm;
pub mod simulated;
pub mod tcp;
pub mod token;
mod waiting;
