//! Servers that do not start, misbehave or leave processes behind.

mod harness;

use std::{fs, io};

use harness::{Bridge, eventually};
use pretty_assertions::assert_eq;
use sandbox::Layers;
use serde_json::json;
use stdio_bridge::{EndReason, File, STOP};

#[tokio::test]
async fn reports_a_command_that_is_missing_or_cannot_be_executed() {
    let mut bridge = Bridge::start("good", |spec| spec.command = "no-such-command-anywhere".to_owned()).await;
    let (reason, message, _) = bridge.ended().await;
    assert_eq!(reason, EndReason::CommandNotFound);
    assert!(message.contains("no-such-command-anywhere"), "{message}");
    let mut bridge = Bridge::start("good", |spec| spec.command = "/etc/passwd".to_owned()).await;
    assert_eq!(bridge.ended().await.0, EndReason::CommandNotExecutable);
}

#[tokio::test]
async fn reports_how_a_server_ended_at_once_and_what_it_wrote() {
    let mut bridge = Bridge::start("exit", |_| ()).await;
    let (reason, message, code) = bridge.ended().await;
    assert_eq!((reason, code), (EndReason::Exited, Some(7)));
    assert_eq!(message, "The MCP server ended with exit code 7.");
    assert_eq!(bridge.logs, ["no configuration found"]);
}

#[tokio::test]
async fn much_garbage_is_not_mcp_and_a_little_is_logged() {
    let mut bridge = Bridge::start("garbage", |_| ()).await;
    assert_eq!(bridge.ended().await.0, EndReason::NotMcp);
    bridge.wait_until_nothing_is_left().await;

    let mut bridge = Bridge::start("banner", |spec| spec.limits.garbage_millis = 300).await;
    assert_eq!(bridge.ended().await.0, EndReason::NotMcp);
    assert_eq!(bridge.logs, ["Welcome!"]);

    let mut bridge = Bridge::ready("chatty").await;
    bridge.wait_for_log("[1, 2]").await;
    assert!(
        bridge.logs.contains(&"Server starting…".to_owned()),
        "{:?}",
        bridge.logs
    );
    assert_eq!(bridge.client().call(json!(1), "echo", json!({})).await["id"], 1);
}

#[tokio::test]
async fn initialize_has_a_time_limit() {
    let mut bridge = Bridge::start("silent", |spec| spec.limits.ready_millis = 500).await;
    let (reason, message, _) = bridge.ended().await;
    assert_eq!(
        (reason, message.as_str()),
        (
            EndReason::InitializeTimeout,
            "The server did not answer `initialize` within 0.5 s."
        )
    );
    bridge.wait_until_nothing_is_left().await;
}

#[tokio::test]
async fn kills_a_server_that_ignores_sigterm() {
    let mut bridge = Bridge::ready("stubborn").await;
    assert_eq!(bridge.marked().len(), 2);
    bridge.ask(STOP).await;
    bridge.wait_for_log("SIGTERM ignored").await;
    assert_eq!(bridge.ended().await.0, EndReason::Stopped);
    assert!(
        bridge.marked().is_empty(),
        "no process is left when the bridge reports the end"
    );
    assert!(bridge.process.wait().await.unwrap().success());
}

#[tokio::test]
async fn leaves_no_grandchild_when_the_parent_has_ended() {
    let mut bridge = Bridge::ready("family").await;
    assert_eq!(bridge.marked().len(), 2, "a server and its orphaned grandchild");
    // This is all that the bridge notices of a parent that was killed.
    drop(bridge.input.take());
    bridge.wait_until_nothing_is_left().await;
    assert!(bridge.process.wait().await.unwrap().success());
    assert!(!bridge.folder.path().join("s").exists());
}

#[tokio::test]
async fn reaps_orphans() {
    let bridge = Bridge::ready("family").await;
    let server = bridge.pid;
    let grandchild = bridge.marked().into_iter().find(|pid| *pid != server).unwrap();
    nix::sys::signal::kill(
        nix::unistd::Pid::from_raw(grandchild),
        nix::sys::signal::Signal::SIGKILL,
    )
    .unwrap();
    eventually(|| !fs::exists(format!("/proc/{grandchild}")).unwrap()).await;
}

#[tokio::test]
async fn nothing_outlives_a_bridge_that_is_killed() {
    let all = harness::layers();
    let contained = Layers {
        namespaces: false,
        ..all.clone()
    };
    for layers in [all, contained, Layers::default()] {
        let mut bridge = Bridge::ready_with("family", |spec| spec.confinement.layers = layers.clone()).await;
        assert_eq!(
            bridge.marked().len(),
            2,
            "{layers:?}: a server and its orphaned grandchild"
        );
        bridge.process.kill().await.unwrap();
        bridge.wait_until_nothing_is_left().await;
    }
}

