//! Reads and writes files that hold secrets: only their owner may read them, they are written atomically, and they
//! survive a power cut.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read as _, Write as _},
    os::unix::fs::{MetadataExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

use zeroize::Zeroizing;

/// The longest content of a key file, in bytes.
const MAX: usize = 16 << 10;

/// Why a key file cannot be used, and what to do.
#[derive(Debug, thiserror::Error)]
pub enum KeyFileError {
    /// The file system returned an error.
    #[error("{}: {source}", path.display())]
    Io {
        /// The path that was to be read or written.
        path: PathBuf,
        /// The error.
        source: io::Error,
    },
    /// Other users can read or change the file.
    #[error(
        "{} can be read or changed by other users (mode {mode:03o}), who may have copied it: `chmod 600` it, then create new keys with `chandlery rotate-keys --revoke` (without --revoke, what was signed with the old ones stays valid)",
        path.display()
    )]
    Exposed {
        /// The file.
        path: PathBuf,
        /// Its permissions.
        mode: u32,
    },
    /// The file belongs to another user, who can change it at any time.
    #[error("{} belongs to another user (uid {owner}): start as that user, or `chown` it if you put it there", path.display())]
    Foreign {
        /// The file.
        path: PathBuf,
        /// The uid of its owner.
        owner: u32,
    },
    /// A folder, a symbolic link or a pipe.
    #[error("{} is not a regular file: remove it, and put the key there", .0.display())]
    NotAFile(PathBuf),
    /// The content is invalid.
    #[error("{} is damaged: {what}; restore it from the backup", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with the content.
        what: &'static str,
    },
    /// The operating system returned no random numbers.
    #[error("the system returned no random numbers")]
    Random,
}

/// Reads a key file; `None` if it does not exist.
///
/// # Errors
/// If other users can read or change the file, if it is not a regular file, or if it cannot be read.
pub fn read(path: &Path) -> Result<Option<Zeroizing<Vec<u8>>>, KeyFileError> {
    let fail = |source| KeyFileError::Io {
        path: path.to_owned(),
        source,
    };
    // A symbolic link is not followed, because whoever could create one would choose the key. Opening a pipe does not
    // block.
    let flags = libc::O_NOFOLLOW | libc::O_CLOEXEC | libc::O_NONBLOCK;
    let mut file = match OpenOptions::new().read(true).custom_flags(flags).open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) if error.raw_os_error() == Some(libc::ELOOP) => {
            return Err(KeyFileError::NotAFile(path.to_owned()));
        }
        Err(error) => return Err(fail(error)),
    };
    let metadata = file.metadata().map_err(fail)?;
    if !metadata.is_file() {
        return Err(KeyFileError::NotAFile(path.to_owned()));
    }
    if metadata.uid() != nix::unistd::geteuid().as_raw() {
        return Err(KeyFileError::Foreign {
            path: path.to_owned(),
            owner: metadata.uid(),
        });
    }
    if metadata.mode() & 0o077 != 0 {
        return Err(KeyFileError::Exposed {
            path: path.to_owned(),
            mode: metadata.mode() & 0o777,
        });
    }
    // Allocated at the full size: a buffer that grows leaves copies of the secret in memory.
    let mut content = Zeroizing::new(vec![0; MAX + 1]);
    let mut length = 0;
    while length < content.len() {
        match file.read(&mut content[length..]).map_err(fail)? {
            0 => break,
            read => length += read,
        }
    }
    if length > MAX {
        return Err(KeyFileError::Damaged {
            path: path.to_owned(),
            what: "it is too long for a key",
        });
    }
    content.truncate(length);
    Ok(Some(content))
}

/// Creates a key file. Returns `false` if the file exists, for example because another process has just created it.
pub fn create(path: &Path, content: &[u8]) -> Result<bool, KeyFileError> {
    let draft = draft(path, content)?;
    // Unlike a rename, a link fails if the name exists.
    let linked = fs::hard_link(&draft.0, path);
    drop(draft);
    match linked {
        Ok(()) => sync_folder(path).map(|()| true),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(false),
        Err(source) => Err(KeyFileError::Io {
            path: path.to_owned(),
            source,
        }),
    }
}

