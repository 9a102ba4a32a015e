//! Answers listen(2) for a program that may listen on its ports alone, and at its own Unix sockets, which runtimes use among their processes.
//! A filter does not see what a descriptor is: it asks the init, which takes the socket, looks at it, and makes the call itself.
//!
//! What the program does with its descriptors meanwhile changes nothing: the init looks at, and listens with, the one socket that it has taken.
//! Whoever connects to a Unix socket sees the init as the peer.
//!
//! To take a socket is as good as tracing its process, and the kernel allows that less often than listen(2) itself. It fails, closed, in a
//! process that has made itself not dumpable (EPERM), in one whose first thread has ended (ESRCH), and for a thread with a table of
//! descriptors of its own (that of the first thread is looked at). Where it fails for every process, as with kernel.yama.ptrace_scope
//! above 1, the [probe](crate::probe()) finds out, and the init is not asked.

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

/// Enough for what is below.
const STACK: usize = 256 << 10;

/// Hands over where the program will ask. To be called in the process that becomes it.
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

/// Takes what was handed over. `None`: the program does not ask.
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

/// Answers in a thread of its own for as long as the program lives.
pub(crate) fn answer(asks: OwnedFd, ports: Vec<u16>) -> io::Result<()> {
    let answering = move || {
        loop {
            let asked = match sys::asked(asks.as_fd()) {
                Ok(asked) => asked,
                // Whoever asked was interrupted, or has gone.
                Err(error) if matches!(errno(&error), Errno::EINTR | Errno::ENOENT) => continue,
                // Nobody answers from here on, and every listen(2) fails with ENOSYS.
                Err(_) => return,
            };
            let done = listen(asked.pid, asked.data.args, &ports);
            let refusal = done.err().map_or(0, |error| errno(&error) as i32);
            // Fails where whoever asked has gone.
            let _ = sys::answer(asks.as_fd(), asked.id, refusal);
        }
    };
    thread::Builder::new().stack_size(STACK).spawn(answering)?;
    Ok(())
}

/// listen(2) of a thread of the program. Where that ended meanwhile and another has its number, that is the program's as well.
fn listen(thread: u32, [descriptor, backlog, ..]: [u64; 6], ports: &[u16]) -> io::Result<()> {
    // Of integers the kernel takes the lower half.
    let socket = sys::file_of(process_of(thread)?, descriptor as i32)?;
    let address = getsockname::<SockaddrStorage>(socket.as_raw_fd())?;
    // A port that was bound stays: Landlock has looked at it.
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
