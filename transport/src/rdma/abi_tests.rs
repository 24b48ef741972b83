//! Compares `sys` with what a C compiler makes of `<infiniband/verbs.h>`.

use super::sys::*;
use std::{
    fmt::Write as _,
    fs::OpenOptions,
    io::Write as _,
    mem::{offset_of, size_of},
    process::Command,
};

/// An expression of C, and the value that it shall have.
type Claims = Vec<(String, u64)>;

macro_rules! constants {
    ($claims:ident: $($name:ident),* $(,)?) => {
        $($claims.push((stringify!($name).to_owned(), u64::try_from($name).expect("not negative")));)*
    };
}

/// Offsets of fields, of the same name or of one that C has for it, and the size if the whole structure is declared.
macro_rules! layout {
    (@size $claims:ident $type:ident whole) => {
        $claims.push((concat!("sizeof(struct ", stringify!($type), ")").to_owned(), size_of::<$type>() as u64));
    };
    (@size $claims:ident $type:ident front) => {};
    (@field $type:ident $field:ident as $there:literal) => {
        (format!("offsetof(struct {}, {})", stringify!($type), $there), offset_of!($type, $field) as u64)
    };
    (@field $type:ident $field:ident) => {
        (format!("offsetof(struct {}, {})", stringify!($type), stringify!($field)), offset_of!($type, $field) as u64)
    };
    ($claims:ident: $how:ident $type:ident { $($field:ident $(as $there:literal)?),* $(,)? }) => {
        layout!(@size $claims $type $how);
        $($claims.push(layout!(@field $type $field $(as $there)?));)*
    };
}

