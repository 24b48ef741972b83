//! libibverbs, opened when somebody first asks for a device.
//!
//! Not linked, because a program that never uses RDMA shall start on a host that has never heard of it, and say nothing. Opened with
//! `dlopen(3)` and never closed: its drivers start no threads, but handles of theirs live until the process ends.

#![allow(unsafe_code)]

use super::sys::*;
use std::{
    ffi::{CStr, c_char, c_int, c_uint, c_void},
    mem,
    sync::OnceLock,
};

/// Why there is no RDMA in this process. Asking again gives the same answer.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Unavailable {
    /// A program without a dynamic linker cannot open a library, and the drivers of cards are libraries, too.
    #[error(
        "this program is linked statically, and cannot load libibverbs: use one that is linked dynamically"
    )]
    Static,
    /// The library could not be opened; what the dynamic linker says.
    #[error(
        "libibverbs cannot be loaded ({0}): install it with the drivers of cards, \
         package ibverbs-providers on Debian and Ubuntu, libibverbs on Fedora and its kin"
    )]
    NotFound(String),
    /// The library has no function of that name: it is older than rdma-core 32 (2020).
    #[error("libibverbs is too old, it has no `{0}`: install rdma-core 32 (2020) or later")]
    TooOld(&'static str),
}

/// The name that the library has had since 2006; what is added to its interface keeps the name.
const FILE: &CStr = c"libibverbs.so.1";

