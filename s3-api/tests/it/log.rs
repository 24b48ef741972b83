//! What the server says while a test runs, line by line, as any program that embeds it could keep it.

use crossdock_s3::server::ACCESS_LOG;
use std::{
    collections::HashMap,
    fmt::{Debug, Write},
    sync::{Mutex, Once, PoisonError},
};
use tracing::{
    Event, Metadata, Subscriber,
    field::{Field, Visit},
    span,
};

/// One line.
#[derive(Clone, Default)]
pub(crate) struct Line {
    is_access: bool,
    fields: HashMap<&'static str, String>,
    /// All of it.
    pub(crate) text: String,
}

impl Line {
    /// The value of a field, if it is there.
    pub(crate) fn get(&self, name: &str) -> &str {
        self.fields.get(name).unwrap_or_else(|| panic!("no {name} in {}", self.text))
    }
}

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        let value = format!("{value:?}");
        let _ = write!(self.text, "{}={value} ", field.name());
        self.fields.insert(field.name(), value);
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        let _ = write!(self.text, "{}={value} ", field.name());
        self.fields.insert(field.name(), value.to_owned());
    }
}

static LINES: Mutex<Vec<Line>> = Mutex::new(Vec::new());

/// Keeps everything of every level.
struct Keep;

impl Subscriber for Keep {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target().starts_with("crossdock")
    }

    fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }

    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}

    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}

    fn event(&self, event: &Event<'_>) {
        let mut line = Line { is_access: event.metadata().target() == ACCESS_LOG, ..Line::default() };
        event.record(&mut line);
        LINES.lock().unwrap_or_else(PoisonError::into_inner).push(line);
    }

    fn enter(&self, _: &span::Id) {}

    fn exit(&self, _: &span::Id) {}
}

/// From here on everything is kept, also of what other tests do at the same time.
pub(crate) fn keep() {
    static KEPT: Once = Once::new();
    KEPT.call_once(|| tracing::subscriber::set_global_default(Keep).unwrap());
}

/// All lines so far.
pub(crate) fn lines() -> Vec<Line> {
    LINES.lock().unwrap_or_else(PoisonError::into_inner).clone()
}

/// The line of the access log of which `holds` is true; there must be one soon, and only one.
pub(crate) fn access_line(what: &str, holds: impl Fn(&Line) -> bool) -> Line {
    let found = || lines().into_iter().filter(|line| line.is_access && holds(line)).collect::<Vec<_>>();
    // It is written when the reply has been sent, which a client may have read before.
    for _ in 0..1000 {
        if !found().is_empty() {
            break;
        }
        crate::bench::pause(10);
    }
    let mut found = found();
    assert_eq!(found.len(), 1, "{what}");
    found.remove(0)
}
