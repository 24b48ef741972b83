//! What libibverbs looks like to a C compiler: constants, structures and the functions behind its inline ones.
//!
//! Written from `<infiniband/verbs.h>` of rdma-core (interface `IBVERBS_1.1` and what was added up to rdma-core 32). Names are the
//! C ones, so that the manual pages apply as they are. Rules of this file:
//! * An `enum` of C is an integer here: a library newer than this file may return a value that is not listed.
//! * A structure that only the library allocates is declared as far as it is read (`ibv_qp`, `ibv_context`), and never made here.
//! * A union is declared as the member that is used, padded to the size of the largest.
//!
//! A test compiles a C program against the header, where it is installed, and compares sizes, offsets and constants.

#![allow(non_camel_case_types, reason = "the names of the C header")]

use std::ffi::{c_char, c_int, c_uint, c_void};

/// Declares a structure that is only ever pointed to.
macro_rules! opaque {
    ($($name:ident),* $(,)?) => {
        $(#[repr(C)]
        pub(super) struct $name {
            _private: [u8; 0],
        })*
    };
}

opaque!(ibv_device, ibv_srq);

pub(super) const IBV_DEVICE_MEM_WINDOW_TYPE_2A: c_uint = 1 << 23;
pub(super) const IBV_DEVICE_MEM_WINDOW_TYPE_2B: c_uint = 1 << 24;

/// `ibv_query_device(3)`.
#[repr(C)]
#[derive(Clone, Copy)]
pub(super) struct ibv_device_attr {
    pub(super) fw_ver: [c_char; 64],
    pub(super) node_guid: u64,
    pub(super) sys_image_guid: u64,
    pub(super) max_mr_size: u64,
    pub(super) page_size_cap: u64,
    pub(super) vendor_id: u32,
    pub(super) vendor_part_id: u32,
    pub(super) hw_ver: u32,
    pub(super) max_qp: c_int,
    pub(super) max_qp_wr: c_int,
    pub(super) device_cap_flags: c_uint,
    pub(super) max_sge: c_int,
    pub(super) max_sge_rd: c_int,
    pub(super) max_cq: c_int,
    pub(super) max_cqe: c_int,
    pub(super) max_mr: c_int,
    pub(super) max_pd: c_int,
    pub(super) max_qp_rd_atom: c_int,
    pub(super) max_ee_rd_atom: c_int,
    pub(super) max_res_rd_atom: c_int,
    pub(super) max_qp_init_rd_atom: c_int,
    pub(super) max_ee_init_rd_atom: c_int,
    pub(super) atomic_cap: c_int,
    pub(super) max_ee: c_int,
    pub(super) max_rdd: c_int,
    pub(super) max_mw: c_int,
    pub(super) max_raw_ipv6_qp: c_int,
    pub(super) max_raw_ethy_qp: c_int,
    pub(super) max_mcast_grp: c_int,
    pub(super) max_mcast_qp_attach: c_int,
    pub(super) max_total_mcast_qp_attach: c_int,
    pub(super) max_ah: c_int,
    pub(super) max_fmr: c_int,
    pub(super) max_map_per_fmr: c_int,
    pub(super) max_srq: c_int,
    pub(super) max_srq_wr: c_int,
    pub(super) max_srq_sge: c_int,
    pub(super) max_pkeys: u16,
    pub(super) local_ca_ack_delay: u8,
    pub(super) phys_port_cnt: u8,
}

pub(super) const IBV_PORT_ACTIVE: c_int = 4;

pub(super) const IBV_MTU_256: c_int = 1;
pub(super) const IBV_MTU_512: c_int = 2;
pub(super) const IBV_MTU_1024: c_int = 3;
pub(super) const IBV_MTU_2048: c_int = 4;
pub(super) const IBV_MTU_4096: c_int = 5;

pub(super) const IBV_LINK_LAYER_INFINIBAND: u8 = 1;
pub(super) const IBV_LINK_LAYER_ETHERNET: u8 = 2;

