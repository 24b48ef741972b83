//! An oracle for `transport/src/rdma/sys.rs`: bindgen's reading of the header, by rdma-sys, which is another one than the C probe in the
//! transport's own tests. It knows alignments, too, and the types of fields.

#![cfg(test)]

#[allow(dead_code, unsafe_code, non_camel_case_types, reason = "declared as a whole, for the transport")]
#[path = "../../src/rdma/sys.rs"]
mod ours;

use rdma_sys as theirs;
use std::mem::{align_of, offset_of, size_of};

/// One property of a structure: what, ours, theirs.
type Claims = Vec<(String, usize, usize)>;

/// Sizes and alignments of whole structures, and the offsets of fields, of one name or of the two that stand there.
macro_rules! layout {
    (@whole $claims:ident $type:ident whole) => {
        let name = stringify!($type);
        $claims.push((format!("size of {name}"), size_of::<ours::$type>(), size_of::<theirs::$type>()));
        $claims.push((format!("alignment of {name}"), align_of::<ours::$type>(), align_of::<theirs::$type>()));
    };
    // What only the library allocates, or what grew since: its front is what counts.
    (@whole $claims:ident $type:ident front) => {};
    (@theirs $type:ident $field:ident) => { offset_of!(theirs::$type, $field) };
    (@theirs $type:ident $field:ident $($there:ident).+) => { offset_of!(theirs::$type, $($there).+) };
    ($claims:ident: $how:ident $type:ident { $($field:ident $(= $($there:ident).+)?),* $(,)? }) => {
        layout!(@whole $claims $type $how);
        $($claims.push((
            concat!("offset of ", stringify!($type), ".", stringify!($field)).to_owned(),
            offset_of!(ours::$type, $field),
            layout!(@theirs $type $field $($($there).+)?),
        ));)*
    };
}

