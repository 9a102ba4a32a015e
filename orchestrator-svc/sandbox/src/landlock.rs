//! The Landlock rules: the same paths as the mounts, some ports, and no access to other processes.

use std::path::Path;

use landlock::{
    ABI, Access as _, AccessFs, AccessNet, BitFlags, CompatLevel, Compatible as _, NetPort, PathBeneath, PathFd,
    Ruleset, RulesetAttr as _, RulesetCreated, RulesetCreatedAttr as _, RulesetError, Scope,
};

use crate::{
    grants::{DEVICES, Grants},
    spec::{Access, Confinement},
    sys,
};

/// The newest ABI version that this was tested with.
const NEWEST: u8 = 7;

/// The ABI version to use on this machine; 0 if Landlock is not available.
pub(crate) fn version() -> u8 {
    sys::landlock_version().min(NEWEST)
}

/// Restricts this process and its descendants, permanently.
pub(crate) fn apply(confinement: &Confinement, grants: &Grants) -> Result<(), RulesetError> {
    let abi = ABI::from(i32::from(confinement.layers.landlock));
    let mut rules = Ruleset::default()
        // What was available when the service started must be available now.
        .set_compatibility(CompatLevel::HardRequirement)
        .handle_access(AccessFs::from_all(abi))?;
    if abi >= ABI::V4 {
        if confinement.connect.is_some() {
            rules = rules.handle_access(AccessNet::ConnectTcp)?;
        }
        if confinement.listen.is_some() {
            rules = rules.handle_access(AccessNet::BindTcp)?;
        }
    }
    if abi >= ABI::V6 {
        rules = rules.scope(Scope::from_all(abi))?;
    }
    let mut rules = rules.create()?;

    let read = AccessFs::from_read(abi);
    let write = AccessFs::from_all(abi) & !(AccessFs::MakeBlock | AccessFs::MakeChar | AccessFs::IoctlDev);
    for (path, access) in &grants.paths {
        let allowed = match access {
            Access::Read => read,
            Access::Write => write,
        };
        rules = allow(rules, abi, path, allowed)?;
    }
    if confinement.layers.namespaces {
        // The parent folders of the mounts contain nothing else.
        rules = allow(rules, abi, Path::new("/"), AccessFs::ReadDir.into())?;
        rules = allow(rules, abi, Path::new("/tmp"), write)?;
        rules = allow(rules, abi, Path::new("/dev/shm"), write)?;
    } else {
        rules = allow(rules, abi, &confinement.temporary_folder, write)?;
    }
    rules = allow(rules, abi, Path::new("/proc"), AccessFs::ReadFile | AccessFs::ReadDir)?;
    for name in DEVICES {
        let device = AccessFs::ReadFile | AccessFs::WriteFile | AccessFs::Truncate | AccessFs::IoctlDev;
        rules = allow(
            rules,
            abi,
            &Path::new("/dev").join(name),
            device & AccessFs::from_all(abi),
        )?;
    }
    if abi >= ABI::V4 {
        for &port in confinement.connect.iter().flatten() {
            rules = rules.add_rule(NetPort::new(port, AccessNet::ConnectTcp))?;
        }
        for &port in confinement.listen.iter().flatten() {
            rules = rules.add_rule(NetPort::new(port, AccessNet::BindTcp))?;
        }
    }
    rules.restrict_self()?;
    Ok(())
}

/// Allows access to a path and everything below it. A path that does not exist requires no rule.
fn allow(
    rules: RulesetCreated,
    abi: ABI,
    path: &Path,
    allowed: BitFlags<AccessFs>,
) -> Result<RulesetCreated, RulesetError> {
    let Ok(opened) = PathFd::new(path) else {
        return Ok(rules);
    };
    let allowed = if path.is_dir() {
        allowed
    } else {
        allowed & AccessFs::from_file(abi)
    };
    rules.add_rule(PathBeneath::new(opened, allowed))
}
