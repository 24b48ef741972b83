//! Acting on lifecycle rules, again and again.

use super::wire::unless;
use crate::service::{Swept, sweep};
use crossdock::CoreEngine;
use std::time::Duration;

/// How long after its start a server acts on rules for the first time, if the interval is longer: one that is started anew each hour must
/// act at all. Not at once: what a machine takes for the time when it has just come up may be set right meanwhile, and what goes is gone.
const FIRST: Duration = Duration::from_secs(60);

fn first_after(interval: Duration) -> Duration {
    interval.min(FIRST)
}

/// Acts on the rules of every bucket now and then, until the engine closes, or until nobody wants it any more.
pub(crate) async fn act_on_rules(engine: CoreEngine, interval: Duration, is_wanted: impl Fn() -> bool) {
    let core = engine.core().clone();
    let mut wait = first_after(interval);
    while unless(engine.closing(), core.sleep(wait)).await.is_some() && is_wanted() {
        match unless(engine.closing(), sweep(&engine, core.wall_clock_ms())).await {
            Some(Ok(swept)) if swept != Swept::default() => tracing::info!(?swept, "lifecycle rules"),
            Some(Err(error)) => tracing::warn!(%error, "lifecycle rules wait"),
            Some(Ok(_)) | None => {}
        }
        wait = interval;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_time_is_soon() {
        // After a minute, however long the interval is; and not later than the second.
        assert_eq!(first_after(Duration::from_secs(86_400)), Duration::from_secs(60));
        assert_eq!(first_after(Duration::from_millis(50)), Duration::from_millis(50));
    }
}
