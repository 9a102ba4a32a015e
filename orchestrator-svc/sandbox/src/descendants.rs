//! The descendants of this process, found in `/proc`.

use std::{
    collections::HashMap,
    fs,
    time::{Duration, Instant},
};

use nix::{
    sys::{
        signal::{Signal, kill},
        wait::{WaitPidFlag, WaitStatus, waitpid},
    },
    unistd::{Pid, getpid},
};

/// How long processes may take to end after SIGKILL.
const PATIENCE: Duration = Duration::from_secs(10);

/// The ids of all processes that are visible in `/proc`.
pub fn processes() -> impl Iterator<Item = i32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}

/// The parent of a process; `None` if the process has ended or is a zombie.
pub fn living_parent(pid: i32) -> Option<i32> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name, in parentheses, may contain any characters.
    let mut fields = stat[stat.rfind(')')? + 1..].split_ascii_whitespace();
    let state = fields.next()?;
    let parent = fields.next()?.parse().ok()?;
    (state != "Z" && state != "X").then_some(parent)
}

/// All living descendants of this process. For a subreaper, they include those whose parents have ended.
pub fn descendants() -> Vec<i32> {
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

/// Kills processes. Sends SIGSTOP to all of them first, so that none can fork while the others are killed.
pub fn kill_all(pids: &[i32]) {
    for signal in [Signal::SIGSTOP, Signal::SIGKILL] {
        for &pid in pids {
            let _ = kill(Pid::from_raw(pid), signal);
        }
    }
}

/// Kills and reaps all descendants of this process, repeatedly, until none is left or ten seconds have passed.
pub(crate) fn kill_descendants() {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let living = descendants();
        kill_all(&living);
        while let Ok(status) = waitpid(None, Some(WaitPidFlag::WNOHANG)) {
            if status == WaitStatus::StillAlive {
                break;
            }
        }
        if living.is_empty() || Instant::now() > deadline {
            return;
        }
        std::thread::sleep(Duration::from_millis(2));
    }
}
