//! The upstream: this program again, in a process of its own, with and without TLS.

use std::{
    env,
    io::Write as _,
    net::SocketAddr,
    os::unix::process::parent_id,
    path::{Path, PathBuf},
    time::Duration,
};

use integration_tests::{process::Program, upstream::fast::FastUpstream, wait::eventually};
use tempfile::TempDir;
use tokio::process::Command;

use super::certificates;

/// The argument that makes this program the upstream. Its address and the folder of its certificate follow.
const PART: &str = "upstream";

/// The running upstream.
pub(crate) struct Upstream {
    program: Program,
    certificates: TempDir,
    /// `host:port` for http.
    pub(crate) plain: String,
    /// `host:port` for https.
    pub(crate) tls: String,
}

impl Upstream {
    pub(crate) async fn start(address: SocketAddr) -> Self {
        let certificates = tempfile::tempdir().expect("a place for temporary files");
        certificates::write(certificates.path());
        let mut command = Command::new(env::current_exe().expect("this program has a path"));
        command.arg(PART).arg(address.to_string()).arg(certificates.path());
        let program = Program::start(command);
        let lines = program.lines().clone();
        let (plain, tls) = eventually("the upstream listens", || async {
            let mut lines = lines.all().into_iter();
            lines.next().zip(lines.next())
        })
        .await;
        Self {
            program,
            certificates,
            plain,
            tls,
        }
    }

    pub(crate) fn pid(&self) -> i32 {
        self.program.pid()
    }

    /// The file with the authority that has certified it.
    pub(crate) fn authority(&self) -> PathBuf {
        self.certificates.path().join(certificates::AUTHORITY)
    }
}

/// Serves as the upstream until the parent process is gone, if this process was started for that, and returns whether it was.
pub(crate) fn is_this_process() -> bool {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let [part, address, folder] = &arguments[..] else {
        return false;
    };
    if part != PART {
        return false;
    }
    let address = address.parse().expect("it was given by this program");
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    runtime.block_on(serve(address, Path::new(folder)));
    true
}

async fn serve(address: SocketAddr, folder: &Path) {
    let parent = parent_id();
    let plain = FastUpstream::start(address, None).await;
    let free = SocketAddr::new(address.ip(), 0);
    let tls = FastUpstream::start(free, Some(certificates::server(folder))).await;
    let _ = writeln!(std::io::stdout(), "{}\n{}", plain.address(), tls.address());
    while parent_id() == parent {
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}
