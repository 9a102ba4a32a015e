//! An OpenBao server of a test's own. It speaks the API of Vault.

use std::{
    fs,
    io::Write as _,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use serde_json::{Value, json};

use crate::random;

/// Ends the server when standard input is closed, and removes its folder unless told to keep it: also when the test was killed.
const GUARD: &str = r#""$@" >>log 2>&1 & server=$!; told=$(cat); kill -9 $server; wait $server 2>/dev/null; [ "$told" = keep ] || rm -rf "$PWD""#;
/// How long the server may take to begin to answer, or to become active.
const PATIENCE: Duration = Duration::from_secs(60);

/// A server on 127.0.0.1 with integrated storage, as in production. Dropping it ends it and removes its data.
#[derive(Debug)]
pub struct OpenBao {
    program: PathBuf,
    folder: PathBuf,
    address: String,
    root_token: String,
    unseal_key: String,
    http: reqwest::Client,
    guard: Option<Child>,
}

impl OpenBao {
    /// Starts a server and unseals it. `program` is `bao`; see `not_run::openbao`. With `tls`, a certificate and its key in PEM format,
    /// it speaks TLS.
    ///
    /// # Panics
    /// If the server does not start.
    pub async fn start(program: PathBuf, tls: Option<(&str, &str)>) -> Self {
        let mut server = Self::prepare(program, tls);
        server.run();
        server.until(501).await;
        let (_, made) = server
            .ask("POST", "sys/init", json!({"secret_shares": 1, "secret_threshold": 1}))
            .await;
        let text = |value: &Value| value.as_str().expect("the server was initialized").to_owned();
        server.root_token = text(&made["root_token"]);
        server.unseal_key = text(&made["keys"][0]);
        server.unseal().await;
        server
    }

    /// Starts a second server in a cluster with this one, which stays the active one.
    ///
    /// # Panics
    /// If the server does not start.
    pub async fn standby(&self) -> Self {
        let mut server = Self::prepare(self.program.clone(), None);
        server.root_token.clone_from(&self.root_token);
        server.unseal_key.clone_from(&self.unseal_key);
        server.run();
        server.until(501).await;
        let leader = json!({"leader_api_addr": self.address});
        server.set_up("POST", "sys/storage/raft/join", leader).await;
        let key = json!({"key": self.unseal_key});
        let is_unsealed = async || {
            let (status, answer) = server.ask("POST", "sys/unseal", key.clone()).await;
            status == 200 && answer["sealed"] == false
        };
        eventually("the standby is unsealed", is_unsealed).await;
        server.until(429).await;
        server
    }

    /// Makes the folder of a server, with its settings.
    fn prepare(program: PathBuf, tls: Option<(&str, &str)>) -> Self {
        super::install_tls_provider();
        let folder = std::env::temp_dir().join(format!("openbao-{}", random::uuid()));
        fs::create_dir_all(folder.join("data")).expect("there is a place for temporary files");
        let (port, cluster) = (free_port(), free_port());
        let tls_settings = match tls {
            None => "tls_disable = true".to_owned(),
            Some((certificate, key)) => {
                fs::write(folder.join("certificate.pem"), certificate).expect("it is the test's");
                fs::write(folder.join("key.pem"), key).expect("it is the test's");
                format!(
                    "tls_cert_file = \"{0}/certificate.pem\"\n tls_key_file = \"{0}/key.pem\"",
                    folder.display()
                )
            }
        };
        let scheme = if tls.is_some() { "https" } else { "http" };
        let address = format!("{scheme}://127.0.0.1:{port}");
        let settings = format!(
            "storage \"raft\" {{\n path = \"{}/data\"\n node_id = \"{port}\"\n performance_multiplier = 1\n}}\n\
             listener \"tcp\" {{\n address = \"127.0.0.1:{port}\"\n cluster_address = \"127.0.0.1:{cluster}\"\n {tls_settings}\n}}\n\
             cluster_addr = \"https://127.0.0.1:{cluster}\"\napi_addr = \"{address}\"\n",
            folder.display(),
        );
        fs::write(folder.join("settings.hcl"), settings).expect("it is the test's");
        // Tests on several runtimes may share a server, and none may depend on a connection of another.
        let mut http = reqwest::Client::builder().no_proxy().pool_max_idle_per_host(0);
        http = match tls {
            None => http.tls_certs_only([]),
            Some((certificate, _)) => {
                let trusted = reqwest::Certificate::from_pem(certificate.as_bytes());
                http.tls_certs_only([trusted.expect("the test made it")])
            }
        };
        Self {
            program,
            folder,
            address,
            root_token: String::new(),
            unseal_key: String::new(),
            http: http.build().expect("the TLS provider is installed"),
            guard: None,
        }
    }

    /// `http://127.0.0.1:PORT`, which stays the same.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// The token that may do everything.
    pub fn root_token(&self) -> &str {
        &self.root_token
    }

    /// The folder with its data, its log, and whatever a test puts there.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Asks as root. Returns the status and the answer.
    ///
    /// # Panics
    /// If there is no answer.
    pub async fn ask(&self, method: &str, path: &str, body: Value) -> (u16, Value) {
        self.ask_as(&self.root_token, method, path, body).await
    }

    /// Asks with a token.
    ///
    /// # Panics
    /// If there is no answer.
    pub async fn ask_as(&self, token: &str, method: &str, path: &str, body: Value) -> (u16, Value) {
        let method = reqwest::Method::from_bytes(method.as_bytes()).expect("a test names methods");
        let request = self.http.request(method, format!("{}/v1/{path}", self.address));
        let answer = request.header("x-vault-token", token).json(&body).send().await;
        let answer = answer.expect("the server answers");
        let status = answer.status().as_u16();
        (status, answer.json().await.unwrap_or_default())
    }

    /// Asks as root for what must succeed.
    ///
    /// # Panics
    /// If it does not.
    pub async fn set_up(&self, method: &str, path: &str, body: Value) -> Value {
        let (status, answer) = self.ask(method, path, body).await;
        assert!((200..300).contains(&status), "{method} {path}: {status} {answer}");
        answer
    }

    /// Enables KV version 2 at a path.
    ///
    /// # Panics
    /// If that fails.
    pub async fn mount_kv(&self, path: &str) {
        let engine = json!({"type": "kv", "options": {"version": "2"}});
        self.set_up("POST", &format!("sys/mounts/{path}"), engine).await;
        // A new engine is set up in the background.
        let ready = async || self.ask("GET", &format!("{path}/config"), Value::Null).await.0 == 200;
        eventually("the engine is ready", ready).await;
    }

    /// A token with policies and a lifetime in seconds.
    ///
    /// # Panics
    /// If it cannot be made.
    pub async fn token(&self, policies: &[&str], seconds: u32, is_renewable: bool) -> String {
        let wanted = json!({
            "policies": policies, "ttl": format!("{seconds}s"), "renewable": is_renewable, "no_default_policy": true,
        });
        let made = self.set_up("POST", "auth/token/create-orphan", wanted).await;
        made["auth"]["client_token"].as_str().expect("it was made").to_owned()
    }

    /// Seals the server.
    ///
    /// # Panics
    /// If that fails.
    pub async fn seal(&self) {
        self.set_up("POST", "sys/seal", Value::Null).await;
        self.until(503).await;
    }

    /// Unseals the server, and waits until it is active.
    ///
    /// # Panics
    /// If it does not become active.
    pub async fn unseal(&self) {
        let key = json!({"key": self.unseal_key});
        let (status, answer) = self.ask("POST", "sys/unseal", key).await;
        assert_eq!(status, 200, "{answer}");
        self.until(200).await;
    }

    /// Kills the server.
    pub fn kill(&mut self) {
        self.end(b"keep");
    }

    fn end(&mut self, told: &[u8]) {
        if let Some(mut guard) = self.guard.take() {
            if let Some(mut stdin) = guard.stdin.take() {
                let _ = stdin.write_all(told);
            }
            let _ = guard.wait();
        }
    }

    /// Starts the server on its data again, unsealed.
    ///
    /// # Panics
    /// If it does not start.
    pub async fn start_again(&mut self) {
        self.run();
        self.until(503).await;
        self.unseal().await;
    }

    fn run(&mut self) {
        let mut guard = Command::new("sh");
        guard
            .args(["-c", GUARD, "sh"])
            .arg(&self.program)
            .args(["server", "-config=settings.hcl"])
            .current_dir(&self.folder)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        self.guard = Some(guard.spawn().expect("there is a shell"));
    }

    /// Waits until the health of the server has this status: 200 active, 429 standby, 501 not initialized, 503 sealed.
    async fn until(&self, status: u16) {
        let url = format!("{}/v1/sys/health", self.address);
        let has = async || {
            let answer = self.http.get(&url).send().await;
            answer.is_ok_and(|answer| answer.status().as_u16() == status)
        };
        eventually(
            &format!("OpenBao in {} has status {status}", self.folder.display()),
            has,
        )
        .await;
    }
}

impl Drop for OpenBao {
    fn drop(&mut self) {
        self.end(b"");
        // If it was killed before.
        let _ = fs::remove_dir_all(&self.folder);
    }
}

async fn eventually(what: &str, holds: impl AsyncFn() -> bool) {
    let wait = async {
        while !holds().await {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    assert!(
        tokio::time::timeout(PATIENCE, wait).await.is_ok(),
        "{what}: not within {PATIENCE:?}"
    );
}

fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0")
        .and_then(|listener| listener.local_addr())
        .expect("the loopback interface has free ports")
        .port()
}
