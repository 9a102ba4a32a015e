//! System calls that no library offers safely. Each is one call.

#![expect(
    unsafe_code,
    reason = "the system calls of a sandbox have no safe wrapper; each function here makes one"
)]

use std::{
    ffi::CStr,
    io,
    os::fd::{FromRawFd as _, OwnedFd, RawFd},
    path::Path,
};

use nix::{
    NixPath as _,
    unistd::{ForkResult, Pid},
};

/// Of mount_setattr(2).
pub(crate) const READ_ONLY: u64 = libc::MOUNT_ATTR_RDONLY;
/// Of mount_setattr(2).
pub(crate) const NO_SUID: u64 = libc::MOUNT_ATTR_NOSUID;
/// Of mount_setattr(2).
pub(crate) const NO_DEVICES: u64 = libc::MOUNT_ATTR_NODEV;

fn checked(result: libc::c_long) -> io::Result<libc::c_long> {
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(result)
}

/// Takes over a descriptor that this program was started with.
///
/// The caller names one that nothing else in the process has taken.
pub(crate) fn inherited(descriptor: RawFd) -> OwnedFd {
    // SAFETY: it was opened for this program by its parent, and is taken once, before anything else runs.
    unsafe { OwnedFd::from_raw_fd(descriptor) }
}

/// Goes on twice, as fork(2), the second time in new namespaces and as a child of this process's parent. `None`: in the child.
pub(crate) fn clone_as_sibling(namespaces: libc::c_int) -> io::Result<Option<Pid>> {
    let flags = namespaces | libc::CLONE_PARENT;
    // SAFETY: without a stack of its own the child goes on with a copy of this one; the launcher has one thread, so that no lock is held.
    let pid = checked(unsafe { libc::syscall(libc::SYS_clone, libc::c_long::from(flags), 0, 0, 0, 0) })?;
    Ok((pid > 0).then(|| Pid::from_raw(pid as libc::pid_t)))
}

/// Goes on twice, see fork(2). `None`: in the child.
pub(crate) fn fork() -> io::Result<Option<Pid>> {
    // SAFETY: the launcher has one thread, so that no lock is held.
    match unsafe { nix::unistd::fork() }? {
        ForkResult::Parent { child } => Ok(Some(child)),
        ForkResult::Child => Ok(None),
    }
}

/// Closes all descriptors but standard input, output and error at the next exec.
pub(crate) fn close_all_on_exec() -> io::Result<()> {
    // SAFETY: a system call without pointers.
    checked(unsafe { libc::syscall(libc::SYS_close_range, 3, libc::c_uint::MAX, libc::CLOSE_RANGE_CLOEXEC) })?;
    Ok(())
}

/// Sets attributes of what is mounted at a path, and of all mounts below it where `recursive`.
pub(crate) fn set_mount_attributes(path: &Path, attributes: u64, recursive: bool) -> io::Result<()> {
    // SAFETY: all zero is a value of it.
    let mut wanted: libc::mount_attr = unsafe { std::mem::zeroed() };
    wanted.attr_set = attributes;
    let flags = if recursive { libc::AT_RECURSIVE } else { 0 };
    path.with_nix_path(|path: &CStr| {
        // SAFETY: the path and the attributes outlive the call, which only reads them, in the length that is told.
        checked(unsafe {
            libc::syscall(
                libc::SYS_mount_setattr,
                libc::AT_FDCWD,
                path.as_ptr(),
                flags,
                &raw const wanted,
                size_of::<libc::mount_attr>(),
            )
        })
    })??;
    Ok(())
}

/// The version of Landlock's interface that the kernel has; 0: none.
pub(crate) fn landlock_version() -> u8 {
    const VERSION: libc::c_uint = 1;
    // SAFETY: asked for its version, the call takes no rules.
    let version = unsafe { libc::syscall(libc::SYS_landlock_create_ruleset, std::ptr::null::<u8>(), 0, VERSION) };
    u8::try_from(version).unwrap_or(0)
}
