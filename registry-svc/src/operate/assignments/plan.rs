//! What assignments need before they are made: their entries, installations and tools, looked up for all of them at once.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use contracts::registry::{
    FeatureKind, Gateway, ResolveAtCallTime, ToolAssignment, Visibility,
    tool_assignment::{Binding, Selection},
};
use service_kit::status::Violations;

use crate::{
    domain::{
        Caller, Error,
        assignment::{AssignmentSpec, pinned_uid, tool},
        installation::require_team_manager,
        new_uid,
        time::timestamp,
    },
    store::{
        Tx,
        assignments::{self, AssignedEntry, PinnedInstallation},
    },
};

const PINNED: &str = "tool_assignment.pinned_installation";

/// What is asked for, valid by itself.
#[derive(Debug)]
pub(super) struct Asked {
    pub(super) spec: AssignmentSpec,
    /// Whether the caller agrees to share their account.
    pub(super) confirmed: bool,
}

/// The path of a field in the request: in a batch it begins with the place in it.
pub(super) type Path = fn(usize, &str) -> String;

/// In a request for one.
pub(super) fn alone(_: usize, field: &str) -> String {
    field.to_owned()
}

/// In a request for many.
pub(super) fn in_batch(index: usize, field: &str) -> String {
    format!("requests[{index}].{field}")
}

/// The assignments that are asked for, ready to be added. Of what is wrong, all that can be said of fields is said; else the first
/// that cannot be done.
pub(super) async fn plan(
    tx: &mut Tx,
    caller: &Caller,
    consumer: &Gateway,
    asked: &[Asked],
    path: Path,
) -> Result<Vec<ToolAssignment>, Error> {
    let known = Known::look_up(tx, caller, asked).await?;
    let now = Some(timestamp(tx.now()));
    let mut violations = Violations::new();
    let mut refused = None;
    let mut planned = Vec::with_capacity(asked.len());
    for (index, one) in asked.iter().enumerate() {
        match known.resolve(caller, one, || path(index, "tool_assignment.tool")) {
            Ok(resolved) => {
                let consented_visibility = consent(consumer, resolved.shares_account);
                let uid = new_uid();
                planned.push(ToolAssignment {
                    name: format!("{}/toolAssignments/{uid}", consumer.name),
                    uid,
                    entry: format!("entries/{}", one.spec.entry),
                    selection: Some(one.spec.selection.clone()),
                    binding: Some(binding(one.spec.pinned.as_deref())),
                    exposed_name: one.spec.exposed_name.clone(),
                    create_time: now,
                    update_time: now,
                    creator: caller.name(),
                    kind: FeatureKind::Tool.into(),
                    entry_uid: resolved.entry_uid,
                    consumer_uid: consumer.uid.clone(),
                    consent_time: consented_visibility.as_ref().and(now),
                    consented_visibility,
                    create_revision: tx.revision(),
                    ..ToolAssignment::default()
                });
            }
            Err(Error::Invalid(more)) => more
                .iter()
                .for_each(|(field, description)| violations.add(path(index, field), description)),
            Err(error) => refused = refused.or(Some(error)),
        }
    }
    if violations.is_empty() && refused.is_none() {
        check_apart(&mut violations, &planned, path);
    }
    violations.into_result(())?;
    if let Some(error) = refused {
        return Err(error);
    }
    require_free(tx, caller, consumer, &planned).await?;
    Ok(planned)
}

fn binding(pinned: Option<&str>) -> Binding {
    match pinned {
        Some(uid) => Binding::PinnedInstallation(format!("installations/{uid}")),
        None => Binding::ResolveAtCallTime(ResolveAtCallTime {}),
    }
}

/// Whom the owner of a pinned installation agrees to share their account with: those who may use the gateway or agent now.
pub(super) fn consent(consumer: &Gateway, shares_account: bool) -> Option<Visibility> {
    consumer.visibility.clone().filter(|_| shares_account)
}

/// What is known of what the assignments name.
struct Known {
    entries: BTreeMap<String, AssignedEntry>,
    installations: BTreeMap<String, PinnedInstallation>,
    /// Pairs of a set's hash and a tool in it.
    tools: BTreeSet<(String, String)>,
}

/// What an assignment comes to.
struct Resolved {
    entry_uid: String,
    /// Whether others call with the caller's own account.
    shares_account: bool,
}

impl Known {
    async fn look_up(tx: &mut Tx, caller: &Caller, asked: &[Asked]) -> Result<Self, Error> {
        let slugs = asked.iter().map(|one| one.spec.entry.as_str()).collect();
        let entries = assignments::entries(tx, caller, &slugs).await?;
        let pinned = asked.iter().filter_map(|one| one.spec.pinned.as_deref()).collect();
        let installations = assignments::installations(tx, &pinned).await?;
        let mut candidates = BTreeSet::new();
        for one in asked {
            let Selection::Tool(tool) = &one.spec.selection else {
                continue;
            };
            let of_entry = entries.get(&one.spec.entry).map(|entry| &entry.tool_set);
            let pinned = one.spec.pinned.as_ref().and_then(|uid| installations.get(uid));
            let sets = of_entry.into_iter().chain(pinned.map(|pinned| &pinned.tool_set));
            candidates.extend(sets.map(|set| (set.as_str(), tool.as_str())));
        }
        let tools = assignments::known_tools(tx, &candidates).await?;
        Ok(Self {
            entries,
            installations,
            tools,
        })
    }

