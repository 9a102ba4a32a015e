//! A PostgreSQL server: the one in `CHANDLERY_TEST_POSTGRES_URL`, or one that the test starts.

use std::{
    env,
    fs::{self, File},
    io::Write as _,
    os::unix::fs::{PermissionsExt as _, chown},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::{Pid, Uid, User},
};
use secrecy::{ExposeSecret as _, SecretString};
use sqlx::{AssertSqlSafe, Connection as _, PgConnection};
use tempfile::TempDir;

use crate::{Result, process::free_port, tools::Tool};

/// A server on which a test can create databases. If the test started it, it stops when dropped.
#[derive(Debug)]
pub struct Server {
    /// The URL of its database `postgres`, for a user who can create databases.
    pub url: SecretString,
    _own: Option<Own>,
}

#[derive(Debug)]
struct Own {
    program: Child,
    _data: TempDir,
}

impl Server {
    /// Uses the server in `CHANDLERY_TEST_POSTGRES_URL`, or starts one.
    ///
    /// # Errors
    /// Like [`Server::own`].
    pub async fn start() -> Result<Self> {
        Tool::Postgres.declared();
        match env::var("CHANDLERY_TEST_POSTGRES_URL") {
            Ok(url) => Ok(Self {
                url: url.into(),
                _own: None,
            }),
            Err(_) => Self::own().await,
        }
    }

    /// Starts a server on 127.0.0.1, with its data in a temporary folder, `fsync` on, and 256 MB of shared buffers.
    ///
    /// # Errors
    /// If PostgreSQL is not installed or does not start.
    pub async fn own() -> Result<Self> {
        Tool::Postgres.declared();
        let programs = programs()?;
        let data = tempfile::tempdir()?;
        let user = user()?;
        let folder = data.path().join("data");
        let password = uuid::Uuid::new_v4().simple().to_string();
        let password_file = data.path().join("password");
        writeln!(File::create(&password_file)?, "{password}")?;
        fs::create_dir(&folder)?;
        fs::set_permissions(data.path(), fs::Permissions::from_mode(0o755))?;
        if let Some(user) = &user {
            for path in [&folder, &password_file] {
                chown(path, Some(user.uid.as_raw()), Some(user.gid.as_raw()))?;
            }
        }
        let made = command(&programs.join("initdb"), user.as_ref(), data.path())
            .arg("-D")
            .arg(&folder)
            .args([
                "-U",
                "chandlery",
                "--auth=scram-sha-256",
                "--encoding=UTF8",
                "--locale=C",
            ])
            .arg(format!("--pwfile={}", password_file.display()))
            .output()?;
        if !made.status.success() {
            return Err(format!("initdb: {}", String::from_utf8_lossy(&made.stderr)).into());
        }
        let port = free_port();
        let mut server = command(&programs.join("postgres"), user.as_ref(), data.path());
        server.arg("-D").arg(&folder);
        for setting in [
            "listen_addresses=127.0.0.1".to_owned(),
            format!("port={port}"),
            "unix_socket_directories=".to_owned(),
            "fsync=on".to_owned(),
            "shared_buffers=256MB".to_owned(),
            "max_wal_size=4GB".to_owned(),
            "max_connections=200".to_owned(),
        ] {
            server.arg("-c").arg(setting);
        }
        let own = Own {
            program: server.spawn()?,
            _data: data,
        };
        let url: SecretString = format!("postgres://chandlery:{password}@127.0.0.1:{port}/postgres").into();
        let begin = Instant::now();
        while let Err(error) = PgConnection::connect(url.expose_secret()).await {
            if begin.elapsed() > Duration::from_secs(30) {
                return Err(error.into());
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        Ok(Self { url, _own: Some(own) })
    }

    /// Creates an empty database, and returns its URL.
    ///
    /// # Errors
    /// If the server does not respond.
    pub async fn database(&self) -> Result<SecretString> {
        let name = format!("journey_{}", uuid::Uuid::new_v4().simple());
        let mut connection = PgConnection::connect(self.url.expose_secret()).await?;
        sqlx::query(AssertSqlSafe(format!("CREATE DATABASE {name}")))
            .execute(&mut connection)
            .await?;
        let mut url = url::Url::parse(self.url.expose_secret())?;
        url.set_path(&name);
        Ok(String::from(url).into())
    }

    /// What figures depend on: the server's version, and whether acknowledged writes are on disk.
    ///
    /// # Errors
    /// If the server does not respond.
    pub async fn describe(&self) -> Result<String> {
        let mut connection = PgConnection::connect(self.url.expose_secret()).await?;
        let describe = "SELECT 'PostgreSQL ' || current_setting('server_version') || ', fsync ' || current_setting('fsync') \
                        || ', shared_buffers ' || current_setting('shared_buffers')";
        Ok(sqlx::query_scalar(describe).fetch_one(&mut connection).await?)
    }
}

impl Drop for Own {
    fn drop(&mut self) {
        // The server's children end only if it shuts down itself.
        if let Ok(pid) = i32::try_from(self.program.id()) {
            let _ = kill(Pid::from_raw(pid), Signal::SIGQUIT);
        }
        let _ = self.program.wait();
    }
}

/// The folder of `initdb` and `postgres`: `CHANDLERY_TEST_POSTGRES_BIN`, or where Debian puts them.
fn programs() -> Result<PathBuf> {
    if let Some(folder) = env::var_os("CHANDLERY_TEST_POSTGRES_BIN") {
        return Ok(folder.into());
    }
    let mut found: Vec<PathBuf> = fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten()
        .filter_map(|version| Some(version.ok()?.path().join("bin")))
        .filter(|folder| folder.join("initdb").exists())
        .collect();
    found.sort();
    found
        .pop()
        .ok_or_else(|| "there is no PostgreSQL: set CHANDLERY_TEST_POSTGRES_URL or CHANDLERY_TEST_POSTGRES_BIN".into())
}

/// The user to run the server as, if this process is root: PostgreSQL refuses to run as root.
fn user() -> Result<Option<User>> {
    if !Uid::effective().is_root() {
        return Ok(None);
    }
    for name in ["postgres", "nobody"] {
        if let Some(user) = User::from_name(name)? {
            return Ok(Some(user));
        }
    }
    Err("there is no user but root to run PostgreSQL as".into())
}

fn command(program: &Path, user: Option<&User>, folder: &Path) -> Command {
    use std::os::unix::process::CommandExt as _;
    let mut command = Command::new(program);
    command
        .current_dir(folder)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    if let Some(user) = user {
        command.uid(user.uid.as_raw()).gid(user.gid.as_raw());
    }
    command
}