/// `ibv_query_port(3)`. The exported function fills everything before `flags`; C reaches the rest through another one.
#[repr(C)]
#[derive(Clone, Copy)]
pub(super) struct ibv_port_attr {
    pub(super) state: c_int,
    pub(super) max_mtu: c_int,
    pub(super) active_mtu: c_int,
    pub(super) gid_tbl_len: c_int,
    pub(super) port_cap_flags: u32,
    pub(super) max_msg_sz: u32,
    pub(super) bad_pkey_cntr: u32,
    pub(super) qkey_viol_cntr: u32,
    pub(super) pkey_tbl_len: u16,
    pub(super) lid: u16,
    pub(super) sm_lid: u16,
    pub(super) lmc: u8,
    pub(super) max_vl_num: u8,
    pub(super) sm_sl: u8,
    pub(super) subnet_timeout: u8,
    pub(super) init_type_reply: u8,
    pub(super) active_width: u8,
    pub(super) active_speed: u8,
    pub(super) phys_state: u8,
    pub(super) link_layer: u8,
    pub(super) flags: u8,
    pub(super) port_cap_flags2: u16,
    // Grew by `active_speed_ex` later; whoever wrote it knows the size only from its own header, so there is room.
    pub(super) _room: u32,
}

/// A GID. The C union is aligned as its pair of 64-bit halves is.
#[repr(C, align(8))]
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct ibv_gid {
    pub(super) raw: [u8; 16],
}

pub(super) const IBV_GID_TYPE_IB: u32 = 0;
pub(super) const IBV_GID_TYPE_ROCE_V1: u32 = 1;
pub(super) const IBV_GID_TYPE_ROCE_V2: u32 = 2;

/// `ibv_query_gid_table(3)`.
#[repr(C)]
#[derive(Clone, Copy)]
pub(super) struct ibv_gid_entry {
    pub(super) gid: ibv_gid,
    pub(super) gid_index: u32,
    pub(super) port_num: u32,
    pub(super) gid_type: u32,
    pub(super) ndev_ifindex: u32,
}

pub(super) const IBV_EVENT_CQ_ERR: c_int = 0;
pub(super) const IBV_EVENT_QP_FATAL: c_int = 1;
pub(super) const IBV_EVENT_QP_REQ_ERR: c_int = 2;
pub(super) const IBV_EVENT_QP_ACCESS_ERR: c_int = 3;
pub(super) const IBV_EVENT_DEVICE_FATAL: c_int = 8;
pub(super) const IBV_EVENT_PORT_ACTIVE: c_int = 9;
pub(super) const IBV_EVENT_PORT_ERR: c_int = 10;

/// `ibv_get_async_event(3)`. The element is a pointer or a port number, as the type of the event has it.
#[repr(C)]
#[derive(Clone, Copy)]
pub(super) struct ibv_async_event {
    pub(super) element: u64,
    pub(super) event_type: c_int,
}

pub(super) const IBV_WC_SUCCESS: c_int = 0;
pub(super) const IBV_WC_LOC_LEN_ERR: c_int = 1;
pub(super) const IBV_WC_LOC_QP_OP_ERR: c_int = 2;
pub(super) const IBV_WC_LOC_PROT_ERR: c_int = 4;
pub(super) const IBV_WC_WR_FLUSH_ERR: c_int = 5;
pub(super) const IBV_WC_MW_BIND_ERR: c_int = 6;
pub(super) const IBV_WC_LOC_ACCESS_ERR: c_int = 8;
pub(super) const IBV_WC_REM_INV_REQ_ERR: c_int = 9;
pub(super) const IBV_WC_REM_ACCESS_ERR: c_int = 10;
pub(super) const IBV_WC_REM_OP_ERR: c_int = 11;
pub(super) const IBV_WC_RETRY_EXC_ERR: c_int = 12;
pub(super) const IBV_WC_RNR_RETRY_EXC_ERR: c_int = 13;
pub(super) const IBV_WC_FATAL_ERR: c_int = 19;
pub(super) const IBV_WC_RESP_TIMEOUT_ERR: c_int = 20;

