//! The processes below the bridge, as /proc shows them.

use std::{
    collections::{HashMap, HashSet},
    fs, io,
    path::Path,
    time::{Duration, Instant},
};

use nix::{
    errno::Errno,
    sys::{
        signal::{Signal, kill},
        wait::{WaitPidFlag, WaitStatus, waitpid},
    },
    unistd::{Pid, getpid},
};

/// The environment variable that marks a server and its descendants.
pub const MARKER: &str = "CHANDLERY_RUNTIME";

fn processes() -> impl Iterator<Item = i32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}

/// A process's parent; `None` where it is gone or a zombie.
fn living_parent(pid: i32) -> Option<i32> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name, in parentheses, may hold anything.
    let mut fields = stat[stat.rfind(')')? + 1..].split_ascii_whitespace();
    let state = fields.next()?;
    let parent = fields.next()?.parse().ok()?;
    (state != "Z" && state != "X").then_some(parent)
}

/// All that live below this process. As subreaper, it finds also those whose parents are gone.
pub(crate) fn descendants() -> Vec<i32> {
    let mut children: HashMap<i32, Vec<i32>> = HashMap::new();
    for pid in processes() {
        if let Some(parent) = living_parent(pid) {
            children.entry(parent).or_default().push(pid);
        }
    }
    let mut found = Vec::new();
    let mut next = vec![getpid().as_raw()];
    while let Some(pid) = next.pop() {
        for child in children.remove(&pid).unwrap_or_default() {
            found.push(child);
            next.push(child);
        }
    }
    found
}

/// Reaps what has ended; says how each did.
pub(crate) fn reap() -> Vec<(i32, End)> {
    let mut ended = Vec::new();
    loop {
        match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
            Ok(WaitStatus::Exited(pid, code)) => ended.push((
                pid.as_raw(),
                End {
                    code: Some(code),
                    signal: None,
                },
            )),
            Ok(WaitStatus::Signaled(pid, signal, _)) => {
                ended.push((
                    pid.as_raw(),
                    End {
                        code: None,
                        signal: Some(signal as i32),
                    },
                ));
            }
            Ok(WaitStatus::StillAlive) | Err(Errno::ECHILD) => return ended,
            Ok(_) | Err(Errno::EINTR) => {}
            Err(_) => return ended,
        }
    }
}

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct End {
    pub(crate) code: Option<i32>,
    pub(crate) signal: Option<i32>,
}

/// Kills everything below this process, and again what it made meanwhile, until nothing is left or ten seconds have passed.
pub(crate) async fn kill_descendants() {
    let deadline = Instant::now() + Duration::from_secs(10);
    loop {
        let living = descendants();
        if living.is_empty() || Instant::now() > deadline {
            reap();
            return;
        }
        kill_all(&living);
        tokio::time::sleep(Duration::from_millis(2)).await;
        reap();
    }
}

fn kill_all(pids: &[i32]) {
    // Stopped first, so that none of them can start others while they are killed one by one.
    for signal in [Signal::SIGSTOP, Signal::SIGKILL] {
        for &pid in pids {
            let _ = kill(Pid::from_raw(pid), signal);
        }
    }
}

/// Kills what carries a marker that begins with `prefix`: what a bridge left behind that was itself killed. Waits until it is gone.
///
/// # Errors
/// When something is still there after ten seconds.
pub fn kill_marked(prefix: &str) -> io::Result<()> {
    let wanted = format!("{MARKER}={prefix}");
    let marked = |pid: &i32| {
        let environment = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
        living_parent(*pid).is_some()
            && environment
                .split(|&b| b == 0)
                .any(|variable| variable.starts_with(wanted.as_bytes()))
    };
    let deadline = Instant::now() + Duration::from_secs(10);
    let me = getpid().as_raw();
    loop {
        let living: Vec<i32> = processes().filter(|&pid| pid != me).filter(marked).collect();
        if living.is_empty() {
            return Ok(());
        }
        if Instant::now() > deadline {
            return Err(io::Error::other("processes of an earlier run cannot be killed"));
        }
        kill_all(&living);
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// Whether the port is listened on by something below this process: another process must not get what is meant for the server.
pub(crate) fn listens(port: u16) -> bool {
    let mut sockets = HashSet::new();
    for table in ["/proc/net/tcp", "/proc/net/tcp6"] {
        for line in fs::read_to_string(table).unwrap_or_default().lines().skip(1) {
            let fields: Vec<&str> = line.split_ascii_whitespace().collect();
            let [_, local, _, "0A", ..] = fields[..] else {
                continue;
            };
            let is_port = local
                .rsplit_once(':')
                .is_some_and(|(_, hex)| u16::from_str_radix(hex, 16) == Ok(port));
            if let Some(inode) = fields.get(9).filter(|_| is_port) {
                sockets.insert(format!("socket:[{inode}]"));
            }
        }
    }
    let owns = |pid: &i32| {
        let descriptors = fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
        let mut links = descriptors.filter_map(|d| fs::read_link(d.path()).ok());
        links.any(|link: std::path::PathBuf| is_one_of(&link, &sockets))
    };
    !sockets.is_empty() && descendants().iter().any(owns)
}

fn is_one_of(link: &Path, sockets: &HashSet<String>) -> bool {
    link.to_str().is_some_and(|link| sockets.contains(link))
}
