//! Removes folders that servers and installation scripts can write. They may be arbitrarily deep and full, and their modes may deny access.
//!
//! Callers do not wait: a folder is first moved aside by one rename, and a thread removes the moved folders one after another. If the service
//! ends before that is done, the next run continues.

use std::{
    fs, io,
    os::{
        fd::AsRawFd as _,
        unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _},
    },
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
        mpsc::{Receiver, SyncSender, sync_channel},
    },
    thread,
};

use nix::fcntl::OFlag;
use uuid::Uuid;

/// All permissions of a folder's owner.
const OWNER: u32 = 0o700;
/// How many moved folders are remembered within a pass, so that a deep folder does not require a pass for each level.
const NEXT: usize = 1024;

/// Moves folders aside and removes them. Clones share the thread, which ends with the last of them.
#[derive(Clone, Debug)]
pub(crate) struct Removal {
    aside: Arc<Aside>,
    wake: SyncSender<()>,
}

impl Removal {
    /// Removes paths on the same file system as `folder`, which only the service uses. Begins with what is in `folder` already.
    pub(crate) fn new(folder: PathBuf) -> io::Result<Self> {
        let aside = Arc::new(Aside::new(folder));
        // One pending message is enough: each wake-up removes everything.
        let (wake, woken) = sync_channel(1);
        let removing = Arc::clone(&aside);
        thread::Builder::new()
            .name("removal".to_owned())
            .spawn(move || remove_all(&removing, &woken))?;
        Ok(Self { aside, wake })
    }

    /// Moves a path aside, if it exists. It will be removed, by the next run if this one ends before. Links on the way to it are followed.
    pub(crate) fn remove(&self, path: &Path) -> io::Result<()> {
        match self.aside.take(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(error),
            Ok(_) => {
                // Fails if a message is pending, which is enough.
                let _ = self.wake.try_send(());
                Ok(())
            }
        }
    }
}

fn remove_all(aside: &Aside, woken: &Receiver<()>) {
    let mut reported = 0;
    loop {
        let left = aside.empty();
        if left.count != reported
            && let Some(error) = left.error
        {
            let folder = aside.folder.display();
            tracing::warn!(folder = %folder, count = left.count, error = %error, "removed folders could not be deleted from the disk");
        }
        reported = left.count;
        if woken.recv().is_err() {
            return;
        }
    }
}

/// The flat folder of what was moved aside. To remove a folder, its subfolders are moved up into this one, so its depth is not limited by the
/// stack, by descriptors or by the length of a path.
#[derive(Debug)]
struct Aside {
    folder: PathBuf,
    /// The prefix of the names that this run chooses.
    run: Uuid,
    names: AtomicU64,
}

/// What could not be removed.
#[derive(Debug, Default)]
struct Left {
    count: u64,
    /// The last error.
    error: Option<io::Error>,
}

impl Left {
    /// Returns true if something was removed or moved.
    fn note(&mut self, outcome: io::Result<()>) -> bool {
        match outcome {
            Ok(()) => return true,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => {
                self.count += 1;
                self.error = Some(error);
            }
        }
        false
    }
}

impl Aside {
    fn new(folder: PathBuf) -> Self {
        Self {
            folder,
            run: service_kit::random::uuid(),
            names: AtomicU64::new(0),
        }
    }

    /// Moves a path aside; returns the new path.
    fn take(&self, path: &Path) -> io::Result<PathBuf> {
        // Moving a folder changes its `..`, which requires permission to write to it. If this fails, the error of the rename is returned.
        let _ = open_up(path);
        let number = self.names.fetch_add(1, Ordering::Relaxed);
        let aside = self.folder.join(format!("{}-{number}", self.run.simple()));
        fs::rename(path, &aside)?;
        Ok(aside)
    }

    /// Removes everything that can be removed.
    fn empty(&self) -> Left {
        loop {
            let (done, left) = self.pass();
            if !done {
                return left;
            }
        }
    }

    /// One pass over the folder; returns true if something was removed or moved.
    fn pass(&self) -> (bool, Left) {
        let mut left = Left::default();
        let mut done = false;
        let mut next = Vec::new();
        match fs::read_dir(&self.folder) {
            Ok(entries) => {
                for entry in entries.flatten() {
                    next.push(entry.path());
                    while let Some(path) = next.pop() {
                        done |= self.remove(&path, &mut next, &mut left);
                    }
                }
            }
            Err(error) => done |= left.note(Err(error)),
        }
        (done, left)
    }

