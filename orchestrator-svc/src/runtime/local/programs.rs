//! Finds the files that a program requires beyond those of the system: the program, its interpreter, and the libraries that are installed with
//! them.
//!
//! They are found as a shell and the kernel find them. Only the command and the arguments of the entry are considered, never values that people
//! entered, nor paths that servers could change.

use std::{
    fs::{self, File},
    io::Read as _,
    os::unix::fs::{MetadataExt as _, PermissionsExt as _},
    path::{Component, Path, PathBuf},
};

use sandbox::Grant;

/// Folders of version managers. Their programs require the whole folder.
const MANAGERS: [&str; 7] = [".pyenv", ".nvm", ".asdf", ".volta", ".rbenv", ".sdkman", ".bun"];
/// Programs whose first argument that is not an option is the script to run.
const INTERPRETERS: [&str; 9] = ["python", "node", "deno", "bun", "ruby", "perl", "php", "bash", "sh"];
/// The parts of an installation prefix that programs require.
const INSTALLED: [&str; 5] = ["bin", "lib", "lib64", "libexec", "pyvenv.cfg"];
/// Extensions of scripts. Another file that is not executable is not made accessible, even as an argument of an interpreter: it may be a key.
const SCRIPTS: [&str; 11] = ["py", "pyz", "js", "mjs", "cjs", "ts", "mts", "sh", "rb", "pl", "jar"];
/// How deep interpreters may be nested: the interpreter of a script may be a script itself.
const DEEPEST: usize = 5;
/// The most symbolic links in a path, as in the kernel.
const MOST_LINKS: usize = 40;
/// The longest `#!` line that is read, in bytes.
const LINE: u64 = 512;

/// Finds the files that programs require.
pub(crate) struct Programs<'a> {
    /// Where commands are looked up, in the format of `PATH`.
    pub(crate) path: &'a str,
    /// Never made accessible, nor anything inside it or around it.
    pub(crate) hidden: &'a Path,
    /// Folders that all servers may write. Files there do not decide what a server may access.
    pub(crate) writable: &'a [PathBuf],
    /// The home folder of the service's user. Of a script in it, only the script itself is made accessible.
    pub(crate) home: Option<&'a Path>,
}

