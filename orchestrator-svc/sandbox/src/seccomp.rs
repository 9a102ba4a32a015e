//! Refuses system calls that no MCP server requires and that are used to escape from sandboxes.

use std::{collections::BTreeMap, env::consts::ARCH, os::fd::OwnedFd};

use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen::Dword, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule,
    TargetArch, apply_filter, sock_filter,
};

use crate::{
    condition::{Error, masked},
    sockets::{self, Listens},
    spec::Confinement,
    sys,
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
    // Keys of the user, which no namespace separates.
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
    // Access to files that bypasses Landlock's paths.
    libc::SYS_open_by_handle_at,
    libc::SYS_name_to_handle_at,
    libc::SYS_fanotify_init,
    // The clock, and the scheduling of other processes.
    libc::SYS_clock_settime,
    libc::SYS_clock_adjtime,
    libc::SYS_migrate_pages,
];
/// Calls that set limits, scheduling or priority of any process of the same user, and the index of the argument that names the process; 0 is
/// the caller. Landlock does not control them.
const OF_OTHERS: [(libc::c_long, u8); 7] = [
    (libc::SYS_prlimit64, 0),
    (libc::SYS_sched_setaffinity, 0),
    (libc::SYS_sched_setscheduler, 0),
    (libc::SYS_sched_setparam, 0),
    (libc::SYS_sched_setattr, 0),
    (libc::SYS_setpriority, 1),
    (libc::SYS_ioprio_set, 1),
];
/// The calls that can set it for all processes of a user, depending on their first argument.
const OF_USERS: [(libc::c_long, u64); 2] = [
    (libc::SYS_setpriority, libc::PRIO_USER as u64),
    (libc::SYS_ioprio_set, IOPRIO_WHO_USER),
];
/// A value of ioprio_set(2) that libc does not define.
const IOPRIO_WHO_USER: u64 = 3;
/// Calls that set the mode of a file, the index of the mode, and the index of the flags that say whether the mode is used. A set-user-ID file
/// would outlive the sandbox.
const MODES: &[(libc::c_long, u8, Option<u8>)] = &[
    (libc::SYS_fchmod, 1, None),
    (libc::SYS_fchmodat, 2, None),
    (SYS_FCHMODAT2, 2, None),
    (libc::SYS_mknodat, 2, None),
    (libc::SYS_openat, 3, Some(2)),
    #[cfg(target_arch = "x86_64")]
    (libc::SYS_chmod, 1, None),
    #[cfg(target_arch = "x86_64")]
    (libc::SYS_mknod, 1, None),
    #[cfg(target_arch = "x86_64")]
    (libc::SYS_open, 2, Some(1)),
    #[cfg(target_arch = "x86_64")]
    (libc::SYS_creat, 1, None),
];
/// The flags of open(2) with which the mode is used: those that create a file, with or without a name.
const MAKES: [libc::c_int; 2] = [libc::O_CREAT, libc::O_TMPFILE];
/// Calls that libc does not define yet; the numbers are the same on all architectures.
const SYS_FCHMODAT2: libc::c_long = 452;
/// Refused with ENOSYS, as by a kernel without them: language runtimes then use older calls, whose arguments a filter can see.
const UNKNOWN: [libc::c_long; 5] = [
    libc::SYS_clone3,
    // The mode is in memory, which a filter does not see.
    libc::SYS_openat2,
    libc::SYS_io_uring_setup,
    libc::SYS_io_uring_enter,
    libc::SYS_io_uring_register,
];
/// The flags of clone(2) that create namespaces.
const NAMESPACES: [libc::c_int; 7] = [
    libc::CLONE_NEWUSER,
    libc::CLONE_NEWNS,
    libc::CLONE_NEWPID,
    libc::CLONE_NEWNET,
    libc::CLONE_NEWIPC,
    libc::CLONE_NEWUTS,
    libc::CLONE_NEWCGROUP,
];
/// A request of ioctl(2) that types into a terminal as its user.
const TIOCSTI: u64 = 0x5412;
/// A request of ioctl(2) that does the same on a console.
const TIOCLINUX: u64 = 0x541C;

/// BPF: loads a word of the data to filter, of which the call's number is the first.
const LOAD_NUMBER: u16 = 0x20;
/// An instruction of BPF.
const JUMP_IF_EQUAL: u16 = 0x15;
/// An instruction of BPF.
const JUMP_IF_AT_LEAST: u16 = 0x35;
/// An instruction of BPF.
const RETURN: u16 = 0x06;

