//! The fake registry, with what people do there as far as it concerns secrets.

use std::ops::Deref;

use contracts::registry::{
    Condition, Entry, EntryRevision, Installation, ReportCredentialRequest, entry, entry_revision, installation,
    report_cleanup_request, report_credential_request::Subject,
};
use registry_client::testing;
use registry_model::credential_models;

/// Installations that show when everything before them was reported. They are the last in order, so that they are reported last of
/// what is queued together.
const FENCE: &str = "zz-fence-";

#[derive(Clone, Debug, Default)]
pub struct FakeRegistry(testing::FakeRegistry);

impl Deref for FakeRegistry {
    type Target = testing::FakeRegistry;

    fn deref(&self) -> &Self::Target {
        &self.0
    }
}

impl FakeRegistry {
    pub fn new() -> Self {
        Self::default()
    }

    /// Saves an entry as a new revision; its installations run that from now on.
    pub fn save_entry(&self, entry: Entry) {
        let uid = entry.uid.clone();
        self.change(|objects| {
            let (before, now) = save(objects, entry);
            let installations = objects.all::<Installation>();
            let installations: Vec<_> = installations.filter(|one| one.entry_uid == uid).cloned().collect();
            for mut installation in installations {
                installation.generation += 1;
                installation.running_entry_revision = now;
                objects.put(installation);
            }
            objects.remove::<EntryRevision>(&format!("{uid}/{before}"));
        });
    }

    /// Saves an entry as a new revision that its installations do not follow, as where it requires another value.
    pub fn save_entry_ahead(&self, entry: Entry) {
        self.change(|objects| save(objects, entry));
    }

    /// Installs an entry for a user; the uid is also the id.
    pub fn install(&self, uid: &str, entry_uid: &str, subject: &str) {
        self.change(|objects| {
            let entry = objects.get::<Entry>(entry_uid).unwrap();
            let installation = Installation {
                name: format!("installations/{uid}"),
                uid: uid.to_owned(),
                entry: entry.name.clone(),
                entry_uid: entry_uid.to_owned(),
                scope: Some(installation::Scope::User(subject.to_owned())),
                running_entry_revision: entry.entry_revision,
                generation: 1,
                ..Installation::default()
            };
            objects.put(installation);
        });
    }

    /// Gives an installation other values, as its owner or as somebody else does.
    pub fn set_values(&self, uid: &str, values: &[(&str, &str)], by_owner: bool) {
        let values = values.iter();
        self.edit(uid, |installation: &mut Installation| {
            installation.values = values.map(|&(key, value)| (key.to_owned(), value.to_owned())).collect();
            installation.generation += 1;
            installation.foreign_values_generation = if by_owner { 0 } else { installation.generation };
        });
    }

    /// Marks an installation as deleted: it waits for its cleanup.
    pub fn delete_installation(&self, uid: &str) {
        let now = service_kit::Clock::System.now().into();
        self.edit(uid, |installation: &mut Installation| {
            installation.delete_time = Some(now)
        });
    }

    /// The same of an entry.
    pub fn delete_entry(&self, uid: &str) {
        let now = service_kit::Clock::System.now().into();
        self.edit(uid, |entry: &mut Entry| entry.delete_time = Some(now));
    }

    fn edit<T: testing::Watched>(&self, uid: &str, edit: impl FnOnce(&mut T)) {
        self.change(|objects| objects.edit(uid, edit)).unwrap();
    }

    /// Where an installation's secrets go, as workloads name it.
    pub fn binding(&self, uid: &str) -> String {
        self.look(|objects| {
            let installation = objects.get::<Installation>(uid).unwrap();
            let running = objects.running(installation).unwrap();
            registry_model::destination::of_installation(running, installation).unwrap()
        })
    }