    /// Removes a path. Moves its subfolders up unless they are empty. Returns true if something was removed or moved.
    fn remove(&self, path: &Path, next: &mut Vec<PathBuf>, left: &mut Left) -> bool {
        match fs::remove_dir(path) {
            Ok(()) => return true,
            // This includes symbolic links to folders.
            Err(error) if error.kind() == io::ErrorKind::NotADirectory => return left.note(fs::remove_file(path)),
            Err(_) => {}
        }
        let entries = match open_up(path).and_then(|()| fs::read_dir(path)) {
            Ok(entries) => entries,
            Err(error) => return left.note(Err(error)),
        };
        let mut done = false;
        for entry in entries.flatten() {
            let inner = entry.path();
            let outcome = match entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                false => fs::remove_file(inner),
                true => fs::remove_dir(&inner).or_else(|_| {
                    let moved = self.take(&inner)?;
                    // The next pass finds the others.
                    if next.len() < NEXT {
                        next.push(moved);
                    }
                    Ok(())
                }),
            };
            done |= left.note(outcome);
        }
        match fs::remove_dir(path) {
            // What is left in it was noted, or is found by the next pass.
            Err(_) if done || left.count > 0 => done,
            outcome => left.note(outcome),
        }
    }
}

/// Gives this user all permissions for a folder of its own. Does not follow symbolic links, even if one replaces the folder meanwhile.
fn open_up(path: &Path) -> io::Result<()> {
    let flags = OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_DIRECTORY;
    let folder = fs::File::options().read(true).custom_flags(flags.bits()).open(path)?;
    if folder.metadata()?.mode() & OWNER == OWNER {
        return Ok(());
    }
    // fchmod(2) does not accept an O_PATH descriptor, which is required to open a folder without permissions.
    let opened = format!("/proc/self/fd/{}", folder.as_raw_fd());
    fs::set_permissions(opened, fs::Permissions::from_mode(OWNER))
}

#[cfg(test)]
pub(crate) mod tests {
    use std::{
        os::unix::fs::symlink,
        time::{Duration, Instant},
    };

    use pretty_assertions::assert_eq;

    use super::*;

    /// Nothing removes in the background here.
    fn aside() -> (tempfile::TempDir, Aside) {
        let house = tempfile::tempdir().unwrap();
        let folder = house.path().join("removed");
        fs::create_dir(&folder).unwrap();
        (house, Aside::new(folder))
    }

    fn count(folder: &Path) -> usize {
        fs::read_dir(folder).unwrap().count()
    }

    /// A folder in a folder, and so on, some with a file. Made from the innermost: to make the next one in the last takes longer each time.
    fn nest(folder: &Path, depth: usize, mode: u32) {
        let mode = |folder: &Path| fs::set_permissions(folder, fs::Permissions::from_mode(mode)).unwrap();
        let outer = folder.with_extension("outer");
        for level in 0..=depth {
            fs::create_dir(&outer).unwrap();
            if level % 50 == 0 {
                fs::File::create(outer.join("f")).unwrap();
            }
            if level > 0 {
                fs::rename(folder, outer.join("d")).unwrap();
                mode(&outer.join("d"));
            }
            fs::rename(&outer, folder).unwrap();
        }
        mode(folder);
    }

    /// Runs as a user whom the modes of files hold, also where that is root.
    pub(crate) fn held_by_modes(work: impl FnOnce() + Send + 'static) {
        let held = thread::spawn(|| {
            for capability in [
                caps::Capability::CAP_DAC_OVERRIDE,
                caps::Capability::CAP_DAC_READ_SEARCH,
            ] {
                caps::drop(None, caps::CapSet::Effective, capability).unwrap();
            }
            work();
        });
        held.join().unwrap();
    }

    #[test]
    fn removes_what_is_deeper_than_any_stack_or_path() {
        let (house, aside) = aside();
        let deep = house.path().join("deep");
        nest(&deep, 40_000, OWNER);
        aside.take(&deep).unwrap();
        assert!(!deep.exists());
        assert_eq!(aside.empty().count, 0);
        assert_eq!(count(&aside.folder), 0);
    }

