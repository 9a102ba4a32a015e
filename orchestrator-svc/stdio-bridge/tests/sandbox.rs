//! What a hostile server can access, for each set of mechanisms that a machine may have.

mod harness;

use std::{
    collections::BTreeMap,
    fs,
    io::Write as _,
    net::TcpListener,
    os::{
        fd::AsRawFd as _,
        linux::net::SocketAddrExt as _,
        unix::{
            fs::PermissionsExt as _,
            net::{SocketAddr, UnixListener},
        },
    },
    path::Path,
    process::{Command, Stdio},
    thread,
};

use harness::{Bridge, confined, layers};
use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use sandbox::{Grant, Layers, Level};
use service_kit::not_run::not_run;

/// The targets: a secret, a process, sockets, the folder of another server, an open file.
struct House {
    folder: tempfile::TempDir,
    victim: std::process::Child,
    port: u16,
    left_open: fs::File,
}

impl House {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        for name in ["hidden", "other", "work", "tmp"] {
            fs::create_dir(folder.path().join(name)).unwrap();
        }
        let secret = folder.path().join("hidden/secret");
        fs::write(&secret, "canary").unwrap();
        let victim = Command::new("sleep")
            .arg("600")
            .env("SECRET", "canary")
            .stdin(Stdio::null())
            .spawn()
            .unwrap();
        let tcp = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let port = tcp.local_addr().unwrap().port();
        thread::spawn(move || tcp.incoming().for_each(|peer| drop(peer.unwrap().write_all(b"canary"))));
        let by_path = UnixListener::bind(folder.path().join("hidden/socket")).unwrap();
        let name = SocketAddr::from_abstract_name(folder.path().to_str().unwrap()).unwrap();
        for listener in [by_path, UnixListener::bind_addr(&name).unwrap()] {
            thread::spawn(move || {
                listener
                    .incoming()
                    .for_each(|peer| drop(peer.unwrap().write_all(b"canary")))
            });
        }
        let left_open = fs::File::open(secret).unwrap();
        fcntl(&left_open, FcntlArg::F_SETFD(FdFlag::empty())).unwrap();
        Self {
            folder,
            victim,
            port,
            left_open,
        }
    }

    /// What the attacker can access, by subject.
    async fn attacked(&self, layers: Layers, port: Option<u16>) -> BTreeMap<String, Vec<String>> {
        let root = self.folder.path().canonicalize().unwrap();
        let bridge = Bridge::start("good", |spec| {
            let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/servers/attacker.py");
            let descriptor = self.left_open.as_raw_fd();
            spec.arguments = vec![
                script.to_str().unwrap().to_owned(),
                self.victim.id().to_string(),
                root.to_str().unwrap().to_owned(),
                self.port.to_string(),
                descriptor.to_string(),
            ];
            spec.working_folder = root.join("work");
            let temporary = if layers.namespaces {
                "/tmp".into()
            } else {
                root.join("tmp")
            };
            spec.environment
                .insert("TMPDIR".to_owned(), temporary.to_str().unwrap().to_owned());
            spec.confinement = confined(&spec.working_folder);
            spec.confinement.layers = layers.clone();
            if let Some(port) = port {
                spec.environment.insert("PORT".to_owned(), port.to_string());
                spec.confinement.listen = Some(vec![port]);
            }
            spec.confinement.hidden = root.join("hidden");
            spec.confinement.temporary_folder = root.join("tmp");
        });
        let mut bridge = bridge.await;
        bridge.wait_for_log("done").await;
        let mut holes: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for line in &bridge.logs {
            let Some((subject, attempt)) = line.split_once('/') else {
                continue;
            };
            let found = holes.entry(subject.to_owned()).or_default();
            if attempt.contains(" hole ") == (subject != "needed") {
                found.push(attempt.to_owned());
            }
        }
        holes
    }
}

impl Drop for House {
    fn drop(&mut self) {
        self.victim.kill().unwrap();
        self.victim.wait().unwrap();
    }
}

/// What is reported as enforced is enforced, and what a server needs works.
async fn holds(layers: Layers) {
    let house = House::new();
    let holes = house.attacked(layers.clone(), None).await;
    for protection in layers.protections() {
        let found = holes.get(protection.subject);
        if protection.level == Level::Enforced {
            assert!(
                found.unwrap().is_empty(),
                "{layers:?}: {}: {found:?}",
                protection.subject
            );
        }
    }
    assert!(holes["needed"].is_empty(), "{layers:?}: {:?}", holes["needed"]);
    assert!(holes["memory"].is_empty(), "{layers:?}: {:?}", holes["memory"]);
    // If it cannot reach the sockets of others anyway, it may have its own.
    if layers.namespaces && layers.landlock >= 6 && layers.listen_by_init {
        assert!(!holes["own_unix_sockets"].is_empty(), "{layers:?}");
    }
    if layers.landlock >= 4 && layers.seccomp {
        assert!(holes["tcp"].is_empty(), "{layers:?}: {:?}", holes["tcp"]);
    }
}

/// The mechanisms of this machine, if they are all that `--sandbox required` demands. Otherwise, the calling test is not run.
fn all_layers() -> Option<Layers> {
    let layers = layers();
    let protections = layers.protections();
    let weak = protections.iter().find(|p| p.required && p.level != Level::Enforced);
    if let Some(weak) = weak {
        not_run(&format!(
            "requires a kernel that protects {} (user namespaces, Landlock, seccomp): {layers:?}",
            weak.subject
        ));
        return None;
    }
    Some(layers)
}

#[tokio::test]
async fn a_server_can_access_none_of_the_targets() {
    let Some(layers) = all_layers() else { return };
    holds(layers).await;
}

