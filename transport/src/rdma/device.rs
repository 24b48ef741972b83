//! Devices: found, opened and asked, and what happens to them.

#![allow(unsafe_code)]

use super::{
    error::RdmaError,
    info::{DeviceInfo, DeviceLimits, Gid, GidEntry, GidKind, LinkLayer, PathMtu, PortInfo},
    library::{Library, library},
    sys::*,
};
use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use std::{
    ffi::{CStr, c_int},
    fmt, io, mem,
    os::fd::BorrowedFd,
    ptr::NonNull,
};

/// All devices of this host, with what they say of themselves. Of several, one that cannot be used is left out, and named in the log. Opens
/// each for a moment, which takes milliseconds.
///
/// # Errors
/// [`RdmaError::Unavailable`] without the library, [`RdmaError::NoKernel`] without a kernel that has RDMA; why the first cannot be used, if none
/// can. No devices are an empty list.
pub fn devices() -> Result<Vec<DeviceInfo>, RdmaError> {
    devices_of(library()?)
}

pub(super) fn devices_of(library: &'static Library) -> Result<Vec<DeviceInfo>, RdmaError> {
    DeviceList::new(library)?.usable(|context| context.info())
}

/// The library's list of devices, for as long as devices are chosen from it.
struct DeviceList {
    library: &'static Library,
    first: NonNull<*mut ibv_device>,
    count: usize,
}

impl DeviceList {
    fn new(library: &'static Library) -> Result<DeviceList, RdmaError> {
        let mut count: c_int = 0;
        // SAFETY: `count` is to be written, and lives through the call.
        let first = unsafe { (library.get_device_list)(&mut count) };
        let first = NonNull::new(first).ok_or_else(|| {
            let source = io::Error::last_os_error();
            // No `/sys/class/infiniband_verbs` (ibv_get_device_list(3), ERRORS).
            match source.raw_os_error() {
                Some(libc::ENOSYS) => RdmaError::NoKernel { source },
                _ => RdmaError::Device { what: "ibv_get_device_list", source },
            }
        })?;
        // Not negative: the library counts what it allocated.
        Ok(DeviceList { library, first, count: usize::try_from(count).unwrap_or(0) })
    }

    fn devices(&self) -> &[*mut ibv_device] {
        // SAFETY: the library returned an array of `count` pointers, which stays as it is until it is freed, by `drop`.
        unsafe { std::slice::from_raw_parts(self.first.as_ptr(), self.count) }
    }

    fn name(&self, device: *mut ibv_device) -> &CStr {
        // SAFETY: the device is of the list, which is not freed yet.
        let name = unsafe { (self.library.get_device_name)(device) };
        // SAFETY: the name lies in the device, ends with a zero, and stays until the list is freed.
        unsafe { CStr::from_ptr(name) }
    }

    fn names(&self) -> Vec<String> {
        self.devices().iter().map(|device| self.name(*device).to_string_lossy().into_owned()).collect()
    }

    /// Opens the device of that name.
    fn open(&self, name: &str) -> Result<Context, RdmaError> {
        let device = self.devices().iter().find(|device| self.name(**device).to_bytes() == name.as_bytes());
        let refused = |source| RdmaError::NotOpened { device: name.to_owned(), source };
        let device = *device.ok_or_else(|| refused(io::Error::from_raw_os_error(libc::ENODEV)))?;
        // SAFETY: the device is of the list, which is not freed yet.
        let context = unsafe { (self.library.open_device)(device) };
        let context = NonNull::new(context).ok_or_else(|| refused(io::Error::last_os_error()))?;
        let context = Context { library: self.library, context, name: name.to_owned() };
        not_blocking(context.event_descriptor())?;
        Ok(context)
    }

