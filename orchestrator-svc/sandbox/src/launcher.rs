//! The launcher, and the init it becomes.

use std::{
    convert::Infallible,
    ffi::{CString, OsStr},
    fs::File,
    io::{self, BufRead as _, BufReader, Read as _, Write as _},
    os::{
        fd::{AsFd as _, OwnedFd, RawFd},
        unix::{ffi::OsStrExt as _, net::UnixStream},
    },
    path::{Path, PathBuf},
    process::ExitCode,
};

use nix::{
    errno::Errno,
    fcntl::OFlag,
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::{
        prctl,
        signal::{SigSet, Signal},
        wait::{WaitStatus, wait},
    },
    unistd::{Gid, Pid, Uid, chdir, dup2_stderr, dup2_stdin, dup2_stdout, execve, getpid, getppid, pipe2, setsid},
};
use zeroize::Zeroizing;

use crate::{
    condition,
    descendants::kill_descendants,
    grants::Grants,
    landlock, listening, namespaces, probe, seccomp,
    spec::{Confinement, Spec},
    status::{Exit, Status},
    sys,
};

/// Longest spec, in bytes.
const SPEC_BYTES: u64 = 32 << 20;

/// What failed before the program was started.
#[derive(Debug)]
struct Failure {
    what: String,
    errno: i32,
    program: bool,
}

impl Failure {
    fn new(what: impl Into<String>, error: &io::Error) -> Self {
        let what: String = what.into();
        Self {
            what: format!("{what}: {error}"),
            errno: error.raw_os_error().unwrap_or(0),
            program: false,
        }
    }
}

fn at<E: Into<io::Error>>(what: &'static str) -> impl FnOnce(E) -> Failure {
    move |error| Failure::new(what, &error.into())
}

/// The connection to the parent, which gets the outcome.
struct Reporter(UnixStream);

impl Reporter {
    fn tell(&mut self, status: &Status) {
        let mut line = serde_json::to_vec(status).expect("a status has only strings and numbers");
        line.push(b'\n');
        // The parent may have ended; then this process is about to be killed.
        let _ = self.0.write_all(&line);
    }

    fn failed(&mut self, failure: Failure) {
        self.tell(&Status::NotStarted {
            what: failure.what,
            errno: failure.errno,
            program: failure.program,
        });
    }

    /// Whether the parent has ended.
    fn abandoned(&self) -> bool {
        let mut polled = [PollFd::new(self.0.as_fd(), PollFlags::empty())];
        poll(&mut polled, PollTimeout::ZERO).is_ok()
            && polled[0]
                .revents()
                .is_some_and(|events| events.contains(PollFlags::POLLHUP))
    }
}

/// The `main` of the launcher. A program whose first argument is [`crate::LAUNCHER`] calls it before anything else, with the arguments that
/// follow.
///
/// Reads a [`Spec`] as one line of JSON from the socket whose descriptor is the first argument, and writes [`Status`]es to it.
pub fn launch(mut arguments: impl Iterator<Item = String>) -> ExitCode {
    let descriptor = arguments.next().and_then(|number| number.parse::<RawFd>().ok());
    let Some(descriptor) = descriptor.filter(|&number| number > 2) else {
        return ExitCode::FAILURE;
    };
    let mut reporter = Reporter(UnixStream::from(sys::inherited(descriptor)));
    match spec(&reporter.0).and_then(|spec| carry_out(&spec, &mut reporter)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            reporter.failed(failure);
            ExitCode::FAILURE
        }
    }
}

fn spec(socket: &UnixStream) -> Result<Spec, Failure> {
    let mut line = Zeroizing::new(Vec::new());
    BufReader::new(socket.take(SPEC_BYTES))
        .read_until(b'\n', &mut line)
        .map_err(at("reading the spec"))?;
    serde_json::from_slice(&line).map_err(|error| Failure::new("reading the spec", &error.into()))
}

