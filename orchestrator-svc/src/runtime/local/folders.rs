//! The data folder: one folder for each installation, and one for the sockets.

use std::{
    fs, io,
    os::unix::{ffi::OsStrExt as _, fs::DirBuilderExt as _, fs::MetadataExt as _, fs::PermissionsExt as _},
    path::{Path, PathBuf},
};

use sha2::{Digest as _, Sha256};

use super::{packages::Pins, removal::Removal};

/// The longest path of a Unix socket on Linux, in bytes, without the final NUL.
const SOCKET_PATH: usize = 107;
/// The length of a socket's name.
const NAME: usize = 16;

/// The paths in the data folder.
#[derive(Debug)]
pub(crate) struct Folders {
    data: PathBuf,
    sockets: PathBuf,
    holder: String,
    removal: Removal,
}

/// The folders that only one server can access.
#[derive(Debug)]
pub(crate) struct Own {
    /// The working folder; kept.
    pub(crate) work: PathBuf,
    /// `HOME`; kept.
    pub(crate) home: PathBuf,
    /// `TMPDIR`; emptied before each start.
    pub(crate) temporary: PathBuf,
}

impl Folders {
    pub(crate) fn new(data_dir: &Path) -> io::Result<Self> {
        private(data_dir)?;
        let data = data_dir.canonicalize()?;
        let mut sockets = data.join("s");
        if sockets.as_os_str().len() + 1 + NAME > SOCKET_PATH {
            // The name is the same at each start, so that no folders accumulate.
            let id = hex::encode(&Sha256::digest(data.as_os_str().as_bytes())[..8]);
            sockets = std::env::temp_dir().join(format!("chandlery-{id}"));
            if sockets.as_os_str().len() + 1 + NAME > SOCKET_PATH {
                sockets = Path::new("/tmp").join(format!("chandlery-{id}"));
            }
        }
        private(&sockets)?;
        // Sockets of an earlier run, on which nothing listens.
        for stale in fs::read_dir(&sockets)?.flatten() {
            fs::remove_file(stale.path())?;
        }
        let removed = removed(&data);
        private(&removed)?;
        let holder = holder(&data.join("holder"))?;
        Ok(Self {
            data,
            sockets,
            holder,
            removal: Removal::new(removed)?,
        })
    }

    fn of(&self, uid: &str) -> PathBuf {
        self.data.join("i").join(name(uid))
    }

    pub(crate) fn work(&self, uid: &str) -> PathBuf {
        self.of(uid).join("work")
    }

    pub(crate) fn lock(&self, uid: &str) -> PathBuf {
        self.of(uid).join("lock")
    }

    /// Creates the folders of an installation's server.
    pub(crate) fn make(&self, uid: &str) -> io::Result<Own> {
        let own = Own {
            work: self.work(uid),
            home: self.of(uid).join("home"),
            temporary: self.of(uid).join("tmp"),
        };
        private(&self.of(uid))?;
        for folder in [&own.work, &own.home, &own.temporary] {
            fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
            // A server may have changed the mode of its folders. Only this user can access the folder around them.
            fs::set_permissions(folder, fs::Permissions::from_mode(0o700))?;
        }
        Ok(own)
    }

    /// As [`Self::make`], with an empty temporary folder.
    pub(crate) fn make_for_start(&self, uid: &str) -> io::Result<Own> {
        let folder = self.of(uid);
        private(&folder)?;
        if let Err(error) = self.removal.remove(&folder.join("tmp")) {
            // This affects only the server itself.
            tracing::warn!(runtime.owner = %uid, error = %error, "a server's temporary folder could not be emptied");
        }
        self.make(uid)
    }

    /// The pins of an installation.
    pub(crate) fn pins(&self, uid: &str) -> Pins {
        Pins::new(&self.of(uid))
    }

    /// The pins of all installations.
    pub(crate) fn all_pins(&self) -> io::Result<impl Iterator<Item = Pins> + use<>> {
        let all = self.data.join("i");
        private(&all)?;
        Ok(fs::read_dir(all)?.flatten().map(|entry| Pins::new(&entry.path())))
    }

    /// The folder of the packages.
    pub(crate) fn packages(&self) -> PathBuf {
        self.data.join("packages")
    }

    /// The name of this data folder, chosen when it was first used.
    pub(crate) fn holder(&self) -> &str {
        &self.holder
    }

    /// The data folder.
    pub(crate) fn data(&self) -> &Path {
        &self.data
    }

    /// Whether an installation has a folder. Without one, no process was ever started for it.
    pub(crate) fn has(&self, uid: &str) -> bool {
        fs::symlink_metadata(self.of(uid)).is_ok()
    }

    /// A new path for a socket. It differs each time, so that a bridge that is cleaning up does not remove the socket of its successor.
    pub(crate) fn socket(&self) -> PathBuf {
        let mut name = service_kit::random::uuid().simple().to_string();
        name.truncate(NAME);
        self.sockets.join(name)
    }

    /// The marker of an installation's processes. No other installation has it.
    pub(crate) fn marker(&self, uid: &str) -> String {
        format!("{}:{}", self.data.display(), name(uid))
    }

    /// The marker of processes that fetch a package for an installation.
    pub(crate) fn fetch_marker(&self, uid: &str) -> String {
        format!("{}:fetch/{}", self.data.display(), name(uid))
    }

    /// Whether a marker is one of this data folder.
    pub(crate) fn is_marker(data: &Path, marker: &str) -> bool {
        let folder = marker.rsplit_once(':').map(|(folder, _)| folder);
        folder == Some(&*data.to_string_lossy())
    }

