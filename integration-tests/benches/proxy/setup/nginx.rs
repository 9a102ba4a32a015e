//! nginx as a plain reverse proxy, tuned for what it is compared in.

use std::{fs, process::Command as StdCommand, thread};

use integration_tests::{
    process::{Program, descendants, free_port},
    tools::Tool,
    wait::eventually,
};
use tempfile::TempDir;
use tokio::{net::TcpStream, process::Command};

use super::{certificates, upstream::Upstream};

/// Buffers for an answer of 100 KB, which is read at once and never written to a file. For one of 1 KB they are as good as small ones.
const BUFFERS: &str = "proxy_buffer_size 128k; proxy_buffers 4 128k; proxy_busy_buffers_size 256k;";

/// The running proxy.
pub(crate) struct Nginx {
    program: Program,
    _folder: TempDir,
    /// Its workers.
    pub(crate) processes: Vec<i32>,
    /// `host:port`, in front of the upstream without TLS.
    pub(crate) plain: String,
    /// `host:port`, in front of the upstream with TLS.
    pub(crate) tls: String,
}

impl Nginx {
    /// Starts it with as many workers as the gateway has threads for connections.
    pub(crate) async fn start(upstream: &Upstream) -> Self {
        let folder = tempfile::tempdir().expect("a place for temporary files");
        let [plain, tls] = [free_port(), free_port()].map(|port| format!("127.0.0.1:{port}"));
        let path = folder.path().display();
        let workers = thread::available_parallelism().map_or(1, usize::from);
        let authority = upstream.authority();
        let trust = format!(
            "proxy_ssl_session_reuse on; proxy_ssl_verify on; proxy_ssl_trusted_certificate {}; proxy_ssl_name {};",
            authority.display(),
            certificates::NAME,
        );
        let servers = [server(&plain, "http://plain"), server(&tls, "https://tls")].concat();
        let configuration = format!(
            "worker_processes {workers};\nerror_log stderr warn;\npid {path}/nginx.pid;\nevents {{ worker_connections 1024; }}\n\
             http {{\n  access_log off;\n  client_body_temp_path {path}/b;\n  proxy_temp_path {path}/p;\n  fastcgi_temp_path {path}/f;\n  \
             uwsgi_temp_path {path}/u;\n  scgi_temp_path {path}/s;\n  keepalive_requests 1000000000;\n  tcp_nodelay on;\n  {trust}\n  \
             upstream plain {{ server {}; keepalive 128; keepalive_requests 1000000000; }}\n  \
             upstream tls {{ server {}; keepalive 128; keepalive_requests 1000000000; }}\n{servers}}}\n",
            upstream.plain, upstream.tls,
        );
        let file = folder.path().join("nginx.conf");
        fs::write(&file, configuration).expect("it can be written");
        let mut command = Command::new(Tool::Nginx.path());
        command.arg("-p").arg(folder.path()).arg("-c").arg(file);
        let root = StdCommand::new("id")
            .arg("-u")
            .output()
            .is_ok_and(|output| output.stdout.starts_with(b"0\n"));
        // Otherwise its workers would run as another user, who cannot use the folder.
        command.args(["-g", if root { "daemon off; user root;" } else { "daemon off;" }]);
        let program = Program::start(command);
        for address in [&plain, &tls] {
            eventually("nginx listens", || async { TcpStream::connect(address).await.ok() }).await;
        }
        // The first of them listens before the last is there, whose CPU time counts, too.
        let processes = eventually("all workers run", || async {
            let processes: Vec<i32> = descendants(program.pid()).iter().map(|process| process.pid).collect();
            (processes.len() == workers).then_some(processes)
        })
        .await;
        Self {
            program,
            _folder: folder,
            processes,
            plain,
            tls,
        }
    }

    /// Ends it: SIGKILL would leave its workers behind.
    pub(crate) async fn end(mut self) {
        self.program.terminate().await;
    }
}

fn server(address: &str, upstream: &str) -> String {
    format!(
        "  server {{\n    listen {address} reuseport;\n    location / {{\n      proxy_pass {upstream};\n      proxy_http_version 1.1;\n      \
         proxy_set_header Connection \"\";\n      {BUFFERS}\n    }}\n  }}\n"
    )
}