    /// What `look` makes of each device. Of several, one that cannot be used is left out, and named in the log.
    ///
    /// # Errors
    /// There are devices, and none can be used: why not the first.
    fn usable<T>(&self, look: impl Fn(Context) -> Result<T, RdmaError>) -> Result<Vec<T>, RdmaError> {
        let (mut found, mut first_error) = (Vec::new(), None);
        for name in self.names() {
            match self.open(&name).and_then(&look) {
                Ok(value) => found.push(value),
                Err(error) => {
                    tracing::warn!(device = name, %error, "an RDMA device cannot be used");
                    first_error.get_or_insert(error);
                }
            }
        }
        match first_error {
            Some(error) if found.is_empty() => Err(error),
            _ => Ok(found),
        }
    }
}

impl Drop for DeviceList {
    fn drop(&mut self) {
        // SAFETY: the list is freed once, and devices that were opened from it stay valid (ibv_get_device_list(3), NOTES).
        unsafe { (self.library.free_device_list)(self.first.as_ptr()) };
    }
}

/// A device that is open. Everything made on it keeps it open.
pub(super) struct Context {
    library: &'static Library,
    context: NonNull<ibv_context>,
    name: String,
}

// SAFETY: the library's functions may be called by any thread, for one context as well (ibv_open_device(3) and the library's
// documentation, "thread safe"); nothing here is changed after it was made.
unsafe impl Send for Context {}
// SAFETY: as above.
unsafe impl Sync for Context {}

/// Something that happened to a device, or to what was made on it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Event {
    /// The port of that number lost its link.
    PortDown(u8),
    /// It has one again.
    PortUp(u8),
    /// The queue pair of that number can not be used any more.
    QueuePair(u32),
    /// A completion queue or the whole device can not be used any more.
    Fatal,
    /// Something else.
    Other,
}

/// Opens the devices of these names, or all that can be.
///
/// # Errors
/// As [`devices`]; a device of such a name is not there, or cannot be opened.
pub(super) fn open(library: &'static Library, names: &[String]) -> Result<Vec<Context>, RdmaError> {
    let list = DeviceList::new(library)?;
    if names.is_empty() {
        return list.usable(Ok);
    }
    names.iter().map(|name| list.open(name)).collect()
}

