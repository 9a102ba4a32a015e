//! Reads what a fetch made. Code of others may have been at work there.

use std::{
    fs,
    io::{self, Read as _},
    path::{Path, PathBuf},
};

use nix::{
    fcntl::{OFlag, open},
    sys::stat::Mode,
};

/// A folder in what a fetch made, without going by links: scripts of packages may have left one to anywhere.
pub(super) fn inside(folder: &Path, path: &str) -> io::Result<PathBuf> {
    let mut found = folder.to_owned();
    for part in path.split('/') {
        found.push(part);
        if !fs::symlink_metadata(&found)?.is_dir() {
            return Err(io::Error::other(format!("{path} is no folder")));
        }
    }
    Ok(found)
}

/// A file that a fetch made, where nothing but a file will do: what scripts of packages left may be a link, or a pipe without end.
pub(super) fn read_made(folder: &Path, name: &str) -> io::Result<Vec<u8>> {
    const LONGEST: u64 = 32 << 20;
    let flags = OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
    let file = fs::File::from(open(&folder.join(name), flags, Mode::empty())?);
    if !file.metadata()?.is_file() {
        return Err(io::Error::other(format!("{name} is no file")));
    }
    let mut content = Vec::new();
    file.take(LONGEST + 1).read_to_end(&mut content)?;
    if content.len() as u64 > LONGEST {
        return Err(io::Error::other(format!("{name} is too long")));
    }
    Ok(content)
}
