//! What Landlock allows: the same list as the file system, some ports, and nothing of other processes.

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

/// The newest version that this was tried with.
const NEWEST: u8 = 7;

/// The version to use on this machine; 0: none.
pub(crate) fn version() -> u8 {
    sys::landlock_version().min(NEWEST)
}

/// Holds this process and its descendants to it, for good.
pub(crate) fn apply(confinement: &Confinement, grants: &Grants) -> Result<(), RulesetError> {
    let abi = ABI::from(i32::from(confinement.layers.landlock));
    let mut rules = Ruleset::default()
        // What was there when the service started must be there now.
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
        // The folders on the way to what is mounted hold nothing else.
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

/// Allows it on a path and all below; what is not there needs no rule.
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