/// `ibv_poll_cq(3)`. Of one that failed only `wr_id`, `status`, `qp_num` and `vendor_err` mean anything.
#[repr(C)]
#[derive(Clone, Copy)]
pub(super) struct ibv_wc {
    pub(super) wr_id: u64,
    pub(super) status: c_int,
    pub(super) opcode: c_int,
    pub(super) vendor_err: u32,
    pub(super) byte_len: u32,
    pub(super) imm_data: u32,
    pub(super) qp_num: u32,
    pub(super) src_qp: u32,
    pub(super) wc_flags: c_uint,
    pub(super) pkey_index: u16,
    pub(super) slid: u16,
    pub(super) sl: u8,
    pub(super) dlid_path_bits: u8,
}

pub(super) const IBV_ACCESS_LOCAL_WRITE: c_int = 1;
pub(super) const IBV_ACCESS_REMOTE_WRITE: c_int = 1 << 1;
pub(super) const IBV_ACCESS_REMOTE_READ: c_int = 1 << 2;
pub(super) const IBV_ACCESS_MW_BIND: c_int = 1 << 4;

#[repr(C)]
pub(super) struct ibv_pd {
    pub(super) context: *mut ibv_context,
    pub(super) handle: u32,
}

/// `ibv_reg_mr(3)`.
#[repr(C)]
pub(super) struct ibv_mr {
    pub(super) context: *mut ibv_context,
    pub(super) pd: *mut ibv_pd,
    pub(super) addr: *mut c_void,
    pub(super) length: usize,
    pub(super) handle: u32,
    pub(super) lkey: u32,
    pub(super) rkey: u32,
}

pub(super) const IBV_MW_TYPE_2: c_int = 2;

/// `ibv_alloc_mw(3)`.
#[repr(C)]
pub(super) struct ibv_mw {
    pub(super) context: *mut ibv_context,
    pub(super) pd: *mut ibv_pd,
    pub(super) rkey: u32,
    pub(super) handle: u32,
    pub(super) r#type: c_int,
}

#[repr(C)]
#[derive(Clone, Copy)]
pub(super) struct ibv_mw_bind_info {
    pub(super) mr: *mut ibv_mr,
    pub(super) addr: u64,
    pub(super) length: u64,
    pub(super) mw_access_flags: c_uint,
}

#[repr(C)]
pub(super) struct ibv_comp_channel {
    pub(super) context: *mut ibv_context,
    pub(super) fd: c_int,
    pub(super) refcnt: c_int,
}

/// The front of it; locks and counters of the library follow.
#[repr(C)]
pub(super) struct ibv_cq {
    pub(super) context: *mut ibv_context,
    pub(super) channel: *mut ibv_comp_channel,
    pub(super) cq_context: *mut c_void,
    pub(super) handle: u32,
    pub(super) cqe: c_int,
}

/// The front of it; locks and counters of the library follow.
#[repr(C)]
pub(super) struct ibv_qp {
    pub(super) context: *mut ibv_context,
    pub(super) qp_context: *mut c_void,
    pub(super) pd: *mut ibv_pd,
    pub(super) send_cq: *mut ibv_cq,
    pub(super) recv_cq: *mut ibv_cq,
    pub(super) srq: *mut ibv_srq,
    pub(super) handle: u32,
    pub(super) qp_num: u32,
    pub(super) state: c_int,
    pub(super) qp_type: c_int,
}

pub(super) const IBV_QPT_RC: c_int = 2;

#[repr(C)]
#[derive(Clone, Copy)]
pub(super) struct ibv_qp_cap {
    pub(super) max_send_wr: u32,
    pub(super) max_recv_wr: u32,
    pub(super) max_send_sge: u32,
    pub(super) max_recv_sge: u32,
    pub(super) max_inline_data: u32,
}

/// `ibv_create_qp(3)`.
#[repr(C)]
pub(super) struct ibv_qp_init_attr {
    pub(super) qp_context: *mut c_void,
    pub(super) send_cq: *mut ibv_cq,
    pub(super) recv_cq: *mut ibv_cq,
    pub(super) srq: *mut ibv_srq,
    pub(super) cap: ibv_qp_cap,
    pub(super) qp_type: c_int,
    pub(super) sq_sig_all: c_int,
}

