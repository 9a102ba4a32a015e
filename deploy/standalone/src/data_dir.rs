//! The data folder, which contains everything that a standalone server stores.

use std::{
    fs::{self, File, OpenOptions, Permissions, TryLockError},
    io::{self, Read as _, Seek as _, Write as _},
    os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
};

use uuid::Uuid;

/// The file with the keys of MCP and browser sessions.
pub(crate) const SESSION_KEY: &str = "session.key";
/// The file with the keys of page tokens.
pub(crate) const PAGE_TOKEN_KEY: &str = "page-token.key";
/// Names of files by which a data folder is recognized. Every data folder has the first one.
const MARKS: [&str; 5] = [
    SESSION_KEY,
    "credentials.db",
    "registry.db",
    "dev-issuer.key",
    "instance",
];

/// The data folder. Only its owner can read it.
#[derive(Debug)]
pub(crate) struct DataDir {
    path: PathBuf,
}

/// Keeps other processes from serving from the folder. The operating system releases the lock when the process ends,
/// however it ends.
#[derive(Debug)]
pub(crate) struct Lock {
    _file: File,
}

impl DataDir {
    /// Opens the folder, and creates it if it does not exist. An existing folder must belong to this user, and be empty
    /// or a data folder: a folder that is named by mistake, such as a home folder, must stay unchanged.
    pub(crate) fn open(path: &Path) -> Result<Self, String> {
        let fail = |error: io::Error| format!("the data folder {} cannot be used: {error}", path.display());
        if fs::metadata(path).is_ok_and(|found| !found.is_dir()) {
            return Err(format!(
                "the data folder {} is not a folder: choose another with --data-dir",
                path.display()
            ));
        }
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(path)
            .map_err(fail)?;
        let found = fs::metadata(path).map_err(fail)?;
        if found.uid() != nix::unistd::geteuid().as_raw() {
            return Err(format!(
                "the data folder {} belongs to another user (uid {}): start as that user, or choose another folder with --data-dir",
                path.display(),
                found.uid()
            ));
        }
        let path = path.canonicalize().map_err(fail)?;
        let folder = Self { path };
        if !folder.is_usable().map_err(fail)? {
            return Err(format!(
                "{} is not a data folder of Chandlery, and is not empty: choose another folder with --data-dir",
                folder.path.display()
            ));
        }
        if found.mode() & 0o777 != 0o700 {
            fs::set_permissions(&folder.path, Permissions::from_mode(0o700)).map_err(fail)?;
            tracing::warn!(
                "the data folder {} had mode {:03o}: only this user can read it now (mode 700)",
                folder.path.display(),
                found.mode() & 0o777
            );
        }
        Ok(folder)
    }

    /// Opens a folder from which a server has served before; `None` if there is none.
    pub(crate) fn existing(path: &Path) -> Result<Option<Self>, String> {
        if fs::exists(path.join(MARKS[0])).unwrap_or_default() {
            Self::open(path).map(Some)
        } else {
            Ok(None)
        }
    }

    /// Whether the folder is empty or has a file by which a data folder is recognized.
    fn is_usable(&self) -> io::Result<bool> {
        let mut empty = true;
        for entry in fs::read_dir(&self.path)? {
            let name = entry?.file_name();
            if MARKS.iter().any(|mark| name == *mark) {
                return Ok(true);
            }
            let name = name.to_string_lossy();
            // Ignores what the root of a volume contains, and what an interrupted first start leaves.
            empty &= name == "lost+found" || name == "lock" || is_draft(&name);
        }
        Ok(empty)
    }

    /// The absolute path of the folder.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Locks the folder for this process.
    pub(crate) fn lock(&self) -> Result<Lock, String> {
        let path = self.path.join("lock");
        let fail = |error: io::Error| format!("{} cannot be locked: {error}", path.display());
        let mut file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .read(true)
            .write(true)
            .mode(0o600)
            .open(&path)
            .map_err(fail)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut holder = String::new();
                // The process id is only for the message.
                let _ = file.read_to_string(&mut holder);
                return Err(format!(
                    "another chandlery (process {}) serves from {}: stop it, or choose another folder with --data-dir",
                    holder.trim(),
                    self.path.display()
                ));
            }
            Err(TryLockError::Error(error)) => return Err(fail(error)),
        }
        file.set_len(0)
            .and_then(|()| file.rewind())
            .and_then(|()| writeln!(file, "{}", std::process::id()))
            .map_err(fail)?;
        self.remove_drafts().map_err(fail)?;
        Ok(Lock { _file: file })
    }

    /// Removes files that a killed process has left half written, since they may contain keys.
    fn remove_drafts(&self) -> io::Result<()> {
        for entry in fs::read_dir(&self.path)? {
            let entry = entry?;
            if is_draft(&entry.file_name().to_string_lossy()) {
                fs::remove_file(entry.path())?;
            }
        }
        Ok(())
    }

    /// Identifies the server of this folder among all others. Created at the first call.
    pub(crate) fn instance(&self) -> Result<String, String> {
        const NAME: &str = "instance";
        let known = fs::read_to_string(self.path.join(NAME))
            .ok()
            .and_then(|text| Uuid::parse_str(text.trim()).ok());
        if let Some(known) = known {
            return Ok(known.to_string());
        }
        let made = service_kit::random::uuid().to_string();
        self.write(NAME, made.as_bytes())
            .map_err(|error| format!("{} cannot be created: {error}", self.path.join(NAME).display()))?;
        Ok(made)
    }

    /// Whether a file exists.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.path.join(name).exists()
    }

    /// Writes a file atomically, and so that it survives a power cut.
    pub(crate) fn write(&self, name: &str, content: &[u8]) -> io::Result<()> {
        let mut file = tempfile::Builder::new().prefix(".new").tempfile_in(&self.path)?;
        file.write_all(content)?;
        file.as_file().sync_all()?;
        file.persist(self.path.join(name)).map_err(|error| error.error)?;
        File::open(&self.path)?.sync_all()
    }
}

