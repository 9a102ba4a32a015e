//! The program that runs as the bridge, and as the launcher of the sandbox.
//!
//! There are two: this service's program, which is the bridge when it gets an argument, and the bridge as a program of its own, which takes less
//! memory. Which one is used is decided once, when the service starts. The file is opened then, so that a service whose files are replaced
//! runs on with the bridge that it has checked.

use std::{
    fs::File,
    io,
    os::{
        fd::AsRawFd as _,
        unix::fs::{MetadataExt as _, OpenOptionsExt as _},
    },
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use nix::fcntl::OFlag;
use stdio_bridge::{VERSION, VERSION_ARGUMENT};
use tokio::{io::AsyncReadExt as _, process::Command, time::timeout};

use crate::config::Config;

/// How long a bridge may take to print its version.
const PATIENCE: Duration = Duration::from_secs(10);
/// The most that is read of its version, in bytes.
const LONGEST: u64 = 200;

/// The program, opened.
#[derive(Debug)]
pub(crate) struct Program {
    /// For people.
    name: PathBuf,
    file: File,
    arguments: Vec<String>,
}

impl Program {
    /// The bridge as a program of its own, if it is usable; otherwise the program of the service.
    ///
    /// # Errors
    /// If the program of the service cannot be opened.
    pub(crate) async fn choose(config: &Config) -> io::Result<Self> {
        let program = Self {
            name: config.program.clone(),
            file: open(&config.program)?,
            arguments: config.bridge_arguments.clone(),
        };
        let Some(path) = &config.bridge else {
            return Ok(program);
        };
        match program.bridge(path, &config.sandbox.write).await {
            Ok(bridge) => Ok(bridge),
            Err(Unusable::Absent) => Ok(program),
            Err(why) => {
                tracing::warn!(
                    "{} is not used: {why}. Servers run with {} as their bridge, which takes more memory; to avoid that, install the bridge that was \
                     built with it",
                    path.display(),
                    program.name.display(),
                );
                Ok(program)
            }
        }
    }

    /// The bridge at `path`, if it is of this build and nobody can change it who cannot change this program. `shared` are the folders that all
    /// servers may write: a program that runs cannot be changed there, but the bridge of a service without servers could.
    async fn bridge(&self, path: &Path, shared: &[PathBuf]) -> Result<Self, Unusable> {
        let file = open(path).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => Unusable::Absent,
            _ => Unusable::Failed(error),
        })?;
        let (own, other) = (self.file.metadata()?, file.metadata()?);
        let writable = |by| other.mode() & by != 0 && own.mode() & by == 0;
        let by_other_group = other.mode() & 0o020 != 0 && other.gid() != own.gid();
        if other.uid() != own.uid() || writable(0o020) || writable(0o002) || by_other_group {
            return Err(Unusable::Exposed);
        }
        // The file, and the folder of a link to it.
        let places = [path.canonicalize()?, path.parent().unwrap_or(path).canonicalize()?];
        let mut shared = shared.iter().filter_map(|folder| folder.canonicalize().ok());
        if shared.any(|folder| places.iter().any(|place| place.starts_with(&folder))) {
            return Err(Unusable::Shared);
        }
        let bridge = Self {
            name: path.to_owned(),
            file,
            arguments: Vec::new(),
        };
        match bridge.version().await? {
            version if version == VERSION => Ok(bridge),
            version => Err(Unusable::OtherBuild(version)),
        }
    }

    /// What it prints as its version.
    async fn version(&self) -> io::Result<String> {
        let mut process = self
            .command()
            .arg(VERSION_ARGUMENT)
            .env_clear()
            .current_dir("/")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()?;
        let output = process.stdout.take().ok_or(io::ErrorKind::BrokenPipe)?;
        let mut version = Vec::new();
        let ended = async {
            output.take(LONGEST).read_to_end(&mut version).await?;
            process.wait().await
        };
        timeout(PATIENCE, ended).await??;
        Ok(String::from_utf8_lossy(&version).trim_end().to_owned())
    }

    /// A command that runs it as the bridge.
    pub(crate) fn command(&self) -> Command {
        let mut command = Command::new(self.path());
        command.arg0(&self.name).args(&self.arguments);
        command
    }

    /// A path that leads this process to the opened file.
    pub(crate) fn path(&self) -> PathBuf {
        format!("/proc/self/fd/{}", self.file.as_raw_fd()).into()
    }
}

fn open(path: &Path) -> io::Result<File> {
    File::options().read(true).custom_flags(OFlag::O_PATH.bits()).open(path)
}

/// Why the bridge is not used as a program of its own.
#[derive(Debug, thiserror::Error)]
enum Unusable {
    #[error("it does not exist")]
    Absent,
    #[error("it cannot be started ({0})")]
    Failed(#[from] io::Error),
    #[error("it has another owner, or more users may write it")]
    Exposed,
    #[error("servers may write it (--server-write)")]
    Shared,
    #[error("it is of another build: {VERSION_ARGUMENT} prints {0:?} instead of {VERSION:?}")]
    OtherBuild(String),
}

#[cfg(test)]
mod tests {
    use std::{
        env,
        fs::{self, Permissions},
        os::unix::fs::{PermissionsExt as _, symlink},
    };

    use super::*;

    /// A service with a program that is the bridge, too, and perhaps the bridge as a program of its own.
    fn service(folder: &Path) -> (Config, PathBuf) {
        let path = folder.join(stdio_bridge::NAME);
        let config = Config {
            program: super::super::tests::bridge(),
            bridge: Some(path.clone()),
            ..Config::default()
        };
        (config, path)
    }

    #[tokio::test]
    async fn a_bridge_of_the_same_build_is_used_also_when_its_file_is_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let (config, path) = service(folder.path());
        symlink(&config.program, &path).unwrap();
        let chosen = Program::choose(&config).await.unwrap();
        assert_eq!((&chosen.name, chosen.arguments.len()), (&path, 0));
        fs::remove_file(&path).unwrap();
        symlink("/bin/true", &path).unwrap();
        assert_eq!(chosen.version().await.unwrap(), VERSION);
    }

    #[tokio::test]
    async fn without_a_bridge_or_with_one_that_is_unusable_the_program_of_the_service_is_used() {
        type Check = fn(&Unusable) -> bool;
        let cases: [(&str, Check); 5] = [
            ("absent", |why| matches!(why, Unusable::Absent)),
            ("stale", |why| matches!(why, Unusable::OtherBuild(_))),
            ("no program", |why| matches!(why, Unusable::Failed(_))),
            ("writable", |why| matches!(why, Unusable::Exposed)),
            ("shared", |why| matches!(why, Unusable::Shared)),
        ];
        for (case, expected) in cases {
            let folder = tempfile::tempdir().unwrap();
            let (mut config, path) = service(folder.path());
            match case {
                "stale" => symlink(env::current_exe().unwrap(), &path).unwrap(),
                "no program" => fs::write(&path, "").unwrap(),
                "writable" => {
                    fs::copy(&config.program, &path).unwrap();
                    fs::set_permissions(&path, Permissions::from_mode(0o757)).unwrap();
                }
                "shared" => {
                    symlink(&config.program, &path).unwrap();
                    config.sandbox.write.push(folder.path().to_owned());
                }
                _ => {}
            }
            let chosen = Program::choose(&config).await.unwrap();
            assert_eq!(
                (&chosen.name, &chosen.arguments),
                (&config.program, &config.bridge_arguments),
                "{case}"
            );
            let why = chosen.bridge(&path, &config.sandbox.write).await.unwrap_err();
            assert!(expected(&why), "{case}: {why}");
        }
    }
}
