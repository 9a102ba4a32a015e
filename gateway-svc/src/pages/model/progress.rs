//! The progress of an installation: its conditions as steps.

use std::time::{Duration, SystemTime};

use contracts::registry::{
    Condition, ConditionStatus, ConditionType, Entry, Installation, InstallationState, entry::Server,
};
use registry_model::{credential_models, tenancy};

use crate::sentence::as_sentence;

/// After a change, services look again at what was ready. If one finds nothing to report, this is when waiting ends.
const SETTLED_AFTER: Duration = Duration::from_secs(20);

/// Nobody else's credential is there to ask with.
const ASKED_BY_PEOPLE: &str = "The server is asked with the sign-in of whoever calls it: once, somebody who may manage this installation must call DiscoverTools of Chandlery's gRPC API, with an access token of the identity provider. A gateway token, or what an MCP client got when it signed in here, is not enough; a program's own token is.";

/// How far one step is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::pages) enum Progress {
    /// Nothing has been reported.
    Working,
    /// As it should be.
    Done,
    /// The opener must enter something.
    NeedsInput,
    /// Not as it should be.
    Failed,
}

/// One condition, for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::pages) struct Step {
    pub(in crate::pages) title: &'static str,
    pub(in crate::pages) progress: Progress,
    pub(in crate::pages) text: String,
}

/// An installation, for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::pages) struct Look {
    pub(in crate::pages) steps: Vec<Step>,
    pub(in crate::pages) outcome: Progress,
    /// One or two sentences: what is, and what to do.
    pub(in crate::pages) summary: String,
}