/// Whether this is the name of a half-written file: of a key (`.session.key.….new`), or of [`DataDir::write`].
fn is_draft(name: &str) -> bool {
    name.starts_with(".new") || name.starts_with('.') && name.ends_with(".new")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_one_process_and_one_user_can_use_it() {
        let parent = tempfile::tempdir().unwrap();
        let path = parent.path().join("a/b");
        let folder = DataDir::open(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o700);
        let lock = folder.lock().unwrap();
        let refused = DataDir::open(&path).unwrap().lock().unwrap_err();
        assert!(refused.contains(&std::process::id().to_string()), "{refused}");
        drop(lock);
        folder.lock().unwrap();
    }

    #[test]
    fn leaves_a_foreign_folder_unchanged() {
        let parent = tempfile::tempdir().unwrap();
        let with = |name: &str, file: Option<&str>| {
            let path = parent.path().join(name);
            fs::create_dir(&path).unwrap();
            fs::set_permissions(&path, Permissions::from_mode(0o755)).unwrap();
            if let Some(file) = file {
                fs::write(path.join(file), "").unwrap();
            }
            let opened = DataDir::open(&path).map(|_| ());
            (opened, fs::metadata(&path).unwrap().mode() & 0o777)
        };
        let file = parent.path().join("file");
        fs::write(&file, "").unwrap();
        assert!(DataDir::open(&file).unwrap_err().contains("is not a folder"));
        let (refused, mode) = with("home", Some("letters.txt"));
        assert!(refused.unwrap_err().contains("not a data folder of Chandlery"));
        assert_eq!(mode, 0o755, "the folder is unchanged");
        assert_eq!(with("empty", None), (Ok(()), 0o700));
        assert_eq!(with("volume", Some("lost+found")), (Ok(()), 0o700));
        assert_eq!(with("begun", Some("lock")), (Ok(()), 0o700));
        assert_eq!(
            with("begun-key", Some(".session.key.0123456789abcdef.new")),
            (Ok(()), 0o700)
        );
        let ssh = parent.path().join("ssh");
        fs::DirBuilder::new().mode(0o700).create(&ssh).unwrap();
        fs::write(ssh.join("id_ed25519"), "").unwrap();
        assert!(
            DataDir::open(&ssh).is_err(),
            "a private folder without data files is not a data folder"
        );
        assert_eq!(with("restored", Some("credentials.db")), (Ok(()), 0o700));
    }

    #[test]
    fn refuses_the_folder_of_another_user() {
        if !service_kit::not_run::root() {
            return;
        }
        let parent = tempfile::tempdir().unwrap();
        let path = parent.path().join("theirs");
        fs::create_dir(&path).unwrap();
        std::os::unix::fs::chown(&path, Some(65_534), None).unwrap();
        assert!(DataDir::open(&path).unwrap_err().contains("another user"));
    }

    #[test]
    fn half_written_files_are_removed() {
        let parent = tempfile::tempdir().unwrap();
        let folder = DataDir::open(parent.path()).unwrap();
        fs::write(parent.path().join("session.key"), "keys").unwrap();
        for draft in [".session.key.0123456789abcdef.new", ".newAbCdEf"] {
            fs::write(parent.path().join(draft), "half a key").unwrap();
        }
        folder.lock().unwrap();
        let files = fs::read_dir(parent.path()).unwrap();
        let mut left: Vec<_> = files.map(|entry| entry.unwrap().file_name()).collect();
        left.sort();
        assert_eq!(left, ["lock", "session.key"]);
    }

    #[test]
    fn has_an_id_of_its_own() {
        let (one, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let (one, other) = (DataDir::open(one.path()).unwrap(), DataDir::open(other.path()).unwrap());
        let name = one.instance().unwrap();
        assert_eq!(one.instance().unwrap(), name);
        assert_ne!(other.instance().unwrap(), name);
        // The file is empty after an interrupted restore, for example. Nothing depends on the old id.
        one.write("instance", b"").unwrap();
        assert_ne!(one.instance().unwrap(), name);
    }
}
