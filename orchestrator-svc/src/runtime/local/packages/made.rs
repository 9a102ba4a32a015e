//! Reads files that a fetch created, which third-party code may have changed.

use std::{
    fs,
    io::{self, Read as _},
    path::{Path, PathBuf},
};

use nix::{
    fcntl::{OFlag, open},
    sys::stat::Mode,
};

/// A folder inside a tree. Fails if a step of the path is a symbolic link, which an installation script could have created.
pub(super) fn inside(folder: &Path, path: &str) -> io::Result<PathBuf> {
    let mut found = folder.to_owned();
    for part in path.split('/') {
        found.push(part);
        if !fs::symlink_metadata(&found)?.is_dir() {
            return Err(io::Error::other(format!("{path} is not a folder")));
        }
    }
    Ok(found)
}

/// The content of a file that a fetch created. Fails if it is not a regular file: an installation script could have created a symbolic link or
/// an endless pipe.
pub(super) fn read_made(folder: &Path, name: &str) -> io::Result<Vec<u8>> {
    const LONGEST: u64 = 32 << 20;
    let flags = OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
    let file = fs::File::from(open(&folder.join(name), flags, Mode::empty())?);
    if !file.metadata()?.is_file() {
        return Err(io::Error::other(format!("{name} is not a regular file")));
    }
    let mut content = Vec::new();
    file.take(LONGEST + 1).read_to_end(&mut content)?;
    if content.len() as u64 > LONGEST {
        return Err(io::Error::other(format!("{name} is too long")));
    }
    Ok(content)
}
