//! Workers at a time: a thread for each, with a session of its own, so that files are read, bytes moved and checksums made side by side.

use crate::{
    options::Options,
    session::{self, Means, Worker},
};
use crossdock_s3::client::Policy;
use std::{
    sync::{Arc, mpsc},
    thread::{self, JoinHandle},
};

/// What a worker is told to do.
type Order = Box<dyn FnOnce(&mut dyn Worker) + Send>;

/// Workers who wait for orders.
pub(crate) struct Crew {
    means: Means,
    workers: Vec<(mpsc::Sender<Order>, JoinHandle<()>)>,
}

impl Crew {
    /// So many workers with `memory` bytes each. Fewer, if the server or the host has no room for more, but one.
    ///
    /// # Errors
    /// There is none: why not.
    pub(crate) fn hire(
        options: &Options,
        means: &Means,
        policy: Policy,
        count: usize,
        memory: usize,
    ) -> Result<Crew, String> {
        let mut crew = Crew { means: means.clone(), workers: Vec::new() };
        // One by one: what the first is refused for concerns all.
        for _ in 0..count.max(1) {
            match start(options.clone(), means.clone(), policy, memory) {
                Ok(worker) => crew.workers.push(worker),
                Err(error) if crew.workers.is_empty() => return Err(error),
                Err(error) => {
                    eprintln!("rdma-client: {} at a time and no more: {error}", crew.workers.len());
                    break;
                }
            }
        }
        Ok(crew)
    }

    pub(crate) fn means(&self) -> &Means {
        &self.means
    }

    pub(crate) fn len(&self) -> usize {
        self.workers.len()
    }

    /// Has the first `count` do it at the same time, each with its number, and waits for all. What they say, by number.
    pub(crate) fn each<T: Send + 'static>(
        &self,
        count: usize,
        work: impl Fn(usize, &mut dyn Worker) -> Result<T, String> + Send + Sync + 'static,
    ) -> Vec<Result<T, String>> {
        let work = Arc::new(work);
        let said = self.workers.iter().take(count).enumerate().map(|(number, (orders, _))| {
            let (say, said) = mpsc::channel();
            let work = work.clone();
            let order: Order = Box::new(move |worker| {
                // Whoever waits is there until it is said.
                let _ = say.send(work(number, worker));
            });
            orders.send(order).map(|()| said)
        });
        let said: Vec<_> = said.collect();
        let lost = || "a thread ended by itself".to_owned();
        said.into_iter().map(|said| said.map_err(|_| lost())?.recv().map_err(|_| lost())?).collect()
    }

    /// As [`each`](Crew::each), of the first alone.
    pub(crate) fn first<T: Send + 'static>(
        &self,
        work: impl Fn(&mut dyn Worker) -> Result<T, String> + Send + Sync + 'static,
    ) -> Result<T, String> {
        let mut said = self.each(1, move |_, worker| work(worker));
        said.pop().unwrap_or_else(|| Err("nobody is there".to_owned()))
    }
}

impl Drop for Crew {
    fn drop(&mut self) {
        for (orders, thread) in self.workers.drain(..) {
            drop(orders);
            // One that panicked has said so.
            let _ = thread.join();
        }
    }
}

/// A worker, once it has its session.
#[allow(clippy::disallowed_methods, reason = "this is no core")]
fn start(
    options: Options,
    means: Means,
    policy: Policy,
    memory: usize,
) -> Result<(mpsc::Sender<Order>, JoinHandle<()>), String> {
    let (orders, ordered) = mpsc::channel::<Order>();
    let (say, said) = mpsc::channel();
    let thread = thread::spawn(move || {
        let mut worker = match session::worker(&options, &means, policy, memory) {
            Ok(worker) => worker,
            Err(error) => return drop(say.send(Err(error))),
        };
        let _ = say.send(Ok(()));
        while let Ok(order) = ordered.recv() {
            order(&mut *worker);
        }
        worker.finish();
    });
    said.recv().unwrap_or_else(|_| Err("a thread ended by itself".to_owned()))?;
    Ok((orders, thread))
}
