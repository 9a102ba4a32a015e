//! Wrappers of single system calls for which no library has a safe one.

#![expect(
    unsafe_code,
    reason = "the system calls of a sandbox have no safe wrapper; each function here makes one"
)]

use std::{
    ffi::CStr,
    io,
    os::fd::{AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd, RawFd},
    path::Path,
};

use nix::{
    NixPath as _,
    errno::Errno,
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

/// Takes ownership of a descriptor that this program was started with, or was sent.
///
/// Nothing else in the process may own it.
pub(crate) fn inherited(descriptor: RawFd) -> OwnedFd {
    // SAFETY: another process opened it for this program, and this is its only owner.
    unsafe { OwnedFd::from_raw_fd(descriptor) }
}

/// Like fork(2), with the child in new namespaces and as a child of this process's parent. Returns `None` in the child.
pub(crate) fn clone_as_sibling(namespaces: libc::c_int) -> io::Result<Option<Pid>> {
    let flags = namespaces | libc::CLONE_PARENT;
    // SAFETY: without a stack argument, the child continues with a copy of this stack; the launcher has one thread, so no lock is held.
    let pid = checked(unsafe { libc::syscall(libc::SYS_clone, libc::c_long::from(flags), 0, 0, 0, 0) })?;
    Ok((pid > 0).then(|| Pid::from_raw(pid as libc::pid_t)))
}

/// See fork(2). Returns `None` in the child.
pub(crate) fn fork() -> io::Result<Option<Pid>> {
    // SAFETY: the launcher has one thread, so no lock is held.
    match unsafe { nix::unistd::fork() }? {
        ForkResult::Parent { child } => Ok(Some(child)),
        ForkResult::Child => Ok(None),
    }
}

/// Marks all descriptors except standard input, output and error to be closed at the next exec.
pub(crate) fn close_all_on_exec() -> io::Result<()> {
    // SAFETY: a system call without pointers.
    checked(unsafe { libc::syscall(libc::SYS_close_range, 3, libc::c_uint::MAX, libc::CLOSE_RANGE_CLOEXEC) })?;
    Ok(())
}

/// Sets attributes of the mount at a path, and of all mounts below it if `recursive`.
pub(crate) fn set_mount_attributes(path: &Path, attributes: u64, recursive: bool) -> io::Result<()> {
    // SAFETY: all zero is a value of it.
    let mut wanted: libc::mount_attr = unsafe { std::mem::zeroed() };
    wanted.attr_set = attributes;
    let flags = if recursive { libc::AT_RECURSIVE } else { 0 };
    path.with_nix_path(|path: &CStr| {
        // SAFETY: the path and the attributes outlive the call, which only reads them, within the given length.
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

/// The ABI version of the kernel's Landlock; 0 if it is not available.
pub(crate) fn landlock_version() -> u8 {
    const VERSION: libc::c_uint = 1;
    // SAFETY: with this flag, the call reads no rules and returns the version.
    let version = unsafe { libc::syscall(libc::SYS_landlock_create_ruleset, std::ptr::null::<u8>(), 0, VERSION) };
    u8::try_from(version).unwrap_or(0)
}

/// Filters the calls of this thread and of everything that it starts, permanently. Returns the notification descriptor for [`asked`]: calls
/// for which the filter notifies wait for an [`answer`].
pub(crate) fn filter_that_asks(program: &[libc::sock_filter]) -> io::Result<OwnedFd> {
    let mut sizes = libc::seccomp_notif_sizes {
        seccomp_notif: 0,
        seccomp_notif_resp: 0,
        seccomp_data: 0,
    };
    // SAFETY: the kernel writes the sizes, which outlive the call.
    checked(unsafe { libc::syscall(libc::SYS_seccomp, libc::SECCOMP_GET_NOTIF_SIZES, 0, &raw mut sizes) })?;
    let known = [size_of::<libc::seccomp_notif>(), size_of::<libc::seccomp_notif_resp>()];
    // A kernel with larger structures would write past these.
    if [sizes.seccomp_notif, sizes.seccomp_notif_resp].map(usize::from) != known {
        return Err(Errno::ENOTSUP.into());
    }
    let program = libc::sock_fprog {
        len: u16::try_from(program.len()).map_err(io::Error::other)?,
        filter: program.as_ptr().cast_mut(),
    };
    // SAFETY: the kernel reads as many instructions as the program has, and writes none.
    let asks = checked(unsafe {
        libc::syscall(
            libc::SYS_seccomp,
            libc::SECCOMP_SET_MODE_FILTER,
            libc::SECCOMP_FILTER_FLAG_NEW_LISTENER,
            &raw const program,
        )
    })?;
    // SAFETY: it was made by this call, close-on-exec, and nobody else has it.
    Ok(unsafe { OwnedFd::from_raw_fd(asks as RawFd) })
}

/// Waits for the next notification of a filter.
pub(crate) fn asked(asks: BorrowedFd<'_>) -> io::Result<libc::seccomp_notif> {
    // SAFETY: all zero is a value of it, and what the kernel asks for.
    let mut asked: libc::seccomp_notif = unsafe { std::mem::zeroed() };
    // SAFETY: the kernel writes one, of the size that `filter_that_asks` has compared.
    let result = unsafe { libc::ioctl(asks.as_raw_fd(), libc::SECCOMP_IOCTL_NOTIF_RECV, &raw mut asked) };
    checked(result.into())?;
    Ok(asked)
}

/// Completes a waiting call, with 0 or an error number.
pub(crate) fn answer(asks: BorrowedFd<'_>, id: u64, errno: i32) -> io::Result<()> {
    let mut answer = libc::seccomp_notif_resp {
        id,
        val: 0,
        error: -errno,
        flags: 0,
    };
    // SAFETY: the kernel reads one, of the size that `filter_that_asks` has compared.
    let result = unsafe { libc::ioctl(asks.as_raw_fd(), libc::SECCOMP_IOCTL_NOTIF_SEND, &raw mut answer) };
    checked(result.into())?;
    Ok(())
}

/// Duplicates a descriptor of another process.
pub(crate) fn file_of(process: libc::pid_t, number: RawFd) -> io::Result<OwnedFd> {
    let open = |descriptor: libc::c_long| {
        // SAFETY: it was made by the call before, close-on-exec, and nobody else has it.
        unsafe { OwnedFd::from_raw_fd(descriptor as RawFd) }
    };
    // SAFETY: a system call without pointers.
    let process = open(checked(unsafe { libc::syscall(libc::SYS_pidfd_open, process, 0) })?);
    // SAFETY: a system call without pointers.
    let file = unsafe { libc::syscall(libc::SYS_pidfd_getfd, process.as_raw_fd(), number, 0) };
    Ok(open(checked(file)?))
}

/// listen(2), with any backlog.
pub(crate) fn listen(socket: BorrowedFd<'_>, backlog: libc::c_int) -> io::Result<()> {
    // SAFETY: a system call without pointers.
    checked(unsafe { libc::listen(socket.as_raw_fd(), backlog) }.into())?;
    Ok(())
}