impl Programs<'_> {
    /// The files that `command` requires when it is started with `arguments`.
    pub(crate) fn grants(&self, command: &str, arguments: &[String]) -> Vec<Grant> {
        let mut found = Vec::new();
        let files = [self.look_up(command), script(command, arguments)];
        for file in files.into_iter().flatten() {
            self.program(&file, &mut found, DEEPEST);
        }
        found.retain(|path| self.settled(path).is_some_and(|real| !self.hidden.starts_with(real)));
        found.sort();
        found.dedup();
        found.into_iter().map(Grant::read).collect()
    }

    /// The path of a command; `None` if it is not found.
    pub(crate) fn look_up(&self, command: &str) -> Option<PathBuf> {
        let is_program = |path: &PathBuf| self.settled(path).is_some_and(|real| real.is_file());
        if command.contains('/') {
            return Some(PathBuf::from(command)).filter(is_program);
        }
        self.path
            .split(':')
            .map(|folder| Path::new(folder).join(command))
            .find(is_program)
    }

    /// The folders of `PATH` that no server could have changed.
    pub(crate) fn settled_path(&self) -> String {
        self.path_of(|folder| self.settled(folder).is_some())
    }

    /// `PATH` without the folders that all servers may write. It may have folders that only the server itself may write.
    pub(crate) fn unshared_path(&self) -> String {
        let is_to_come = |folder: &Path| fs::symlink_metadata(folder).is_err() && !is_below(folder, self.shared());
        self.path_of(|folder| lead(folder, self.shared()).is_some() || is_to_come(folder))
    }

    fn path_of(&self, which: impl Fn(&Path) -> bool) -> String {
        let folders = self.path.split(':').filter(|folder| which(Path::new(folder)));
        folders.collect::<Vec<_>>().join(":")
    }

    fn shared(&self) -> impl Iterator<Item = &Path> + Clone {
        self.writable.iter().map(PathBuf::as_path)
    }

    /// The target of a path; `None` if it does not exist, or servers could change where it leads.
    fn settled(&self, path: &Path) -> Option<PathBuf> {
        lead(path, self.shared().chain([self.hidden]))
    }

    fn program(&self, file: &Path, found: &mut Vec<PathBuf>, depth: usize) {
        let Some(real) = self.settled(file).filter(|real| is_program(real)) else {
            return;
        };
        let Some(depth) = depth.checked_sub(1) else { return };
        // The path as given, which may be a symbolic link, and its target.
        for path in [file, &real] {
            found.push(path.to_owned());
            found.extend(outermost(path, &MANAGERS));
            found.extend(outermost(path, &["node_modules"]));
            if let Some(prefix) = prefix(path) {
                found.extend(
                    INSTALLED
                        .iter()
                        .map(|name| prefix.join(name))
                        .filter(|path| path.exists()),
                );
                if let Some(base) = base_of_venv(&prefix) {
                    self.program(&base, found, depth);
                }
            }
        }
        if let Some(line) = first_line(&real) {
            // A script may use the files in its folder.
            found.extend(
                real.parent()
                    .filter(|folder| self.is_narrow(folder))
                    .map(Path::to_owned),
            );
            if let Some(interpreter) = self.interpreter(&line) {
                self.program(&interpreter, found, depth);
            }
        }
    }

    /// The interpreter of `#!/usr/bin/env -S node --flag`, `#!/bin/sh`.
    fn interpreter(&self, line: &str) -> Option<PathBuf> {
        let mut words = line.strip_prefix("#!")?.split_ascii_whitespace();
        let program = Path::new(words.next()?);
        if program.file_name()? == "env" {
            let mut name = words.next()?;
            if matches!(name, "-S" | "--split-string") {
                name = words.next()?;
            }
            while name.contains('=') {
                name = words.next()?;
            }
            // Other options of env may take the next word as their value.
            return if name.starts_with('-') {
                None
            } else {
                self.look_up(name)
            };
        }
        Some(program.to_owned()).filter(|program| program.is_absolute())
    }

    /// Whether a folder may belong to a program, rather than being a home folder, around one, or a person's settings.
    fn is_narrow(&self, folder: &Path) -> bool {
        let somebodys =
            folder.parent() == Some(Path::new("/home")) || self.home.is_some_and(|home| home.starts_with(folder));
        let below_home = self.home.and_then(|home| folder.strip_prefix(home).ok());
        let hidden = |part: Component<'_>| part.as_os_str().as_encoded_bytes().starts_with(b".");
        let settings = below_home.is_some_and(|path| path.components().any(hidden));
        folder.components().count() > 2 && !somebodys && !settings
    }
}

/// The target of a path, with symbolic links resolved. `None` if it does not exist, or if a step of the path or of a link is inside one of the
/// `writable` folders. So nobody who can write to these folders can change where the path leads.
fn lead<'a>(path: &Path, writable: impl Iterator<Item = &'a Path> + Clone) -> Option<PathBuf> {
    let identity = |found: &fs::Metadata| (found.dev(), found.ino());
    let folders: Vec<_> = writable
        .clone()
        .filter_map(|folder| fs::metadata(folder).ok())
        .map(|folder| identity(&folder))
        .collect();
    let mut real = PathBuf::from("/");
    let mut rest: Vec<PathBuf> = Vec::new();
    let go_by = |rest: &mut Vec<PathBuf>, path: &Path| {
        let parts = path.components().rev();
        rest.extend(parts.map(|part| PathBuf::from(part.as_os_str())));
    };
    go_by(&mut rest, Some(path).filter(|path| path.is_absolute())?);
    let mut links = 0;
    while let Some(part) = rest.pop() {
        let next = match part.components().next()? {
            Component::RootDir => PathBuf::from("/"),
            Component::ParentDir => real.parent().unwrap_or(Path::new("/")).to_owned(),
            _ => real.join(part),
        };
        if is_below(&next, writable.clone()) {
            return None;
        }
        let found = fs::symlink_metadata(&next).ok()?;
        // The same folder may be mounted under another name.
        if folders.contains(&identity(&found)) {
            return None;
        }
        if found.is_symlink() {
            links += 1;
            if links > MOST_LINKS {
                return None;
            }
            go_by(&mut rest, &fs::read_link(next).ok()?);
        } else {
            real = next;
        }
    }
    Some(real)
}

fn is_below<'a>(path: &Path, mut folders: impl Iterator<Item = &'a Path>) -> bool {
    folders.any(|folder| path.starts_with(folder))
}

