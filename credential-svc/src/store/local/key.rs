//! The folder of the store, and the keys in it.

use std::{
    fs::{self, DirBuilder},
    os::unix::fs::{DirBuilderExt as _, PermissionsExt as _},
    path::Path,
};

use zeroize::Zeroizing;

use super::OpenError;

/// A key, wiped when dropped.
pub(super) type Key = Zeroizing<[u8; 32]>;

/// Makes the data directory if it is not there, and refuses one that others may write to.
pub(super) fn check_directory(directory: &Path) -> Result<(), OpenError> {
    let name = || directory.display().to_string();
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(directory)
        .map_err(|error| OpenError::io(&name(), error))?;
    let metadata = fs::metadata(directory).map_err(|error| OpenError::io(&name(), error))?;
    if !metadata.is_dir() || metadata.permissions().mode() & 0o022 != 0 {
        return Err(OpenError::Unsafe {
            path: name(),
            remedy: "only its owner may write to it: chmod go-w",
        });
    }
    Ok(())
}