impl Context {
    pub(super) fn library(&self) -> &'static Library {
        self.library
    }

    pub(super) fn as_ptr(&self) -> *mut ibv_context {
        self.context.as_ptr()
    }

    /// What its driver brings.
    pub(super) fn ops(&self) -> &ibv_context_ops {
        // SAFETY: the context is open, and neither the library nor the driver changes the table once it is.
        unsafe { &(*self.context.as_ptr()).ops }
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// A descriptor that becomes readable when there is an event to [`take`](Context::take_event).
    pub(super) fn event_descriptor(&self) -> BorrowedFd<'_> {
        // SAFETY: the context is open.
        let descriptor = unsafe { (*self.context.as_ptr()).async_fd };
        // SAFETY: it is open for as long as the context is, which is borrowed.
        unsafe { BorrowedFd::borrow_raw(descriptor) }
    }

    /// Tells the next event; false if there is none for now. Does not wait. Each event is told once. A queue pair that it is about is
    /// not destroyed before `happened` returns.
    ///
    /// # Errors
    /// There will be no more of them.
    pub(super) fn take_event(&self, happened: impl FnOnce(Event)) -> Result<bool, RdmaError> {
        // The library reads the descriptor, which was made not to block.
        let mut event = ibv_async_event { element: 0, event_type: 0 };
        // SAFETY: the context is open; the event is to be written.
        let result = unsafe { (self.library.get_async_event)(self.context.as_ptr(), &mut event) };
        if result != 0 {
            let error = io::Error::last_os_error();
            let none = [io::ErrorKind::WouldBlock, io::ErrorKind::Interrupted].contains(&error.kind());
            return if none {
                Ok(false)
            } else {
                Err(RdmaError::Device { what: "ibv_get_async_event", source: error })
            };
        }
        let port = (event.element & 0xff) as u8;
        let told = match event.event_type {
            IBV_EVENT_QP_FATAL | IBV_EVENT_QP_REQ_ERR | IBV_EVENT_QP_ACCESS_ERR => {
                let queue_pair = event.element as *const ibv_qp;
                // SAFETY: an event about a queue pair points to it, and it is not destroyed before the event is acknowledged
                // (ibv_destroy_qp(3) waits for that).
                Event::QueuePair(unsafe { (*queue_pair).qp_num })
            }
            IBV_EVENT_CQ_ERR | IBV_EVENT_DEVICE_FATAL => Event::Fatal,
            IBV_EVENT_PORT_ERR => Event::PortDown(port),
            IBV_EVENT_PORT_ACTIVE => Event::PortUp(port),
            _ => Event::Other,
        };
        happened(told);
        // SAFETY: it was taken, and is acknowledged once.
        unsafe { (self.library.ack_async_event)(&mut event) };
        Ok(true)
    }

    /// What the device says of itself.
    pub(super) fn info(&self) -> Result<DeviceInfo, RdmaError> {
        let attributes = self.attributes()?;
        let ports =
            (1..=attributes.phys_port_cnt).map(|number| self.port(number)).collect::<Result<_, _>>()?;
        Ok(DeviceInfo { name: self.name.clone(), limits: limits(&attributes), ports })
    }

    fn attributes(&self) -> Result<ibv_device_attr, RdmaError> {
        // SAFETY: integers only, for which zeros are a value.
        let mut attributes: ibv_device_attr = unsafe { mem::zeroed() };
        // SAFETY: the context is open; the structure is to be written and has the size that the library writes.
        let result = unsafe { (self.library.query_device)(self.context.as_ptr(), &mut attributes) };
        if result != 0 {
            return Err(RdmaError::verb("ibv_query_device", result));
        }
        Ok(attributes)
    }

    /// A port as it is now.
    pub(super) fn port(&self, number: u8) -> Result<PortInfo, RdmaError> {
        // SAFETY: integers only, for which zeros are a value.
        let mut attributes: ibv_port_attr = unsafe { mem::zeroed() };
        // SAFETY: the context is open; the structure is to be written, and has at least the size that the exported function writes.
        let result = unsafe { (self.library.query_port)(self.context.as_ptr(), number, &mut attributes) };
        if result != 0 {
            return Err(RdmaError::verb("ibv_query_port", result));
        }
        let gids = self.gids(number, attributes.gid_tbl_len)?;
        // A port without a link may say none.
        let mtu = PathMtu::from_verbs(attributes.active_mtu).unwrap_or(PathMtu::Bytes1024);
        Ok(PortInfo {
            number,
            active: attributes.state == IBV_PORT_ACTIVE,
            link_layer: match attributes.link_layer {
                IBV_LINK_LAYER_INFINIBAND => LinkLayer::InfiniBand,
                IBV_LINK_LAYER_ETHERNET => LinkLayer::Ethernet,
                other => LinkLayer::Other(other),
            },
            mtu,
            message_bytes_max: attributes.max_msg_sz,
            lid: attributes.lid,
            gids,
        })
    }

    fn gids(&self, port: u8, table_len: c_int) -> Result<Vec<GidEntry>, RdmaError> {
        let empty = ibv_gid_entry {
            gid: ibv_gid { raw: [0; 16] },
            gid_index: 0,
            port_num: 0,
            gid_type: 0,
            ndev_ifindex: 0,
        };
        // The table of the device has the entries of all its ports.
        let ports = usize::from(self.attributes()?.phys_port_cnt);
        let mut entries = vec![empty; usize::try_from(table_len).unwrap_or(0) * ports];
        let (first, room) = (entries.as_mut_ptr(), entries.len());
        let entry_size = mem::size_of::<ibv_gid_entry>();
        // SAFETY: the context is open; there is room for as many entries as is said, each of the size that is said.
        let count =
            unsafe { (self.library.query_gid_table)(self.context.as_ptr(), first, room, 0, entry_size) };
        // Negative: an error number (ibv_query_gid_table(3)).
        let Ok(count) = usize::try_from(count) else {
            return Err(RdmaError::verb("ibv_query_gid_table", c_int::try_from(-count).unwrap_or(libc::EIO)));
        };
        let of_port = entries.iter().take(count).filter(|entry| entry.port_num == u32::from(port));
        let mut gids: Vec<_> = of_port
            .filter_map(|entry| {
                let kind = match entry.gid_type {
                    IBV_GID_TYPE_IB => GidKind::InfiniBand,
                    IBV_GID_TYPE_ROCE_V1 => GidKind::RoceV1,
                    IBV_GID_TYPE_ROCE_V2 => GidKind::RoceV2,
                    _ => return None,
                };
                // Work requests name it in 8 bits.
                let index = u8::try_from(entry.gid_index).ok()?;
                Some(GidEntry { index, gid: Gid(entry.gid.raw), kind })
            })
            .collect();
        gids.sort_by_key(|entry| entry.index);
        Ok(gids)
    }
}

