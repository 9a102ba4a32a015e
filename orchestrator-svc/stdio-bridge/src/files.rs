//! Files that a server finds when it starts. What it, or another process of it, has put where they belong is set aside: its folder is kept, so it
//! could never be started again otherwise.

use std::{
    ffi::OsStr,
    fs,
    io::{self, Read as _, Write as _},
    os::{
        fd::{AsRawFd as _, OwnedFd},
        unix::fs::{MetadataExt as _, PermissionsExt as _},
    },
    path::{Component, Path, PathBuf},
    sync::atomic::{AtomicU64, Ordering},
};

use nix::{
    errno::Errno,
    fcntl::{AT_FDCWD, OFlag, open, openat, renameat},
    sys::stat::{Mode, mkdirat},
    unistd::{UnlinkatFlags, unlinkat},
};

use crate::{
    event::EndReason,
    process::StartError,
    spec::{File, Spec},
};

/// A server's folder. The server can write to it at the same time, so symbolic links in it are never followed.
pub(crate) struct Folder {
    folder: OwnedFd,
    /// What is set aside gets this path, with a number behind it.
    aside: PathBuf,
    set_aside: AtomicU64,
}

/// All permissions of a folder's owner.
const OWNER: u32 = 0o700;

const FOLDER: OFlag = OFlag::O_PATH
    .union(OFlag::O_DIRECTORY)
    .union(OFlag::O_NOFOLLOW)
    .union(OFlag::O_CLOEXEC);

impl Folder {
    /// For the process of this number.
    pub(crate) fn open(spec: &Spec, process: u64) -> io::Result<Self> {
        // No other bridge has a socket of this name.
        let bridge = spec.socket.file_name().unwrap_or_default().to_string_lossy();
        Ok(Self {
            folder: open(&spec.working_folder, FOLDER, Mode::empty())?,
            aside: spec.aside.join(format!("{bridge}-{process}")),
            set_aside: AtomicU64::new(0),
        })
    }

    /// Writes a file that only this user can read. One that is there is kept if it is the same: another process of the server may be reading it.
    pub(crate) fn write(&self, file: &File) -> io::Result<()> {
        let (parent, name) = self.parent(&file.path, true)?;
        if holds(&parent, &name, file.content.as_bytes()).unwrap_or(false) {
            return Ok(());
        }
        // Created again, so that neither the mode of an old file nor a link has an effect.
        match unlinkat(&parent, &name, UnlinkatFlags::NoRemoveDir) {
            Ok(()) | Err(Errno::ENOENT) => {}
            Err(Errno::EISDIR) => self.set_aside(&parent, name.as_os_str())?,
            Err(error) => return Err(error.into()),
        }
        let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let made = openat(&parent, &name, flags, Mode::S_IRUSR | Mode::S_IWUSR)?;
        std::fs::File::from(made).write_all(file.content.as_bytes())
    }

    /// Removes a file.
    pub(crate) fn remove(&self, path: &str) -> io::Result<()> {
        let (parent, name) = self.parent(path, false)?;
        Ok(unlinkat(&parent, &name, UnlinkatFlags::NoRemoveDir)?)
    }

    /// The folder of a path inside this folder, and the name in it.
    fn parent(&self, path: &str, make: bool) -> io::Result<(OwnedFd, PathBuf)> {
        let leaves = || io::Error::new(io::ErrorKind::InvalidInput, "it leaves the server's folder");
        let mut names = Vec::new();
        for component in Path::new(path).components() {
            match component {
                Component::Normal(name) => names.push(name),
                Component::CurDir => {}
                _ => return Err(leaves()),
            }
        }
        let name = names.pop().ok_or_else(leaves)?;
        let mut folder = self.folder.try_clone()?;
        for step in names {
            folder = if make {
                self.enter(&folder, step)?
            } else {
                openat(&folder, step, FOLDER, Mode::empty())?
            };
        }
        Ok((folder, name.into()))
    }

