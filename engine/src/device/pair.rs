//! Two files of a shard, each with the zones of the other behind its own.
//!
//! ```text
//!            0 ────────────► border                     border + other's zones
//!  own       │ own bytes ... │ ░░░░ nothing ░░░░        │
//!  other                     │ other's zone 0 │ zone 1 │ …
//! ```
//!
//! A zone that the other file lends has bit 31 of its number set ([`LENT`](crate::layout::regions::LENT)), so that the offset made of its number lies
//! at or behind the border. What is asked for there goes to the other file; whoever reads and writes zones need not
//! know in which file they lie. Lengths, growth and syncs are those of the own file.

use super::{BlockDevice, DeviceGeometry, Durability};
use crossdock_transport::{
    memory::{BufferLease, ScatterList, TargetList},
    operation::{Pending, Queue, Slot},
};
use std::rc::Rc;

/// A core's handle of a file and the zones of another. Both complete to one queue.
pub(crate) struct PairedDevice {
    own: Rc<dyn BlockDevice>,
    other: Rc<dyn BlockDevice>,
    /// From here on offsets are of the other file,
    border: u64,
    /// in which this one lies here.
    other_at: u64,
}

impl PairedDevice {
    /// `own` with the zones of `other`, which begin at `other_at` there, from `border` on.
    pub(crate) fn new(
        own: Rc<dyn BlockDevice>,
        other: Rc<dyn BlockDevice>,
        border: u64,
        other_at: u64,
    ) -> PairedDevice {
        PairedDevice { own, other, border, other_at }
    }

    fn at(&self, offset: u64) -> (&dyn BlockDevice, u64) {
        match offset.checked_sub(self.border) {
            None => (&*self.own, offset),
            Some(behind) => (&*self.other, self.other_at.saturating_add(behind)),
        }
    }
}

impl BlockDevice for PairedDevice {
    fn geometry(&self) -> DeviceGeometry {
        self.own.geometry()
    }

    fn bytes_from(&self, offset: u64) -> u64 {
        let (device, offset) = self.at(offset);
        device.bytes_from(offset)
    }

    fn queue(&self) -> &Queue {
        self.own.queue()
    }

    fn read(&self, slot: Slot, offset: u64, lease: BufferLease, at: usize, bytes: usize) -> Pending {
        let (device, offset) = self.at(offset);
        device.read(slot, offset, lease, at, bytes)
    }

    fn fills_targets(&self) -> bool {
        self.own.fills_targets() && self.other.fills_targets()
    }

    fn read_targets(&self, slot: Slot, offset: u64, targets: TargetList) -> Pending {
        let (device, offset) = self.at(offset);
        device.read_targets(slot, offset, targets)
    }

    fn write(&self, slot: Slot, offset: u64, source: ScatterList, durability: Durability) -> Pending {
        let (device, offset) = self.at(offset);
        device.write(slot, offset, source, durability)
    }

    fn sync(&self, slot: Slot) -> Pending {
        self.own.sync(slot)
    }

    fn grow(&self, slot: Slot, bytes: u64) -> Pending {
        self.own.grow(slot, bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::{conformance, memory::MemoryDisk},
        *,
    };

    #[test]
    fn it_conforms() {
        // Shows that the suite of all devices holds for a pair, below its border.
        let disks = [(); 2].map(|()| MemoryDisk::new(conformance::BYTES, conformance::BYTES_MAX));
        let queue = Queue::new(16);
        let [own, other] = disks.map(|disk| Rc::new(disk.open(&queue)));
        conformance::check(&PairedDevice::new(own, other, 1 << 40, 0), &mut || {}, true);
    }

    #[test]
    fn what_lies_behind_the_border_is_the_others() {
        // Shows where the first zone of the other file is found, and which of it is there.
        let disks = [(); 2].map(|()| MemoryDisk::new(1 << 20, 1 << 20));
        let queue = Queue::new(16);
        let [own, other] = disks.map(|disk| Rc::new(disk.open(&queue)));
        let pair = PairedDevice::new(own, other, 1 << 40, 65_536);
        assert_eq!(pair.at((1 << 40) - 4096).1, (1 << 40) - 4096);
        assert_eq!(pair.at((1 << 40) + 4096).1, 65_536 + 4096);
        assert_eq!((pair.bytes_from(4096), pair.bytes_from(2 << 20)), ((1 << 20) - 4096, 0));
        assert_eq!(pair.bytes_from((1 << 40) + 4096), (1 << 20) - 65_536 - 4096);
        assert_eq!(pair.bytes_from((1 << 40) + (1 << 20)), 0);
    }
}