/// A stopped bridge kills nothing, like one that was killed.
#[tokio::test]
async fn without_namespaces_what_a_server_started_ends_with_it() {
    use nix::{
        sys::signal::{Signal, kill},
        unistd::{Pid, getsid},
    };
    for layers in [
        Layers {
            namespaces: false,
            ..harness::layers()
        },
        Layers::default(),
    ] {
        let bridge = Bridge::ready_with("family", |spec| spec.confinement.layers = layers.clone()).await;
        let all = bridge.marked();
        let leads_session = |pid: i32| getsid(Some(Pid::from_raw(pid))) == Ok(Pid::from_raw(pid));
        let (grandchild, server): (Vec<_>, Vec<_>) = all.into_iter().partition(|&pid| leads_session(pid));
        assert_eq!((server.len(), grandchild.len()), (1, 1), "{layers:?}");
        let pid = Pid::from_raw(i32::try_from(bridge.process.id().unwrap()).unwrap());
        kill(pid, Signal::SIGSTOP).unwrap();
        kill(Pid::from_raw(server[0]), Signal::SIGKILL).unwrap();
        bridge.wait_until_nothing_is_left().await;
    }
}

#[tokio::test]
async fn processes_that_are_left_are_found_by_their_marker() {
    let folder = tempfile::tempdir().unwrap();
    let mark = folder.path().to_str().unwrap();
    let leave = |mark: String| {
        let mut command = std::process::Command::new("sleep");
        command.arg("600").env(stdio_bridge::MARKER, mark).spawn().unwrap()
    };
    let reaped = ["", "#1", "#12"].map(|session| {
        let mut left = leave(format!("{mark}{session}"));
        std::thread::spawn(move || left.wait().unwrap())
    });
    let mut others = ["more", "#a", "#1/x"].map(|more| leave(format!("{mark}{more}")));
    stdio_bridge::kill_marked(|marker| marker == mark, || false).unwrap();
    for reaped in reaped {
        assert!(!reaped.join().unwrap().success());
    }
    for other in &mut others {
        assert!(other.try_wait().unwrap().is_none(), "it is another server's");
        other.kill().unwrap();
        other.wait().unwrap();
    }
}

#[tokio::test]
async fn without_namespaces_a_server_ends_and_is_ended_as_with_them() {
    let contained = Layers {
        namespaces: false,
        ..harness::layers()
    };
    let mut bridge = Bridge::start("exit", |spec| spec.confinement.layers = contained.clone()).await;
    let (reason, _, code) = bridge.ended().await;
    assert_eq!((reason, code), (EndReason::Exited, Some(7)));
    let mut bridge = Bridge::ready_with("good", |spec| spec.confinement.layers = contained.clone()).await;
    let answer = bridge.client().call(json!(1), "signal", json!({"signal": 9})).await;
    assert_eq!(
        answer["error"]["message"],
        "The MCP server was ended by the signal SIGKILL."
    );
    bridge.ended().await;
    let mut bridge = Bridge::ready_with("stubborn", |spec| spec.confinement.layers = contained.clone()).await;
    bridge.ask(STOP).await;
    assert_eq!(bridge.ended().await.0, EndReason::Stopped);
    assert!(
        bridge.marked().is_empty(),
        "no process is left when the bridge reports the end"
    );
}

#[tokio::test]
async fn signals_of_the_terminal_do_not_end_it_but_sigterm_does() {
    use nix::{
        sys::signal::{Signal, kill},
        unistd::Pid,
    };
    let mut bridge = Bridge::ready("good").await;
    let pid = Pid::from_raw(i32::try_from(bridge.process.id().unwrap()).unwrap());
    for signal in [Signal::SIGINT, Signal::SIGHUP, Signal::SIGINT] {
        kill(pid, signal).unwrap();
    }
    assert_eq!(bridge.client().call(json!(1), "echo", json!({})).await["id"], 1);
    kill(pid, Signal::SIGTERM).unwrap();
    assert_eq!(bridge.ended().await.0, EndReason::Stopped);
}