/// Reads of the descriptor fail rather than wait.
pub(super) fn not_blocking(descriptor: BorrowedFd<'_>) -> Result<(), RdmaError> {
    let set = fcntl_getfl(descriptor).and_then(|flags| fcntl_setfl(descriptor, flags | OFlags::NONBLOCK));
    set.map_err(|error| RdmaError::verb("fcntl", error.raw_os_error()))
}

/// How many there are, where a driver may say "no limit" by a negative number.
fn many(count: c_int) -> usize {
    usize::try_from(count).unwrap_or(c_int::MAX as usize)
}

fn limits(attributes: &ibv_device_attr) -> DeviceLimits {
    let firmware = attributes.fw_ver.iter().map(|byte| byte.cast_unsigned()).take_while(|byte| *byte != 0);
    let firmware: Vec<u8> = firmware.collect();
    let windows = IBV_DEVICE_MEM_WINDOW_TYPE_2A | IBV_DEVICE_MEM_WINDOW_TYPE_2B;
    let has_windows = attributes.device_cap_flags & windows != 0;
    let reads = |count: c_int| u8::try_from(count.max(0)).unwrap_or(u8::MAX);
    DeviceLimits {
        firmware: String::from_utf8_lossy(&firmware).into_owned(),
        vendor: (attributes.vendor_id, attributes.vendor_part_id),
        queue_pairs_max: many(attributes.max_qp),
        queue_depth_max: many(attributes.max_qp_wr),
        pieces_max: many(attributes.max_sge),
        completion_queues_max: many(attributes.max_cq),
        completions_max: many(attributes.max_cqe),
        regions_max: many(attributes.max_mr),
        region_bytes_max: attributes.max_mr_size,
        reads_answered_max: reads(attributes.max_qp_rd_atom),
        reads_asked_max: reads(attributes.max_qp_init_rd_atom),
        windows_max: if has_windows { many(attributes.max_mw) } else { 0 },
    }
}

impl fmt::Debug for Context {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Context").field("name", &self.name).finish_non_exhaustive()
    }
}

impl Drop for Context {
    fn drop(&mut self) {
        // SAFETY: it is open, closed once, and nothing that was made on it is left: each such thing keeps it.
        let result = unsafe { (self.library.close_device)(self.context.as_ptr()) };
        if result != 0 {
            tracing::warn!(device = self.name, result, "an RDMA device could not be closed and is leaked");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_are_a_list_or_a_reason() {
        // Shows that asking harms nobody on a host that has none.
        match devices() {
            Ok(devices) => assert!(devices.iter().all(|device| !device.name.is_empty())),
            Err(error) => assert!(!error.to_string().is_empty()),
        }
    }
}