/// Runs the program. Without namespaces, the launcher itself stays as the guard, and this does not return. With namespaces, the init does,
/// and this returns in the launcher.
fn carry_out(spec: &Spec, reporter: &mut Reporter) -> Result<(), Failure> {
    sys::close_all_on_exec().map_err(at("closing what was inherited"))?;
    let grants = Grants::of(&spec.confinement).map_err(at("looking for what is granted"))?;
    if !spec.confinement.layers.namespaces {
        end_as(be_guard(spec, &grants, reporter), reporter)
    }
    let (user, group) = (Uid::current(), Gid::current());
    if sys::clone_as_sibling(namespaces::NEW)
        .map_err(at("making namespaces"))?
        .is_some()
    {
        return Ok(());
    }
    // This is the init from here on, and never returns.
    end_as(be_init(spec, &grants, (user, group), reporter), reporter)
}

fn end_as(outcome: Result<i32, Failure>, reporter: &mut Reporter) -> ! {
    let code = outcome.unwrap_or_else(|failure| {
        reporter.failed(failure);
        1
    });
    std::process::exit(code)
}

fn be_init(spec: &Spec, grants: &Grants, (user, group): (Uid, Gid), reporter: &mut Reporter) -> Result<i32, Failure> {
    prctl::set_pdeathsig(Signal::SIGKILL).map_err(at("following the bridge"))?;
    if reporter.abandoned() {
        return Ok(1);
    }
    reporter.tell(&Status::Process {
        pid: outer_pid().map_err(at("looking for the init"))?,
    });
    setsid().map_err(at("making a session"))?;
    namespaces::map_user(user, group).map_err(at("mapping the user"))?;
    namespaces::enter(&spec.confinement, grants).map_err(at("making the file system"))?;
    restrict(&spec.confinement, grants)?;
    // The server must not read the init's memory, nor find the path of its program.
    prctl::set_dumpable(false).map_err(at("hiding the init"))?;
    let (to_init, from_program) = UnixStream::pair().map_err(at("making a socket"))?;
    let server = start(|tell| {
        limit_calls(spec, Some(&to_init))?;
        become_server(spec, tell)
    })?;
    drop(to_init);
    if let Some(asks) = listening::take_over(&from_program).map_err(at("taking over the filter"))? {
        let ports = spec.confinement.listen.clone().unwrap_or_default();
        listening::answer(asks, ports).map_err(at("starting a thread"))?;
    }
    look_after(server, reporter)
}

/// Without namespaces, the kernel kills only the server itself when the bridge is killed. The launcher therefore stays between the two as the
/// subreaper of everything that the server starts, and kills that when the bridge ends. It is not sandboxed, since the server must not be able
/// to kill it.
fn be_guard(spec: &Spec, grants: &Grants, reporter: &mut Reporter) -> Result<i32, Failure> {
    prctl::set_child_subreaper(true).map_err(at("becoming the reaper of the server"))?;
    // The guard has to outlive the bridge for a moment. It notices the bridge's end at the socket.
    prctl::set_pdeathsig(None::<Signal>).map_err(at("outliving the bridge"))?;
    if reporter.abandoned() {
        return Ok(1);
    }
    setsid().map_err(at("making a session"))?;
    let guard = getpid();
    reporter.tell(&Status::Process { pid: guard.as_raw() });
    let bridge = reporter.0.try_clone().map_err(at("following the bridge"))?;
    let server = start(|tell| {
        prctl::set_pdeathsig(Signal::SIGKILL).map_err(at("following the guard"))?;
        if getppid() != guard {
            std::process::exit(1);
        }
        restrict(&spec.confinement, grants)?;
        limit_calls(spec, None)?;
        become_server(spec, tell)
    })?;
    let outcome = follow_bridge(bridge).and_then(|()| look_after(server, reporter));
    // As the end of an init does. The bridge may be dead: then nobody else kills them, and the thread that does may be in the middle of it.
    kill_descendants();
    outcome
}

