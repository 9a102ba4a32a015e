//! The folder of the store.

use std::{
    fs::{self, DirBuilder},
    os::unix::fs::{DirBuilderExt as _, PermissionsExt as _},
    path::Path,
};

use super::error::OpenError;

/// Makes the data folder if it is not there, and refuses one that others may write to.
pub(super) fn check(folder: &Path) -> Result<(), OpenError> {
    let name = || folder.display().to_string();
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(folder)
        .map_err(|error| OpenError::io(&name(), error))?;
    let metadata = fs::metadata(folder).map_err(|error| OpenError::io(&name(), error))?;
    if !metadata.is_dir() || metadata.permissions().mode() & 0o022 != 0 {
        return Err(OpenError::Unsafe {
            path: name(),
            remedy: "only its owner may write to it: chmod go-w",
        });
    }
    Ok(())
}
