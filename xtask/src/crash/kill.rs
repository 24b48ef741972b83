//! SIGKILL at a random moment of a mixed load, again and again on one store.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use fastrand::Rng;

use super::load::{Journal, Load};
use super::server::Server;
use super::verify::verify_all;
use super::{Run, faults_error, make_bucket};
use crate::clock;

/// Kills the server `count` times under load, its store in this directory; after each restart everything must be as
/// acknowledged.
pub(super) fn rounds(run: &Run, directory: &Path, count: u32) -> Result<String, String> {
    let data = directory.join("kill-data");
    let journal = Arc::new(Journal::default());
    let mut rng = Rng::with_seed(run.seed);
    let (mut checked_count, mut opened_in_max) = (0, Duration::ZERO);
    let mut server = Server::start(&run.program, &data)?;
    make_bucket(server.address())?;
    for round in 1..=count {
        let load = Load::start(server.address(), &journal, rng.u64(..), Some(&data), false);
        clock::pause(Duration::from_millis(rng.u64(50..1500)));
        load.expect_the_end();
        server.kill()?;
        load.join();
        faults_error(&format!("round {round}, before the kill"), &journal.take_faults())?;
        run.check_left_store(&data, &format!("round {round}, as the kill left it"))?;

        server = Server::start(&run.program, &data)?;
        opened_in_max = opened_in_max.max(server.opened_in);
        let acknowledged = journal.record().acknowledged_count();
        let outcome = verify_all(server.address(), &journal)?;
        faults_error(&format!("round {round}, after the restart"), &outcome.faults)?;
        checked_count += outcome.checked_count;
        println!(
            "round {round}: {} operations so far, {acknowledged} keys acknowledged, all as they must be, opened in {:.0?}",
            journal.operation_count(),
            server.opened_in
        );
    }
    server.stop()?;
    run.check_store(&data, "closed at the end")?;
    let operations = journal.operation_count();
    Ok(format!(
        "{count} kills, {operations} operations, {checked_count} values compared, 0 lost, 0 wrong, opened in {opened_in_max:.0?} at most (seed {})",
        run.seed
    ))
}