/// What conditions mean to people.
pub(in crate::pages) fn look(
    entry: &Entry,
    installation: &Installation,
    tools: Option<usize>,
    now: SystemTime,
) -> Look {
    let changed = installation
        .update_time
        .and_then(|time| SystemTime::try_from(time).ok());
    let settled = changed.is_some_and(|changed| now.duration_since(changed).is_ok_and(|age| age > SETTLED_AFTER));
    let reported = |conditions: &[Condition], generation: i64, kind: ConditionType| {
        let condition = conditions.iter().find(|condition| condition.r#type() == kind);
        let stale = condition.is_some_and(|condition| condition.observed_generation < generation) && !settled;
        condition.filter(|_| !stale).cloned()
    };
    let own = |kind| reported(&installation.conditions, installation.generation, kind);
    let step = |kind, title, working: &str, done: &str| step_of(own(kind).as_ref(), title, working, done);
    let mut steps = vec![step(
        ConditionType::CredentialReady,
        "Credential",
        "Waiting for the credential service.",
        "Everything that is needed is stored.",
    )];
    if let Some(text) = lacks_stored_credential(entry) {
        steps.push(Step {
            title: "Credential of the entry",
            progress: Progress::Failed,
            text,
        });
    }
    if let Some(Server::SelfHosted(server)) = &entry.server {
        let ready = if tenancy::shares(server) {
            reported(&entry.conditions, entry.entry_revision, ConditionType::RuntimeReady)
        } else {
            own(ConditionType::RuntimeReady)
        };
        steps.push(step_of(
            ready.as_ref(),
            "Server",
            "Starting the server.",
            "The server runs.",
        ));
    }
    let found = match tools {
        Some(count) => format!("{} found.", counted(count)),
        None => "The tools are known.".to_owned(),
    };
    let asking = if per_caller(entry) {
        ASKED_BY_PEOPLE
    } else {
        "Asking the server for its tools."
    };
    let known = own(ConditionType::ToolsDiscovered);
    let left_out = known
        .as_ref()
        .map(|known| as_sentence(&known.message))
        .unwrap_or_default();
    let found = format!("{found} {left_out}");
    steps.push(step_of(known.as_ref(), "Tools", asking, found.trim_end()));
    if let Some(reinstall) = &installation.reinstall_required {
        let text = as_sentence(&reinstall.message);
        steps.insert(
            0,
            Step {
                title: "New input",
                progress: Progress::NeedsInput,
                text,
            },
        );
    }
    let worst = |progress| steps.iter().find(|step| step.progress == progress);
    let (outcome, summary) = if installation.delete_time.is_some() {
        (Progress::Failed, "This installation has been deleted.".to_owned())
    } else if let Some(step) = worst(Progress::NeedsInput) {
        (
            Progress::NeedsInput,
            format!("Something is still to be entered. {}", step.text),
        )
    } else if let Some(step) = worst(Progress::Failed) {
        (Progress::Failed, format!("{} failed. {}", step.title, step.text))
    } else if let Some(step) = worst(Progress::Working).filter(|step| step.text == ASKED_BY_PEOPLE) {
        (Progress::Working, format!("Its tools are not known yet. {}", step.text))
    } else if worst(Progress::Working).is_some() || installation.state() != InstallationState::Ready {
        (Progress::Working, "Working on it. This can take a minute.".to_owned())
    } else {
        let tools = tools.map_or_else(|| "it works".to_owned(), counted);
        (
            Progress::Done,
            format!("Ready: {tools}. Go back to where you came from and retry your call."),
        )
    };
    Look {
        steps,
        outcome,
        summary,
    }
}

/// Why the server does not run that all installations of the entry share; `None` where it does, or there is none.
pub(in crate::pages) fn shared_server_failure(entry: &Entry) -> Option<String> {
    let Some(Server::SelfHosted(server)) = &entry.server else {
        return None;
    };
    let mut conditions = entry.conditions.iter();
    let ready = conditions.find(|condition| condition.r#type() == ConditionType::RuntimeReady)?;
    (tenancy::shares(server) && ready.status() == ConditionStatus::False).then(|| {
        let why = as_sentence(&ready.message);
        format!("The server that all installations share does not run: an admin must repair it. {why}")
            .trim_end()
            .to_owned()
    })
}

/// Whether each caller has a credential of their own.
fn per_caller(entry: &Entry) -> bool {
    let model = entry.credential_model.clone().map(credential_models::of_entry);
    model.is_some_and(|model| credential_models::is_per_caller(&model))
}

/// What is wrong with the secrets that an admin stores once on the entry; `None` where nothing is.
pub(in crate::pages) fn lacks_stored_credential(entry: &Entry) -> Option<String> {
    let credential = entry
        .conditions
        .iter()
        .find(|condition| condition.r#type() == ConditionType::CredentialReady)?;
    (credential.status() == ConditionStatus::False).then(|| {
        let why = as_sentence(&credential.message);
        format!("A credential is missing that all installations use: an admin must store it on the entry. {why}")
            .trim_end()
            .to_owned()
    })
}

fn step_of(condition: Option<&Condition>, title: &'static str, working: &str, done: &str) -> Step {
    let Some(condition) = condition else {
        return Step {
            title,
            progress: Progress::Working,
            text: working.to_owned(),
        };
    };
    let said = as_sentence(&condition.message);
    let or = |otherwise: &str| {
        if said.is_empty() {
            otherwise.to_owned()
        } else {
            said.clone()
        }
    };
    let (progress, text) = match condition.status() {
        ConditionStatus::True => (Progress::Done, done.to_owned()),
        ConditionStatus::False if needs_input(&condition.reason) => {
            (Progress::NeedsInput, or("A credential is still to be entered."))
        }
        ConditionStatus::False => (Progress::Failed, or("The service gave no reason.")),
        ConditionStatus::Unknown | ConditionStatus::Unspecified => (Progress::Working, or(working)),
    };
    Step { title, progress, text }
}

/// What the opener can put right in the form.
fn needs_input(reason: &str) -> bool {
    matches!(
        reason,
        "CREDENTIAL_REQUIRED"
            | "DESTINATION_CHANGED"
            | "CREDENTIAL_EXPIRED"
            | "REAUTHENTICATION_REQUIRED"
            | "SCOPE_REQUIRED"
    )
}

fn counted(tools: usize) -> String {
    match tools {
        0 => "the server offers no tools".to_owned(),
        1 => "1 tool".to_owned(),
        n => format!("{n} tools"),
    }
}

#[cfg(test)]
mod tests {
    use contracts::registry::{
        RemoteServer, SelfHostedServer, StreamableHttpTransport, Tenancy, self_hosted_server::Transport,
    };

    use super::*;

    fn remote() -> Entry {
        Entry {
            server: Some(Server::Remote(RemoteServer::default())),
            ..Entry::default()
        }
    }

    fn condition(kind: ConditionType, status: ConditionStatus, reason: &str, generation: i64) -> Condition {
        Condition {
            r#type: kind.into(),
            status: status.into(),
            reason: reason.to_owned(),
            message: "what happened".to_owned(),
            observed_generation: generation,
            ..Condition::default()
        }
    }

    fn installation(state: InstallationState, conditions: Vec<Condition>) -> Installation {
        Installation {
            state: state.into(),
            generation: 2,
            conditions,
            update_time: Some(SystemTime::UNIX_EPOCH.into()),
            ..Installation::default()
        }
    }

    #[test]
    fn is_ready_when_every_service_has_seen_the_last_change() {
        use {ConditionStatus::True, ConditionType::*};
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1);
        let ready = |seen| {
            installation(
                InstallationState::Ready,
                vec![
                    condition(CredentialReady, True, "", 2),
                    condition(ToolsDiscovered, True, "", seen),
                ],
            )
        };
        let done = look(&remote(), &ready(2), Some(3), now);
        assert_eq!(done.outcome, Progress::Done);
        assert!(done.summary.starts_with("Ready: 3 tools."));
        assert_eq!(
            done.steps[1].text, "3 tools found. What happened.",
            "as when some are left out"
        );
        assert_eq!(look(&remote(), &ready(1), Some(3), now).outcome, Progress::Working);
        let later = now + SETTLED_AFTER;
        assert_eq!(
            look(&remote(), &ready(1), Some(3), later).outcome,
            Progress::Done,
            "nothing else is coming"
        );
    }

    #[test]
    fn a_credential_that_an_admin_must_store_is_not_asked_of_the_opener() {
        use {ConditionStatus::*, ConditionType::*};
        let conditions = vec![
            condition(CredentialReady, True, "", 2),
            condition(ToolsDiscovered, True, "", 2),
        ];
        let ready = installation(InstallationState::Ready, conditions);
        let stored = |status, reason| Entry {
            conditions: vec![condition(CredentialReady, status, reason, 1)],
            ..remote()
        };
        let lacking = look(
            &stored(False, "CREDENTIAL_REQUIRED"),
            &ready,
            None,
            SystemTime::UNIX_EPOCH,
        );
        assert_eq!((lacking.outcome, lacking.steps.len()), (Progress::Failed, 3));
        assert!(
            lacking
                .summary
                .contains("an admin must store it on the entry. What happened."),
            "{}",
            lacking.summary
        );
        let there = look(&stored(True, ""), &ready, None, SystemTime::UNIX_EPOCH);
        assert_eq!((there.outcome, there.steps.len()), (Progress::Done, 2));
    }

    /// Nobody is told to wait for what does not come by itself.
    #[test]
    fn tools_that_only_a_caller_can_ask_for_are_said_to_be() {
        use contracts::registry::{JwtPassthroughCredential, entry::CredentialModel};
        use {ConditionStatus::*, ConditionType::*};
        let entry = Entry {
            credential_model: Some(CredentialModel::JwtPassthrough(JwtPassthroughCredential::default())),
            ..remote()
        };
        let conditions = vec![
            condition(CredentialReady, True, "", 2),
            condition(ToolsDiscovered, Unknown, "NOT_REPORTED", 2),
        ];
        let mut pending = installation(InstallationState::Pending, conditions);
        pending.conditions[1].message.clear();
        let looked = look(&entry, &pending, None, SystemTime::UNIX_EPOCH);
        assert_eq!(looked.outcome, Progress::Working);
        for text in [
            "DiscoverTools",
            "an access token of the identity provider",
            "A gateway token",
        ] {
            assert!(looked.summary.contains(text), "{}", looked.summary);
        }
        let looked = look(&remote(), &pending, None, SystemTime::UNIX_EPOCH);
        assert!(looked.summary.starts_with("Working on it."), "{}", looked.summary);
    }

    #[test]
    fn says_what_failed_and_what_to_do() {
        use {ConditionStatus::*, ConditionType::*};
        let now = SystemTime::UNIX_EPOCH;
        let hosted = Entry {
            server: Some(Server::SelfHosted(SelfHostedServer::default())),
            ..Entry::default()
        };
        let crashed = installation(
            InstallationState::Failed,
            vec![
                condition(CredentialReady, True, "", 2),
                condition(RuntimeReady, False, "CRASH_LOOP", 2),
            ],
        );
        let crashed = look(&hosted, &crashed, None, now);
        assert_eq!(
            (crashed.outcome, crashed.summary.as_str()),
            (Progress::Failed, "Server failed. What happened.")
        );
        assert_eq!(crashed.steps.len(), 3);
        // One that all installations of the entry share is reported there.
        let transport = StreamableHttpTransport {
            tenancy: Tenancy::Shared.into(),
            ..StreamableHttpTransport::default()
        };
        let shared = Entry {
            server: Some(Server::SelfHosted(SelfHostedServer {
                transport: Some(Transport::StreamableHttp(transport)),
                ..SelfHostedServer::default()
            })),
            entry_revision: 7,
            conditions: vec![condition(RuntimeReady, False, "CRASH_LOOP", 7)],
            ..Entry::default()
        };
        let using = installation(
            InstallationState::Pending,
            vec![condition(CredentialReady, True, "", 2)],
        );
        assert_eq!(
            look(&shared, &using, None, now).summary,
            "Server failed. What happened."
        );
        let missing = installation(
            InstallationState::Pending,
            vec![condition(CredentialReady, False, "CREDENTIAL_REQUIRED", 2)],
        );
        assert_eq!(look(&remote(), &missing, None, now).outcome, Progress::NeedsInput);
        assert_eq!(
            look(&remote(), &installation(InstallationState::Pending, vec![]), None, now).outcome,
            Progress::Working
        );
    }
}
