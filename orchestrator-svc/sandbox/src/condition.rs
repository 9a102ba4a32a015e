//! What the system call filters share.

use std::io;

use seccompiler::{SeccompCmpArgLen::Dword, SeccompCmpOp, SeccompCondition};

/// Why a filter could not be installed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// The processor architecture is not supported.
    #[error("{0}")]
    Backend(#[from] seccompiler::BackendError),
    /// The kernel refused the filter.
    #[error("{0}")]
    Kernel(#[from] seccompiler::Error),
    /// The kernel refused only the filter with user notification for listen(2). It accepts one such filter, and a container may have it
    /// already.
    #[error("no filter with user notification: {0}")]
    Asks(io::Error),
}

/// Matches if all bits of a mask are set in an argument.
pub(crate) fn masked(argument: u8, mask: u64) -> Result<SeccompCondition, Error> {
    Ok(SeccompCondition::new(
        argument,
        Dword,
        SeccompCmpOp::MaskedEq(mask),
        mask,
    )?)
}
