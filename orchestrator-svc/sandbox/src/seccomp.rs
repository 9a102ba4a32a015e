//! System calls that no MCP server needs, and that escapes are made of.

use std::{collections::BTreeMap, env::consts::ARCH};

use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen::Dword, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule,
    TargetArch, apply_filter, sock_filter,
};

/// Refused with EPERM.
const REFUSED: [libc::c_long; 43] = [
    // Other processes.
    libc::SYS_ptrace,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_process_madvise,
    libc::SYS_pidfd_getfd,
    libc::SYS_kcmp,
    // The kernel.
    libc::SYS_bpf,
    libc::SYS_perf_event_open,
    libc::SYS_userfaultfd,
    libc::SYS_kexec_load,
    libc::SYS_kexec_file_load,
    libc::SYS_init_module,
    libc::SYS_finit_module,
    libc::SYS_delete_module,
    libc::SYS_reboot,
    libc::SYS_swapon,
    libc::SYS_swapoff,
    libc::SYS_acct,
    libc::SYS_quotactl,
    libc::SYS_syslog,
    libc::SYS_settimeofday,
    // Keys of the user, which are not of any namespace.
    libc::SYS_keyctl,
    libc::SYS_add_key,
    libc::SYS_request_key,
    // Mounts and namespaces.
    libc::SYS_mount,
    libc::SYS_umount2,
    libc::SYS_pivot_root,
    libc::SYS_chroot,
    libc::SYS_move_mount,
    libc::SYS_open_tree,
    libc::SYS_fsopen,
    libc::SYS_fsconfig,
    libc::SYS_fsmount,
    libc::SYS_fspick,
    libc::SYS_mount_setattr,
    libc::SYS_unshare,
    libc::SYS_setns,
    // Files past the paths that Landlock looks at.
    libc::SYS_open_by_handle_at,
    libc::SYS_name_to_handle_at,
    libc::SYS_fanotify_init,
    // Time and scheduling of others.
    libc::SYS_clock_settime,
    libc::SYS_clock_adjtime,
    libc::SYS_migrate_pages,
];
/// Answered as by a kernel that does not have them: runtimes then use older calls, which a filter can look into.
const UNKNOWN: [libc::c_long; 4] = [
    libc::SYS_clone3,
    libc::SYS_io_uring_setup,
    libc::SYS_io_uring_enter,
    libc::SYS_io_uring_register,
];
/// Kinds of namespaces, of clone(2).
const NAMESPACES: [libc::c_int; 7] = [
    libc::CLONE_NEWUSER,
    libc::CLONE_NEWNS,
    libc::CLONE_NEWPID,
    libc::CLONE_NEWNET,
    libc::CLONE_NEWIPC,
    libc::CLONE_NEWUTS,
    libc::CLONE_NEWCGROUP,
];
/// Of ioctl(2): typing into a terminal as its user.
const TIOCSTI: u64 = 0x5412;
/// Of ioctl(2): the same on a console.
const TIOCLINUX: u64 = 0x541C;

/// Why there is no filter.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// This processor is not known.
    #[error("{0}")]
    Backend(#[from] seccompiler::BackendError),
    /// The kernel refuses.
    #[error("{0}")]
    Kernel(#[from] seccompiler::Error),
}

/// Filters the calls of this thread and of all that it starts, for good. Needs `no_new_privs`.
pub(crate) fn apply(unix_sockets: bool) -> Result<(), Error> {
    let arch: TargetArch = ARCH.try_into()?;
    let mut refused: BTreeMap<i64, Vec<SeccompRule>> = REFUSED.iter().map(|&call| (call, Vec::new())).collect();
    let mut namespaces = Vec::new();
    for kind in NAMESPACES {
        let bit = u64::from(kind.cast_unsigned());
        namespaces.push(rule(0, SeccompCmpOp::MaskedEq(bit), bit)?);
    }
    refused.insert(libc::SYS_clone, namespaces);
    refused.insert(
        libc::SYS_ioctl,
        vec![
            rule(1, SeccompCmpOp::Eq, TIOCSTI)?,
            rule(1, SeccompCmpOp::Eq, TIOCLINUX)?,
        ],
    );
    let mut families = vec![libc::AF_INET, libc::AF_INET6, libc::AF_NETLINK];
    if unix_sockets {
        families.push(libc::AF_UNIX);
    }
    let mut others = Vec::new();
    for family in families {
        let family = u64::from(family.cast_unsigned());
        others.push(SeccompCondition::new(0, Dword, SeccompCmpOp::Ne, family)?);
    }
    refused.insert(libc::SYS_socket, vec![SeccompRule::new(others)?]);
    filter(refused, libc::EPERM, arch)?;
    let unknown = UNKNOWN.iter().map(|&call| (call, Vec::new())).collect();
    filter(unknown, libc::ENOSYS, arch)?;
    if cfg!(target_arch = "x86_64") {
        apply_filter(&without_x32())?;
    }
    Ok(())
}

fn rule(argument: u8, operator: SeccompCmpOp, value: u64) -> Result<SeccompRule, Error> {
    Ok(SeccompRule::new(vec![SeccompCondition::new(
        argument, Dword, operator, value,
    )?])?)
}

fn filter(calls: BTreeMap<i64, Vec<SeccompRule>>, errno: libc::c_int, arch: TargetArch) -> Result<(), Error> {
    let refuse = SeccompAction::Errno(errno.cast_unsigned());
    let program: BpfProgram = SeccompFilter::new(calls, SeccompAction::Allow, refuse, arch)?.try_into()?;
    Ok(apply_filter(&program)?)
}

/// The x32 interface has the same architecture and other numbers, which would pass a list of refused ones.
fn without_x32() -> BpfProgram {
    const LOAD_NUMBER: u16 = 0x20;
    const JUMP_IF_AT_LEAST: u16 = 0x35;
    const RETURN: u16 = 0x06;
    const X32: u32 = 0x4000_0000;
    let step = |code, jt, jf, k| sock_filter { code, jt, jf, k };
    vec![
        step(LOAD_NUMBER, 0, 0, 0),
        step(JUMP_IF_AT_LEAST, 0, 1, X32),
        step(RETURN, 0, 0, 0x0005_0000 | libc::ENOSYS.cast_unsigned()),
        step(RETURN, 0, 0, 0x7fff_0000),
    ]
}
