//! Sets aside what a server has put where a file of its entry belongs: its folder is kept, so it could never be started again otherwise.

use std::{
    fs, io,
    os::{fd::AsRawFd as _, unix::fs::OpenOptionsExt as _},
    path::{Component, Path, PathBuf},
};

use nix::fcntl::OFlag;

use super::removal::{Removal, open_up};

/// Sets aside a folder at the path of a file, and anything but a folder at the path of a folder around it. Opens folders to this user. The
/// bridge, which writes the file, replaces anything else.
///
/// No link is followed, even if a process that was left over puts one there meanwhile. `file` is relative to `work`; the bridge refuses any
/// other path.
pub(super) fn set_aside(work: &Path, file: &str, removal: &Removal) -> io::Result<()> {
    let mut names: Vec<_> = Path::new(file)
        .components()
        .filter_map(|component| match component {
            Component::Normal(name) => Some(name),
            _ => None,
        })
        .collect();
    let Some(name) = names.pop() else { return Ok(()) };
    let mut folder = open(work)?;
    for step in names {
        let path = inside(&folder).join(step);
        match open_up(&path) {
            Ok(()) => folder = open(&path)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) if error.kind() == io::ErrorKind::NotADirectory => return removal.remove(&path),
            Err(error) => return Err(error),
        }
    }
    let path = inside(&folder).join(name);
    match fs::symlink_metadata(&path) {
        Ok(found) if found.is_dir() => removal.remove(&path),
        _ => Ok(()),
    }
}

fn open(path: &Path) -> io::Result<fs::File> {
    let flags = OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_DIRECTORY;
    fs::File::options().read(true).custom_flags(flags.bits()).open(path)
}

/// The path of an open folder, whatever is moved or replaced.
fn inside(folder: &fs::File) -> PathBuf {
    format!("/proc/self/fd/{}", folder.as_raw_fd()).into()
}
