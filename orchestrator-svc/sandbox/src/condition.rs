//! What the filters of system calls have in common.

use std::io;

use seccompiler::{SeccompCmpArgLen::Dword, SeccompCmpOp, SeccompCondition};

/// Why there is no filter.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// This processor is not known.
    #[error("{0}")]
    Backend(#[from] seccompiler::BackendError),
    /// The kernel refuses.
    #[error("{0}")]
    Kernel(#[from] seccompiler::Error),
    /// It refuses the filter of listen(2) alone: a container may have one that asks already, and the kernel takes one.
    #[error("no filter that asks: {0}")]
    Asks(io::Error),
}

/// All bits of a mask are set in an argument.
pub(crate) fn masked(argument: u8, mask: u64) -> Result<SeccompCondition, Error> {
    Ok(SeccompCondition::new(
        argument,
        Dword,
        SeccompCmpOp::MaskedEq(mask),
        mask,
    )?)
}
