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

/// What failed on the way to the program.
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

/// Where the outcome is told.
struct Reporter(UnixStream);

impl Reporter {
    fn tell(&mut self, status: &Status) {
        let mut line = serde_json::to_vec(status).expect("a status has only strings and numbers");
        line.push(b'\n');
        // Whoever asked may be gone; then this process is about to be killed.
        let _ = self.0.write_all(&line);
    }

    fn failed(&mut self, failure: Failure) {
        self.tell(&Status::NotStarted {
            what: failure.what,
            errno: failure.errno,
            program: failure.program,
        });
    }

    /// Whether whoever asked has gone.
    fn abandoned(&self) -> bool {
        let mut polled = [PollFd::new(self.0.as_fd(), PollFlags::empty())];
        poll(&mut polled, PollTimeout::ZERO).is_ok()
            && polled[0]
                .revents()
                .is_some_and(|events| events.contains(PollFlags::POLLHUP))
    }
}

/// Is the launcher: the whole of a program's `main`, called before anything else. `arguments` are those after [`crate::LAUNCHER`].
///
/// Takes an [`Spec`] as one line of JSON from the socket whose number it is given, and tells [`Status`]es there.
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

/// What follows is in the launcher where there are no namespaces, and in the init where there are. It returns in the launcher of an init alone.
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
    // From here on this is the init, and never returns.
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
    hold(&spec.confinement, grants)?;
    // Its memory, and where it came from, are no business of the server's.
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

/// Without namespaces, the kernel ends nothing but the server itself when the bridge is killed. So the launcher stays between the two, as the
/// reaper of all that the server starts, and ends that when the bridge goes. It is outside of what holds the server, which must not be able to
/// end it.
fn be_guard(spec: &Spec, grants: &Grants, reporter: &mut Reporter) -> Result<i32, Failure> {
    prctl::set_child_subreaper(true).map_err(at("becoming the reaper of the server"))?;
    // It has to outlive the bridge for a moment, whose end it sees at the socket.
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
        hold(&spec.confinement, grants)?;
        limit_calls(spec, None)?;
        become_server(spec, tell)
    })?;
    prctl::set_dumpable(false).map_err(at("hiding the guard"))?;
    // What the bridge sends to the server's group is not for the guard.
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
    look_after(server, reporter)
}

/// Starts the process that becomes the server, and waits until it has. What fails on the way is told by a pipe that closes with the exec.
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

/// Tells how the server does until it has ended: the code to end with.
fn look_after(server: Pid, reporter: &mut Reporter) -> Result<i32, Failure> {
    reporter.tell(&Status::Started);
    // The spec is with the server now.
    let_go_of_streams().map_err(at("letting go of the streams"))?;
    let exit = reap_until(server);
    reporter.tell(&Status::Ended(exit));
    Ok(match exit {
        Exit::Code(code) => code,
        Exit::Signal(signal) => 128 + signal,
    })
}

/// This process as those outside of its namespace see it, whose `/proc` is still there.
fn outer_pid() -> io::Result<i32> {
    let name = std::fs::read_link("/proc/self")?;
    let pid = name.to_str().and_then(|name| name.parse().ok());
    pid.ok_or_else(|| io::Error::other("/proc/self is no process"))
}

/// Else nobody would see that the server closes its own.
fn let_go_of_streams() -> io::Result<()> {
    let null = File::open("/dev/null")?;
    dup2_stdin(&null)?;
    dup2_stdout(&null)?;
    Ok(dup2_stderr(&null)?)
}

/// Reaps whatever ends in the namespace until the server has.
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

/// All that the init and the program share.
fn hold(confinement: &Confinement, grants: &Grants) -> Result<(), Failure> {
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

/// Those of real root, and those that come with a user namespace.
fn drop_capabilities() -> io::Result<()> {
    use caps::CapSet::{Ambient, Bounding, Effective, Inheritable, Permitted};
    // The bounding set can be changed by root alone; for others, no new privileges come of it.
    if caps::has_cap(None, Effective, caps::Capability::CAP_SETPCAP).map_err(io::Error::other)? {
        caps::clear(None, Bounding).map_err(io::Error::other)?;
    }
    for set in [Ambient, Inheritable, Effective, Permitted] {
        caps::clear(None, set).map_err(io::Error::other)?;
    }
    Ok(())
}

/// The last before the program. Without an init there is nobody to ask.
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

/// Becomes the program, or looks at what holds it.
fn become_server(spec: &Spec, tell: &mut Option<OwnedFd>) -> Result<Infallible, Failure> {
    if spec.command == probe::PROBE {
        // What an exec does, too: until then an init answers nothing, and can take nothing.
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
        // As a shell: one that may not be executed is told only where no other can be.
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