/// Whether a file is executable, or has the extension of a script.
fn is_program(file: &Path) -> bool {
    let Ok(found) = fs::metadata(file) else { return false };
    let executable = found.permissions().mode() & 0o111 != 0;
    let ending = file.extension().and_then(|ending| ending.to_str());
    found.is_file() && (executable || ending.is_some_and(|ending| SCRIPTS.contains(&ending)))
}

/// The script that an interpreter runs with these arguments.
fn script(command: &str, arguments: &[String]) -> Option<PathBuf> {
    let program = Path::new(command).file_name()?.to_str()?;
    let name = program.trim_end_matches(|c: char| c.is_ascii_digit() || c == '.');
    let argument = if name == "java" {
        let jar = arguments.iter().position(|argument| argument == "-jar")?;
        arguments.get(jar + 1)?
    } else if INTERPRETERS.contains(&name) {
        arguments
            .iter()
            .find(|argument| !argument.starts_with('-') && *argument != "run")?
    } else {
        return None;
    };
    Some(PathBuf::from(argument)).filter(|path| path.is_absolute() && path.is_file())
}

/// The beginning of a path, up to the first part with one of these names.
fn outermost(path: &Path, names: &[&str]) -> Option<PathBuf> {
    let is_named = |part: &Component<'_>| names.iter().any(|name| part.as_os_str() == *name);
    let parts: Vec<_> = path.components().collect();
    let end = parts.iter().position(is_named)?;
    Some(parts[..=end].iter().collect())
}

/// The installation prefix of a program with libraries of its own: `/opt/x` of `/opt/x/bin/node`.
fn prefix(program: &Path) -> Option<PathBuf> {
    let folder = program.parent().filter(|folder| folder.ends_with("bin"))?;
    let prefix = folder.parent()?;
    let libraries = |name: &str| {
        let entries = fs::read_dir(prefix.join(name)).into_iter().flatten().flatten();
        entries
            .map(|entry| entry.file_name())
            .any(|name| name == "node_modules" || name.to_str().is_some_and(|name| name.starts_with("python3")))
    };
    let is_one = prefix.join("pyvenv.cfg").is_file() || libraries("lib") || libraries("lib64");
    is_one.then(|| prefix.to_owned())
}

/// The interpreter that a virtual environment was created with (PEP 405: `home = /usr/bin`).
fn base_of_venv(prefix: &Path) -> Option<PathBuf> {
    let text = fs::read_to_string(prefix.join("pyvenv.cfg")).ok()?;
    let home = text.lines().find_map(|line| {
        let (key, value) = line.split_once('=')?;
        (key.trim() == "home").then(|| value.trim().to_owned())
    })?;
    Some(Path::new(&home).join("python3")).filter(|path| path.is_absolute() && path.exists())
}

