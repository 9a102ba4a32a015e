//! The server's process: its start, its end.

use std::{
    io,
    os::{
        fd::AsRawFd as _,
        unix::{net::UnixStream as StdUnixStream, process::CommandExt as _},
    },
    path::Path,
    process::{Command, Stdio},
};

use nix::{
    errno::Errno,
    sys::{
        prctl,
        signal::{Signal::SIGKILL, kill},
    },
    unistd::Pid,
};
use sandbox::{Exit, LAUNCHER, Status};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, Lines},
    net::UnixStream,
    process::{ChildStderr, ChildStdin, ChildStdout},
    sync::watch,
    time::timeout,
};
use zeroize::Zeroizing;

use crate::{
    event::{EndReason, Event},
    reaper::Reaper,
    spec::Spec,
    tree::{End, MARKER},
};

/// A started server.
pub(crate) struct Server {
    pub(crate) pid: i32,
    pub(crate) stdin: ChildStdin,
    pub(crate) stdout: ChildStdout,
    pub(crate) stderr: ChildStderr,
    /// Set once it has ended.
    pub(crate) end: watch::Receiver<Option<End>>,
}

/// Why a server could not be started.
#[derive(Debug)]
pub(crate) struct StartError {
    pub(crate) reason: EndReason,
    pub(crate) message: String,
}

impl StartError {
    pub(crate) fn new(reason: EndReason, message: impl Into<String>) -> Self {
        Self {
            reason,
            message: message.into(),
        }
    }

    /// For what is not the server's fault. `what` follows the words "the bridge".
    pub(crate) fn internal(what: &str) -> Self {
        let message = format!("Internal error: the bridge of the MCP server {what}. The server is started again.");
        Self::new(EndReason::BridgeFailed, message)
    }
}

impl From<StartError> for Event {
    fn from(error: StartError) -> Self {
        Self::Ended {
            reason: error.reason,
            message: error.message,
            exit_code: None,
            signal: None,
        }
    }
}

/// Starts the server in its sandbox. `marker` is [`Spec::marker`], or begins with it.
pub(crate) async fn start(spec: &Spec, marker: &str, port: Option<u16>, reaper: &Reaper) -> Result<Server, StartError> {
    // Before the process is started: it may end at once.
    let starting = reaper.starting();
    let no_launcher = |e: io::Error| internal("cannot start the launcher", &e);
    let (ours, theirs) = StdUnixStream::pair().map_err(no_launcher)?;
    // This program, even if its file was replaced since it was started.
    let mut command = Command::new("/proc/self/exe");
    command
        .args([LAUNCHER, &theirs.as_raw_fd().to_string()])
        .env_clear()
        .current_dir("/")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    sandbox::pass_on(&mut command, &theirs);
    die_with_parent(&mut command);
    let mut child = command.spawn().map_err(no_launcher)?;
    drop((theirs, command));
    let launcher_pid = child.id().cast_signed();
    let pipes = (child.stdin.take(), child.stdout.take(), child.stderr.take());
    let (Some(stdin), Some(stdout), Some(stderr)) = pipes else {
        unreachable!("all three are piped")
    };
    let no_pipe = |e: io::Error| internal("cannot read from the server", &e);
    let mut launcher = Launcher::ask(ours, spec, marker, port).await.map_err(no_launcher)?;
    let Ok(started) = timeout(spec.limits.ready(), launcher.started(spec)).await else {
        let _ = kill(Pid::from_raw(launcher_pid), SIGKILL);
        return Err(StartError::new(
            EndReason::NotStarted,
            "the sandbox was not made in time",
        ));
    };
    let pid = started?;
    let mut reaped = starting.end_of(pid);
    let (sender, end) = watch::channel(None);
    tokio::spawn(async move {
        let end = ended(&mut reaped).await;
        sender.send_replace(Some(launcher.ended().await.unwrap_or(end)));
    });
    Ok(Server {
        pid,
        stdin: ChildStdin::from_std(stdin).map_err(no_pipe)?,
        stdout: ChildStdout::from_std(stdout).map_err(no_pipe)?,
        stderr: ChildStderr::from_std(stderr).map_err(no_pipe)?,
        end,
    })
}

/// The launcher, and the init that it becomes, at the other end of a socket.
struct Launcher(Lines<BufReader<UnixStream>>);