/// Makes the table of functions, and what fills it.
macro_rules! functions {
    ($($(#[$attribute:meta])* fn $name:ident = $symbol:literal ($($type:ty),*) $(-> $result:ty)?;)*) => {
        /// The functions of the library that are used here, by their names without `ibv_`.
        pub(super) struct Library {
            $($(#[$attribute])* pub(super) $name: unsafe extern "C" fn($($type),*) $(-> $result)?,)*
        }

        impl Library {
            fn resolve(handle: *mut c_void) -> Result<Library, Unavailable> {
                Ok(Library {
                    $($name: {
                        const SYMBOL: &CStr = $symbol;
                        let Ok(name) = SYMBOL.to_str() else { panic!("an ASCII name") };
                        let address = symbol(handle, SYMBOL).ok_or(Unavailable::TooOld(name))?;
                        // SAFETY: pointers to data and to functions have one size on every target of this crate. The symbol is the
                        // function of that name in the library's interface, whose declaration in `<infiniband/verbs.h>` this
                        // type repeats; interfaces of a shared library's version do not change.
                        unsafe {
                            mem::transmute::<*mut c_void, unsafe extern "C" fn($($type),*) $(-> $result)?>(address)
                        }
                    },)*
                })
            }
        }
    };
}

functions! {
    fn get_device_list = c"ibv_get_device_list" (*mut c_int) -> *mut *mut ibv_device;
    fn free_device_list = c"ibv_free_device_list" (*mut *mut ibv_device);
    fn get_device_name = c"ibv_get_device_name" (*mut ibv_device) -> *const c_char;
    fn open_device = c"ibv_open_device" (*mut ibv_device) -> *mut ibv_context;
    fn close_device = c"ibv_close_device" (*mut ibv_context) -> c_int;
    fn query_device = c"ibv_query_device" (*mut ibv_context, *mut ibv_device_attr) -> c_int;
    fn query_port = c"ibv_query_port" (*mut ibv_context, u8, *mut ibv_port_attr) -> c_int;
    /// What the inline `ibv_query_gid_table` calls, with the size of an entry last.
    fn query_gid_table = c"_ibv_query_gid_table" (*mut ibv_context, *mut ibv_gid_entry, usize, u32, usize) -> isize;
    fn get_async_event = c"ibv_get_async_event" (*mut ibv_context, *mut ibv_async_event) -> c_int;
    fn ack_async_event = c"ibv_ack_async_event" (*mut ibv_async_event);
    fn alloc_pd = c"ibv_alloc_pd" (*mut ibv_context) -> *mut ibv_pd;
    fn dealloc_pd = c"ibv_dealloc_pd" (*mut ibv_pd) -> c_int;
    fn reg_mr = c"ibv_reg_mr" (*mut ibv_pd, *mut c_void, usize, c_int) -> *mut ibv_mr;
    fn dereg_mr = c"ibv_dereg_mr" (*mut ibv_mr) -> c_int;
    fn create_comp_channel = c"ibv_create_comp_channel" (*mut ibv_context) -> *mut ibv_comp_channel;
    fn destroy_comp_channel = c"ibv_destroy_comp_channel" (*mut ibv_comp_channel) -> c_int;
    fn create_cq = c"ibv_create_cq" (*mut ibv_context, c_int, *mut c_void, *mut ibv_comp_channel, c_int) -> *mut ibv_cq;
    fn destroy_cq = c"ibv_destroy_cq" (*mut ibv_cq) -> c_int;
    fn get_cq_event = c"ibv_get_cq_event" (*mut ibv_comp_channel, *mut *mut ibv_cq, *mut *mut c_void) -> c_int;
    fn ack_cq_events = c"ibv_ack_cq_events" (*mut ibv_cq, c_uint);
    fn create_qp = c"ibv_create_qp" (*mut ibv_pd, *mut ibv_qp_init_attr) -> *mut ibv_qp;
    fn modify_qp = c"ibv_modify_qp" (*mut ibv_qp, *mut ibv_qp_attr, c_int) -> c_int;
    fn destroy_qp = c"ibv_destroy_qp" (*mut ibv_qp) -> c_int;
}

/// The function of that name. Most exist twice, for programs of before 2007 and for all later ones; those are of version
/// `IBVERBS_1.1`, which linkers that know of versions are asked for.
fn symbol(handle: *mut c_void, name: &CStr) -> Option<*mut c_void> {
    #[cfg(target_env = "gnu")]
    {
        // SAFETY: the handle came from `dlopen` and is never closed; name and version end with a zero.
        let address = unsafe { libc::dlvsym(handle, name.as_ptr(), c"IBVERBS_1.1".as_ptr()) };
        if !address.is_null() {
            return Some(address);
        }
    }
    // SAFETY: the handle came from `dlopen` and is never closed; the name ends with a zero.
    let address = unsafe { libc::dlsym(handle, name.as_ptr()) };
    (!address.is_null()).then_some(address)
}

/// The library, opened by the first call. Reads files and may take milliseconds then.
///
/// # Errors
/// See [`Unavailable`].
pub(super) fn library() -> Result<&'static Library, Unavailable> {
    static LIBRARY: OnceLock<Result<Library, Unavailable>> = OnceLock::new();
    LIBRARY.get_or_init(|| open(FILE)).as_ref().map_err(Unavailable::clone)
}

fn open(file: &CStr) -> Result<Library, Unavailable> {
    if cfg!(target_feature = "crt-static") {
        return Err(Unavailable::Static);
    }
    // SAFETY: the name ends with a zero. The initialisers that run are those of libibverbs and of what it depends on, which
    // every program that links it runs, too, and which require nothing of their callers.
    let handle = unsafe { libc::dlopen(file.as_ptr(), libc::RTLD_NOW | libc::RTLD_LOCAL) };
    if handle.is_null() {
        return Err(Unavailable::NotFound(linker_error()));
    }
    Library::resolve(handle)
}

fn linker_error() -> String {
    // SAFETY: requires nothing. Where several threads use the linker at once the text is this thread's own.
    let text = unsafe { libc::dlerror() };
    if text.is_null() {
        return "libibverbs.so.1 could not be opened".to_owned();
    }
    // SAFETY: not null, so it is a string that ends with a zero and stays until this thread's next call of the linker.
    let text = unsafe { CStr::from_ptr(text) };
    text.to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_library_is_a_reason() {
        // Shows that asking never fails otherwise than with a reason, and gives one answer.
        let first = library().map(|_| ()).map_err(|reason| reason.to_string());
        let second = library().map(|_| ()).map_err(|reason| reason.to_string());
        assert_eq!(first, second);
        if let Err(reason) = first {
            assert!(reason.contains("libibverbs"), "{reason}");
        }
    }

    #[test]
    #[cfg(not(target_feature = "crt-static"))]
    fn a_reason_says_what_to_do() {
        // Shows what somebody reads who has no libibverbs, or something else under its name: what the linker says, and what helps.
        let absent = open(c"libcrossdock-nowhere.so.1").err().map(|reason| reason.to_string());
        let absent = absent.expect("there is no such file");
        assert!(absent.contains("libcrossdock-nowhere.so.1: cannot open shared object file"), "{absent}");
        assert!(absent.contains("install") && absent.contains("ibverbs-providers"), "{absent}");
        // The C library is there, and is none.
        let other = open(c"libc.so.6").err();
        assert_eq!(other, Some(Unavailable::TooOld("ibv_get_device_list")));
        assert!(other.is_some_and(|reason| reason.to_string().contains("install rdma-core 32")));
    }

    #[test]
    #[cfg(target_feature = "crt-static")]
    fn a_static_program_has_none_and_says_why() {
        // Shows what a program says that has no dynamic linker, wherever it asks: that there is none, and the reason.
        use super::super::{Rdma, RdmaClient, RdmaClientOptions, RdmaError, RdmaOptions, devices};
        assert_eq!(library().err(), Some(Unavailable::Static));
        let client = RdmaClientOptions {
            device: None,
            server: None,
            bytes: 4096,
            revocation: None,
            sequence: 1,
            messages: false,
            notices: false,
        };
        let asked = [
            devices().map(drop),
            Rdma::open(&RdmaOptions::default()).map(drop),
            RdmaClient::new(&client).map(drop),
        ];
        for answer in asked {
            assert!(matches!(answer, Err(RdmaError::Unavailable(Unavailable::Static))), "{answer:?}");
        }
    }
}
