//! Decides listen(2) for a program that may listen only on its TCP ports, and on its own Unix sockets, which language runtimes use between
//! their processes. A seccomp filter does not see what a descriptor refers to. It therefore notifies the init, which duplicates the socket,
//! inspects it, and makes the call itself.
//!
//! The program cannot race the init by replacing its descriptors: the init inspects and uses its own duplicate. A client that connects to such a
//! Unix socket sees the init as the peer.
//!
//! Duplicating a descriptor requires the permission to trace its process. It fails, and the call is refused, for a process that has made itself
//! not dumpable (EPERM), for one whose first thread has ended (ESRCH), and for a thread with a descriptor table of its own (the
//! init sees that of the first thread). If it fails for every process, as with kernel.yama.ptrace_scope above 1, the
//! [probe](crate::probe()) detects that, and the init is not notified.

use std::{
    fs,
    io::{self, IoSlice, IoSliceMut},
    os::{
        fd::{AsFd as _, AsRawFd as _, OwnedFd, RawFd},
        unix::net::UnixStream,
    },
    thread,
};

use nix::{
    cmsg_space,
    errno::Errno,
    sys::socket::{
        AddressFamily, ControlMessage, ControlMessageOwned, MsgFlags, SockaddrLike as _, SockaddrStorage, getsockname,
        recvmsg, sendmsg,
    },
};

use crate::sys;

/// The stack of the thread, in bytes.
const STACK: usize = 256 << 10;

/// Sends the notification descriptor to the init. Called in the process that becomes the program.
pub(crate) fn hand_over(asks: &OwnedFd, to_init: &UnixStream) -> io::Result<()> {
    let descriptors = [asks.as_raw_fd()];
    let control = [ControlMessage::ScmRights(&descriptors)];
    sendmsg::<()>(
        to_init.as_raw_fd(),
        &[IoSlice::new(&[0])],
        &control,
        MsgFlags::empty(),
        None,
    )?;
    Ok(())
}

/// Receives the notification descriptor. `None` if the program's filter has none.
pub(crate) fn take_over(from_program: &UnixStream) -> io::Result<Option<OwnedFd>> {
    let mut byte = [0];
    let mut parts = [IoSliceMut::new(&mut byte)];
    let mut space = cmsg_space!(RawFd);
    let message = recvmsg::<()>(
        from_program.as_raw_fd(),
        &mut parts,
        Some(&mut space),
        MsgFlags::MSG_CMSG_CLOEXEC,
    )?;
    for control in message.cmsgs()? {
        if let ControlMessageOwned::ScmRights(descriptors) = control {
            return Ok(descriptors.first().map(|&descriptor| sys::inherited(descriptor)));
        }
    }
    Ok(None)
}

/// Answers notifications in a thread, until the program has ended.
pub(crate) fn answer(asks: OwnedFd, ports: Vec<u16>) -> io::Result<()> {
    let answering = move || {
        loop {
            let asked = match sys::asked(asks.as_fd()) {
                Ok(asked) => asked,
                // The calling thread was interrupted, or has ended.
                Err(error) if matches!(errno(&error), Errno::EINTR | Errno::ENOENT) => continue,
                // Nothing answers from here on: every listen(2) fails with ENOSYS.
                Err(_) => return,
            };
            let done = listen(asked.pid, asked.data.args, &ports);
            let refusal = done.err().map_or(0, |error| errno(&error) as i32);
            // Fails if the calling thread has ended.
            let _ = sys::answer(asks.as_fd(), asked.id, refusal);
        }
    };
    thread::Builder::new().stack_size(STACK).spawn(answering)?;
    Ok(())
}

/// Carries out listen(2) for a thread of the program. If the thread has ended and its id was reused, the new thread is the program's too.
fn listen(thread: u32, [descriptor, backlog, ..]: [u64; 6], ports: &[u16]) -> io::Result<()> {
    // The kernel uses the lower half of integer arguments.
    let socket = sys::file_of(process_of(thread)?, descriptor as i32)?;
    let address = getsockname::<SockaddrStorage>(socket.as_raw_fd())?;
    // A socket that is bound keeps its port, which Landlock has checked.
    let allowed = match address.family() {
        Some(AddressFamily::Unix) => true,
        Some(AddressFamily::Inet) => address.as_sockaddr_in().is_some_and(|a| ports.contains(&a.port())),
        Some(AddressFamily::Inet6) => address.as_sockaddr_in6().is_some_and(|a| ports.contains(&a.port())),
        _ => false,
    };
    if !allowed {
        return Err(Errno::EACCES.into());
    }
    sys::listen(socket.as_fd(), backlog as i32)
}

fn process_of(thread: u32) -> io::Result<i32> {
    let status = fs::read_to_string(format!("/proc/{thread}/status"))?;
    let process = status.lines().find_map(|line| line.strip_prefix("Tgid:"));
    let process = process.and_then(|number| number.trim().parse().ok());
    process.ok_or_else(|| Errno::ESRCH.into())
}

fn errno(error: &io::Error) -> Errno {
    error.raw_os_error().map_or(Errno::EACCES, Errno::from_raw)
}