#[tokio::test]
async fn what_a_container_allows_is_reported_and_enforced() {
    let Some(all) = all_layers() else { return };
    for (namespaces, landlock, seccomp, listen_by_init) in [
        // A container without user namespaces; kernels whose Landlock has no signals or no ports; one without Landlock; one in which an init cannot
        // duplicate sockets.
        (false, all.landlock, true, false),
        (true, all.landlock.min(3), true, true),
        (true, 0, true, true),
        (false, all.landlock, false, false),
        (false, 0, true, false),
        (true, all.landlock, true, false),
    ] {
        holds(Layers {
            namespaces,
            landlock,
            seccomp,
            listen_by_init,
        })
        .await;
    }
}

#[tokio::test]
async fn a_server_with_a_port_listens_on_no_other() {
    let Some(layers) = all_layers() else { return };
    let free = TcpListener::bind(("127.0.0.1", 0))
        .unwrap()
        .local_addr()
        .unwrap()
        .port();
    let holes = House::new().attacked(layers, Some(free)).await;
    assert!(holes["tcp"].is_empty(), "{:?}", holes["tcp"]);
    assert!(!holes["own_port"].is_empty());
    assert!(!holes["own_unix_sockets"].is_empty());
}

#[tokio::test]
async fn an_init_that_cannot_listen_for_servers_is_reported() {
    let Some(all) = all_layers() else { return };
    // The kernel allows one filter that notifies a supervisor. Programs that are started through this have one already, as in some containers.
    const WRAPPER: &str = "import ctypes, os, sys\nlibc = ctypes.CDLL(None)\nlibc.prctl(38, 1, 0, 0, 0)\n\
        allow = ctypes.create_string_buffer(b'\\x06\\0\\0\\0\\0\\0\\xff\\x7f', 8)\n\
        program = (ctypes.c_uint64 * 2)(1, ctypes.addressof(allow))\n\
        asks = libc.syscall(ctypes.c_long(277 if os.uname().machine == 'aarch64' else 317), ctypes.c_long(1), ctypes.c_long(8), program)\n\
        os.set_inheritable(asks, True)\nos.execv(sys.argv[1], sys.argv[1:])\n";
    let folder = tempfile::tempdir().unwrap();
    let script = folder.path().join("wrapper.py");
    fs::write(&script, WRAPPER).unwrap();
    let program = folder.path().join("program");
    let bridge = env!("CARGO_BIN_EXE_stdio-bridge");
    let line = format!(
        "#!/bin/sh\nexec {} {} {bridge} \"$@\"\n",
        harness::python().0,
        script.display()
    );
    fs::write(&program, line).unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o700)).unwrap();
    for name in ["hidden", "scratch"] {
        fs::create_dir(folder.path().join(name)).unwrap();
    }
    let (found, missing) =
        sandbox::probe(&program, &folder.path().join("hidden"), &folder.path().join("scratch")).unwrap();
    assert!(all.listen_by_init, "without that, it can be asked");
    let expected = Layers {
        listen_by_init: false,
        ..all
    };
    assert_eq!(found, expected, "{missing:?}");
    assert!(missing[0].starts_with("listen: "), "{missing:?}");
    let tcp = found.protections().into_iter().find(|p| p.subject == "tcp").unwrap();
    assert!(tcp.by.contains("can listen on free ports"), "{}", tcp.by);
    // What is reported is true.
    let free = TcpListener::bind(("127.0.0.1", 0))
        .unwrap()
        .local_addr()
        .unwrap()
        .port();
    let holes = House::new().attacked(found, Some(free)).await;
    assert!(!holes["own_port"].is_empty());
    assert!(
        holes["tcp"]
            .iter()
            .all(|hole| hole.starts_with("listen without a port")),
        "{:?}",
        holes["tcp"]
    );
}

#[tokio::test]
async fn without_a_sandbox_it_can_access_all_targets() {
    let house = House::new();
    let holes = house.attacked(Layers::default(), None).await;
    for subject in [
        "files",
        "metadata",
        "processes",
        "signals",
        "unix_sockets",
        "tcp",
        "memory",
        "process_count",
    ] {
        assert!(!holes[subject].is_empty(), "the attacks on {subject} are none");
    }
    for way in ["sendto", "sendmsg", "sendmmsg"] {
        let found = &holes["tcp"];
        let attack = format!("connect with {way} hole");
        assert!(found.iter().any(|hole| hole.starts_with(&attack)), "{found:?}");
    }
}

#[tokio::test]
async fn what_it_is_not_granted_cannot_be_granted_by_mistake() {
    let house = House::new();
    let root = house.folder.path().canonicalize().unwrap();
    let mut bridge = Bridge::start("good", |spec| {
        spec.confinement.hidden = root.join("hidden");
        spec.confinement.grants.push(Grant::read(&root));
    })
    .await;
    let (_, message, _) = bridge.ended().await;
    assert!(message.contains("is hidden from servers"), "{message}");
}

#[tokio::test]
async fn only_the_parent_of_the_bridge_may_call() {
    let bridge = Bridge::ready("good").await;
    let socket = bridge.folder.path().join("s");
    let script = "import socket, sys\ns = socket.socket(socket.AF_UNIX)\ns.connect(sys.argv[1])\n\
                  s.sendall(b'POST / HTTP/1.1\\r\\nhost: x\\r\\ncontent-length: 0\\r\\n\\r\\n')\nprint(len(s.recv(100)))";
    let output = Command::new("python3")
        .args(["-c", script])
        .arg(&socket)
        .output()
        .unwrap();
    let (answer, complaint) = (
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr),
    );
    assert!(
        answer.trim() == "0" || complaint.contains("Reset") || complaint.contains("Broken"),
        "{answer} {complaint}"
    );
    bridge.client();
}