/// Filters the calls of this thread and of everything that it starts, permanently. Requires `no_new_privs`.
///
/// If it returns a descriptor, calls of listen(2) wait until they are [answered](crate::listening::answer) there.
#[must_use = "listen(2) fails if nothing answers"]
pub(crate) fn apply(confinement: &Confinement) -> Result<Option<OwnedFd>, Error> {
    let arch: TargetArch = ARCH.try_into()?;
    let mut refused: BTreeMap<i64, Vec<SeccompRule>> = REFUSED.iter().map(|&call| (call, Vec::new())).collect();
    let mut namespaces = Vec::new();
    for kind in NAMESPACES {
        let bit = u64::from(kind.cast_unsigned());
        namespaces.push(SeccompRule::new(vec![masked(0, bit)?])?);
    }
    refused.insert(libc::SYS_clone, namespaces);
    refused.insert(
        libc::SYS_ioctl,
        vec![
            SeccompRule::new(vec![SeccompCondition::new(1, Dword, SeccompCmpOp::Eq, TIOCSTI)?])?,
            SeccompRule::new(vec![SeccompCondition::new(1, Dword, SeccompCmpOp::Eq, TIOCLINUX)?])?,
        ],
    );
    refused.insert(
        libc::SYS_socket,
        sockets::families(confinement.layers.scopes_unix_sockets())?,
    );
    for (call, user) in OF_USERS {
        let rule = SeccompRule::new(vec![SeccompCondition::new(0, Dword, SeccompCmpOp::Eq, user)?])?;
        refused.entry(call).or_default().push(rule);
    }
    // In a process namespace, no other processes can be named, and libraries may name their own threads.
    if !confinement.layers.namespaces {
        for (call, process) in OF_OTHERS {
            let rule = SeccompRule::new(vec![SeccompCondition::new(process, Dword, SeccompCmpOp::Ne, 0)?])?;
            refused.entry(call).or_default().push(rule);
        }
    }
    for &(call, mode, flags) in MODES {
        let rules = refused.entry(call).or_default();
        for bit in [libc::S_ISUID, libc::S_ISGID] {
            let set = masked(mode, u64::from(bit))?;
            match flags {
                None => rules.push(SeccompRule::new(vec![set])?),
                Some(flags) => {
                    for makes in MAKES {
                        let makes = masked(flags, u64::from(makes.cast_unsigned()))?;
                        rules.push(SeccompRule::new(vec![set.clone(), makes])?);
                    }
                }
            }
        }
    }
    filter(refused, libc::EPERM, arch)?;
    filter(sockets::protocols(confinement)?, libc::EPROTONOSUPPORT, arch)?;
    filter(sockets::connects(confinement)?, libc::EOPNOTSUPP, arch)?;
    let unknown = UNKNOWN.iter().map(|&call| (call, Vec::new())).collect();
    filter(unknown, libc::ENOSYS, arch)?;
    if cfg!(target_arch = "x86_64") {
        apply_filter(&without_x32())?;
    }
    match Listens::of(confinement) {
        Listens::Always => Ok(None),
        Listens::Asks => sys::filter_that_asks(&asks_to_listen()).map(Some).map_err(Error::Asks),
        Listens::Never => {
            filter([(libc::SYS_listen, Vec::new())].into(), libc::EACCES, arch)?;
            Ok(None)
        }
    }
}

fn filter(calls: BTreeMap<i64, Vec<SeccompRule>>, errno: libc::c_int, arch: TargetArch) -> Result<(), Error> {
    let refuse = SeccompAction::Errno(errno.cast_unsigned());
    let program: BpfProgram = SeccompFilter::new(calls, SeccompAction::Allow, refuse, arch)?.try_into()?;
    Ok(apply_filter(&program)?)
}

/// The other filters check the architecture.
fn asks_to_listen() -> [libc::sock_filter; 4] {
    let step = |code, jt, jf, k| libc::sock_filter { code, jt, jf, k };
    [
        step(LOAD_NUMBER, 0, 0, 0),
        step(JUMP_IF_EQUAL, 0, 1, libc::SYS_listen as u32),
        step(RETURN, 0, 0, libc::SECCOMP_RET_USER_NOTIF),
        step(RETURN, 0, 0, libc::SECCOMP_RET_ALLOW),
    ]
}

/// The x32 interface has the same architecture but other numbers, which would pass a filter that lists what is refused.
fn without_x32() -> BpfProgram {
    const X32: u32 = 0x4000_0000;
    let step = |code, jt, jf, k| sock_filter { code, jt, jf, k };
    vec![
        step(LOAD_NUMBER, 0, 0, 0),
        step(JUMP_IF_AT_LEAST, 0, 1, X32),
        step(RETURN, 0, 0, libc::SECCOMP_RET_ERRNO | libc::ENOSYS.cast_unsigned()),
        step(RETURN, 0, 0, libc::SECCOMP_RET_ALLOW),
    ]
}
