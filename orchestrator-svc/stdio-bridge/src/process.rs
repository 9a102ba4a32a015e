//! The server's process: its files, its start, its end.

use std::{
    fs, io,
    io::Write as _,
    os::unix::{fs::OpenOptionsExt as _, process::CommandExt as _},
    path::{Component, Path, PathBuf},
    process::{Command, Stdio},
};

use nix::sys::{prctl, signal::Signal};
use tokio::{
    process::{ChildStderr, ChildStdin, ChildStdout},
    signal::unix::{SignalKind, signal},
    sync::watch,
};

use crate::{
    event::EndReason,
    spec::Spec,
    tree::{End, MARKER, reap},
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
}

/// Starts the server and reaps everything from then on.
pub(crate) fn start(spec: &Spec, port: Option<u16>) -> Result<Server, StartError> {
    // Listened to before anything can end.
    let mut ended = signal(SignalKind::child()).map_err(|e| internal("cannot listen for ended processes", &e))?;
    let mut command = Command::new(&spec.command);
    command
        .args(&spec.arguments)
        .env_clear()
        .envs(&spec.environment)
        .env(MARKER, &spec.marker)
        .current_dir(&spec.working_folder)
        .process_group(0)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    if let Some(port) = port {
        command.env("PORT", port.to_string());
    }
    die_with_parent(&mut command);
    let mut child = command.spawn().map_err(|e| {
        let name = &spec.command;
        match e.kind() {
            io::ErrorKind::NotFound => StartError::new(
                EndReason::CommandNotFound,
                format!("There is no command {name:?} on this machine. Install it, or correct the entry's command."),
            ),
            io::ErrorKind::PermissionDenied => StartError::new(
                EndReason::CommandNotExecutable,
                format!("{name:?} may not be executed. Correct the entry's command or the file's mode."),
            ),
            _ => StartError::new(
                EndReason::CommandNotExecutable,
                format!("{name:?} cannot be executed: {e}."),
            ),
        }
    })?;
    let pid = i32::try_from(child.id()).map_err(|_| StartError::new(EndReason::NotStarted, "unusual process id"))?;
    let pipes = (child.stdin.take(), child.stdout.take(), child.stderr.take());
    let (Some(stdin), Some(stdout), Some(stderr)) = pipes else {
        unreachable!("all three are piped")
    };
    let no_pipe = |e: io::Error| internal("cannot read from the server", &e);
    let (sender, end) = watch::channel(None);
    tokio::spawn(async move {
        loop {
            if let Some((_, end)) = reap().into_iter().find(|(ended, _)| *ended == pid) {
                sender.send_replace(Some(end));
            }
            if ended.recv().await.is_none() {
                return;
            }
        }
    });
    Ok(Server {
        pid,
        stdin: ChildStdin::from_std(stdin).map_err(no_pipe)?,
        stdout: ChildStdout::from_std(stdout).map_err(no_pipe)?,
        stderr: ChildStderr::from_std(stderr).map_err(no_pipe)?,
        end,
    })
}

/// Lets the kernel kill the server when the bridge itself is killed. Asked of the thread that starts it, which is the bridge's only one that matters.
#[expect(
    unsafe_code,
    reason = "there is no safe way to set an attribute between fork and exec; prctl is a single system call"
)]
fn die_with_parent(command: &mut Command) {
    // SAFETY: the closure makes one system call and does not allocate.
    unsafe {
        command.pre_exec(|| prctl::set_pdeathsig(Signal::SIGKILL).map_err(io::Error::from));
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

/// Writes the files, readable by nobody else, and notes those to remove afterwards, also where it fails.
pub(crate) fn write_files(spec: &Spec, secret_files: &mut Vec<PathBuf>) -> Result<(), StartError> {
    for file in &spec.files {
        let relative = Path::new(&file.path);
        let plain = |c: Component<'_>| matches!(c, Component::Normal(_) | Component::CurDir);
        if file.path.is_empty() || !relative.components().all(plain) {
            let message = format!("The file path {:?} leaves the server's folder.", file.path);
            return Err(StartError::new(EndReason::NotStarted, message));
        }
        let path = spec.working_folder.join(relative);
        if file.secret {
            secret_files.push(path.clone());
        }
        write_file(&path, file.content.as_bytes())
            .map_err(|e| internal(&format!("cannot write the file {:?}", file.path), &e))?;
    }
    Ok(())
}

fn write_file(path: &Path, content: &[u8]) -> io::Result<()> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    // Made anew, so that neither an old mode nor a link decides where the text goes.
    match fs::remove_file(path) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
        _ => {}
    }
    fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)?
        .write_all(content)
}

fn internal(what: &str, error: &io::Error) -> StartError {
    StartError::new(EndReason::NotStarted, format!("{what}: {error}"))
}
