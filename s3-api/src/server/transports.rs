//! What there is of transports, as operators see it: sessions, and rails that can be used.

use super::metrics::escaped;
use crate::service::RemoteOptions;
use crossdock::CoreEngine;
use std::{collections::BTreeMap, fmt::Write};

/// What one core says of one transport.
struct Here {
    sessions: usize,
    /// Names of its rails, and whether sessions can be made on them.
    rails: Vec<(String, bool)>,
}

/// What all cores say of the transports that `options` name, as Prometheus reads it.
pub(super) async fn render_transports(engine: &CoreEngine, options: &RemoteOptions) -> String {
    let mut sessions: BTreeMap<Box<str>, usize> = BTreeMap::new();
    // A rail is the whole process's, but a core may have lost its part of it.
    let mut rails: BTreeMap<(Box<str>, String), usize> = BTreeMap::new();
    for core in 0..engine.core().count() {
        for (_, transport) in &options.transports {
            let name = transport.clone();
            let look = engine.on_core(core, move |engine| async move {
                let endpoint = engine.core().endpoint(&name)?;
                let rails = endpoint.rails().into_iter().zip(endpoint.usable_rails()).collect();
                Some(Here { sessions: endpoint.session_count(), rails })
            });
            // A core that is closing has nothing to say.
            let Ok(Some(here)) = look.await else { continue };
            *sessions.entry(transport.clone()).or_default() += here.sessions;
            for (rail, usable) in here.rails {
                *rails.entry((transport.clone(), rail)).or_default() += usize::from(usable);
            }
        }
    }
    let mut out = String::new();
    // Writing to a string does not fail.
    let name = "crossdock_remote_sessions";
    let _ = write!(out, "# HELP {name} Sessions of clients that bytes can go over.\n# TYPE {name} gauge\n");
    for (transport, count) in &sessions {
        let _ = writeln!(out, "{name}{{transport=\"{}\"}} {count}", escaped(transport));
    }
    let name = "crossdock_remote_rail_usable";
    let help = "Cores that can make sessions on the rail: 0 without a link.";
    let _ = write!(out, "# HELP {name} {help}\n# TYPE {name} gauge\n");
    for ((transport, rail), cores) in &rails {
        let (transport, rail) = (escaped(transport), escaped(rail));
        let _ = writeln!(out, "{name}{{transport=\"{transport}\",rail=\"{rail}\"}} {cores}");
    }
    out
}
