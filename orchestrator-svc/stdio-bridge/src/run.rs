//! The life of the bridge: read the spec, start the server, serve it, leave nothing behind.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    pin::pin,
    process::ExitCode,
    sync::Arc,
    time::{Duration, Instant},
};

use nix::{
    fcntl::{Flock, FlockArg},
    sys::{
        prctl,
        signal::{Signal, killpg},
    },
    unistd::{Pid, getppid},
};
use sandbox::LAUNCHER;
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, BufReader},
    net::UnixListener,
    sync::watch,
    task::JoinHandle,
    time::timeout,
};
use zeroize::Zeroizing;

use crate::{
    event::{EndReason, Event, Events},
    files::Folder,
    http::Endpoint,
    log::Log,
    process::{Server, StartError, ended, start},
    proxy::{Proxy, choose_port, wait_until_open},
    redact::Redactor,
    serve::{Service, serve},
    spec::{Spec, Transport},
    stdio::Session,
    stop::{self, Stop},
    tree::{End, kill_descendants},
    underway::Underway,
};

/// Longest spec, in bytes.
const SPEC_BYTES: u64 = 32 << 20;
/// How long a predecessor may take to clean up.
const PREDECESSOR: Duration = Duration::from_secs(15);
/// From SIGTERM to SIGKILL where the parent is gone.
const ABANDONED: Duration = Duration::from_secs(1);

/// Runs the bridge on standard input and output until its server or its parent ends, or launches a server for a bridge where the first
/// argument is [`sandbox::LAUNCHER`]: the whole of a program's `main`.
pub fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    if arguments.next().as_deref() == Some(LAUNCHER) {
        return sandbox::launch(arguments);
    }
    // One thread: the server's life is tied to the thread that started it.
    let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_all().build() else {
        return ExitCode::FAILURE;
    };
    runtime.block_on(run());
    // Standard input may still block a helper thread.
    runtime.shutdown_background();
    ExitCode::SUCCESS
}

async fn run() {
    let (events, writer) = Events::to_stdout();
    let ended = life(&events).await;
    events.send(ended).await;
    drop(events);
    let _ = timeout(Duration::from_secs(1), writer).await;
}

/// See [`StartError::internal`].
fn bridge_failed(what: &str) -> Event {
    failed(StartError::internal(what))
}

fn failed(error: StartError) -> Event {
    Event::Ended {
        reason: error.reason,
        message: error.message,
        exit_code: None,
        signal: None,
    }
}

async fn life(events: &Events) -> Event {
    // The only one that may call.
    let parent = getppid();
    if prctl::set_child_subreaper(true).is_err() {
        return bridge_failed("cannot become the reaper of its descendants");
    }
    // No other process of this user reads its memory, which has secrets.
    if prctl::set_dumpable(false).is_err() {
        return bridge_failed("cannot hide its memory");
    }
    let mut input = BufReader::new(tokio::io::stdin());
    let mut line = Zeroizing::new(Vec::new());
    let read = (&mut input).take(SPEC_BYTES).read_until(b'\n', &mut line).await;
    let Ok(spec) = read
        .map_err(drop)
        .and_then(|_| serde_json::from_slice::<Spec>(&line).map_err(drop))
    else {
        return bridge_failed("cannot read its spec");
    };
    drop(line);
    let Ok(stop) = stop::follow(input) else {
        return bridge_failed("cannot listen for signals");
    };
    let Some(_lock) = lock(&spec).await else {
        return bridge_failed("waits in vain for the end of its predecessor");
    };
    let folder = match Folder::open(&spec.working_folder) {
        Ok(folder) => folder,
        Err(error) => return bridge_failed(&format!("cannot open the working folder: {error}")),
    };
    let event = match prepare(&spec, &folder).await {
        Ok((server, port)) => live(&spec, server, port, parent, stop, events).await,
        Err(error) => failed(error),
    };
    kill_descendants().await;
    for file in spec.files.iter().filter(|file| file.secret) {
        let _ = folder.remove(&file.path);
    }
    let _ = fs::remove_file(&spec.socket);
    event
}

async fn lock(spec: &Spec) -> Option<Flock<fs::File>> {
    let deadline = Instant::now() + PREDECESSOR;
    loop {
        let file = fs::OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&spec.lock)
            .ok()?;
        match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(lock) => return Some(lock),
            Err(_) if Instant::now() < deadline => tokio::time::sleep(Duration::from_millis(20)).await,
            Err(_) => return None,
        }
    }
}

async fn prepare(spec: &Spec, folder: &Folder) -> Result<(Server, Option<u16>), StartError> {
    for file in &spec.files {
        folder.write(file).map_err(|error| {
            let message = format!("cannot write the file {:?}: {error}", file.path);
            StartError::new(EndReason::NotStarted, message)
        })?;
    }
    let port = match spec.transport {
        Transport::Stdio | Transport::Task => None,
        Transport::StreamableHttp { port, .. } => Some(choose_port(port).await?),
    };
    Ok((start(spec, port).await?, port))
}

