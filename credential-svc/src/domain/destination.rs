//! Where secrets may go, where they would go now, and how people are told the difference.

use registry_model::destination::{self, Change, Difference, Part};
use serde::{Deserialize, Serialize};

use super::owner::Source;

/// The destination that an owner agreed to, kept with the secrets to show what has changed since. Its size is bounded.
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
    /// Whether somebody other than its owner set the values of a personal installation.
    pub(crate) foreign: bool,
    /// What is kept of it where the owner agrees.
    pub(crate) agreed: Agreed,
}

impl Present {
    /// The differences from what was agreed to.
    pub(crate) fn changes_since(&self, agreed: &Agreed) -> Vec<Change> {
        // Owners may change their own values without confirming them.
        let counts = |part: &&Part| self.foreign || !part.is_entered();
        let of = |agreed: &Agreed| -> Vec<Part> { agreed.parts.iter().filter(counts).cloned().collect() };
        destination::changes(&of(agreed), &of(&self.agreed))
    }
}

/// Secrets that would go to a destination their owner has not agreed to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Moved {
    /// What they are bound to.
    pub(crate) bound: String,
    /// Where they would go.
    pub(crate) present: String,
}

impl Moved {
    /// What has happened, who can repair it, and how. `Credential.changes` has the details.
    pub(crate) fn message(&self, source: Source) -> String {
        let what = self.what(source);
        match source {
            Source::Prompted => {
                format!("{what}; their owner must review the change and confirm it, or enter all secrets again")
            }
            Source::Stored => format!(
                "{what}; an admin must confirm the new destination of the secrets stored on the entry, or store all of them again"
            ),
        }
    }

    fn what(&self, source: Source) -> String {
        let Self { bound, present } = self;
        if destination::is_incomplete(bound) {
            return "some of the secrets could not be read when Chandlery was upgraded, and are lost".to_owned();
        }
        let entered = match source {
            Source::Prompted => "the secrets were entered",
            Source::Stored => "the secrets were stored on the entry",
        };
        let Difference { server, values, stored } = destination::difference(bound, present);
        let mut causes = Vec::new();
        if !destination::is_code(present) && server {
            let before = if destination::is_code(bound) || destination::is_legacy(bound) {
                "a server that Chandlery runs"
            } else {
                &destination::readable(bound)
            };
            let origin = destination::readable(present);
            // What else is in the binding of a remote server.
            causes.push(if before == origin {
                format!("the authorization server that the entry names has changed since {entered}")
            } else {
                format!("the entry now points to {origin}, but {entered} for {before}")
            });
        } else if destination::is_legacy(bound) {
            causes.push(
                "secrets are now bound to everything that decides what runs, and these were bound to the program alone"
                    .to_owned(),
            );
        } else if server {
            causes.push(format!("what runs has changed since {entered}"));
        }
        if stored {
            causes.push(format!(
                "the secrets of the entry, which go to the same server, have changed since {entered}"
            ));
        }
        if values {
            causes.push("somebody else has changed the values of this installation".to_owned());
        }
        // The caller may know a newer destination than this service.
        if causes.is_empty() {
            causes.push(format!("the destination has changed since {entered}"));
        }
        causes.join(", and ")
    }
}

#[cfg(test)]
mod tests {
    use pretty_assertions::assert_eq;

    use super::*;

    #[test]
    fn says_which_server_is_another() {
        for (bound, present, what) in [
            (
                "https://a.example",
                "https://b.example",
                "the entry now points to https://b.example, but the secrets were entered for https://a.example",
            ),
            (
                "https://a.example#tokens=00",
                "https://b.example#tokens=11",
                "the entry now points to https://b.example, but the secrets were entered for https://a.example",
            ),
            (
                "https://a.example#tokens=00",
                "https://a.example#tokens=11",
                "the authorization server that the entry names has changed since the secrets were entered",
            ),
            (
                "https://a.example",
                "https://a.example#tokens=11#values=22",
                "the authorization server that the entry names has changed since the secrets were entered, and somebody else has changed the \
                 values of this installation",
            ),
            (
                "code:v1:00",
                "https://a.example",
                "the entry now points to https://a.example, but the secrets were entered for a server that Chandlery runs",
            ),
            (
                "code:v1:00",
                "code:v1:11",
                "what runs has changed since the secrets were entered",
            ),
        ] {
            let moved = Moved {
                bound: bound.to_owned(),
                present: present.to_owned(),
            };
            assert_eq!(moved.what(Source::Prompted), what, "{bound} {present}");
        }
    }
}
