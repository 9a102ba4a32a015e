//! Where secrets may go, where they would go now, and how that is told.

use registry_model::destination::{self, Change, Difference, Part};
use serde::{Deserialize, Serialize};

use super::owner::Source;

/// What an owner has agreed to, kept sealed with their secrets: to show what has changed since. It is bounded.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Agreed {
    /// As `Credential.bound_description`.
    pub(crate) description: String,
    pub(crate) parts: Vec<Part>,
}

/// Where an owner's secrets would go now.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Present {
    /// As `Credential.present_destination`.
    pub(crate) destination: String,
    /// Whether the values of a personal installation are those of somebody else.
    pub(crate) foreign: bool,
    /// What agreeing to it is agreeing to.
    pub(crate) agreed: Agreed,
}

impl Present {
    /// What is different from what was agreed to.
    pub(crate) fn changes_since(&self, agreed: &Agreed) -> Vec<Change> {
        // The owner's own values are the owner's to change.
        let counts = |part: &&Part| self.foreign || !part.is_entered();
        let of = |agreed: &Agreed| -> Vec<Part> { agreed.parts.iter().filter(counts).cloned().collect() };
        destination::changes(&of(agreed), &of(&self.agreed))
    }
}

/// Secrets that would go where their owner has not agreed to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Moved {
    /// What they are bound to.
    pub(crate) bound: String,
    /// Where they would go.
    pub(crate) present: String,
}

impl Moved {
    /// What has happened, who can repair it and how, for people. What exactly has changed is long: `Credential.changes` has it.
    pub(crate) fn message(&self, source: Source) -> String {
        let what = self.what(source);
        match source {
            Source::Prompted => {
                format!("{what}; their owner must look at what has changed and agree to it, or enter all secrets again")
            }
            Source::Stored => format!(
                "{what}; an admin must confirm the new destination of the secrets that are stored on the entry, or store all of them again"
            ),
        }
    }

    fn what(&self, source: Source) -> String {
        let Self { bound, present } = self;
        let entered = match source {
            Source::Prompted => "the secrets were entered",
            Source::Stored => "the secrets were stored on the entry",
        };
        let Difference { server, values, stored } = destination::difference(bound, present);
        let mut causes = Vec::new();
        if !destination::is_code(present) && server {
            let before = if destination::is_code(bound) || destination::is_former(bound) {
                "a server that Chandlery runs"
            } else {
                &destination::readable(bound)
            };
            let origin = destination::readable(present);
            causes.push(format!("the entry now points to {origin}, but {entered} for {before}"));
        } else if destination::is_former(bound) {
            causes
                .push("secrets are bound to all that runs by now, and these were bound to a program alone".to_owned());
        } else if server {
            causes.push(format!("what runs has changed since {entered}"));
        }
        if stored {
            causes.push(format!(
                "secrets of the entry, which go to the same server, have changed since {entered}"
            ));
        }
        if values {
            causes.push("somebody else has changed the values of this installation".to_owned());
        }
        // Whoever asks may know of another destination than we do.
        if causes.is_empty() {
            causes.push(format!("where they would go has changed since {entered}"));
        }
        causes.join(", and ")
    }
}