/// Hides the guard from the server, and starts the thread that kills the server and all its descendants when the bridge ends.
fn follow_bridge(bridge: UnixStream) -> Result<(), Failure> {
    prctl::set_dumpable(false).map_err(at("hiding the guard"))?;
    // Signals that the bridge sends to the server's process group are not meant for the guard.
    SigSet::all().thread_block().map_err(at("ignoring signals"))?;
    std::thread::Builder::new()
        .spawn(move || {
            while let Err(Errno::EINTR) = poll(
                &mut [PollFd::new(bridge.as_fd(), PollFlags::empty())],
                PollTimeout::NONE,
            ) {}
            kill_descendants();
            std::process::exit(1)
        })
        .map_err(at("starting a thread"))?;
    Ok(())
}

/// Forks the process that becomes the server, and waits until it has executed the program. A failure before that is written to a pipe that
/// the exec closes.
fn start(become_server: impl FnOnce(&mut Option<OwnedFd>) -> Result<Infallible, Failure>) -> Result<Pid, Failure> {
    let (outcome, tell) = pipe2(OFlag::O_CLOEXEC).map_err(at("making a pipe"))?;
    let Some(server) = sys::fork().map_err(at("starting the process"))? else {
        drop(outcome);
        let mut tell = Some(tell);
        let failure = match become_server(&mut tell) {
            Err(failure) => failure,
            Ok(never) => match never {},
        };
        if let Some(mut tell) = tell.map(File::from) {
            let kind = [u8::from(failure.program)];
            let _ = tell.write_all(&failure.errno.to_be_bytes());
            let _ = tell.write_all(&kind);
            let _ = tell.write_all(failure.what.as_bytes());
        }
        std::process::exit(1)
    };
    drop(tell);
    let mut failed = Vec::new();
    File::from(outcome)
        .read_to_end(&mut failed)
        .map_err(at("waiting for the program"))?;
    let Some((errno, rest)) = failed.split_first_chunk::<4>() else {
        return Ok(server);
    };
    let (program, what) = rest.split_first().unwrap_or((&0, &[]));
    Err(Failure {
        what: String::from_utf8_lossy(what).into_owned(),
        errno: i32::from_be_bytes(*errno),
        program: *program == 1,
    })
}

/// Reports the server's status until it has ended; returns the exit code for this process.
fn look_after(server: Pid, reporter: &mut Reporter) -> Result<i32, Failure> {
    reporter.tell(&Status::Started);
    // The server has its copies of the standard streams.
    let_go_of_streams().map_err(at("letting go of the streams"))?;
    let exit = reap_until(server);
    reporter.tell(&Status::Ended(exit));
    Ok(match exit {
        Exit::Code(code) => code,
        Exit::Signal(signal) => 128 + signal,
    })
}

/// The id of this process outside of its namespace. The outer `/proc` is still mounted.
fn outer_pid() -> io::Result<i32> {
    let name = std::fs::read_link("/proc/self")?;
    let pid = name.to_str().and_then(|name| name.parse().ok());
    pid.ok_or_else(|| io::Error::other("/proc/self is no process"))
}

/// Closes this process's standard streams: otherwise nobody would notice that the server closes its own.
fn let_go_of_streams() -> io::Result<()> {
    let null = File::open("/dev/null")?;
    dup2_stdin(&null)?;
    dup2_stdout(&null)?;
    Ok(dup2_stderr(&null)?)
}

/// Reaps all processes of the namespace that end, until the server has ended.
fn reap_until(server: Pid) -> Exit {
    loop {
        match wait() {
            Ok(WaitStatus::Exited(pid, code)) if pid == server => return Exit::Code(code),
            Ok(WaitStatus::Signaled(pid, signal, _)) if pid == server => return Exit::Signal(signal as i32),
            Ok(_) | Err(Errno::EINTR) => {}
            Err(_) => return Exit::Code(1),
        }
    }
}