    /// `field` is the path of the field that names the tool.
    fn resolve(&self, caller: &Caller, asked: &Asked, field: impl FnOnce() -> String) -> Result<Resolved, Error> {
        let spec = &asked.spec;
        let entry_name = format!("entries/{}", spec.entry);
        let Some(entry) = self.entries.get(&spec.entry) else {
            return Err(Error::NotFound(entry_name));
        };
        let mut sets = vec![&entry.tool_set];
        let mut shares_account = false;
        if let Some(uid) = &spec.pinned {
            let installation = check_pin(caller, uid, self.installations.get(uid), &entry.uid, asked.confirmed)?;
            shares_account = installation.user_uid.is_some();
            sets.push(&installation.tool_set);
        }
        if let Selection::Tool(tool) = &spec.selection {
            let has = |set: &&String| self.tools.contains(&((*set).clone(), tool.clone()));
            if !sets.iter().any(has) {
                return Err(Error::ToolUnknown {
                    field: field(),
                    entry: entry_name,
                    tool: tool.clone(),
                    discovered: sets.iter().any(|set| !set.is_empty()),
                });
            }
        }
        Ok(Resolved {
            entry_uid: entry.uid.clone(),
            shares_account,
        })
    }
}

/// Whether the caller may have everybody call through this installation.
pub(super) fn check_pin<'a>(
    caller: &Caller,
    uid: &str,
    installation: Option<&'a PinnedInstallation>,
    entry_uid: &str,
    confirmed: bool,
) -> Result<&'a PinnedInstallation, Error> {
    let installation = installation
        .filter(|installation| installation.seen_by(caller) && !installation.deleted)
        .ok_or_else(|| Error::NotFound(format!("installations/{uid}")))?;
    if installation.entry_uid != entry_uid {
        return Err(Error::invalid(
            PINNED,
            format!(
                "is an installation of entries/{}, not of the assigned entry",
                installation.entry_slug
            ),
        ));
    }
    match (&installation.user_uid, &installation.team_uid) {
        (None, Some(team)) => {
            // An admin passes whatever the team is called.
            let slug = caller.team(team).map(|team| team.slug.as_str()).unwrap_or_default();
            require_team_manager(caller, &format!("teams/{slug}"))?;
            Ok(installation)
        }
        (Some(user), _) if *user == caller.uid => {
            if confirmed {
                Ok(installation)
            } else {
                Err(Error::SharedAccountNotConfirmed)
            }
        }
        _ => Err(Error::Denied {
            what: "only its owner may pin a personal installation".to_owned(),
            required: "owner",
        }),
    }
}

/// Refuses two of one batch that are the same, or that have the same exposed name.
fn check_apart(violations: &mut Violations, planned: &[ToolAssignment], path: Path) {
    let (mut same, mut named) = (HashMap::new(), HashMap::new());
    for (index, one) in planned.iter().enumerate() {
        let first = *same
            .entry((&one.entry_uid, tool(one), pinned_uid(one)))
            .or_insert(index);
        if first != index {
            let wrong = format!("assigns the same as requests[{first}], with the same binding");
            violations.add(path(index, "tool_assignment"), wrong);
        }
        if one.exposed_name.is_empty() {
            continue;
        }
        let first = *named.entry(&one.exposed_name).or_insert(index);
        if first != index {
            let wrong = format!("is also the name of requests[{first}]");
            violations.add(path(index, "tool_assignment.exposed_name"), wrong);
        }
    }
}

/// Refuses a second assignment of the same tool with the same binding, and an exposed name that another one has.
pub(super) async fn require_free(
    tx: &mut Tx,
    caller: &Caller,
    consumer: &Gateway,
    wanted: &[ToolAssignment],
) -> Result<(), Error> {
    let taken = |uid: &str| Error::AlreadyExists(format!("{}/toolAssignments/{uid}", consumer.name));
    let own: BTreeSet<&str> = wanted.iter().map(|one| one.uid.as_str()).collect();
    let same = assignments::same(tx, &consumer.uid, wanted).await?;
    let names = wanted.iter().map(|one| one.exposed_name.as_str());
    let named = assignments::exposing(tx, &consumer.uid, &names.filter(|name| !name.is_empty()).collect()).await?;
    let mut left_over = Vec::new();
    for one in wanted {
        let (tool, pinned) = (tool(one).unwrap_or_default(), pinned_uid(one).unwrap_or_default());
        let key = (one.entry_uid.clone(), tool.to_owned(), pinned.to_owned());
        if let Some(uid) = same.get(&key).filter(|uid| !own.contains(uid.as_str())) {
            return Err(taken(uid));
        }
        match named.get(&one.exposed_name) {
            Some((uid, true)) => left_over.push(uid.as_str()),
            Some((uid, false)) if !own.contains(uid.as_str()) => {
                return Err(Error::ExposedNameTaken {
                    name: one.exposed_name.clone(),
                    // Others may not see it.
                    by: caller.admin.then(|| format!("{}/toolAssignments/{uid}", consumer.name)),
                });
            }
            Some(_) | None => {}
        }
    }
    if !left_over.is_empty() {
        // Its entry is deleted, so nobody sees it: it must not keep the name until the cleanup reaches it.
        assignments::delete(tx, &left_over).await?;
    }
    Ok(())
}