pub(super) const IBV_QPS_INIT: c_int = 1;
pub(super) const IBV_QPS_RTR: c_int = 2;
pub(super) const IBV_QPS_RTS: c_int = 3;
pub(super) const IBV_QPS_ERR: c_int = 6;

pub(super) const IBV_QP_STATE: c_int = 1;
pub(super) const IBV_QP_ACCESS_FLAGS: c_int = 1 << 3;
pub(super) const IBV_QP_PKEY_INDEX: c_int = 1 << 4;
pub(super) const IBV_QP_PORT: c_int = 1 << 5;
pub(super) const IBV_QP_AV: c_int = 1 << 7;
pub(super) const IBV_QP_PATH_MTU: c_int = 1 << 8;
pub(super) const IBV_QP_TIMEOUT: c_int = 1 << 9;
pub(super) const IBV_QP_RETRY_CNT: c_int = 1 << 10;
pub(super) const IBV_QP_RNR_RETRY: c_int = 1 << 11;
pub(super) const IBV_QP_RQ_PSN: c_int = 1 << 12;
pub(super) const IBV_QP_MAX_QP_RD_ATOMIC: c_int = 1 << 13;
pub(super) const IBV_QP_MIN_RNR_TIMER: c_int = 1 << 15;
pub(super) const IBV_QP_SQ_PSN: c_int = 1 << 16;
pub(super) const IBV_QP_MAX_DEST_RD_ATOMIC: c_int = 1 << 17;
pub(super) const IBV_QP_DEST_QPN: c_int = 1 << 20;

#[repr(C)]
#[derive(Clone, Copy)]
pub(super) struct ibv_global_route {
    pub(super) dgid: ibv_gid,
    pub(super) flow_label: u32,
    pub(super) sgid_index: u8,
    pub(super) hop_limit: u8,
    pub(super) traffic_class: u8,
}

#[repr(C)]
#[derive(Clone, Copy)]
pub(super) struct ibv_ah_attr {
    pub(super) grh: ibv_global_route,
    pub(super) dlid: u16,
    pub(super) sl: u8,
    pub(super) src_path_bits: u8,
    pub(super) static_rate: u8,
    pub(super) is_global: u8,
    pub(super) port_num: u8,
}

/// `ibv_modify_qp(3)`.
#[repr(C)]
#[derive(Clone, Copy)]
pub(super) struct ibv_qp_attr {
    pub(super) qp_state: c_int,
    pub(super) cur_qp_state: c_int,
    pub(super) path_mtu: c_int,
    pub(super) path_mig_state: c_int,
    pub(super) qkey: u32,
    pub(super) rq_psn: u32,
    pub(super) sq_psn: u32,
    pub(super) dest_qp_num: u32,
    pub(super) qp_access_flags: c_uint,
    pub(super) cap: ibv_qp_cap,
    pub(super) ah_attr: ibv_ah_attr,
    pub(super) alt_ah_attr: ibv_ah_attr,
    pub(super) pkey_index: u16,
    pub(super) alt_pkey_index: u16,
    pub(super) en_sqd_async_notify: u8,
    pub(super) sq_draining: u8,
    pub(super) max_rd_atomic: u8,
    pub(super) max_dest_rd_atomic: u8,
    pub(super) min_rnr_timer: u8,
    pub(super) port_num: u8,
    pub(super) timeout: u8,
    pub(super) retry_cnt: u8,
    pub(super) rnr_retry: u8,
    pub(super) alt_port_num: u8,
    pub(super) alt_timeout: u8,
    pub(super) rate_limit: u32,
}

pub(super) const IBV_WC_RECV: c_int = 1 << 7;
pub(super) const IBV_WC_RECV_RDMA_WITH_IMM: c_int = IBV_WC_RECV + 1;
pub(super) const IBV_WC_WITH_IMM: c_uint = 1 << 1;
pub(super) const IBV_WC_BIND_MW: c_int = 5;
pub(super) const IBV_WC_LOCAL_INV: c_int = 6;