impl Launcher {
    async fn ask(socket: StdUnixStream, spec: &Spec, marker: &str, port: Option<u16>) -> io::Result<Self> {
        let mut environment = spec.environment.clone();
        environment.insert(MARKER.to_owned(), marker.to_owned());
        let mut confinement = spec.confinement.clone();
        if let Some(port) = port {
            environment.insert("PORT".to_owned(), port.to_string());
            confinement.listen.get_or_insert_default().push(port);
        }
        let launched = sandbox::Spec {
            command: spec.command.clone(),
            arguments: spec.arguments.clone(),
            environment,
            working_folder: spec.working_folder.clone(),
            confinement,
        };
        let mut line = Zeroizing::new(serde_json::to_vec(&launched)?);
        line.push(b'\n');
        socket.set_nonblocking(true)?;
        let mut socket = UnixStream::from_std(socket)?;
        socket.write_all(&line).await?;
        Ok(Self(BufReader::new(socket).lines()))
    }

    async fn next(&mut self) -> Option<Status> {
        let line = self.0.next_line().await.ok()??;
        serde_json::from_str(&line).ok()
    }

    /// Waits until the server runs. Returns the id of the process that represents it: the init, or the guard.
    async fn started(&mut self, spec: &Spec) -> Result<i32, StartError> {
        let mut pid = 0;
        loop {
            match self.next().await {
                Some(Status::Process { pid: represents }) => pid = represents,
                Some(Status::NotStarted { what, errno, program }) => {
                    return Err(not_started(spec, &what, errno, program));
                }
                Some(Status::Started) => return Ok(pid),
                Some(Status::Ended(_)) | None => {
                    return Err(StartError::internal("has lost the launcher of the server"));
                }
            }
        }
    }

    /// How the server ended, if its init has reported that.
    async fn ended(&mut self) -> Option<End> {
        while let Some(status) = self.next().await {
            match status {
                Status::Ended(Exit::Code(code)) => {
                    return Some(End {
                        code: Some(code),
                        signal: None,
                    });
                }
                Status::Ended(Exit::Signal(signal)) => {
                    return Some(End {
                        code: None,
                        signal: Some(signal),
                    });
                }
                _ => {}
            }
        }
        None
    }
}

fn not_started(spec: &Spec, what: &str, errno: i32, program: bool) -> StartError {
    let name = &spec.command;
    if !program {
        return StartError::new(EndReason::NotStarted, format!("The sandbox could not be made: {what}."));
    }
    match Errno::from_raw(errno) {
        Errno::ENOENT if Path::new(name).exists() => StartError::new(
            EndReason::CommandNotFound,
            format!(
                "{name:?} is there, but it, or the interpreter that it names, is not among what servers see. Let them, with --server-read, \
                 or install it below /usr or /opt."
            ),
        ),
        Errno::ENOENT => StartError::new(
            EndReason::CommandNotFound,
            format!("There is no command {name:?} on this machine. Install it, or correct the entry's command."),
        ),
        Errno::EACCES => StartError::new(
            EndReason::CommandNotExecutable,
            format!("{name:?} may not be executed. Correct the entry's command or the file's mode."),
        ),
        _ => StartError::new(
            EndReason::CommandNotExecutable,
            format!("{name:?} cannot be executed: {what}."),
        ),
    }
}

/// Lets the kernel kill the launcher when the bridge is killed: more precisely, when the thread that starts it ends, which runs until the bridge
/// ends.
#[expect(
    unsafe_code,
    reason = "there is no safe way to set an attribute between fork and exec; prctl is a single system call"
)]
fn die_with_parent(command: &mut Command) {
    // SAFETY: the closure makes one system call and does not allocate.
    unsafe {
        command.pre_exec(|| prctl::set_pdeathsig(SIGKILL).map_err(io::Error::from));
    }
}

/// Waits until the server has ended.
pub(crate) async fn ended(end: &mut watch::Receiver<Option<End>>) -> End {
    match end.wait_for(Option::is_some).await {
        Ok(end) => end.expect("just waited for"),
        Err(_) => End {
            code: None,
            signal: None,
        },
    }
}

fn internal(what: &str, error: &io::Error) -> StartError {
    StartError::internal(&format!("{what}: {error}"))
}
