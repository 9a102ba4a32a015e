//! Tests which mechanisms work on this machine, by running a program in the sandbox: a container may allow a clone and refuse the mount after
//! it.

use std::{
    fs,
    io::{self, BufRead as _, BufReader, Write as _},
    os::{
        fd::AsRawFd as _,
        unix::{net::UnixStream, process::CommandExt as _},
    },
    path::Path,
    process::{Command, Stdio},
    time::Duration,
};

use nix::{
    errno::Errno,
    fcntl::{FcntlArg, FdFlag, fcntl},
    sys::{
        signal::kill,
        socket::{AddressFamily, Backlog, SockFlag, SockType, listen, socket},
        wait::waitpid,
    },
    unistd::Pid,
};

use crate::{
    landlock,
    layers::Layers,
    resources::Resources,
    spec::{Confinement, LAUNCHER, Spec},
    status::Status,
};

/// The command of a [`Spec`] that starts no program, but tests the sandbox from inside.
pub(crate) const PROBE: &str = "\u{0}probe";
/// Begins the message of a failure of [`Layers::listen_by_init`].
pub(crate) const LISTEN: &str = "listen";
/// The exit code if the init cannot duplicate sockets.
const CANNOT_TAKE: i32 = 32;
/// How long a test may take. A set-up takes milliseconds.
const PATIENCE: Duration = Duration::from_secs(20);

/// The mechanisms that work on this machine, and for each other one a message that says why it does not.
///
/// `program` is a launcher when [`LAUNCHER`] is its first argument; `hidden` is a folder that must not be visible, `scratch` one that may be
/// written to.
///
/// # Errors
/// If the launcher cannot be started.
pub fn probe(program: &Path, hidden: &Path, scratch: &Path) -> io::Result<(Layers, Vec<String>)> {
    let mut missing = Vec::new();
    let mut layers = Layers {
        namespaces: true,
        landlock: landlock::version(),
        seccomp: true,
        listen_by_init: true,
    };
    if layers.landlock == 0 {
        missing.push("Landlock: not supported by this kernel, or not enabled".to_owned());
    }
    // A mechanism that fails is left out, and the rest is tested again.
    for _ in 0..4 {
        match attempt(&layers, program, hidden, scratch)? {
            None => return Ok((layers, missing)),
            Some(what) if what.starts_with(LISTEN) && layers.listen_by_init => {
                layers.listen_by_init = false;
                missing.push(what);
            }
            Some(what) if what.starts_with("seccomp") && layers.seccomp => {
                layers.seccomp = false;
                missing.push(what);
            }
            Some(what) if what.starts_with("Landlock") && layers.landlock > 0 => {
                layers.landlock = 0;
                missing.push(what);
            }
            Some(what) if layers.namespaces => {
                layers.namespaces = false;
                missing.push(format!("namespaces: {what}"));
            }
            Some(what) => {
                missing.push(what);
                break;
            }
        }
    }
    Ok((Layers::default(), missing))
}

/// What failed; `None` if all mechanisms work.
fn attempt(layers: &Layers, program: &Path, hidden: &Path, scratch: &Path) -> io::Result<Option<String>> {
    let spec = Spec {
        command: PROBE.to_owned(),
        // What the test inside looks for.
        arguments: vec![std::process::id().to_string()],
        environment: Default::default(),
        working_folder: "/".into(),
        confinement: Confinement {
            layers: layers.clone(),
            grants: Vec::new(),
            temporary_folder: scratch.to_owned(),
            hidden: hidden.to_owned(),
            connect: Some(Vec::new()),
            listen: Some(Vec::new()),
            resources: Resources::default(),
        },
    };
    let (mut ours, theirs) = UnixStream::pair()?;
    let number = theirs.as_raw_fd();
    let mut command = Command::new(program);
    command
        .args([LAUNCHER, &number.to_string()])
        .env_clear()
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    pass_on(&mut command, &theirs);
    let mut child = command.spawn()?;
    drop(theirs);
    ours.set_read_timeout(Some(PATIENCE))?;
    let mut line = serde_json::to_vec(&spec)?;
    line.push(b'\n');
    // A program that is no launcher ends at once.
    let told = ours.write_all(&line);
    let mut statuses = Vec::new();
    for line in BufReader::new(&ours).lines() {
        statuses.push(serde_json::from_str::<Status>(&line?).map_err(io::Error::from)?);
    }
    let exit = child.wait()?;
    reap_init(&statuses, child.id());
    told?;
    for status in &statuses {
        if let Status::NotStarted { what, .. } = status {
            return Ok(Some(what.clone()));
        }
    }
    let ended = statuses.iter().find_map(|status| match status {
        Status::Ended(exit) => Some(*exit),
        _ => None,
    });
    match ended {
        Some(crate::status::Exit::Code(0)) => Ok(None),
        Some(crate::status::Exit::Code(CANNOT_TAKE)) => Ok(Some(format!(
            "{LISTEN}: the init cannot duplicate a server's sockets (kernel.yama.ptrace_scope may be above 1)"
        ))),
        _ => Ok(Some(format!(
            "hidden files are visible from inside ({ended:?}, {exit})"
        ))),
    }
}

/// The init is a child of this process, not of the launcher, and has ended or is about to.
fn reap_init(statuses: &[Status], launcher: u32) {
    for status in statuses {
        if let Status::Process { pid } = status
            && u32::try_from(*pid) != Ok(launcher)
        {
            // Fails if it was reaped already, by a caller that reaps all children.
            let _ = waitpid(Pid::from_raw(*pid), None);
        }
    }
}

/// Lets a command inherit a descriptor under the same number.
#[expect(
    unsafe_code,
    reason = "there is no safe way to let a single descriptor through an exec; it is one system call"
)]
pub fn pass_on(command: &mut Command, socket: &UnixStream) {
    let number = socket.as_raw_fd();
    // SAFETY: the closure makes one system call on a descriptor that is open while the command is spawned, and does not allocate.
    unsafe {
        command.pre_exec(move || {
            let socket = std::os::fd::BorrowedFd::borrow_raw(number);
            fcntl(socket, FcntlArg::F_SETFD(FdFlag::empty()))?;
            Ok(())
        });
    }
}

/// Tests the sandbox from inside; returns the exit code.
pub(crate) fn observe(spec: &Spec) -> i32 {
    let layers = &spec.confinement.layers;
    let hidden = &spec.confinement.hidden;
    let parent = spec.arguments.first().and_then(|pid| pid.parse::<i32>().ok());
    let files = fs::read_dir(hidden).is_err();
    let metadata = fs::symlink_metadata(hidden).is_err();
    let processes = parent.is_some_and(|pid| kill(Pid::from_raw(pid), None).is_err());
    let sockets = std::net::TcpListener::bind(("127.0.0.1", 0)).is_err();
    // The init refuses this after it has inspected the socket.
    let listens = socket(AddressFamily::Inet, SockType::Stream, SockFlag::SOCK_CLOEXEC, None)
        .is_ok_and(|socket| listen(&socket, Backlog::MAXALLOWABLE) == Err(Errno::EACCES));
    let calls = nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWUSER).is_err();
    let held = [
        (files, layers.namespaces || layers.landlock >= 1, 1),
        (metadata, layers.namespaces, 2),
        (processes, layers.namespaces || layers.landlock >= 6, 4),
        (sockets, layers.landlock >= 4, 8),
        (calls, layers.seccomp, 16),
        (listens, layers.asks_to_listen(), CANNOT_TAKE),
    ];
    held.iter()
        .filter(|(holds, expected, _)| *expected && !holds)
        .map(|(_, _, code)| code)
        .sum()
}
