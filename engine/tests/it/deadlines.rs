//! Transfers to and from a client's memory whose deadline comes before their session has begun what it was given.

use super::some_bytes;
use crossdock::{CommitOptions, CoreEngine, Engine, GetOptions, PutOptions, RemoteError, Until};
use crossdock_transport::{
    memory::{BufferLease, ScatterList},
    operation::{Memory, OperationId, Pending, Queue, Slot},
    remote::{RemoteKey, RemoteMemory, RemoteSlice, TransferError},
};
use std::{cell::RefCell, collections::VecDeque, rc::Rc, time::Duration};

const BYTES: usize = 3 << 20;
const LIMIT: Duration = Duration::from_millis(20);

/// A session that begins what it was given when it is told to, as one whose queue pair is not connected yet.
struct Line {
    credits: Queue,
    waiting: RefCell<VecDeque<(OperationId, u32)>>,
}

impl Line {
    fn new() -> Rc<Line> {
        let line = Rc::new(Line { credits: Queue::new(8), waiting: RefCell::default() });
        let weak = Rc::downgrade(&line);
        line.credits.on_cancel(Rc::new(move |id| {
            let Some(line) = weak.upgrade() else { return };
            line.waiting.borrow_mut().retain(|(waiting, _)| *waiting != id);
            line.credits.complete(id, Err(TransferError::Cancelled.into()));
        }));
        line
    }

    /// Does everything that waits. Returns how many operations that are.
    fn begin(&self) -> usize {
        let begun = self.waiting.take();
        for (id, bytes) in &begun {
            self.credits.with_memory(*id, |memory| {
                if let Memory::Lease(target) = memory {
                    target.set_len(*bytes as usize);
                }
            });
            self.credits.complete(*id, Ok(*bytes));
        }
        begun.len()
    }

    fn post(&self, slot: Slot, memory: Memory, bytes: u64) -> Pending {
        let (id, pending) = self.credits.post(slot, memory);
        self.waiting.borrow_mut().push_back((id, bytes as u32));
        pending
    }
}

impl RemoteMemory for Line {
    fn credits(&self) -> &Queue {
        &self.credits
    }

    fn read(&self, slot: Slot, source: RemoteSlice, target: BufferLease) -> Pending {
        self.post(slot, Memory::Lease(target), source.bytes())
    }

    fn write(&self, slot: Slot, source: ScatterList, _target: RemoteSlice) -> Pending {
        let bytes = source.bytes() as u64;
        self.post(slot, Memory::Scatter(source), bytes)
    }

    fn flush(&self) {}

    fn is_open(&self) -> bool {
        true
    }
}

async fn store(engine: &CoreEngine) {
    engine.create_bucket("b", Default::default()).await.unwrap();
    let mut put = engine.put("b", b"key", PutOptions { size: Some(BYTES as u64) }).await.unwrap();
    put.write(&some_bytes(BYTES, 1)).await.unwrap();
    put.finish(CommitOptions::default()).await.unwrap();
}

/// What a GET and a PUT over the session came to. Their deadline comes after [`LIMIT`], by itself or because it is brought forward; the session
/// begins what it has long after that.
async fn late(engine: &CoreEngine, line: &Rc<Line>, brought_forward: bool) -> [Option<RemoteError>; 2] {
    let core = engine.core();
    let memory = RemoteSlice::new(4096, BYTES as u64, RemoteKey(1)).unwrap();
    let mut results = [None, None];
    for (way, result) in results.iter_mut().enumerate() {
        let until = Until::new(core.now().after(if brought_forward { 1000 * LIMIT } else { LIMIT }));
        let (clock, ends, waiting) = (core.clone(), until.clone(), Rc::clone(line));
        let meanwhile = core.spawn(async move {
            if brought_forward {
                clock.sleep(LIMIT).await;
                let progress = ends.progress();
                assert!(progress.in_flight > 0 && progress.completed == 0, "{progress:?}");
                ends.end(clock.now());
            } else {
                clock.sleep(LIMIT).await;
            }
            clock.sleep(10 * LIMIT).await;
            waiting.begin()
        });
        *result = match way {
            0 => {
                let get = engine.get("b", b"key", GetOptions::default()).await.unwrap();
                get.write_to(&**line, memory, &until).await.err()
            }
            _ => {
                let put = engine.put("b", b"other", PutOptions { size: None }).await.unwrap();
                put.read_from(&**line, memory, &until, |_| {}).await.err()
            }
        };
        assert_eq!(meanwhile.await, 0, "begun long after the deadline");
        assert_eq!(line.credits.in_flight(), 0);
        let progress = until.progress();
        assert!(progress.in_flight == 0 && progress.completed > 0, "{progress:?}");
    }
    results
}

#[test]
fn what_has_not_begun_at_the_deadline_never_begins() {
    // Shows, for both directions, that operations which wait in their session's line when the deadline comes, by itself or brought forward, are
    // taken back with their memory, so that nothing moves when the session could begin them at last.
    let directory = tempfile::tempdir().unwrap();
    let builder = Engine::builder().path(directory.path()).memory_bytes(64 << 20).capacity_bytes(1 << 30);
    let core = builder.open_here().unwrap();
    let engine = core.engine().clone();
    core.block_on(async move {
        store(&engine).await;
        let line = Line::new();
        let leases = engine.core().pool().leases();
        for brought_forward in [false, true] {
            let results = late(&engine, &line, brought_forward).await;
            assert_eq!(results, [Some(RemoteError::Late), Some(RemoteError::Late)]);
            engine.core().pool().drain_returns();
            assert_eq!(engine.core().pool().leases(), leases);
        }
    });
    core.close();
}