pub(super) const IBV_WR_RDMA_WRITE: c_int = 0;
pub(super) const IBV_WR_RDMA_WRITE_WITH_IMM: c_int = 1;
pub(super) const IBV_WR_SEND: c_int = 2;
pub(super) const IBV_WR_RDMA_READ: c_int = 4;
pub(super) const IBV_WR_LOCAL_INV: c_int = 7;
pub(super) const IBV_WR_BIND_MW: c_int = 8;

pub(super) const IBV_SEND_SIGNALED: c_uint = 1 << 1;

#[repr(C)]
#[derive(Clone, Copy)]
pub(super) struct ibv_sge {
    pub(super) addr: u64,
    pub(super) length: u32,
    pub(super) lkey: u32,
}

/// The `rdma` member of the union `wr`; the largest, of atomic operations, has 32 bytes.
#[repr(C)]
#[derive(Clone, Copy)]
pub(super) struct ibv_send_wr_rdma {
    pub(super) remote_addr: u64,
    pub(super) rkey: u32,
    pub(super) _room: [u32; 5],
}

/// The `bind_mw` member of the last union, which is the largest.
#[repr(C)]
#[derive(Clone, Copy)]
pub(super) struct ibv_send_wr_bind_mw {
    pub(super) mw: *mut ibv_mw,
    pub(super) rkey: u32,
    pub(super) bind_info: ibv_mw_bind_info,
}

/// `ibv_post_send(3)`.
#[repr(C)]
#[derive(Clone, Copy)]
pub(super) struct ibv_send_wr {
    pub(super) wr_id: u64,
    pub(super) next: *mut ibv_send_wr,
    pub(super) sg_list: *mut ibv_sge,
    pub(super) num_sge: c_int,
    pub(super) opcode: c_int,
    pub(super) send_flags: c_uint,
    /// Or immediate data, in network order.
    pub(super) invalidate_rkey: u32,
    pub(super) rdma: ibv_send_wr_rdma,
    pub(super) remote_srqn: u32,
    pub(super) bind_mw: ibv_send_wr_bind_mw,
}

/// `ibv_post_recv(3)`.
#[repr(C)]
#[derive(Clone, Copy)]
pub(super) struct ibv_recv_wr {
    pub(super) wr_id: u64,
    pub(super) next: *mut ibv_recv_wr,
    pub(super) sg_list: *mut ibv_sge,
    pub(super) num_sge: c_int,
}

type unused_op = Option<unsafe extern "C" fn()>;

/// What a driver brings. Inline functions of the header call through it; the others are exported by the library, and their
/// places are here for old programs only.
#[repr(C)]
pub(super) struct ibv_context_ops {
    _before_alloc_mw: [unused_op; 7],
    pub(super) alloc_mw: Option<unsafe extern "C" fn(pd: *mut ibv_pd, kind: c_int) -> *mut ibv_mw>,
    _bind_mw: unused_op,
    pub(super) dealloc_mw: Option<unsafe extern "C" fn(mw: *mut ibv_mw) -> c_int>,
    _create_cq: unused_op,
    pub(super) poll_cq:
        Option<unsafe extern "C" fn(cq: *mut ibv_cq, num_entries: c_int, wc: *mut ibv_wc) -> c_int>,
    pub(super) req_notify_cq: Option<unsafe extern "C" fn(cq: *mut ibv_cq, solicited_only: c_int) -> c_int>,
    _before_post_send: [unused_op; 12],
    pub(super) post_send: Option<
        unsafe extern "C" fn(qp: *mut ibv_qp, wr: *mut ibv_send_wr, bad_wr: *mut *mut ibv_send_wr) -> c_int,
    >,
    pub(super) post_recv: Option<
        unsafe extern "C" fn(qp: *mut ibv_qp, wr: *mut ibv_recv_wr, bad_wr: *mut *mut ibv_recv_wr) -> c_int,
    >,
    _behind_post_recv: [unused_op; 5],
}

/// The front of it; locks of the library follow.
#[repr(C)]
pub(super) struct ibv_context {
    pub(super) device: *mut ibv_device,
    pub(super) ops: ibv_context_ops,
    pub(super) cmd_fd: c_int,
    pub(super) async_fd: c_int,
    pub(super) num_comp_vectors: c_int,
}
