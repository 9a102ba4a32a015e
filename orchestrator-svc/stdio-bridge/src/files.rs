//! Files that a server finds when it starts.

use std::{
    io::{self, Write as _},
    os::fd::OwnedFd,
    path::{Component, Path, PathBuf},
};

use nix::{
    errno::Errno,
    fcntl::{OFlag, open, openat},
    sys::stat::{Mode, mkdirat},
    unistd::{UnlinkatFlags, unlinkat},
};

use crate::spec::File;

/// A server's folder. The server can write to it at the same time, so symbolic links in it are never followed.
pub(crate) struct Folder(OwnedFd);

const FOLDER: OFlag = OFlag::O_PATH
    .union(OFlag::O_DIRECTORY)
    .union(OFlag::O_NOFOLLOW)
    .union(OFlag::O_CLOEXEC);

impl Folder {
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        Ok(Self(open(path, FOLDER, Mode::empty())?))
    }

    /// Writes a file that only this user can read.
    pub(crate) fn write(&self, file: &File) -> io::Result<()> {
        let (parent, name) = self.parent(&file.path, true)?;
        // Created again, so that neither the mode of an old file nor a link has an effect.
        match unlinkat(&parent, &name, UnlinkatFlags::NoRemoveDir) {
            Ok(()) | Err(Errno::ENOENT) => {}
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
        let mut folder = self.0.try_clone()?;
        for step in names {
            if make {
                match mkdirat(&folder, step, Mode::S_IRWXU) {
                    Ok(()) | Err(Errno::EEXIST) => {}
                    Err(error) => return Err(error.into()),
                }
            }
            folder = openat(&folder, step, FOLDER, Mode::empty())?;
        }
        Ok((folder, name.into()))
    }
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
        let folder = Folder::open(own.path()).unwrap();
        folder.write(&file("a/b/key.pem")).unwrap();
        folder.write(&file("./a/b/key.pem")).unwrap();
        assert_eq!(fs::read_to_string(own.path().join("a/b/key.pem")).unwrap(), "secret");
        symlink(elsewhere.path(), own.path().join("conf")).unwrap();
        fs::write(elsewhere.path().join("kept"), "kept").unwrap();
        assert!(folder.write(&file("conf/key.pem")).is_err());
        assert!(folder.remove("conf/kept").is_err());
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