fn layouts() -> Claims {
    let mut claims = Claims::new();
    layout!(claims: whole ibv_device_attr {
        fw_ver, node_guid, sys_image_guid, max_mr_size, page_size_cap, vendor_id, vendor_part_id, hw_ver, max_qp, max_qp_wr,
        device_cap_flags, max_sge, max_sge_rd, max_cq, max_cqe, max_mr, max_pd, max_qp_rd_atom, max_ee_rd_atom,
        max_res_rd_atom, max_qp_init_rd_atom, max_ee_init_rd_atom, atomic_cap, max_ee, max_rdd, max_mw, max_raw_ipv6_qp,
        max_raw_ethy_qp, max_mcast_grp, max_mcast_qp_attach, max_total_mcast_qp_attach, max_ah, max_fmr, max_map_per_fmr,
        max_srq, max_srq_wr, max_srq_sge, max_pkeys, local_ca_ack_delay, phys_port_cnt,
    });
    layout!(claims: front ibv_port_attr {
        state, max_mtu, active_mtu, gid_tbl_len, port_cap_flags, max_msg_sz, bad_pkey_cntr, qkey_viol_cntr, pkey_tbl_len, lid,
        sm_lid, lmc, max_vl_num, sm_sl, subnet_timeout, init_type_reply, active_width, active_speed, phys_state, link_layer,
        flags, port_cap_flags2,
    });
    layout!(claims: whole ibv_gid { raw });
    layout!(claims: whole ibv_gid_entry { gid, gid_index, port_num, gid_type, ndev_ifindex });
    layout!(claims: whole ibv_async_event { element, event_type });
    layout!(claims: whole ibv_wc {
        wr_id, status, opcode, vendor_err, byte_len, imm_data = imm_data_invalidated_rkey_union, qp_num, src_qp, wc_flags,
        pkey_index, slid, sl, dlid_path_bits,
    });
    layout!(claims: whole ibv_pd { context, handle });
    layout!(claims: whole ibv_mr { context, pd, addr, length, handle, lkey, rkey });
    layout!(claims: whole ibv_mw { context, pd, rkey, handle, r#type = type_ });
    layout!(claims: whole ibv_mw_bind_info { mr, addr, length, mw_access_flags });
    layout!(claims: whole ibv_comp_channel { context, fd, refcnt });
    layout!(claims: front ibv_cq { context, channel, cq_context, handle, cqe });
    layout!(claims: front ibv_qp {
        context, qp_context, pd, send_cq, recv_cq, srq, handle, qp_num, state, qp_type,
    });
    layout!(claims: whole ibv_qp_cap { max_send_wr, max_recv_wr, max_send_sge, max_recv_sge, max_inline_data });
    layout!(claims: whole ibv_qp_init_attr { qp_context, send_cq, recv_cq, srq, cap, qp_type, sq_sig_all });
    layout!(claims: whole ibv_global_route { dgid, flow_label, sgid_index, hop_limit, traffic_class });
    layout!(claims: whole ibv_ah_attr { grh, dlid, sl, src_path_bits, static_rate, is_global, port_num });
    layout!(claims: whole ibv_qp_attr {
        qp_state, cur_qp_state, path_mtu, path_mig_state, qkey, rq_psn, sq_psn, dest_qp_num, qp_access_flags, cap, ah_attr,
        alt_ah_attr, pkey_index, alt_pkey_index, en_sqd_async_notify, sq_draining, max_rd_atomic, max_dest_rd_atomic,
        min_rnr_timer, port_num, timeout, retry_cnt, rnr_retry, alt_port_num, alt_timeout, rate_limit,
    });
    layout!(claims: whole ibv_sge { addr, length, lkey });
    layout!(claims: whole ibv_send_wr {
        wr_id, next, sg_list, num_sge, opcode, send_flags, invalidate_rkey = imm_data_invalidated_rkey_union, rdma = wr,
        remote_srqn = qp_type, bind_mw = bind_mw_tso_union,
    });
    claims.push(("size of ibv_send_wr.wr".to_owned(), size_of::<ours::ibv_send_wr_rdma>(), size_of::<theirs::wr_t>()));
    claims.push((
        "offset of ibv_send_wr.wr.rdma.rkey".to_owned(),
        offset_of!(ours::ibv_send_wr_rdma, rkey),
        offset_of!(theirs::rdma_t, rkey),
    ));
    claims.push((
        "size of ibv_send_wr.bind_mw".to_owned(),
        size_of::<ours::ibv_send_wr_bind_mw>(),
        size_of::<theirs::bind_mw_tso_union_t>(),
    ));
    claims.push((
        "offset of ibv_send_wr.bind_mw.bind_info".to_owned(),
        offset_of!(ours::ibv_send_wr_bind_mw, bind_info),
        offset_of!(theirs::bind_mw_t, bind_info),
    ));
    layout!(claims: whole ibv_recv_wr { wr_id, next, sg_list, num_sge });
    layout!(claims: whole ibv_context_ops { alloc_mw, dealloc_mw, poll_cq, req_notify_cq, post_send, post_recv });
    layout!(claims: front ibv_context { device, ops, cmd_fd, async_fd, num_comp_vectors });
    claims
}

/// Constants, of a module, as a set of bits, or of an enum.
macro_rules! constants {
    ($claims:ident: in $module:ident: $($name:ident),*) => {
        $($claims.push((stringify!($name).to_owned(), ours::$name as usize, theirs::$module::$name as usize));)*
    };
    ($claims:ident: bits of $module:ident: $($name:ident),*) => {
        $($claims.push((stringify!($name).to_owned(), ours::$name as usize, theirs::$module::$name.0 as usize));)*
    };
    ($claims:ident: plain: $($name:ident),*) => {
        $($claims.push((stringify!($name).to_owned(), ours::$name as usize, theirs::$name as usize));)*
    };
}

fn values() -> Claims {
    let mut claims = Claims::new();
    constants!(claims: bits of ibv_device_cap_flags: IBV_DEVICE_MEM_WINDOW_TYPE_2A, IBV_DEVICE_MEM_WINDOW_TYPE_2B);
    constants!(claims: in ibv_port_state: IBV_PORT_ACTIVE);
    constants!(claims: in ibv_mtu: IBV_MTU_256, IBV_MTU_512, IBV_MTU_1024, IBV_MTU_2048, IBV_MTU_4096);
    constants!(claims: plain: IBV_GID_TYPE_IB, IBV_GID_TYPE_ROCE_V1, IBV_GID_TYPE_ROCE_V2);
    constants!(claims: in ibv_event_type: IBV_EVENT_CQ_ERR, IBV_EVENT_QP_FATAL, IBV_EVENT_QP_REQ_ERR, IBV_EVENT_QP_ACCESS_ERR);
    constants!(claims: in ibv_event_type: IBV_EVENT_DEVICE_FATAL, IBV_EVENT_PORT_ACTIVE, IBV_EVENT_PORT_ERR);
    constants!(claims: in ibv_wc_status: IBV_WC_SUCCESS, IBV_WC_LOC_LEN_ERR, IBV_WC_LOC_QP_OP_ERR, IBV_WC_LOC_PROT_ERR);
    constants!(claims: in ibv_wc_status: IBV_WC_WR_FLUSH_ERR, IBV_WC_MW_BIND_ERR, IBV_WC_LOC_ACCESS_ERR);
    constants!(claims: in ibv_wc_status: IBV_WC_REM_INV_REQ_ERR, IBV_WC_REM_ACCESS_ERR, IBV_WC_REM_OP_ERR);
    constants!(claims: in ibv_wc_status: IBV_WC_RETRY_EXC_ERR, IBV_WC_RNR_RETRY_EXC_ERR, IBV_WC_FATAL_ERR);
    constants!(claims: in ibv_wc_status: IBV_WC_RESP_TIMEOUT_ERR);
    constants!(claims: bits of ibv_access_flags: IBV_ACCESS_LOCAL_WRITE, IBV_ACCESS_REMOTE_WRITE, IBV_ACCESS_REMOTE_READ);
    constants!(claims: bits of ibv_access_flags: IBV_ACCESS_MW_BIND);
    constants!(claims: in ibv_mw_type: IBV_MW_TYPE_2);
    constants!(claims: in ibv_qp_type: IBV_QPT_RC);
    constants!(claims: in ibv_qp_state: IBV_QPS_INIT, IBV_QPS_RTR, IBV_QPS_RTS, IBV_QPS_ERR);
    constants!(claims: bits of ibv_qp_attr_mask: IBV_QP_STATE, IBV_QP_ACCESS_FLAGS, IBV_QP_PKEY_INDEX, IBV_QP_PORT, IBV_QP_AV);
    constants!(claims: bits of ibv_qp_attr_mask: IBV_QP_PATH_MTU, IBV_QP_TIMEOUT, IBV_QP_RETRY_CNT, IBV_QP_RNR_RETRY);
    constants!(claims: bits of ibv_qp_attr_mask: IBV_QP_RQ_PSN, IBV_QP_MAX_QP_RD_ATOMIC, IBV_QP_MIN_RNR_TIMER, IBV_QP_SQ_PSN);
    constants!(claims: bits of ibv_qp_attr_mask: IBV_QP_MAX_DEST_RD_ATOMIC, IBV_QP_DEST_QPN);
    constants!(claims: in ibv_wr_opcode: IBV_WR_RDMA_WRITE, IBV_WR_RDMA_WRITE_WITH_IMM, IBV_WR_SEND, IBV_WR_RDMA_READ);
    constants!(claims: in ibv_wr_opcode: IBV_WR_LOCAL_INV, IBV_WR_BIND_MW);
    constants!(claims: bits of ibv_send_flags: IBV_SEND_SIGNALED);
    constants!(claims: in ibv_wc_opcode: IBV_WC_BIND_MW, IBV_WC_LOCAL_INV, IBV_WC_RECV, IBV_WC_RECV_RDMA_WITH_IMM);
    constants!(claims: bits of ibv_wc_flags: IBV_WC_WITH_IMM);
    claims
}

fn assert_agreed(claims: Claims) {
    assert!(claims.len() > 30);
    let wrong: Vec<_> = claims.into_iter().filter(|(_, ours, theirs)| ours != theirs).collect();
    assert!(wrong.is_empty(), "(what, ours, theirs): {wrong:#?}");
}

#[test]
fn structures_are_laid_out_alike() {
    // Shows that sizes, alignments and offsets are those that bindgen reads from the header.
    assert_agreed(layouts());
}

#[test]
fn constants_have_one_value() {
    // Shows the same of constants.
    assert_agreed(values());
}
