//! The list of paths that a program can access. The mounts and the Landlock rules are both made from it.

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
};

use crate::spec::{Access, Confinement, Grant};

/// The folders of programs and libraries.
const SYSTEM: [&str; 8] = ["/usr", "/bin", "/sbin", "/lib", "/lib64", "/lib32", "/libx32", "/opt"];
/// The files of `/etc` that name resolution, time zones, certificates and the loader require. None has keys, passwords or settings of
/// applications.
const ETC: [&str; 24] = [
    "alternatives",
    "ca-certificates",
    "gai.conf",
    "group",
    "host.conf",
    "hosts",
    "ld.so.cache",
    "ld.so.conf",
    "ld.so.conf.d",
    "localtime",
    "mime.types",
    "nsswitch.conf",
    "os-release",
    "passwd",
    "pki/ca-trust",
    "pki/tls/cert.pem",
    "pki/tls/certs",
    "protocols",
    "resolv.conf",
    "services",
    "ssl/cert.pem",
    "ssl/certs",
    "ssl/openssl.cnf",
    "timezone",
];
/// Devices that are harmless and reveal nothing.
pub(crate) const DEVICES: [&str; 6] = ["null", "zero", "full", "random", "urandom", "tty"];

/// Everything that a program can access, except its `/tmp`, `/proc` and `/dev`. Paths are sorted: a folder comes before what is inside it.
#[derive(Debug)]
pub(crate) struct Grants {
    pub(crate) paths: BTreeMap<PathBuf, Access>,
    /// Symbolic links of the system, such as `/bin` and `/etc/resolv.conf`, and their targets.
    pub(crate) links: BTreeMap<PathBuf, PathBuf>,
}

impl Grants {
    /// The existing paths of the system and of the grants, without any that contains the hidden folder.
    ///
    /// # Errors
    /// If a grant contains the hidden folder.
    pub(crate) fn of(confinement: &Confinement) -> io::Result<Self> {
        let system = SYSTEM.iter().map(PathBuf::from);
        let etc = ETC.iter().map(|name| Path::new("/etc").join(name));
        let system = system.chain(etc).map(Grant::read);
        let mut grants = Self {
            paths: BTreeMap::new(),
            links: BTreeMap::new(),
        };
        for grant in system {
            grants.add(grant, &confinement.hidden)?;
        }
        for grant in &confinement.grants {
            // A symbolic link in the path may lead to a folder that contains the hidden one.
            let real = grant.path.canonicalize();
            if real.is_ok_and(|real| confinement.hidden.starts_with(real)) {
                let what = format!(
                    "{} contains the folder that is hidden from servers",
                    grant.path.display()
                );
                return Err(io::Error::new(io::ErrorKind::PermissionDenied, what));
            }
            grants.add(grant.clone(), &confinement.hidden)?;
        }
        Ok(grants)
    }

    fn add(&mut self, grant: Grant, hidden: &Path) -> io::Result<()> {
        let Grant { path, access } = grant;
        let Ok(found) = path.symlink_metadata() else {
            return Ok(());
        };
        if found.is_symlink() {
            let Ok(target) = path.canonicalize() else {
                return Ok(());
            };
            self.links.insert(path.clone(), fs::read_link(&path)?);
            if !self.covers(&target) {
                self.add(Grant { path: target, access }, hidden)?;
            }
            return Ok(());
        }
        if hidden.starts_with(&path) {
            return Ok(());
        }
        let known = self.paths.entry(path).or_insert(access);
        *known = access.max(*known);
        Ok(())
    }

    fn covers(&self, path: &Path) -> bool {
        self.paths.keys().any(|known| path.starts_with(known))
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use pretty_assertions::assert_eq;

    use super::*;
    use crate::{layers::Layers, resources::Resources};

    fn confinement(grants: Vec<Grant>, hidden: &Path) -> Confinement {
        Confinement {
            layers: Layers::default(),
            grants,
            temporary_folder: "/tmp".into(),
            hidden: hidden.to_owned(),
            connect: None,
            listen: None,
            resources: Resources::default(),
        }
    }

    #[test]
    fn hides_what_is_hidden_and_what_holds_it() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().canonicalize().unwrap();
        let hidden = root.join("data");
        let own = hidden.join("i/1/work");
        fs::create_dir_all(&own).unwrap();
        let grants = Grants::of(&confinement(vec![Grant::write(&own)], &hidden)).unwrap();
        assert_eq!(grants.paths[&own], Access::Write);
        assert!(!grants.paths.contains_key(&hidden));
        assert!(Grants::of(&confinement(vec![Grant::read(&root)], &hidden)).is_err());
        let elsewhere = tempfile::tempdir().unwrap();
        symlink(&root, elsewhere.path().join("way")).unwrap();
        let by_link = Grant::read(elsewhere.path().join("way/data"));
        assert!(Grants::of(&confinement(vec![by_link], &hidden)).is_err());
        // If the service keeps its data below /opt, servers have no /opt.
        let system = Grants::of(&confinement(vec![], Path::new("/opt/chandlery/data"))).unwrap();
        assert!(system.paths.contains_key(Path::new("/usr")));
        assert!(!system.paths.contains_key(Path::new("/opt")));
        assert!(!system.paths.contains_key(Path::new("/etc")));
    }

    #[test]
    fn follows_links_of_the_system() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().canonicalize().unwrap();
        fs::write(root.join("stub"), "").unwrap();
        symlink("stub", root.join("resolv.conf")).unwrap();
        let mut grants = Grants {
            paths: BTreeMap::new(),
            links: BTreeMap::new(),
        };
        grants
            .add(Grant::read(root.join("resolv.conf")), Path::new("/nowhere"))
            .unwrap();
        assert_eq!(grants.links[&root.join("resolv.conf")], Path::new("stub"));
        assert_eq!(grants.paths[&root.join("stub")], Access::Read);
    }
}
