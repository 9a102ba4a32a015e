//! The life of the bridge: read the spec, start the server, serve it, leave nothing behind.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    process::ExitCode,
    sync::Arc,
    time::{Duration, Instant},
};

use nix::{
    fcntl::{Flock, FlockArg},
    sys::prctl,
    unistd::{Pid, getppid},
};
use sandbox::LAUNCHER;
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, BufReader},
    net::UnixListener,
    sync::watch,
    time::timeout,
};
use zeroize::Zeroizing;

use crate::{
    child::{Child, close, exit_message},
    event::{EndReason, Event, Events},
    files::Folder,
    http::Endpoint,
    log::Log,
    process::{Server, StartError, ended, start},
    proxy::{Proxy, choose_port, wait_until_open},
    reaper::Reaper,
    redact::Redactor,
    serve::{Service, serve},
    sessions::{self, Sessions},
    spec::{Limits, Spec, Transport},
    stop::{self, Stop},
    tree::{End, kill_descendants},
    underway::Underway,
};

/// Longest spec, in bytes.
const SPEC_BYTES: u64 = 32 << 20;
/// How long a predecessor may take to clean up.
const PREDECESSOR: Duration = Duration::from_secs(15);

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
    let spec = Arc::new(spec);
    let Ok(reaper) = Reaper::begin() else {
        return bridge_failed("cannot listen for ended processes");
    };
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
    let event = match prepare(&spec, &folder, &reaper).await {
        Ok(server) => live(&spec, server, parent, stop, events, &reaper).await,
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

async fn prepare(spec: &Spec, folder: &Folder, reaper: &Reaper) -> Result<(Server, Option<u16>), StartError> {
    for file in &spec.files {
        folder.write(file).map_err(|error| {
            let message = format!("cannot write the file {:?}: {error}", file.path);
            StartError::new(EndReason::NotStarted, message)
        })?;
    }
    let port = match spec.transport {
        Transport::Stdio { .. } | Transport::Task => None,
        Transport::StreamableHttp { port, .. } => Some(choose_port(port).await?),
    };
    let marker = match spec.transport {
        Transport::Stdio { one_per_session: true } => sessions::marker(spec, 1),
        _ => spec.marker.clone(),
    };
    Ok((start(spec, &marker, port, reaper).await?, port))
}

/// From the start of the server to its end.
async fn live(
    spec: &Arc<Spec>,
    (server, port): (Server, Option<u16>),
    parent: Pid,
    mut stop: watch::Receiver<Stop>,
    events: &Events,
    reaper: &Reaper,
) -> Event {
    events.send(Event::Started { pid: server.pid }).await;
    let redactor = Arc::new(Redactor::new(&spec.secrets));
    let log = Log::new(events.clone(), redactor, &spec.limits);
    let (pid, end) = (server.pid, server.end.clone());
    let mut logs = Vec::new();
    let child = match spec.transport {
        Transport::Stdio { .. } => Some(Arc::new(Child::begin(server, spec, events, &log))),
        Transport::Task | Transport::StreamableHttp { .. } => {
            drop(server.stdin);
            logs.extend([log.follow(server.stderr), log.follow(server.stdout)]);
            None
        }
    };
    let gone = async || match &child {
        Some(child) => child.ended().await,
        None => Some(ended(&mut end.clone()).await),
    };
    let ready = async {
        let service = match (&child, &spec.transport) {
            (Some(child), transport) => {
                child.session().initialize().await?;
                if matches!(transport, Transport::Stdio { one_per_session: true }) {
                    let (events, log) = (events.clone(), Arc::clone(&log));
                    let sessions = Sessions::new(
                        Arc::clone(spec),
                        Arc::clone(child),
                        events,
                        log,
                        reaper.clone(),
                        stop.clone(),
                    );
                    Service::Sessions(sessions)
                } else {
                    let endpoint = Endpoint::new(Arc::clone(child.session()), spec.limits.clone());
                    Service::Stdio(Arc::new(endpoint))
                }
            }
            (None, Transport::StreamableHttp { path, .. }) => {
                let port = port.unwrap_or_default();
                wait_until_open(port, spec.limits.ready()).await?;
                let proxy = Proxy::new(port, path);
                Service::Http(Arc::new(
                    proxy.ok_or_else(|| StartError::new(EndReason::NotStarted, "the path is not valid"))?,
                ))
            }
            (None, _) => {
                tokio::time::sleep(spec.limits.ready()).await;
                let message = format!("It did not end within {} s.", spec.limits.ready().as_secs());
                return Err(StartError::new(EndReason::TaskTimeout, message));
            }
        };
        let unusable = |e: std::io::Error| StartError::internal(&format!("cannot listen: {e}"));
        let listener = UnixListener::bind(&spec.socket).map_err(unusable)?;
        fs::set_permissions(&spec.socket, fs::Permissions::from_mode(0o600)).map_err(unusable)?;
        Ok::<_, StartError>((service, listener))
    };
    let underway = Underway::default();
    let (finish, finishing) = watch::channel(false);
    let mut asked = stop.clone();
    let (mut serving, mut sessions) = (None, None);
    let outcome = tokio::select! {
        biased;
        end = gone() => Outcome::Ended(end),
        () = stop::asked(&mut asked, Stop::Drained) => Outcome::Stop,
        ready = ready => match ready {
            Err(error) => Outcome::Failed(error),
            Ok((service, listener)) => {
                if let Service::Sessions(all) = &service {
                    sessions = Some(Arc::clone(all));
                }
                serving = Some(tokio::spawn(serve(listener, service, parent, underway.clone(), finishing, spec.limits.connections)));
                events.send(Event::Ready).await;
                tokio::select! {
                    // The process of one session ends alone.
                    end = gone(), if sessions.is_none() => Outcome::Ended(end),
                    () = stop::asked(&mut asked, Stop::Drained) => Outcome::Stop,
                }
            }
        },
    };
    let event = match outcome {
        Outcome::Ended(end) => exited(end),
        Outcome::Stop => {
            let gone = async {
                if sessions.is_none() {
                    ended(&mut end.clone()).await;
                } else {
                    std::future::pending::<()>().await;
                }
            };
            if drained(&spec.limits, &underway, gone, &mut stop).await {
                let why = "The MCP server was stopped before it had answered.";
                match (&sessions, &child) {
                    (Some(sessions), _) => sessions.end(why).await,
                    (None, Some(child)) => child.close(&spec.limits, why, stop.clone()).await,
                    (None, None) => close(pid, false, &spec.limits, end.clone(), stop.clone()).await,
                }
            }
            failed(StartError::new(EndReason::Stopped, "Stopped."))
        }
        Outcome::Failed(error) => failed(error),
    };
    if let (Some(child), Event::Ended { message, .. }) = (&child, &event) {
        child.session().end(message);
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
    if let Some(child) = child {
        child.log_ended().await;
    }
    event
}

/// Waits until no request is under way, for as long as the limits and who asked allow. False: the server is `gone`.
async fn drained(
    limits: &Limits,
    underway: &Underway,
    gone: impl Future<Output = ()>,
    stop: &mut watch::Receiver<Stop>,
) -> bool {
    tokio::select! {
        () = underway.drain() => true,
        () = stop::asked(stop, Stop::Now) => true,
        () = tokio::time::sleep(limits.drain()) => true,
        () = gone => false,
    }
}

enum Outcome {
    /// As [`Child::ended`] says.
    Ended(Option<End>),
    Stop,
    Failed(StartError),
}

fn exited(end: Option<End>) -> Event {
    Event::Ended {
        reason: EndReason::Exited,
        message: exit_message(end),
        exit_code: end.and_then(|end| end.code),
        signal: end.and_then(|end| end.signal),
    }
}