#[tokio::test]
async fn gives_the_server_its_environment_and_files_and_nothing_else() {
    let mut bridge = Bridge::ready_with("good", |spec| {
        spec.environment
            .insert("API_KEY".to_owned(), "hunter2-secret".to_owned());
        spec.secrets.push("hunter2-secret".to_owned());
        let file = |path: &str, secret| File {
            path: path.to_owned(),
            content: "hunter2-secret".to_owned(),
            secret,
        };
        spec.files = vec![file("conf/key.pem", true), file("conf/plain", false)];
    })
    .await;
    let client = bridge.client();
    let environment = client.call(json!(1), "environment", json!({})).await;
    let seen = environment["result"].as_object().unwrap();
    assert_eq!(seen["API_KEY"], "hunter2-secret");
    // An interpreter may add variables; of the environment of this test, the server gets only PATH.
    let inherited: Vec<_> = std::env::vars()
        .filter(|(name, _)| name.starts_with("CARGO") && seen.contains_key(name))
        .collect();
    assert_eq!(inherited, [], "the server inherits nothing");
    assert!(!seen.contains_key("HOME"));
    let bridge_pid = bridge.process.id().unwrap();
    for file in ["environ", "cmdline"] {
        match fs::read(format!("/proc/{bridge_pid}/{file}")) {
            Ok(bytes) => assert!(!String::from_utf8_lossy(&bytes).contains("hunter2"), "{file}"),
            // The bridge is not dumpable: only processes of root can read its environment.
            Err(error) => assert_eq!(error.kind(), io::ErrorKind::PermissionDenied, "{file}"),
        }
    }
    let read = client.call(json!(1), "read", json!({"path": "conf/key.pem"})).await;
    assert_eq!(read["result"], json!({"text": "hunter2-secret", "mode": "0o600"}));
    client
        .call(
            json!(1),
            "say",
            json!({"text": "my key is hunter2-secret, or aHVudGVyMi1zZWNyZXQ="}),
        )
        .await;
    assert_eq!(
        bridge.wait_for_log("my key").await,
        "my key is [redacted], or [redacted]",
        "no secret is in a log"
    );
    bridge.input.take();
    bridge.ended().await;
    assert!(!bridge.folder.path().join("conf/key.pem").exists());
    assert!(bridge.folder.path().join("conf/plain").exists());
}

#[tokio::test]
async fn lines_beyond_the_rate_are_dropped_and_counted() {
    const LINES: usize = 20_000;
    for stream in ["stderr", "stdout"] {
        let mut bridge = Bridge::ready_with("good", |spec| {
            spec.limits.log_burst_bytes = 20_000;
            spec.limits.log_bytes_per_second = 10_000;
        })
        .await;
        let client = bridge.client();
        client
            .call(json!(1), "noise", json!({"stream": stream, "lines": LINES}))
            .await;
        let (mut shown, mut dropped) = (0, 0);
        while shown + dropped < LINES {
            let line = bridge.wait_for_log("").await;
            bridge.logs.clear();
            shown += usize::from(line.starts_with("noise "));
            if let Some((count, rest)) = line.strip_prefix('[').and_then(|line| line.split_once(' ')) {
                dropped += count.parse::<usize>().unwrap();
                assert!(
                    rest.starts_with("lines (") && rest.ends_with("more than 10000 bytes a second]"),
                    "{line}"
                );
            }
        }
        assert_eq!(shown + dropped, LINES);
        assert!((100..1_000).contains(&shown), "{shown} shown");
        assert_eq!(client.call(json!(2), "echo", json!({})).await["id"], 2);
    }
}

#[tokio::test]
async fn refuses_a_file_outside_its_folder() {
    for path in ["../x", "/etc/x", "a/../../x", ""] {
        let file = File {
            path: path.to_owned(),
            content: String::new(),
            secret: false,
        };
        let mut bridge = Bridge::start("good", |spec| spec.files.push(file)).await;
        assert_eq!(bridge.ended().await.0, EndReason::NotStarted, "{path}");
    }
}

/// Starts a bridge as the service does, sends it the spec, and waits.
const PARENT: &str = r#"
import subprocess, sys, time
bridge = subprocess.Popen([sys.argv[1]], stdin=subprocess.PIPE, process_group=0)
bridge.stdin.write(open(sys.argv[2], "rb").read()); bridge.stdin.flush()
time.sleep(600)
"#;

#[tokio::test]
async fn nothing_outlives_a_parent_that_is_killed() {
    use tokio::io::AsyncBufReadExt as _;
    let folder = tempfile::tempdir().unwrap();
    let spec = harness::spec(folder.path(), "family");
    let file = folder.path().join("spec");
    fs::write(&file, serde_json::to_string(&spec).unwrap() + "\n").unwrap();
    let mut parent = tokio::process::Command::new("python3")
        .args(["-c", PARENT, env!("CARGO_BIN_EXE_stdio-bridge")])
        .arg(&file)
        .stdout(std::process::Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut events = tokio::io::BufReader::new(parent.stdout.take().unwrap()).lines();
    while !events.next_line().await.unwrap().unwrap().contains("ready") {}
    assert_eq!(harness::marked(folder.path()).len(), 2);
    parent.kill().await.unwrap();
    eventually(|| harness::marked(folder.path()).is_empty()).await;
    eventually(|| !spec.socket.exists()).await;
}
