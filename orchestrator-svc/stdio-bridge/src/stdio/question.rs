//! Whether a server that was asked what it speaks has read the question. Of those that end meanwhile, some do so for it, and others at their start.

use std::{
    os::fd::{AsFd as _, AsRawFd as _, OwnedFd},
    sync::{Mutex, MutexGuard, PoisonError},
};

use nix::libc;
use tokio::process::ChildStdin;

/// The input of a server, until it has answered.
pub(super) struct Question(Mutex<Option<OwnedFd>>);

impl Question {
    pub(super) fn of(stdin: &ChildStdin) -> Self {
        Self(Mutex::new(stdin.as_fd().try_clone_to_owned().ok()))
    }

    /// Notes that it has answered, or is not asked. Its input has no further owner then, which would keep it open.
    pub(super) fn over(&self) {
        self.input().take();
    }

    /// Whether it has read all that was sent, and has not answered.
    pub(super) fn is_read(&self) -> bool {
        self.input().as_ref().is_some_and(|input| unread(input) == Some(0))
    }

    fn input(&self) -> MutexGuard<'_, Option<OwnedFd>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How many bytes a pipe has that nobody has read.
fn unread(pipe: &OwnedFd) -> Option<libc::c_int> {
    let mut bytes = 0;
    #[expect(unsafe_code, reason = "no crate in use wraps it")]
    // SAFETY: the descriptor is open as long as it is borrowed, and the kernel writes one integer.
    let result = unsafe { libc::ioctl(pipe.as_raw_fd(), libc::FIONREAD, &raw mut bytes) };
    (result == 0).then_some(bytes)
}