    /// CREDENTIAL_READY and the credential's generation of an installation, as accepted.
    pub fn condition(&self, uid: &str) -> Option<(Condition, i64)> {
        let installation = self.get::<Installation>(uid)?;
        let condition = installation.conditions.into_iter().next()?;
        Some((condition, installation.credential_generation))
    }

    /// The same of an entry.
    pub fn entry_condition(&self, uid: &str) -> Option<(Condition, i64)> {
        let entry = self.get::<Entry>(uid)?;
        Some((entry.conditions.into_iter().next()?, entry.credential_generation))
    }

    /// Waits until the condition has this reason, for the installation's present generation.
    pub async fn reason(&self, uid: &str, reason: &str) -> (Condition, i64) {
        let present = || self.get::<Installation>(uid).unwrap().generation;
        self.until(|_| self.condition(uid).filter(|(known, _)| is(known, reason, present())))
            .await
    }

    /// The same of an entry and its present revision.
    pub async fn entry_reason(&self, uid: &str, reason: &str) -> (Condition, i64) {
        let present = || self.get::<Entry>(uid).unwrap().entry_revision;
        self.until(|_| {
            self.entry_condition(uid)
                .filter(|(known, _)| is(known, reason, present()))
        })
        .await
    }

    /// Every report of a condition, in order, except those on fences.
    pub fn credential_reports(&self) -> Vec<ReportCredentialRequest> {
        let mut reports = self.reports().credential;
        reports
            .retain(|report| !matches!(&report.subject, Some(Subject::InstallationUid(uid)) if uid.starts_with(FENCE)));
        reports
    }

    /// The uids that were reported on, once everything is reported that follows from earlier changes; an entry's after `entry:`.
    pub async fn settled(&self) -> Vec<String> {
        // Eight reports are made concurrently: when the second fence is queued, all that came before the first are done.
        for _ in 0..2 {
            let (uid, entry) = self.look(|objects| {
                let uid = format!("{FENCE}{}", objects.all::<Installation>().count());
                (uid, objects.all::<Entry>().next().unwrap().uid.clone())
            });
            self.install(&uid, &entry, "nobody");
            self.until(|_| self.condition(&uid)).await;
        }
        let subject = |report: ReportCredentialRequest| match report.subject.unwrap() {
            Subject::InstallationUid(uid) => uid,
            Subject::EntryUid(uid) => format!("entry:{uid}"),
        };
        self.credential_reports().into_iter().map(subject).collect()
    }

    /// Waits until credential-svc has nothing left of this.
    pub async fn cleaned_up(&self, subject: report_cleanup_request::Subject) {
        self.until(|registry| registry.reports().cleanup.contains(&subject).then_some(()))
            .await;
    }
}

/// Returns the numbers of the revision before and of this one.
fn save(objects: &mut testing::Objects, mut entry: Entry) -> (i64, i64) {
    let known = objects.get::<Entry>(&entry.uid).cloned().unwrap_or_default();
    entry.entry_revision = known.entry_revision + 1;
    entry.conditions = known.conditions;
    entry.credential_generation = known.credential_generation;
    let numbers = (known.entry_revision, entry.entry_revision);
    objects.put(revision_of(&entry));
    objects.put(entry);
    numbers
}

fn is(condition: &Condition, reason: &str, generation: i64) -> bool {
    condition.reason == reason && condition.observed_generation == generation
}

fn revision_of(entry: &Entry) -> EntryRevision {
    EntryRevision {
        name: format!("{}/revisions/{}", entry.name, entry.entry_revision),
        entry_uid: entry.uid.clone(),
        number: entry.entry_revision,
        server: entry.server.clone().map(|server| match server {
            entry::Server::Remote(remote) => entry_revision::Server::Remote(remote),
            entry::Server::SelfHosted(server) => entry_revision::Server::SelfHosted(server),
        }),
        credential_model: entry.credential_model.clone().map(credential_models::of_entry),
        install_fields: entry.install_fields.clone(),
        ..EntryRevision::default()
    }
}