/// The `#!` line of a script, empty if it has none; `None` for a binary.
fn first_line(file: &Path) -> Option<String> {
    let mut start = Vec::new();
    File::open(file).ok()?.take(LINE).read_to_end(&mut start).ok()?;
    if !start.starts_with(b"#!") {
        // A script that is an argument of its interpreter may have none.
        let is_text = !start.contains(&0);
        return is_text.then(String::new);
    }
    let line = start.split(|&byte| byte == b'\n').next()?;
    String::from_utf8(line.to_vec()).ok()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use pretty_assertions::assert_eq;

    use super::*;

    struct Machine {
        folder: tempfile::TempDir,
        root: PathBuf,
    }

    impl Machine {
        fn new(files: &[(&str, &str)]) -> Self {
            let folder = tempfile::tempdir().unwrap();
            let root = folder.path().canonicalize().unwrap();
            for (path, content) in files {
                let path = root.join(path);
                fs::create_dir_all(path.parent().unwrap()).unwrap();
                fs::write(&path, content).unwrap();
                let mode = if content.is_empty() { 0o600 } else { 0o755 };
                fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
            }
            Self { folder, root }
        }

        fn grants(&self, command: &str, arguments: &[&str]) -> Vec<String> {
            let in_root = |text: &str| text.replace('@', self.root.to_str().unwrap());
            let arguments: Vec<_> = arguments.iter().map(|argument| in_root(argument)).collect();
            let programs = Programs {
                path: &in_root("@/home/x/.pyenv/shims:@/opt/node/bin"),
                hidden: &self.root.join("home/x/data"),
                writable: &[self.root.join("srv/shared")],
                home: Some(&self.root.join("home/x")),
            };
            let grants = programs.grants(&in_root(command), &arguments).into_iter();
            let paths = grants.map(|grant| {
                grant
                    .path
                    .strip_prefix(&self.root)
                    .unwrap()
                    .to_str()
                    .unwrap()
                    .to_owned()
            });
            paths.collect()
        }
    }

    const BINARY: &str = "\u{7f}ELF\0";

    #[test]
    fn finds_interpreters_and_their_libraries() {
        let machine = Machine::new(&[
            ("opt/node/bin/node", BINARY),
            ("opt/node/lib/node_modules/npm/npx.js", "#!/usr/bin/env node\n"),
            ("srv/app/node_modules/server/dist/index.js", "#!/usr/bin/env node\n"),
            ("srv/app/secret", ""),
            ("home/x/.pyenv/shims/python3", "#!/usr/bin/env bash\n"),
            ("home/x/.pyenv/versions/3.11/bin/python3", BINARY),
            ("srv/venv/bin/server", "#!/nowhere/python\n"),
            ("srv/venv/lib/python3.11/x", ""),
        ]);
        let venv = format!("home = {}/home/x/.pyenv/versions/3.11/bin\n", machine.root.display());
        fs::write(machine.root.join("srv/venv/pyvenv.cfg"), venv).unwrap();
        symlink("../server/dist/index.js", {
            let link = machine.root.join("srv/app/node_modules/.bin/server");
            fs::create_dir_all(link.parent().unwrap()).unwrap();
            link
        })
        .unwrap();
        symlink("../lib/node_modules/npm/npx.js", machine.root.join("opt/node/bin/npx")).unwrap();

        let node = ["opt/node/bin", "opt/node/bin/node", "opt/node/lib"];
        assert_eq!(machine.grants("node", &["server.js"]), node);
        let npx = machine.grants("npx", &["-y", "server"]);
        assert!(node.iter().all(|path| npx.iter().any(|found| found == path)), "{npx:?}");
        let server = machine.grants("node", &["@/srv/app/node_modules/.bin/server"]);
        assert!(server.contains(&"srv/app/node_modules".to_owned()), "{server:?}");
        assert!(!server.contains(&"srv/app".to_owned()), "{server:?}");
        assert!(machine.grants("python3", &[]).contains(&"home/x/.pyenv".to_owned()));
        let venv = machine.grants("@/srv/venv/bin/server", &[]);
        for path in ["srv/venv/bin", "srv/venv/lib", "srv/venv/pyvenv.cfg", "home/x/.pyenv"] {
            assert!(venv.contains(&path.to_owned()), "{venv:?}");
        }
    }

    #[test]
    fn grants_no_home_folder_and_nothing_hidden() {
        let machine = Machine::new(&[
            ("home/x/server.py", "print()\n"),
            ("home/x/app/server.py", "print()\n"),
            ("home/x/data/runtimes/i/1/work/server.py", "print()\n"),
            ("home/x/tool", BINARY),
            ("home/x/.ssh/id", ""),
            ("home/x/.config/tool/run.py", "print()\n"),
        ]);
        assert_eq!(machine.grants("python3", &["@/home/x/server.py"]), ["home/x/server.py"]);
        assert_eq!(
            machine.grants("python3.12", &["-u", "@/home/x/app/server.py"]),
            ["home/x/app", "home/x/app/server.py"]
        );
        assert_eq!(
            machine.grants("@/home/x/tool", &["@/home/x/app/server.py"]),
            ["home/x/tool"]
        );
        let none: [&str; 0] = [];
        assert_eq!(
            machine.grants("python3", &["@/home/x/data/runtimes/i/1/work/server.py"]),
            none
        );
        assert_eq!(machine.grants("python3", &["@/home/x"]), none);
        // Neither a key, which an interpreter would print in its error message, nor the other files in a settings folder.
        assert_eq!(machine.grants("sh", &["@/home/x/.ssh/id"]), none);
        assert_eq!(machine.grants("python3", &["-cimport x", "@/home/x/.ssh/id"]), none);
        assert_eq!(
            machine.grants("python3", &["@/home/x/.config/tool/run.py"]),
            ["home/x/.config/tool/run.py"]
        );
        assert_eq!(machine.grants("no-such-program", &["@/home/x/app/server.py"]), none);
        assert!(machine.folder.path().exists());
    }

    /// A server that leaves a `uv` in its folder is not asked for packages.
    #[test]
    fn commands_are_not_looked_up_where_servers_write() {
        let machine = Machine::new(&[
            ("home/x/data/work/bin/uv", BINARY),
            ("srv/shared/bin/uv", BINARY),
            ("opt/uv/bin/uv", BINARY),
        ]);
        symlink("../../srv/shared/bin", machine.root.join("opt/uv/shared")).unwrap();
        let in_root = |text: &str| text.replace('@', machine.root.to_str().unwrap());
        let path = in_root("@/home/x/data/work/bin:@/srv/shared/bin:@/opt/uv/shared:relative:@/opt/uv/bin:@/nowhere");
        let programs = Programs {
            path: &path,
            hidden: &machine.root.join("home/x/data"),
            writable: &[machine.root.join("srv/shared")],
            home: None,
        };
        let uv = machine.root.join("opt/uv/bin/uv");
        assert_eq!(programs.look_up("uv"), Some(uv.clone()));
        assert_eq!(programs.look_up(&in_root("@/srv/shared/bin/uv")), None);
        assert_eq!(programs.settled_path(), uv.parent().unwrap().to_str().unwrap());
        // A server may keep programs in its own folder, also before that exists.
        let own = in_root("@/home/x/data/work/bin:relative:@/opt/uv/bin:@/nowhere");
        assert_eq!(programs.unshared_path(), own);
    }

    /// A line of a script is followed as the kernel and `env` do, to a program and to nothing else; not at all where servers write.
    #[test]
    fn scripts_give_no_access_to_other_folders() {
        let machine = Machine::new(&[
            ("opt/node/bin/node", BINARY),
            ("secret/app/run.sh", "#!/bin/sh\n"),
            ("secret/app/.env", ""),
            ("home/x/data/packages/tree/run", "#!@/secret/app/run.sh\n"),
            ("srv/shared/run", "#!@/secret/app/run.sh\n"),
        ]);
        let in_root = |text: &str| text.replace('@', machine.root.to_str().unwrap());
        for line in [
            "/usr/bin/env -S -u @/secret/app/run.sh node",
            "/usr/bin/env -C @/secret/app/run.sh node",
            "/usr/bin/env --split-string -i @/secret/app/run.sh",
            "@/secret/app",
            "secret/app/run.sh",
        ] {
            let script = machine.root.join("opt/node/bin/script");
            fs::write(&script, in_root(&format!("#!{line}\n"))).unwrap();
            fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).unwrap();
            let grants = machine.grants("@/opt/node/bin/script", &[]);
            assert!(
                !grants.iter().any(|path| path.starts_with("secret")),
                "{line}: {grants:?}"
            );
        }
        let none: [&str; 0] = [];
        for servers in ["home/x/data/packages/tree/run", "srv/shared/run"] {
            let path = machine.root.join(servers);
            fs::write(&path, in_root("#!@/secret/app/run.sh\n")).unwrap();
            assert_eq!(machine.grants(&format!("@/{servers}"), &[]), none, "{servers}");
            // Nor where a server has put a link, or somebody else one to it.
            fs::remove_file(&path).unwrap();
            symlink(machine.root.join("secret/app/run.sh"), &path).unwrap();
            assert_eq!(machine.grants(&format!("@/{servers}"), &[]), none, "{servers}");
            let link = machine.root.join("opt/node/bin/link");
            let _ = fs::remove_file(&link);
            symlink(&path, link).unwrap();
            assert_eq!(machine.grants("@/opt/node/bin/link", &[]), none, "{servers}");
            let prefix = machine.root.join("srv/shared/prefix");
            let _ = fs::remove_dir_all(&prefix);
            fs::create_dir_all(prefix.join("bin")).unwrap();
            fs::write(prefix.join("pyvenv.cfg"), "").unwrap();
            symlink(machine.root.join("opt/node/bin/node"), prefix.join("bin/node")).unwrap();
            symlink(machine.root.join("secret"), prefix.join("lib")).unwrap();
            assert_eq!(machine.grants("@/srv/shared/prefix/bin/node", &[]), none);
        }
        // A link that nobody can change is followed.
        let link = machine.root.join("opt/node/bin/linked");
        symlink("../bin/./node", &link).unwrap();
        assert!(
            machine
                .grants("@/opt/node/bin/linked", &[])
                .contains(&"opt/node/bin/node".to_owned())
        );
        let script = machine.root.join("opt/node/bin/script");
        fs::write(&script, in_root("#!/usr/bin/env -S A=b node --flag\n")).unwrap();
        let grants = machine.grants("@/opt/node/bin/script", &[]);
        assert!(grants.contains(&"opt/node/bin/node".to_owned()), "{grants:?}");
    }
}
