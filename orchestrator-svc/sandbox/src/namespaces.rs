//! The file system of a program: an empty one, into which its grants are mounted.

use std::{
    fs, io,
    os::{
        fd::{AsRawFd as _, OwnedFd},
        unix::fs::{DirBuilderExt as _, symlink},
    },
    path::{Path, PathBuf},
};

use nix::{
    fcntl::{OFlag, open},
    mount::{MntFlags, MsFlags, mount, umount2},
    sys::stat::Mode,
    unistd::{Gid, Uid, chdir, pivot_root},
};

use crate::{
    grants::{DEVICES, Grants},
    spec::{Access, Confinement},
    sys::{NO_DEVICES, NO_SUID, READ_ONLY, set_mount_attributes},
};

/// The namespaces of a program: user, mount, process and IPC. The network is shared.
pub(crate) const NEW: libc::c_int =
    libc::CLONE_NEWUSER | libc::CLONE_NEWNS | libc::CLONE_NEWPID | libc::CLONE_NEWIPC | libc::SIGCHLD;

/// Where the new root is assembled. The folder exists everywhere, and its content is no longer required.
const STAGE: &str = "/tmp";

/// Maps the user to the same id inside, and maps no other user.
pub(crate) fn map_user(user: Uid, group: Gid) -> io::Result<()> {
    fs::write("/proc/self/setgroups", "deny")?;
    fs::write("/proc/self/uid_map", format!("{user} {user} 1"))?;
    fs::write("/proc/self/gid_map", format!("{group} {group} 1"))
}

/// The source of a mount. Opened before other mounts can cover it.
struct Source {
    path: PathBuf,
    folder: bool,
    access: Access,
    opened: OwnedFd,
}

/// Creates the new root and detaches the old one.
pub(crate) fn enter(confinement: &Confinement, grants: &Grants) -> io::Result<()> {
    let none = None::<&str>;
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none)?;
    let mut sources = Vec::new();
    for (path, &access) in &grants.paths {
        sources.push(Source {
            folder: path.is_dir(),
            opened: at(path)?,
            path: path.clone(),
            access,
        });
    }
    let temporary = at(&confinement.temporary_folder)?;
    let mut devices = Vec::new();
    for name in DEVICES {
        if let Ok(opened) = at(&Path::new("/dev").join(name)) {
            devices.push((name, opened));
        }
    }

    let plain = MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
    mount(Some("tmpfs"), STAGE, Some("tmpfs"), plain, Some("mode=755,size=4m"))?;
    for folder in ["/tmp", "/var", "/proc", "/dev/shm"] {
        make_folder(&staged(Path::new(folder)))?;
    }
    symlink("/tmp", staged(Path::new("/var/tmp")))?;
    bind(&temporary, Path::new("/tmp"), true)?;
    set_mount_attributes(&staged(Path::new("/tmp")), NO_SUID | NO_DEVICES, true)?;
    for source in &sources {
        bind(&source.opened, &source.path, source.folder)?;
        let read_only = match source.access {
            Access::Read => READ_ONLY,
            Access::Write => 0,
        };
        set_mount_attributes(&staged(&source.path), NO_SUID | NO_DEVICES | read_only, true)?;
    }
    for (path, target) in &grants.links {
        let link = staged(path);
        if let Some(folder) = link.parent() {
            make_folder(folder)?;
        }
        // Inside a folder that is mounted, the link exists already.
        if link.symlink_metadata().is_err() {
            symlink(target, link)?;
        }
    }
    for (name, opened) in &devices {
        let path = Path::new("/dev").join(name);
        bind(opened, &path, false)?;
        set_mount_attributes(&staged(&path), NO_SUID, true)?;
    }
    for (name, target) in [
        ("fd", "/proc/self/fd"),
        ("stdin", "/proc/self/fd/0"),
        ("stdout", "/proc/self/fd/1"),
        ("stderr", "/proc/self/fd/2"),
    ] {
        symlink(target, staged(&Path::new("/dev").join(name)))?;
    }
    let shared = staged(Path::new("/dev/shm"));
    mount(Some("tmpfs"), &shared, Some("tmpfs"), plain, Some("mode=1777,size=64m"))?;
    let processes = staged(Path::new("/proc"));
    mount(Some("proc"), &processes, Some("proc"), plain | MsFlags::MS_NOEXEC, none)?;
    // A program would have all capabilities again in a nested user namespace. If this cannot be written, seccomp refuses to create one.
    let _ = fs::write(processes.join("sys/user/max_user_namespaces"), "0");
    // Root could set kernel parameters there, even without capabilities.
    set_mount_attributes(&processes, READ_ONLY, true)?;

    drop((sources, temporary, devices));
    chdir(STAGE)?;
    pivot_root(".", ".")?;
    umount2(".", MntFlags::MNT_DETACH)?;
    chdir("/")?;
    set_mount_attributes(Path::new("/"), READ_ONLY | NO_SUID | NO_DEVICES, false)
}

fn at(path: &Path) -> io::Result<OwnedFd> {
    open(path, OFlag::O_PATH | OFlag::O_CLOEXEC, Mode::empty())
        .map_err(|error| io::Error::new(io::Error::from(error).kind(), format!("{}: {error}", path.display())))
}

fn staged(path: &Path) -> PathBuf {
    Path::new(STAGE).join(path.strip_prefix("/").unwrap_or(path))
}

fn make_folder(path: &Path) -> io::Result<()> {
    fs::DirBuilder::new().recursive(true).mode(0o755).create(path)
}

fn bind(source: &OwnedFd, path: &Path, folder: bool) -> io::Result<()> {
    let target = staged(path);
    if !target.exists() {
        if folder {
            make_folder(&target)?;
        } else {
            if let Some(parent) = target.parent() {
                make_folder(parent)?;
            }
            fs::write(&target, "")?;
        }
    }
    let source = format!("/proc/self/fd/{}", source.as_raw_fd());
    let none = None::<&str>;
    mount(
        Some(source.as_str()),
        &target,
        none,
        MsFlags::MS_BIND | MsFlags::MS_REC,
        none,
    )
    .map_err(|error| io::Error::new(io::Error::from(error).kind(), format!("{}: {error}", path.display())))
}