/// The restrictions that apply to the init as well as to the program.
fn restrict(confinement: &Confinement, grants: &Grants) -> Result<(), Failure> {
    let layers = &confinement.layers;
    if layers.none() {
        return Ok(());
    }
    confinement
        .resources
        .apply(layers.namespaces)
        .map_err(at("limiting resources"))?;
    drop_capabilities().map_err(at("dropping capabilities"))?;
    prctl::set_no_new_privs().map_err(at("refusing privileges"))?;
    if layers.landlock > 0 {
        landlock::apply(confinement, grants).map_err(|error| Failure::new("Landlock", &io::Error::other(error)))?;
    }
    Ok(())
}

/// Drops the capabilities of real root, and those that come with a user namespace.
fn drop_capabilities() -> io::Result<()> {
    use caps::CapSet::{Ambient, Bounding, Effective, Inheritable, Permitted};
    // Only root can change the bounding set; others gain no privileges from it.
    if caps::has_cap(None, Effective, caps::Capability::CAP_SETPCAP).map_err(io::Error::other)? {
        caps::clear(None, Bounding).map_err(io::Error::other)?;
    }
    for set in [Ambient, Inheritable, Effective, Permitted] {
        caps::clear(None, set).map_err(io::Error::other)?;
    }
    Ok(())
}

/// Installs the system call filters, last before the exec. Without an init, nothing can answer user notifications.
fn limit_calls(spec: &Spec, init: Option<&UnixStream>) -> Result<(), Failure> {
    let layers = &spec.confinement.layers;
    chdir(&spec.working_folder).map_err(at("entering the working folder"))?;
    if layers.seccomp {
        let asks = seccomp::apply(&spec.confinement).map_err(|error| {
            let layer = match error {
                condition::Error::Asks(_) => probe::LISTEN,
                _ => "seccomp",
            };
            Failure::new(layer, &io::Error::other(error))
        })?;
        if let (Some(asks), Some(init)) = (asks, init) {
            listening::hand_over(&asks, init).map_err(at("handing over the filter"))?;
        }
    }
    Ok(())
}

/// Executes the program, or tests the sandbox from inside.
fn become_server(spec: &Spec, tell: &mut Option<OwnedFd>) -> Result<Infallible, Failure> {
    if spec.command == probe::PROBE {
        // As an exec does: until then, an init does not answer, and cannot duplicate sockets.
        drop(tell.take());
        let dumpable = prctl::set_dumpable(true);
        std::process::exit(dumpable.map_or(1, |()| probe::observe(spec)))
    }
    let program = |error: Errno| Failure {
        what: error.desc().to_owned(),
        errno: error as i32,
        program: true,
    };
    let text = |text: &OsStr| CString::new(text.as_bytes()).map_err(|_| program(Errno::EINVAL));
    let mut arguments = vec![text(spec.command.as_ref())?];
    for argument in &spec.arguments {
        arguments.push(text(argument.as_ref())?);
    }
    let mut environment = Vec::new();
    for (name, value) in &spec.environment {
        environment.push(text(format!("{name}={value}").as_ref())?);
    }
    let mut found = Errno::ENOENT;
    for path in candidates(spec) {
        let Err(error) = execve(&text(path.as_os_str())?, &arguments, &environment);
        // As a shell does: a file without permission to execute is reported only if no other can be executed.
        if !matches!(error, Errno::ENOENT | Errno::ENOTDIR) {
            found = error;
            if error != Errno::EACCES {
                break;
            }
        }
    }
    Err(program(found))
}

fn candidates(spec: &Spec) -> Vec<PathBuf> {
    const DEFAULT: &str = "/usr/local/bin:/usr/bin:/bin";
    if spec.command.contains('/') {
        return vec![PathBuf::from(&spec.command)];
    }
    let path = spec.environment.get("PATH").map_or(DEFAULT, String::as_str);
    path.split(':')
        .filter(|folder| !folder.is_empty())
        .map(|folder| Path::new(folder).join(&spec.command))
        .collect()
}