    /// A folder in another, in place of anything else that is there.
    fn enter(&self, folder: &OwnedFd, name: &OsStr) -> io::Result<OwnedFd> {
        let enter = || match mkdirat(folder, name, Mode::S_IRWXU) {
            Ok(()) | Err(Errno::EEXIST) => openat(folder, name, FOLDER, Mode::empty()),
            Err(error) => Err(error),
        };
        let inner = match enter() {
            Err(Errno::ENOTDIR | Errno::ELOOP) => {
                self.set_aside(folder, name)?;
                enter()?
            }
            entered => entered?,
        };
        open_up(&inner)?;
        Ok(inner)
    }

    fn set_aside(&self, folder: &OwnedFd, name: &OsStr) -> io::Result<()> {
        // To move a folder changes its `..`, which requires permission to write to it. If this fails, the error of the rename is returned.
        if let Ok(inner) = openat(folder, name, FOLDER, Mode::empty()) {
            let _ = open_up(&inner);
        }
        let number = self.set_aside.fetch_add(1, Ordering::Relaxed);
        let mut aside = self.aside.clone().into_os_string();
        aside.push(format!("-{number}"));
        Ok(renameat(folder, name, AT_FDCWD, aside.as_os_str())?)
    }
}

/// Gives this user all permissions for a folder.
fn open_up(folder: &OwnedFd) -> io::Result<()> {
    // fchmod(2) does not accept an O_PATH descriptor, which is required to open a folder without permissions.
    let opened = format!("/proc/self/fd/{}", folder.as_raw_fd());
    if fs::metadata(&opened)?.mode() & OWNER == OWNER {
        return Ok(());
    }
    fs::set_permissions(opened, fs::Permissions::from_mode(OWNER))
}

/// Whether a file has this content, and is as [`Folder::write`] makes it.
fn holds(folder: &OwnedFd, name: &Path, content: &[u8]) -> io::Result<bool> {
    // A pipe would block.
    let flags = OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
    let file = fs::File::from(openat(folder, name, flags, Mode::empty())?);
    let found = file.metadata()?;
    let is_ours = found.is_file() && found.mode() & 0o7777 == 0o600 && found.nlink() == 1;
    if !is_ours || found.len() != content.len() as u64 {
        return Ok(false);
    }
    let mut present = Vec::with_capacity(content.len());
    file.take(content.len() as u64).read_to_end(&mut present)?;
    Ok(present == content)
}

/// Writes the files of the entry.
pub(crate) fn stage(folder: &Folder, spec: &Spec) -> Result<(), StartError> {
    for file in &spec.files {
        folder.write(file).map_err(|error| {
            let message = format!("cannot write the file {:?}: {error}", file.path);
            StartError::new(EndReason::NotStarted, message)
        })?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::symlink};

    use pretty_assertions::assert_eq;

    use super::*;

    fn file(path: &str) -> File {
        File {
            path: path.to_owned(),
            content: "secret".to_owned(),
            secret: true,
        }
    }

    #[test]
    fn follows_no_link_that_a_server_left() {
        let (own, elsewhere) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let aside = tempfile::tempdir().unwrap();
        let folder = Folder {
            folder: open(own.path(), FOLDER, Mode::empty()).unwrap(),
            aside: aside.path().join("a"),
            set_aside: AtomicU64::new(0),
        };
        folder.write(&file("a/b/key.pem")).unwrap();
        folder.write(&file("./a/b/key.pem")).unwrap();
        assert_eq!(fs::read_to_string(own.path().join("a/b/key.pem")).unwrap(), "secret");
        symlink(elsewhere.path(), own.path().join("conf")).unwrap();
        fs::write(elsewhere.path().join("kept"), "kept").unwrap();
        assert!(folder.remove("conf/kept").is_err());
        folder.write(&file("conf/key.pem")).unwrap();
        assert!(!own.path().join("conf").is_symlink());
        symlink(elsewhere.path().join("kept"), own.path().join("link")).unwrap();
        folder.write(&file("link")).unwrap();
        assert_eq!(fs::read_to_string(elsewhere.path().join("kept")).unwrap(), "kept");
        assert!(!elsewhere.path().join("key.pem").exists());
        for path in ["../x", "/etc/x", "", ".", "a/../../x"] {
            assert!(folder.write(&file(path)).is_err(), "{path}");
        }
        folder.remove("a/b/key.pem").unwrap();
        assert!(!own.path().join("a/b/key.pem").exists());
    }
}