fn claims() -> Claims {
    let mut claims = Claims::new();
    constants!(claims: IBV_DEVICE_MEM_WINDOW_TYPE_2A, IBV_DEVICE_MEM_WINDOW_TYPE_2B, IBV_PORT_ACTIVE);
    constants!(claims: IBV_MTU_256, IBV_MTU_512, IBV_MTU_1024, IBV_MTU_2048, IBV_MTU_4096);
    constants!(claims: IBV_LINK_LAYER_INFINIBAND, IBV_LINK_LAYER_ETHERNET);
    constants!(claims: IBV_GID_TYPE_IB, IBV_GID_TYPE_ROCE_V1, IBV_GID_TYPE_ROCE_V2);
    constants!(claims: IBV_EVENT_CQ_ERR, IBV_EVENT_QP_FATAL, IBV_EVENT_QP_REQ_ERR, IBV_EVENT_QP_ACCESS_ERR);
    constants!(claims: IBV_EVENT_DEVICE_FATAL, IBV_EVENT_PORT_ACTIVE, IBV_EVENT_PORT_ERR);
    constants!(claims: IBV_WC_SUCCESS, IBV_WC_LOC_LEN_ERR, IBV_WC_LOC_QP_OP_ERR, IBV_WC_LOC_PROT_ERR);
    constants!(claims: IBV_WC_WR_FLUSH_ERR, IBV_WC_MW_BIND_ERR, IBV_WC_LOC_ACCESS_ERR, IBV_WC_REM_INV_REQ_ERR);
    constants!(claims: IBV_WC_REM_ACCESS_ERR, IBV_WC_REM_OP_ERR, IBV_WC_RETRY_EXC_ERR, IBV_WC_RNR_RETRY_EXC_ERR);
    constants!(claims: IBV_WC_FATAL_ERR, IBV_WC_RESP_TIMEOUT_ERR);
    constants!(claims: IBV_ACCESS_LOCAL_WRITE, IBV_ACCESS_REMOTE_WRITE, IBV_ACCESS_REMOTE_READ, IBV_ACCESS_MW_BIND);
    constants!(claims: IBV_MW_TYPE_2, IBV_QPT_RC, IBV_QPS_INIT, IBV_QPS_RTR, IBV_QPS_RTS, IBV_QPS_ERR);
    constants!(claims: IBV_QP_STATE, IBV_QP_ACCESS_FLAGS, IBV_QP_PKEY_INDEX, IBV_QP_PORT, IBV_QP_AV);
    constants!(claims: IBV_QP_PATH_MTU, IBV_QP_TIMEOUT, IBV_QP_RETRY_CNT, IBV_QP_RNR_RETRY, IBV_QP_RQ_PSN);
    constants!(claims: IBV_QP_MAX_QP_RD_ATOMIC, IBV_QP_MIN_RNR_TIMER, IBV_QP_SQ_PSN, IBV_QP_MAX_DEST_RD_ATOMIC);
    constants!(claims: IBV_QP_DEST_QPN, IBV_WR_RDMA_WRITE, IBV_WR_RDMA_WRITE_WITH_IMM, IBV_WR_SEND, IBV_WR_RDMA_READ, IBV_WR_LOCAL_INV, IBV_WR_BIND_MW);
    constants!(claims: IBV_SEND_SIGNALED, IBV_WC_BIND_MW, IBV_WC_LOCAL_INV, IBV_WC_RECV, IBV_WC_RECV_RDMA_WITH_IMM, IBV_WC_WITH_IMM);
    layout!(claims: whole ibv_device_attr {
        fw_ver, node_guid, max_mr_size, page_size_cap, vendor_id, vendor_part_id, hw_ver, max_qp, max_qp_wr,
        device_cap_flags, max_sge, max_sge_rd, max_cq, max_cqe, max_mr, max_pd, max_qp_rd_atom,
        max_qp_init_rd_atom, atomic_cap, max_mw, max_srq_sge, max_pkeys, local_ca_ack_delay, phys_port_cnt,
    });
    // Not whole: see the declaration.
    layout!(claims: front ibv_port_attr {
        state, max_mtu, active_mtu, gid_tbl_len, port_cap_flags, max_msg_sz, pkey_tbl_len, lid, sm_lid, lmc,
        active_width, active_speed, phys_state, link_layer, flags, port_cap_flags2,
    });
    layout!(claims: whole ibv_gid_entry { gid, gid_index, port_num, gid_type, ndev_ifindex });
    layout!(claims: whole ibv_async_event { element, event_type });
    layout!(claims: whole ibv_wc {
        wr_id, status, opcode, vendor_err, byte_len, imm_data, qp_num, src_qp, wc_flags, pkey_index, slid, sl,
        dlid_path_bits,
    });
    layout!(claims: whole ibv_pd { context, handle });
    layout!(claims: whole ibv_mr { context, pd, addr, length, handle, lkey, rkey });
    layout!(claims: whole ibv_mw { context, pd, rkey, handle, r#type as "type" });
    layout!(claims: whole ibv_mw_bind_info { mr, addr, length, mw_access_flags });
    layout!(claims: whole ibv_comp_channel { context, fd, refcnt });
    layout!(claims: front ibv_cq { context, channel, cq_context, handle, cqe });
    layout!(claims: front ibv_qp { context, qp_context, pd, send_cq, recv_cq, srq, handle, qp_num, state, qp_type });
    layout!(claims: whole ibv_qp_cap {
        max_send_wr, max_recv_wr, max_send_sge, max_recv_sge, max_inline_data,
    });
    layout!(claims: whole ibv_qp_init_attr { qp_context, send_cq, recv_cq, srq, cap, qp_type, sq_sig_all });
    layout!(claims: whole ibv_global_route { dgid, flow_label, sgid_index, hop_limit, traffic_class });
    layout!(claims: whole ibv_ah_attr { grh, dlid, sl, src_path_bits, static_rate, is_global, port_num });
    layout!(claims: whole ibv_qp_attr {
        qp_state, cur_qp_state, path_mtu, path_mig_state, qkey, rq_psn, sq_psn, dest_qp_num, qp_access_flags, cap,
        ah_attr, alt_ah_attr, pkey_index, alt_pkey_index, en_sqd_async_notify, sq_draining, max_rd_atomic,
        max_dest_rd_atomic, min_rnr_timer, port_num, timeout, retry_cnt, rnr_retry, alt_port_num, alt_timeout,
        rate_limit,
    });
    layout!(claims: whole ibv_sge { addr, length, lkey });
    layout!(claims: whole ibv_send_wr {
        wr_id, next, sg_list, num_sge, opcode, send_flags, invalidate_rkey,
        rdma as "wr.rdma.remote_addr", remote_srqn as "qp_type.xrc.remote_srqn", bind_mw as "bind_mw.mw",
    });
    layout!(claims: whole ibv_recv_wr { wr_id, next, sg_list, num_sge });
    claims.push((
        "offsetof(struct ibv_send_wr, wr.rdma.rkey)".to_owned(),
        offset_of!(ibv_send_wr, rdma.rkey) as u64,
    ));
    claims.push((
        "offsetof(struct ibv_send_wr, bind_mw.rkey)".to_owned(),
        offset_of!(ibv_send_wr, bind_mw.rkey) as u64,
    ));
    claims.push((
        "offsetof(struct ibv_send_wr, bind_mw.bind_info)".to_owned(),
        offset_of!(ibv_send_wr, bind_mw.bind_info) as u64,
    ));
    layout!(claims: whole ibv_context_ops { alloc_mw, dealloc_mw, poll_cq, req_notify_cq, post_send, post_recv });
    layout!(claims: front ibv_context { device, ops, cmd_fd, async_fd, num_comp_vectors });
    claims
}

/// What the C compiler makes of the expressions; the reason if there is no compiler or no header.
fn compiled(claims: &Claims) -> Result<Vec<u64>, String> {
    let directory = tempfile::tempdir().expect("a temporary directory can be made");
    let (source, program) = (directory.path().join("abi.c"), directory.path().join("abi"));
    let mut text = String::from(
        "#include <stddef.h>\n#include <stdio.h>\n#include <infiniband/verbs.h>\nint main(void) {\n",
    );
    for (expression, _) in claims {
        writeln!(text, "  printf(\"%llu\\n\", (unsigned long long)({expression}));").expect("a string grows");
    }
    text.push_str("  return 0;\n}\n");
    std::fs::write(&source, text).expect("the source can be written");
    let include = "#include <infiniband/verbs.h>\n";
    let header = directory.path().join("header.c");
    std::fs::write(&header, include).expect("the source can be written");
    let compiler = |arguments: &[&std::path::Path]| Command::new("cc").args(arguments).output();
    match compiler(&["-fsyntax-only".as_ref(), &header]) {
        Err(error) => return Err(format!("there is no C compiler: {error}")),
        Ok(done) if !done.status.success() => {
            return Err("<infiniband/verbs.h> is not installed (Debian package libibverbs-dev)".to_owned());
        }
        Ok(_) => {}
    }
    let done = compiler(&["-o".as_ref(), &program, &source]).expect("it ran before");
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    let done = Command::new(&program).output().expect("what was just compiled runs");
    let lines = String::from_utf8(done.stdout).expect("numbers");
    Ok(lines.lines().map(|line| line.parse().expect("a number")).collect())
}

#[test]
fn declarations_are_those_of_the_header() {
    // Shows that every size, offset and constant is what a C program would use.
    let claims = claims();
    let values = match compiled(&claims) {
        Ok(values) => values,
        Err(reason) => return skipped("rdma::abi_tests::declarations_are_those_of_the_header", &reason),
    };
    assert_eq!(values.len(), claims.len());
    let wrong: Vec<_> = claims.iter().zip(values).filter(|((_, ours), theirs)| ours != theirs).collect();
    assert!(wrong.is_empty(), "(expression, ours), the header's: {wrong:#?}");
}

/// Says that a test did not run, on the screen and in the list that `cargo xtask test` counts.
fn skipped(test: &str, reason: &str) {
    println!("skipped: {test}: {reason}");
    if let Some(log) = std::env::var_os("CROSSDOCK_SKIP_LOG") {
        let mut log =
            OpenOptions::new().append(true).create(true).open(log).expect("the list can be written");
        writeln!(log, "{test}: {reason}").expect("the list can be written");
    }
}