/// Replaces a key file atomically.
pub fn replace(path: &Path, content: &[u8]) -> Result<(), KeyFileError> {
    let draft = draft(path, content)?;
    fs::rename(&draft.0, path).map_err(|source| KeyFileError::Io {
        path: path.to_owned(),
        source,
    })?;
    std::mem::forget(draft);
    sync_folder(path)
}

/// Removes a key file, if it exists.
pub fn remove(path: &Path) -> Result<(), KeyFileError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Ok(()) => sync_folder(path),
        Err(source) => Err(KeyFileError::Io {
            path: path.to_owned(),
            source,
        }),
    }
}

/// A temporary file in the same folder. It is removed when dropped.
struct Draft(PathBuf);

impl Drop for Draft {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

fn draft(path: &Path, content: &[u8]) -> Result<Draft, KeyFileError> {
    let fail = |source| KeyFileError::Io {
        path: path.to_owned(),
        source,
    };
    let name = path
        .file_name()
        .ok_or_else(|| fail(io::ErrorKind::InvalidInput.into()))?;
    let mut random = [0_u8; 8];
    super::random(&mut random)?;
    let beside = format!(
        ".{}.{}.new",
        name.to_string_lossy(),
        data_encoding::HEXLOWER.encode(&random)
    );
    let draft = Draft(path.with_file_name(beside));
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&draft.0)
        .map_err(fail)?;
    file.write_all(content).map_err(fail)?;
    file.sync_all().map_err(fail)?;
    Ok(draft)
}

/// Syncs the folder, so that the name of the file survives a power cut.
fn sync_folder(path: &Path) -> Result<(), KeyFileError> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    File::open(folder.unwrap_or(Path::new(".")))
        .and_then(|folder| folder.sync_all())
        .map_err(|source| KeyFileError::Io {
            path: path.to_owned(),
            source,
        })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    use super::*;

    #[test]
    fn only_the_owner_may_have_access() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.key");
        assert!(read(&path).unwrap().is_none());
        assert!(create(&path, b"one").unwrap());
        assert!(!create(&path, b"two").unwrap(), "the first stays");
        assert_eq!(**read(&path).unwrap().unwrap(), *b"one");
        replace(&path, b"three").unwrap();
        assert_eq!(**read(&path).unwrap().unwrap(), *b"three");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let left: Vec<_> = fs::read_dir(folder.path()).unwrap().collect();
        assert_eq!(left.len(), 1, "no draft stays: {left:?}");

        for mode in [0o640, 0o604, 0o620] {
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            let refused = read(&path).unwrap_err();
            assert!(matches!(refused, KeyFileError::Exposed { .. }), "{refused}");
            assert!(refused.to_string().contains("rotate-keys"), "{refused}");
        }
    }

    #[test]
    fn refuses_links_folders_pipes_and_large_files() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        create(&path("real.key"), b"one").unwrap();
        symlink(path("real.key"), path("link.key")).unwrap();
        fs::create_dir(path("folder.key")).unwrap();
        nix::unistd::mkfifo(&path("pipe.key"), nix::sys::stat::Mode::from_bits_truncate(0o600)).unwrap();
        for name in ["link.key", "folder.key", "pipe.key"] {
            assert!(matches!(read(&path(name)), Err(KeyFileError::NotAFile(_))), "{name}");
        }
        fs::write(path("real.key"), vec![0; MAX + 1]).unwrap();
        assert!(matches!(read(&path("real.key")), Err(KeyFileError::Damaged { .. })));
    }

    #[test]
    fn refuses_files_of_another_user() {
        if !crate::not_run::root() {
            return;
        }
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.key");
        create(&path, b"one").unwrap();
        std::os::unix::fs::chown(&path, Some(65_534), None).unwrap();
        assert!(matches!(read(&path), Err(KeyFileError::Foreign { owner: 65_534, .. })));
    }
}