/// From the start of the server to its end.
async fn live(
    spec: &Spec,
    server: Server,
    port: Option<u16>,
    parent: Pid,
    mut stop: watch::Receiver<Stop>,
    events: &Events,
) -> Event {
    let Server {
        pid,
        stdin,
        stdout,
        stderr,
        mut end,
    } = server;
    events.send(Event::Started { pid }).await;
    let redactor = Arc::new(Redactor::new(&spec.secrets));
    let log = Log::new(events.clone(), redactor, &spec.limits);
    let mut logs = vec![log.follow(stderr)];
    let (session, closed) = match spec.transport {
        Transport::Stdio => {
            let (session, closed) =
                Session::start(stdin, stdout, spec.limits.clone(), events.clone(), Arc::clone(&log));
            (Some(session), Some(closed))
        }
        Transport::Task | Transport::StreamableHttp { .. } => {
            drop(stdin);
            logs.push(log.follow(stdout));
            (None, None)
        }
    };
    let mut closed = pin!(async move {
        match closed {
            Some(closed) => drop(closed.await),
            None => std::future::pending().await,
        }
    });
    let ready = async {
        let service = match (&session, port) {
            (Some(session), _) => {
                session.initialize().await?;
                Service::Stdio(Arc::new(Endpoint::new(Arc::clone(session), spec.limits.clone())))
            }
            (None, None) => {
                tokio::time::sleep(spec.limits.ready()).await;
                let message = format!("It did not end within {} s.", spec.limits.ready().as_secs());
                return Err(StartError::new(EndReason::TaskTimeout, message));
            }
            (None, port) => {
                let port = port.unwrap_or_default();
                wait_until_open(port, spec.limits.ready()).await?;
                let Transport::StreamableHttp { path, .. } = &spec.transport else {
                    unreachable!("it has a port")
                };
                let proxy = Proxy::new(port, path);
                Service::Http(Arc::new(
                    proxy.ok_or_else(|| StartError::new(EndReason::NotStarted, "the path is not valid"))?,
                ))
            }
        };
        let unusable = |e: std::io::Error| StartError::internal(&format!("cannot listen: {e}"));
        let listener = UnixListener::bind(&spec.socket).map_err(unusable)?;
        fs::set_permissions(&spec.socket, fs::Permissions::from_mode(0o600)).map_err(unusable)?;
        Ok::<_, StartError>((service, listener))
    };
    let underway = Underway::default();
    let (finish, finishing) = watch::channel(false);
    let outcome = tokio::select! {
        biased;
        end = ended(&mut end) => Outcome::Ended(end),
        () = stop::asked(&mut stop, Stop::Drained) => Outcome::Stop,
        () = &mut closed => Outcome::Closed,
        ready = ready => match ready {
            Err(error) => Outcome::Failed(error),
            Ok((service, listener)) => {
                let serving = tokio::spawn(serve(listener, service, parent, underway.clone(), finishing, spec.limits.connections));
                events.send(Event::Ready).await;
                let outcome = tokio::select! {
                    end = ended(&mut end) => Outcome::Ended(end),
                    () = stop::asked(&mut stop, Stop::Drained) => Outcome::Stop,
                    () = &mut closed => Outcome::Closed,
                };
                Outcome::Served(Box::new(outcome), serving)
            }
        },
    };
    let (outcome, serving) = match outcome {
        Outcome::Served(outcome, serving) => (*outcome, Some(serving)),
        other => (other, None),
    };
    let event = match outcome {
        Outcome::Ended(end) => exited(end),
        Outcome::Closed => match timeout(Duration::from_millis(500), ended(&mut end)).await {
            Ok(end) => exited(end),
            Err(_) => failed(StartError::new(
                EndReason::Exited,
                "The server closed its standard output.",
            )),
        },
        Outcome::Stop => {
            end_server(spec, pid, session.as_deref(), &underway, &mut end, &mut stop).await;
            failed(StartError::new(EndReason::Stopped, "Stopped."))
        }
        Outcome::Failed(error) => failed(error),
        Outcome::Served(..) => unreachable!("taken apart above"),
    };
    if let (Some(session), Event::Ended { message, .. }) = (&session, &event) {
        session.end(message);
    }
    kill_descendants().await;
    finish.send_replace(true);
    if let Some(serving) = serving {
        // Callers still get what they were answered.
        let _ = timeout(Duration::from_secs(1), serving).await;
    }
    for task in logs {
        // All writers are dead, but for one that nobody can kill.
        let _ = timeout(Duration::from_millis(500), task).await;
    }
    event
}

/// Ends a server: its requests first, then its input, then SIGTERM. What is left of it afterwards is killed.
async fn end_server(
    spec: &Spec,
    pid: i32,
    session: Option<&Session>,
    underway: &Underway,
    end: &mut watch::Receiver<Option<End>>,
    stop: &mut watch::Receiver<Stop>,
) {
    let limits = &spec.limits;
    tokio::select! {
        () = underway.drain() => {}
        () = stop::asked(stop, Stop::Now) => {}
        () = tokio::time::sleep(limits.drain()) => {}
        _ = ended(end) => return,
    }
    if let Some(session) = session {
        session.end("The MCP server was stopped before it had answered.");
        tokio::select! {
            _ = ended(end) => return,
            () = stop::asked(stop, Stop::Abandoned) => {}
            () = tokio::time::sleep(limits.input_end()) => {}
        }
    }
    let _ = killpg(Pid::from_raw(pid), Signal::SIGTERM);
    tokio::select! {
        _ = ended(end) => {}
        () = tokio::time::sleep(limits.grace()) => {}
        () = async { stop::asked(stop, Stop::Abandoned).await; tokio::time::sleep(ABANDONED).await } => {}
    }
}

enum Outcome {
    Ended(End),
    Stop,
    Closed,
    Failed(StartError),
    Served(Box<Outcome>, JoinHandle<()>),
}

fn exited(end: End) -> Event {
    let message = match (end.code, end.signal) {
        (Some(code), _) => format!("The MCP server ended with exit code {code}."),
        (None, Some(signal)) => {
            let name = Signal::try_from(signal).map_or_else(|_| signal.to_string(), |s| s.as_str().to_owned());
            format!("The MCP server was ended by the signal {name}.")
        }
        (None, None) => "The MCP server ended.".to_owned(),
    };
    Event::Ended {
        reason: EndReason::Exited,
        message,
        exit_code: end.code,
        signal: end.signal,
    }
}