    /// Removes an installation's folder. The files are deleted in the background.
    pub(crate) fn remove(&self, uid: &str) -> io::Result<()> {
        self.removal.remove(&self.of(uid))
    }

    /// The folder of what was moved aside. What a bridge moves there is removed with what this process moves next, or by the next run.
    pub(crate) fn removed(&self) -> PathBuf {
        removed(&self.data)
    }

    /// Removes folders that third-party code may have filled.
    pub(crate) fn removal(&self) -> Removal {
        self.removal.clone()
    }
}

fn removed(data: &Path) -> PathBuf {
    data.join("removed")
}

/// The name of an installation in paths and markers. The registry's uids are UUIDs. Any other text is hashed, so that it cannot name a folder
/// elsewhere.
fn name(uid: &str) -> String {
    let plain = !uid.is_empty() && uid.len() <= 64 && uid.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
    if plain {
        uid.to_owned()
    } else {
        format!("x{}", hex::encode(Sha256::digest(uid)))
    }
}

/// The name in a file, or a new one if the file does not exist or is incomplete.
fn holder(file: &Path) -> io::Result<String> {
    match fs::read_to_string(file) {
        Ok(name) if uuid::Uuid::parse_str(&name).is_ok() => return Ok(name),
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let name = service_kit::random::uuid().to_string();
    fs::write(file, &name)?;
    Ok(name)
}

/// Creates a folder that only this user can access.
///
/// # Errors
/// If a folder that exists belongs to another user, or others may write to it.
fn private(path: &Path) -> io::Result<()> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(path)?;
    let found = fs::symlink_metadata(path)?;
    if !found.is_dir() || found.uid() != nix::unistd::geteuid().as_raw() {
        return Err(io::Error::new(
            io::ErrorKind::PermissionDenied,
            format!("{} is not a folder of this user", path.display()),
        ));
    }
    if found.mode() & 0o022 != 0 {
        return Err(io::Error::new(
            io::ErrorKind::PermissionDenied,
            format!(
                "others may write to {}: check what is in it, then remove it, or change its mode to 700",
                path.display()
            ),
        ));
    }
    fs::set_permissions(path, fs::Permissions::from_mode(0o700))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_a_short_place_for_sockets() {
        let folder = tempfile::tempdir().unwrap();
        let long = folder.path().join("long-name-".repeat(12));
        for data in [folder.path(), &long] {
            let folders = Folders::new(data).unwrap();
            let socket = folders.socket();
            assert!(socket.as_os_str().len() <= SOCKET_PATH, "{}", socket.display());
            std::os::unix::net::UnixListener::bind(&socket).unwrap();
            Folders::new(data).unwrap();
            assert!(!socket.exists(), "stale sockets go");
        }
        let folders = Folders::new(folder.path()).unwrap();
        assert!(
            folders
                .work("../../etc")
                .starts_with(folder.path().canonicalize().unwrap().join("i"))
        );
        assert_eq!(
            fs::metadata(folders.make("a-1").unwrap().work)
                .unwrap()
                .permissions()
                .mode()
                & 0o777,
            0o700
        );
        assert!(folders.has("a-1") && !folders.has("a-2"));
        // A server that makes its own folder writable for others gains nothing, and can be started again.
        let open = folders.make("a-3").unwrap().work;
        fs::set_permissions(&open, fs::Permissions::from_mode(0o777)).unwrap();
        folders.make("a-3").unwrap();
        assert_eq!(fs::metadata(&open).unwrap().permissions().mode() & 0o777, 0o700);
        // A folder into which others may have put files is not used.
        let others = folder.path().join("i/a-4");
        fs::create_dir(&others).unwrap();
        fs::set_permissions(&others, fs::Permissions::from_mode(0o777)).unwrap();
        let refused = folders.make("a-4").unwrap_err().to_string();
        assert!(refused.contains("others may write"), "{refused}");
        folders.remove("a-1").unwrap();
        folders.remove("a-1").unwrap();
        assert!(!folders.has("a-1"));
    }

    #[test]
    fn tells_markers_of_owners_and_of_data_folders_apart() {
        let folder = tempfile::tempdir().unwrap();
        let inner = folder.path().join("a:b");
        let (outer, inner) = (Folders::new(folder.path()).unwrap(), Folders::new(&inner).unwrap());
        let owners = ["a", "a-b", "", "fetch/a", "a#1", "b:a", "ü"];
        let mut markers: Vec<_> = owners
            .iter()
            .flat_map(|o| [outer.marker(o), outer.fetch_marker(o)])
            .collect();
        for marker in &markers {
            assert!(Folders::is_marker(outer.data(), marker) && !Folders::is_marker(inner.data(), marker));
            assert!(!marker.contains('#'), "{marker}");
        }
        assert!(!Folders::is_marker(outer.data(), &inner.marker("a")));
        markers.sort();
        markers.dedup();
        assert_eq!(markers.len(), 2 * owners.len());
    }

    #[test]
    fn begins_with_an_empty_temporary_folder() {
        let folder = tempfile::tempdir().unwrap();
        let folders = Folders::new(folder.path()).unwrap();
        let own = folders.make_for_start("a-1").unwrap();
        for kept_and_not in [&own.work, &own.temporary] {
            fs::create_dir(kept_and_not.join("closed")).unwrap();
            fs::set_permissions(kept_and_not.join("closed"), fs::Permissions::from_mode(0o000)).unwrap();
        }
        fs::set_permissions(&own.temporary, fs::Permissions::from_mode(0o000)).unwrap();
        let own = folders.make_for_start("a-1").unwrap();
        assert!(own.work.join("closed").exists() && !own.temporary.join("closed").exists());
        assert_eq!(fs::metadata(own.temporary).unwrap().mode() & 0o777, 0o700);
    }
}
