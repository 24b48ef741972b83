//! Watches what happens to devices, on one thread for all of them: an event is read once, and told to every endpoint.
//!
//! Each core could watch by itself. Then all of them would wake for an event and one would read it, and a core that looks before the reader
//! has noted what it read goes to sleep and never hears of its session's end.

use super::rail::Rails;
use rustix::event::{EventfdFlags, PollFd, PollFlags, eventfd, poll};
use std::{
    fmt, io,
    ops::Deref,
    os::fd::{AsFd, OwnedFd},
    sync::Arc,
    thread::{self, JoinHandle},
};

/// Rails that are watched, as long as this is not dropped.
pub(super) struct Watched {
    rails: Arc<Rails>,
    end: Arc<OwnedFd>,
    /// Taken by the drop only.
    thread: Option<JoinHandle<()>>,
}

impl Watched {
    /// # Errors
    /// There is no descriptor or no thread to be had.
    pub(super) fn new(rails: Rails) -> io::Result<Watched> {
        let rails = Arc::new(rails);
        let end = Arc::new(eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?);
        let (watched, until) = (Arc::clone(&rails), Arc::clone(&end));
        let thread = thread::Builder::new().name("rdma-events".to_owned());
        let thread = thread.spawn(move || watch(&watched, &until))?;
        Ok(Watched { rails, end, thread: Some(thread) })
    }
}

fn watch(rails: &Rails, end: &OwnedFd) {
    let mut watched: Vec<_> = rails.devices.iter().collect();
    loop {
        let devices = watched.iter().map(|device| device.context().event_descriptor());
        let descriptors = devices.chain([end.as_fd()]);
        let mut set: Vec<_> =
            descriptors.map(|descriptor| PollFd::from_borrowed_fd(descriptor, PollFlags::IN)).collect();
        match poll(&mut set, None) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => {
                tracing::error!(%error, "RDMA devices are not watched any more");
                return;
            }
        }
        let ready: Vec<bool> = set.iter().map(|entry| !entry.revents().is_empty()).collect();
        if ready.last() == Some(&true) {
            return;
        }
        let mut index = 0;
        watched.retain(|device| {
            let ready = ready.get(index).copied().unwrap_or(false);
            index += 1;
            // One that says that there is something and then nothing more can not be heard of any more, and would keep this awake.
            !ready || rails.take_events(device)
        });
    }
}

impl Deref for Watched {
    type Target = Rails;

    fn deref(&self) -> &Rails {
        &self.rails
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        // Refused only if the counter is full: then it is readable already.
        let _ = rustix::io::write(&*self.end, &1u64.to_ne_bytes());
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the thread that watches RDMA devices panicked");
        }
    }
}

impl fmt::Debug for Watched {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.rails, formatter)
    }
}
