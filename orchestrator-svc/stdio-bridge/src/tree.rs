//! The descendants of the bridge, as /proc shows them.

use std::{
    collections::HashMap,
    fs, io,
    net::{Ipv4Addr, Ipv6Addr},
    time::{Duration, Instant},
};

use nix::{
    errno::Errno,
    sys::wait::{WaitPidFlag, WaitStatus, waitpid},
    unistd::getpid,
};
use sandbox::{descendants, kill_all, living_parent, processes};

/// The environment variable that marks a server and its descendants.
pub const MARKER: &str = "CHANDLERY_RUNTIME";

/// Reaps all children that have ended.
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

/// Kills all descendants of this process, repeatedly, until none is left or ten seconds have passed.
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

/// Kills one server among several: the process that represents it, the descendants of that, and what has exactly this marker. A process that is
/// no longer a descendant of its server and has removed the marker from its environment ends with the bridge. Gives up after ten seconds.
pub(crate) async fn kill_server(server: i32, marker: &str) {
    let wanted = format!("{MARKER}={marker}");
    let deadline = Instant::now() + Duration::from_secs(10);
    loop {
        let living: Vec<i32> = descendants()
            .into_iter()
            .filter(|&pid| is_below(pid, server) || carries(pid, |variable| variable == wanted.as_bytes()))
            .collect();
        if living.is_empty() || Instant::now() > deadline {
            return;
        }
        kill_all(&living);
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

/// Whether a process is `root` or a descendant of it.
fn is_below(mut pid: i32, root: i32) -> bool {
    loop {
        if pid == root {
            return true;
        }
        match living_parent(pid) {
            Some(parent) if parent > 1 => pid = parent,
            _ => return false,
        }
    }
}

/// Whether a variable of the environment that the process was started with matches.
fn carries(pid: i32, variable: impl FnMut(&[u8]) -> bool) -> bool {
    let environment = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
    environment.split(|&b| b == 0).any(variable)
}

/// Kills all processes whose marker `is_wanted` selects: those that a bridge left because it was killed. It is called with the marker of the
/// server, also for the processes of one session. Waits until they have ended, or `is_cancelled`: no process is killed that is started after that.
///
/// # Errors
/// If one is left after ten seconds.
pub fn kill_marked(is_wanted: impl Fn(&str) -> bool, is_cancelled: impl Fn() -> bool) -> io::Result<()> {
    let is_marker = |variable: &[u8]| {
        let marker = str::from_utf8(variable)
            .ok()
            .and_then(|text| text.strip_prefix(MARKER)?.strip_prefix('='));
        marker.is_some_and(|marker| is_wanted(without_session(marker)))
    };
    let marked = |pid: &i32| living_parent(*pid).is_some() && carries(*pid, is_marker);
    let deadline = Instant::now() + Duration::from_secs(10);
    let me = getpid().as_raw();
    loop {
        let living: Vec<i32> = processes().filter(|&pid| pid != me).filter(marked).collect();
        // Those that were found were started before this question.
        if living.is_empty() || is_cancelled() {
            return Ok(());
        }
        if Instant::now() > deadline {
            return Err(io::Error::other("processes of an earlier run cannot be killed"));
        }
        kill_all(&living);
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// The marker of a server, from its own marker or from that of one of its sessions.
fn without_session(marker: &str) -> &str {
    match marker.rsplit_once('#') {
        Some((server, session)) if session.bytes().all(|b| b.is_ascii_digit()) => server,
        _ => marker,
    }
}

/// Who can connect to a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Listens {
    /// Nobody: nothing listens.
    No,
    /// Only processes of this machine.
    Locally,
    /// Other machines, too.
    Exposed,
}

/// Whether a descendant of this process listens on the port: no other process must get the requests for the server.
pub(crate) fn listens(port: u16) -> Listens {
    let mut sockets = HashMap::new();
    for table in ["/proc/net/tcp", "/proc/net/tcp6"] {
        for line in fs::read_to_string(table).unwrap_or_default().lines().skip(1) {
            let fields: Vec<&str> = line.split_ascii_whitespace().collect();
            let [_, local, _, "0A", ..] = fields[..] else {
                continue;
            };
            let Some((address, hex)) = local.rsplit_once(':') else {
                continue;
            };
            if let Some(inode) = fields.get(9).filter(|_| u16::from_str_radix(hex, 16) == Ok(port)) {
                let who = if is_loopback(address) {
                    Listens::Locally
                } else {
                    Listens::Exposed
                };
                sockets.insert(format!("socket:[{inode}]"), who);
            }
        }
    }
    if sockets.is_empty() {
        return Listens::No;
    }
    let of_process = |pid: i32| {
        let descriptors = fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
        descriptors.filter_map(|descriptor| fs::read_link(descriptor.path()).ok())
    };
    let links = descendants().into_iter().flat_map(of_process);
    let found = links.filter_map(|link| sockets.get(link.to_str()?).copied());
    found.max().unwrap_or(Listens::No)
}

/// For an address in the format of `/proc/net/tcp` and `tcp6`: words of four bytes, each in the byte order of this machine.
fn is_loopback(address: &str) -> bool {
    let words = address.as_bytes().chunks(8).map(|word| {
        let word = str::from_utf8(word).ok()?;
        Some(u32::from_str_radix(word, 16).ok()?.to_ne_bytes())
    });
    let Some(words) = words.collect::<Option<Vec<_>>>() else {
        return false;
    };
    match words[..] {
        [v4] => Ipv4Addr::from(v4).is_loopback(),
        [_, _, _, _] => {
            let v6: [u8; 16] = words.concat().try_into().unwrap_or_default();
            Ipv6Addr::from(v6).to_canonical().is_loopback()
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(target_endian = "little")]
    #[test]
    fn recognizes_addresses_of_this_machine_only() {
        for local in [
            "0100007F",
            "0A00017F",
            "00000000000000000000000001000000",
            "0000000000000000FFFF00000100007F",
        ] {
            assert!(is_loopback(local), "{local}");
        }
        for exposed in [
            "00000000",
            "0100000A",
            "00000000000000000000000000000000",
            "0000000000000000FFFF000000000000",
            "",
            "x",
        ] {
            assert!(!is_loopback(exposed), "{exposed}");
        }
    }
}
