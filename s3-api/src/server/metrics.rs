//! Counters of the server, one set for each core: written by its own thread, read by any.

use crate::{
    protocol::operation::OperationName,
    service::{
        Declined,
        remote::{Moved, Over},
    },
};
use crossdock::{CoreMetrics, ShardStatistics};
use std::{
    fmt::Write,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

/// A number that one thread writes and others may read at any time. Costs a load and a store, no locked instruction.
#[derive(Default, Debug)]
pub struct Value(AtomicU64);

impl Value {
    pub(crate) fn add(&self, amount: u64) {
        self.set(self.get().wrapping_add(amount));
    }

    pub(super) fn set(&self, value: u64) {
        self.0.store(value, Ordering::Relaxed);
    }

    /// The number now.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Upper bounds of the latency buckets: powers of four from 64 µs to 67 s, and no bound.
const BUCKETS: usize = 12;

fn bucket_bound_us(bucket: usize) -> u64 {
    64 << (2 * bucket)
}

/// What a core's part of the server has done.
#[derive(Debug)]
#[non_exhaustive]
pub struct ServerMetrics {
    /// Connections accepted.
    pub connections_accepted: Value,
    /// Connections turned away because there were too many.
    pub connections_refused: Value,
    /// Connections that went on on the core of their session, counted where they came from.
    pub connections_moved: Value,
    /// Connections open now.
    pub connections_open: Value,
    /// Connections that agreed on TLS.
    pub tls_handshakes: Value,
    /// Connections that did not: too slow, without TLS, or of another mind.
    pub tls_handshakes_failed: Value,
    /// Payload bytes received.
    pub received_bytes: Value,
    /// Payload bytes sent.
    pub sent_bytes: Value,
    /// Requests by operation (the last is for those that name none) and by class of status, from 1xx.
    requests: Vec<[Value; 5]>,
    latency: [Value; BUCKETS + 1],
    latency_sum_us: Value,
    /// Requests and bytes that went over transports: by [`TRANSPORTS`], written to clients and read from them, and by rail.
    moved: [[[(Value, Value); RAILS]; 2]; TRANSPORTS.len()],
    /// Proposals declined, by [`Declined::ALL`].
    declined: [Value; Declined::ALL.len()],
    /// Sessions that clients wanted, by [`CONNECTED`].
    connected: [Value; CONNECTED.len()],
}

/// What becomes of a connect or a bind: there is a session; the client is told to wait; the server could not; the client could not.
const CONNECTED: [&str; 4] = ["made", "too_many", "failed", "refused"];

/// Transports that are told apart.
const TRANSPORTS: [&str; 4] = ["rdma", "shm", "loopback", "other"];
const DIRECTIONS: [&str; 2] = ["get", "put"];
/// Rails that are told apart; those behind them count as the last.
const RAILS: usize = 8;

impl Default for ServerMetrics {
    fn default() -> ServerMetrics {
        ServerMetrics {
            connections_accepted: Value::default(),
            connections_refused: Value::default(),
            connections_moved: Value::default(),
            connections_open: Value::default(),
            tls_handshakes: Value::default(),
            tls_handshakes_failed: Value::default(),
            received_bytes: Value::default(),
            sent_bytes: Value::default(),
            requests: (0..=OperationName::ALL.len()).map(|_| Default::default()).collect(),
            latency: Default::default(),
            latency_sum_us: Value::default(),
            moved: Default::default(),
            declined: Default::default(),
            connected: Default::default(),
        }
    }
}

/// How a request ended.
pub(super) struct Outcome {
    pub(super) status: u16,
    pub(super) elapsed: Duration,
}

impl ServerMetrics {
    pub(super) fn count(&self, operation: Option<OperationName>, outcome: &Outcome) {
        let row = operation.and_then(|operation| OperationName::ALL.binary_search(&operation).ok());
        let row = row.unwrap_or(OperationName::ALL.len());
        let class = usize::from(outcome.status / 100).saturating_sub(1);
        if let Some(value) = self.requests.get(row).and_then(|row| row.get(class)) {
            value.add(1);
        }
        let micros = u64::try_from(outcome.elapsed.as_micros()).unwrap_or(u64::MAX);
        let bucket = (0..BUCKETS).find(|bucket| micros <= bucket_bound_us(*bucket)).unwrap_or(BUCKETS);
        if let Some(value) = self.latency.get(bucket) {
            value.add(1);
        }
        self.latency_sum_us.add(micros);
    }

    /// Counts what became of a proposal to use a transport.
    pub(super) fn count_moved(&self, moved: &Moved) {
        let (Over { transport, rail, .. }, direction, bytes) = match *moved {
            Moved::Written { over, bytes } => (over, 0, bytes),
            Moved::Read { over, bytes } => (over, 1, bytes),
            Moved::Declined(reason) | Moved::Nothing(reason) => return self.count_declined(reason),
        };
        let rail = rail.unwrap_or(0);
        let row = TRANSPORTS.iter().position(|known| *known == transport).unwrap_or(TRANSPORTS.len() - 1);
        let rails = self.moved.get(row).and_then(|row| row.get(direction));
        if let Some((requests, total)) = rails.and_then(|rails| rails.get(rail.min(RAILS - 1))) {
            requests.add(1);
            total.add(bytes);
        }
    }

    /// Counts what became of a connect or a bind, by its status.
    pub(super) fn count_connected(&self, status: u16) {
        let row = match status {
            200..300 => 0,
            503 => 1,
            500.. => 2,
            _ => 3,
        };
        if let Some(value) = self.connected.get(row) {
            value.add(1);
        }
    }

    fn count_declined(&self, reason: Declined) {
        let row = Declined::ALL.iter().position(|known| *known == reason);
        if let Some(value) = row.and_then(|row| self.declined.get(row)) {
            value.add(1);
        }
    }
}

/// Everything as Prometheus reads it: the server's counters and those of the engine's cores, each summed over the cores, and the
/// engine's by shard.
/// (<https://prometheus.io/docs/instrumenting/exposition_formats/>)
pub fn render(
    server: &[Arc<ServerMetrics>],
    cores: &[Arc<CoreMetrics>],
    shards: &[ShardStatistics],
) -> String {
    let mut out = String::with_capacity(8 * 1024);
    let sum = |value: &dyn Fn(&ServerMetrics) -> u64| -> u64 { server.iter().map(|core| value(core)).sum() };
    let mut plain = |name: &str, kind: &str, help: &str, value: u64| {
        // Writing to a string does not fail.
        let _ = write!(out, "# HELP {name} {help}\n# TYPE {name} {kind}\n{name} {value}\n");
    };
    let accepted = sum(&|core| core.connections_accepted.get());
    plain("crossdock_connections_accepted_total", "counter", "Connections accepted.", accepted);
    let refused = sum(&|core| core.connections_refused.get());
    plain("crossdock_connections_refused_total", "counter", "Connections turned away: too many.", refused);
    let moved = sum(&|core| core.connections_moved.get());
    plain(
        "crossdock_connections_moved_total",
        "counter",
        "Connections that went to the core of their session.",
        moved,
    );
    let open = sum(&|core| core.connections_open.get());
    plain("crossdock_connections_open", "gauge", "Connections open now.", open);
    let agreed = sum(&|core| core.tls_handshakes.get());
    plain("crossdock_tls_handshakes_total", "counter", "Connections that agreed on TLS.", agreed);
    let failed = sum(&|core| core.tls_handshakes_failed.get());
    plain("crossdock_tls_handshakes_failed_total", "counter", "Connections that did not.", failed);
    let received = sum(&|core| core.received_bytes.get());
    plain("crossdock_received_bytes_total", "counter", "Payload bytes received.", received);
    let sent = sum(&|core| core.sent_bytes.get());
    plain("crossdock_sent_bytes_total", "counter", "Payload bytes sent.", sent);
    let sum = |value: &dyn Fn(&CoreMetrics) -> u64| -> u64 { cores.iter().map(|core| value(core)).sum() };
    let hits = sum(&|core| core.cache_hits.value());
    plain(
        "crossdock_read_cache_hits_total",
        "counter",
        "Stretches of objects found in the read cache.",
        hits,
    );
    let misses = sum(&|core| core.cache_misses.value());
    plain("crossdock_read_cache_misses_total", "counter", "Stretches read from a device for it.", misses);
    let shared = sum(&|core| core.cache_shared.value());
    plain(
        "crossdock_read_cache_shared_total",
        "counter",
        "Stretches somebody else was just reading.",
        shared,
    );
    let kept = sum(&|core| core.cache_bytes.value());
    plain("crossdock_read_cache_bytes", "gauge", "Bytes the read cache keeps, which count as free.", kept);
    render_requests(&mut out, server);
    render_latency(&mut out, server);
    render_moved(&mut out, server);
    render_connected(&mut out, server);
    render_shards(&mut out, shards);
    out
}

fn render_requests(out: &mut String, server: &[Arc<ServerMetrics>]) {
    let name = "crossdock_requests_total";
    let _ = write!(out, "# HELP {name} Requests answered.\n# TYPE {name} counter\n");
    let operations = OperationName::ALL.iter().map(|operation| operation.as_str()).chain(["none"]);
    for (row, operation) in operations.enumerate() {
        for class in 0..5 {
            let value = |core: &Arc<ServerMetrics>| {
                core.requests.get(row).and_then(|row| row.get(class)).map_or(0, Value::get)
            };
            let count: u64 = server.iter().map(value).sum();
            if count > 0 {
                let _ =
                    writeln!(out, "{name}{{operation=\"{operation}\",status=\"{}xx\"}} {count}", class + 1);
            }
        }
    }
}

fn render_moved(out: &mut String, server: &[Arc<ServerMetrics>]) {
    let sum = |value: &dyn Fn(&ServerMetrics) -> u64| -> u64 { server.iter().map(|core| value(core)).sum() };
    let mut family = |name: &str, help: &str, value: fn(&(Value, Value)) -> u64| {
        let _ = write!(out, "# HELP {name} {help}\n# TYPE {name} counter\n");
        for (row, transport) in TRANSPORTS.iter().enumerate() {
            for (column, direction) in DIRECTIONS.iter().enumerate() {
                for rail in 0..RAILS {
                    let count = sum(&|core| {
                        let rails = core.moved.get(row).and_then(|row| row.get(column));
                        rails.and_then(|rails| rails.get(rail)).map_or(0, value)
                    });
                    if count > 0 {
                        let _ = writeln!(
                            out,
                            "{name}{{transport=\"{transport}\",direction=\"{direction}\",rail=\"{rail}\"}} {count}"
                        );
                    }
                }
            }
        }
    };
    family("crossdock_remote_requests_total", "Requests whose bytes went over a transport.", |pair| {
        pair.0.get()
    });
    family("crossdock_remote_bytes_total", "Bytes that went over a transport.", |pair| pair.1.get());
    let name = "crossdock_remote_declined_total";
    let _ = write!(out, "# HELP {name} Proposals that were declined, or failed.\n# TYPE {name} counter\n");
    for (row, reason) in Declined::ALL.iter().enumerate() {
        let count = sum(&|core| core.declined.get(row).map_or(0, Value::get));
        if count > 0 {
            let _ = writeln!(out, "{name}{{reason=\"{}\"}} {count}", reason.as_str());
        }
    }
}

fn render_connected(out: &mut String, server: &[Arc<ServerMetrics>]) {
    let name = "crossdock_remote_connects_total";
    let _ = write!(out, "# HELP {name} Sessions that clients wanted.\n# TYPE {name} counter\n");
    for (row, result) in CONNECTED.iter().enumerate() {
        let count: u64 = server.iter().filter_map(|core| core.connected.get(row)).map(Value::get).sum();
        if count > 0 {
            let _ = writeln!(out, "{name}{{result=\"{result}\"}} {count}");
        }
    }
}

/// The value of a label, as the format wants it (`\`, `"` and line feeds).
pub(super) fn escaped(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

fn render_latency(out: &mut String, server: &[Arc<ServerMetrics>]) {
    let name = "crossdock_request_seconds";
    let _ = write!(out, "# HELP {name} From head to the end of the reply.\n# TYPE {name} histogram\n");
    let mut count = 0u64;
    for bucket in 0..=BUCKETS {
        count += server.iter().filter_map(|core| core.latency.get(bucket)).map(Value::get).sum::<u64>();
        if bucket < BUCKETS {
            let bound = bucket_bound_us(bucket) as f64 / 1e6;
            let _ = writeln!(out, "{name}_bucket{{le=\"{bound}\"}} {count}");
        } else {
            let _ = writeln!(out, "{name}_bucket{{le=\"+Inf\"}} {count}");
        }
    }
    let sum: u64 = server.iter().map(|core| core.latency_sum_us.get()).sum();
    let _ = write!(out, "{name}_sum {}\n{name}_count {count}\n", sum as f64 / 1e6);
}

fn render_shards(out: &mut String, shards: &[ShardStatistics]) {
    type Column = (&'static str, &'static str, &'static str, fn(&ShardStatistics) -> u64);
    const COLUMNS: [Column; 16] = [
        ("crossdock_shard_versions", "gauge", "Versions in the shard.", |s| s.versions),
        ("crossdock_shard_batches_total", "counter", "Log batches written.", |s| s.batches),
        ("crossdock_shard_entries_total", "counter", "Entries committed.", |s| s.entries),
        ("crossdock_shard_data_syncs_total", "counter", "Syncs of data before a batch.", |s| s.data_syncs),
        ("crossdock_shard_log_bytes_total", "counter", "Bytes written to the log.", |s| s.log_bytes),
        ("crossdock_shard_checkpoints_total", "counter", "Checkpoints taken.", |s| s.checkpoints),
        ("crossdock_shard_zones_cleaned_total", "counter", "Log zones that the cleaner went through.", |s| {
            s.zones_cleaned
        }),
        ("crossdock_shard_payloads_moved_total", "counter", "Packed payloads that the cleaner moved.", |s| {
            s.payloads_moved
        }),
        ("crossdock_shard_extent_bytes_used", "gauge", "Bytes of extents in use.", |s| s.extent_bytes_used),
        ("crossdock_shard_extent_bytes_free", "gauge", "Bytes of extents free.", |s| s.extent_bytes_free),
        ("crossdock_shard_index_bytes", "gauge", "Bytes of memory that the index takes at most.", |s| {
            s.index_bytes
        }),
        ("crossdock_shard_scrub_tours_total", "counter", "Tours that the scrub began.", |s| s.scrub.tour),
        ("crossdock_shard_scrub_bytes", "gauge", "Bytes that this tour of the scrub verified.", |s| {
            s.scrub.bytes
        }),
        ("crossdock_shard_scrub_findings", "gauge", "Damages that this tour of the scrub found.", |s| {
            s.scrub.findings
        }),
        (
            "crossdock_shard_scrub_finished_seconds",
            "gauge",
            "When the last whole tour ended, since 1970.",
            |s| s.scrub.finished_ms / 1000,
        ),
        ("crossdock_shard_read_only", "gauge", "1 if a failure stopped its writing.", |s| {
            u64::from(s.read_only)
        }),
    ];
    for (name, kind, help, value) in COLUMNS {
        let _ = write!(out, "# HELP {name} {help}\n# TYPE {name} {kind}\n");
        for shard in shards {
            let _ = writeln!(out, "{name}{{shard=\"{}\"}} {}", shard.shard, value(shard));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_counted_by_operation_and_class() {
        // Cores are summed; a request without an operation has a line of its own; buckets count up.
        let cores = [Arc::new(ServerMetrics::default()), Arc::new(ServerMetrics::default())];
        let outcome = |status, micros| Outcome { status, elapsed: Duration::from_micros(micros) };
        cores[0].count(Some(OperationName::GetObject), &outcome(206, 60));
        cores[1].count(Some(OperationName::GetObject), &outcome(200, 100));
        cores[1].count(None, &outcome(400, u64::MAX));
        let text = render(&cores, &[], &[]);
        assert!(
            text.contains("crossdock_requests_total{operation=\"GetObject\",status=\"2xx\"} 2\n"),
            "{text}"
        );
        assert!(text.contains("crossdock_requests_total{operation=\"none\",status=\"4xx\"} 1\n"));
        assert!(text.contains("crossdock_request_seconds_bucket{le=\"0.000064\"} 1\n"));
        assert!(text.contains("crossdock_request_seconds_bucket{le=\"0.000256\"} 2\n"));
        assert!(text.contains("crossdock_request_seconds_bucket{le=\"+Inf\"} 3\n"));
    }
}