    #[test]
    fn removes_more_folders_than_it_keeps_in_mind() {
        let (house, aside) = aside();
        let wide = house.path().join("wide");
        for number in 0..2 * NEXT {
            fs::create_dir_all(wide.join(format!("{number}/a/b"))).unwrap();
        }
        aside.take(&wide).unwrap();
        assert_eq!(aside.empty().count, 0);
        assert_eq!(count(&aside.folder), 0);
    }

    #[test]
    fn removes_what_its_owner_has_closed() {
        held_by_modes(|| {
            let (house, aside) = aside();
            for mode in [0o000, 0o400, 0o500, 0o555] {
                let closed = house.path().join("closed");
                nest(&closed, 5, mode);
                assert!(mode & 0o100 != 0 || fs::read_dir(closed.join("d")).is_err());
                aside.take(&closed).unwrap();
                assert_eq!(aside.empty().count, 0);
                assert_eq!(count(&aside.folder), 0);
            }
        });
    }

    #[test]
    fn who_sets_aside_does_not_wait_for_what_is_in_it() {
        let (house, aside) = aside();
        let full = house.path().join("full");
        fs::create_dir(&full).unwrap();
        for number in 0..50_000 {
            fs::File::create(full.join(number.to_string())).unwrap();
        }
        aside.take(&full).unwrap();
        assert!(!full.exists());
        let moved = fs::read_dir(&aside.folder).unwrap().next().unwrap().unwrap().path();
        assert_eq!(count(&moved), 50_000);
        assert_eq!(aside.empty().count, 0);
        assert_eq!(count(&aside.folder), 0);
    }

    #[test]
    fn follows_no_link() {
        let (house, aside) = aside();
        let outside = house.path().join("outside");
        fs::create_dir(&outside).unwrap();
        fs::write(outside.join("file"), "kept").unwrap();
        fs::set_permissions(&outside, fs::Permissions::from_mode(0o500)).unwrap();
        let folder = house.path().join("folder");
        fs::create_dir_all(folder.join("inner")).unwrap();
        for link in ["link", "inner/link"] {
            symlink(&outside, folder.join(link)).unwrap();
        }
        symlink(outside.join("file"), folder.join("inner/file")).unwrap();
        let link = house.path().join("link");
        symlink(&outside, &link).unwrap();
        for path in [&folder, &link] {
            aside.take(path).unwrap();
        }
        assert_eq!(aside.empty().count, 0);
        assert_eq!(count(&aside.folder), 0);
        assert_eq!(fs::read_to_string(outside.join("file")).unwrap(), "kept");
        assert_eq!(fs::metadata(&outside).unwrap().mode() & 0o777, 0o500);
    }

    #[test]
    fn what_one_run_leaves_the_next_removes() {
        let (house, aside) = aside();
        let folder = house.path().join("folder");
        nest(&folder, 50, OWNER);
        let moved = aside.take(&folder).unwrap();
        // Killed in the midst of it.
        assert!(aside.remove(&moved, &mut Vec::new(), &mut Left::default()));
        assert!(count(&aside.folder) > 0);
        let removal = Removal::new(aside.folder.clone()).unwrap();
        let gone = || {
            let deadline = Instant::now() + Duration::from_secs(60);
            while count(&aside.folder) > 0 {
                assert!(Instant::now() < deadline);
                thread::sleep(Duration::from_millis(10));
            }
        };
        gone();
        // And what comes later, as often as it comes.
        for _ in 0..3 {
            nest(&folder, 50, OWNER);
            removal.remove(&folder).unwrap();
            removal.remove(&folder).unwrap();
            assert!(!folder.exists());
            gone();
        }
    }

    #[test]
    fn leaves_what_it_cannot_remove_and_goes_on() {
        held_by_modes(|| {
            let (house, aside) = aside();
            let folder = house.path().join("folder");
            nest(&folder, 3, OWNER);
            aside.take(&folder).unwrap();
            let modes = |mode| fs::set_permissions(&aside.folder, fs::Permissions::from_mode(mode)).unwrap();
            modes(0o500);
            let left = aside.empty();
            assert_eq!(left.count, 1);
            assert_eq!(left.error.unwrap().kind(), io::ErrorKind::PermissionDenied);
            modes(OWNER);
            assert_eq!(aside.empty().count, 0);
            assert_eq!(count(&aside.folder), 0);
        });
    }
}
