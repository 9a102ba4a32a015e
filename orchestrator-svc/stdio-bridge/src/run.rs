//! The life of the bridge: it reads the spec, starts the server, serves it, and leaves nothing behind.

use std::{
    fs,
    io::Write as _,
    process::ExitCode,
    sync::Arc,
    time::{Duration, Instant},
};

use nix::{
    fcntl::{Flock, FlockArg},
    sys::prctl,
    unistd::getppid,
};
use sandbox::LAUNCHER;
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, BufReader},
    time::timeout,
};
use zeroize::Zeroizing;

use crate::{
    era::Era,
    event::{Event, Events},
    files::{Folder, stage},
    live::Live,
    process::{Server, StartError, start},
    proxy::choose_port,
    reaper::Reaper,
    sessions,
    spec::{Spec, Transport},
    stop,
    tree::kill_descendants,
};

/// The name of the bridge as a program of its own. Also the first argument of another program that is the bridge, too.
pub const NAME: &str = "stdio-bridge";
/// The argument to which the bridge as a program of its own answers with [`VERSION`], and a line end.
pub const VERSION_ARGUMENT: &str = "--version";
/// The version, with a digest of the sources: a service and a bridge with equal ones understand each other.
pub const VERSION: &str = concat!(
    "stdio-bridge ",
    env!("CARGO_PKG_VERSION"),
    " (",
    env!("STDIO_BRIDGE_SOURCES"),
    ")"
);
/// Longest spec, in bytes.
const SPEC_BYTES: u64 = 32 << 20;
/// How long a predecessor may take to clean up.
const PREDECESSOR: Duration = Duration::from_secs(15);

/// The `main` of a program that is the bridge. Runs the bridge on standard input and output until its server or its parent ends; or the
/// launcher of a server, if the first argument is [`sandbox::LAUNCHER`].
pub fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    match arguments.next().as_deref() {
        Some(LAUNCHER) => return sandbox::launch(arguments),
        Some(VERSION_ARGUMENT) => {
            let written = writeln!(std::io::stdout(), "{VERSION}");
            return written.map_or(ExitCode::FAILURE, |()| ExitCode::SUCCESS);
        }
        _ => {}
    }
    // One thread: the kernel kills the server when the thread that started it ends.
    let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_all().build() else {
        return ExitCode::FAILURE;
    };
    runtime.block_on(run());
    // A thread may still be blocked in reading standard input.
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
    StartError::internal(what).into()
}

async fn life(events: &Events) -> Event {
    // Otherwise it is the number of a descriptor: see the orchestrator's `program.rs`.
    let _ = prctl::set_name(c"stdio-bridge");
    // Before anything else: a parent that has ended is another process.
    let parent = getppid();
    if prctl::set_child_subreaper(true).is_err() {
        return bridge_failed("cannot become the reaper of its descendants");
    }
    // Its memory has secrets, which other processes of this user must not read.
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
    let folder = match Folder::open(&spec, 1) {
        Ok(folder) => folder,
        Err(error) => return bridge_failed(&format!("cannot open the working folder: {error}")),
    };
    let mut era = None;
    let event = loop {
        let (server, port) = match prepare(&spec, &folder, &reaper).await {
            Ok(started) => started,
            Err(error) => break error.into(),
        };
        events.send(Event::Started { pid: server.pid }).await;
        let (stop, known) = (stop.clone(), era.take());
        let live = Live::new(&spec, (server, port), parent, events, &reaper, stop, known);
        match live.run().await {
            // The same again, without the question.
            (_, true) => era = Some(Era::Legacy),
            (event, false) => break event,
        }
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

/// Writes the server's files and starts it. The port is the one that it must listen on, if any.
async fn prepare(spec: &Spec, folder: &Folder, reaper: &Reaper) -> Result<(Server, Option<u16>), StartError> {
    stage(folder, spec)?;
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
