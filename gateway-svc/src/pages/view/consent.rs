//! Asks whether stored secrets may go along with what has changed, and shows what that is.

use contracts::credential::{Credential, DestinationChange, DestinationPart, DestinationText};
use maud::{Markup, html};
use registry_model::destination::{self, Difference};

use crate::pages::form::Errors;

/// The question, as a part of the form.
pub(super) fn question(moved: &Credential, errors: &Errors) -> Markup {
    let error = errors.fields.get("confirm");
    let code = destination::is_code(&moved.present_destination);
    let what = Changed::of(moved);
    let described = ["consent", "confirm-error"];
    let described = &described[..if error.is_some() { 2 } else { 1 }];
    html! {
        fieldset.confirm {
            legend { (heading(what, code)) }
            div #consent { (story(moved, what, code)) }
            @if !moved.changes.is_empty() { (table(&moved.changes)) }
            @else if code && what != Changed::Incomplete { p { "It is not known what exactly you agreed to: Chandlery did not keep that at the time." } }
            @if let Some(error) = error { p.error #confirm-error { (error) } }
            div.choice {
                input type="checkbox" id="confirm" name="confirm" value="yes"
                    aria-invalid=[error.map(|_| "true")] aria-describedby=(described.join(" "));
                label for="confirm" {
                    @if code { "I agree: it may get what I entered" }
                    @else { "Send it to " span.wrap { (moved.present_description) } " from now on" }
                }
            }
        }
    }
}

/// What the question is about, in few words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Changed {
    /// What runs, with the secrets of the entry that decide it; or the address.
    Server,
    /// Values of the opener's installation, by somebody else.
    Settings,
    Both,
    /// Nothing but what is left: a part of the secrets is lost.
    Incomplete,
}

impl Changed {
    fn of(moved: &Credential) -> Self {
        if destination::is_incomplete(&moved.bound_destination) {
            return Self::Incomplete;
        }
        let Difference { server, values, stored } =
            destination::difference(&moved.bound_destination, &moved.present_destination);
        match (server || stored, values) {
            (true, true) => Self::Both,
            (false, true) => Self::Settings,
            (_, false) => Self::Server,
        }
    }
}

fn heading(what: Changed, code: bool) -> &'static str {
    match (what, code) {
        (Changed::Incomplete, _) => "A part of your credential is lost",
        (Changed::Settings, _) => "Somebody else has changed your settings",
        (Changed::Server, true) => "What runs has changed",
        (Changed::Server, false) => "The destination has changed",
        (Changed::Both, true) => "What runs has changed, and so have your settings",
        (Changed::Both, false) => "The destination has changed, and so have your settings",
    }
}

fn story(moved: &Credential, what: Changed, code: bool) -> Markup {
    let (bound, present) = (&moved.bound_description, &moved.present_description);
    if what == Changed::Incomplete {
        return html! {
            p {
                "Some of what you entered could not be read when Chandlery was upgraded. Enter it again below if it is missing there. "
                "What is left goes to " code.wrap { (present) } " only if you agree."
            }
        };
    }
    html! {
        p {
            "Your credential was entered for " code.wrap { (bound) } ". "
            @match what {
                Changed::Server | Changed::Incomplete => {},
                Changed::Settings => "Since then, somebody else has changed your settings. ",
                Changed::Both if code => "Since then, what runs has changed, and somebody else has changed your settings. ",
                Changed::Both => "Since then, the address has changed, and somebody else has changed your settings. ",
            }
            @if bound == present { "That would still get it, but not as you agreed to. " }
            @else if code { "Now " code.wrap { (present) } " would get it. " }
            @else { "The entry now points to " code.wrap { (present) } ". " }
            "It gets nothing unless you agree."
        }
    }
}

fn table(changes: &[DestinationChange]) -> Markup {
    html! {
        table.changes {
            caption { "What has changed since you agreed" }
            thead { tr { th scope="col" { "What" } th scope="col" { "Before" } th scope="col" { "Now" } } }
            tbody {
                @for change in changes {
                    tr {
                        th.wrap scope="row" { (what(change)) }
                        td { (text(change.before.as_ref())) }
                        td { (text(change.after.as_ref())) }
                    }
                }
            }
        }
    }
}

/// Which part it is, for people.
fn what(change: &DestinationChange) -> Markup {
    let kind = match change.part() {
        DestinationPart::Origin => "Address",
        DestinationPart::Command => "Program",
        DestinationPart::Argument | DestinationPart::Package => "Argument",
        DestinationPart::Environment => "Environment variable",
        DestinationPart::File => "File",
        DestinationPart::Template => "Where this field goes:",
        DestinationPart::FieldValue => "Value of the field",
        DestinationPart::Transport => "How it is spoken to",
        DestinationPart::ConfirmNewVersions => "Asks for new versions",
        DestinationPart::InstallationValue => "Your setting",
        DestinationPart::StoredSecret => "Secret stored on the entry",
        DestinationPart::AuthorizationServer => "Authorization server:",
        DestinationPart::Rest => "Everything else",
        DestinationPart::Unspecified => "Something else",
    };
    html! { (kind) @if !change.name.is_empty() { " " code { (change.name) } } }
}

fn text(side: Option<&DestinationText>) -> Markup {
    html! {
        @match side {
            None => span.help { "not there" },
            Some(side) if side.text.is_empty() && side.omitted_bytes == 0 => span.help { "empty" },
            Some(side) => {
                code.text { (side.text) }
                @if side.omitted_bytes > 0 {
                    p.help { "and " (side.omitted_bytes) " more bytes; SHA-256 of all of it: " code.wrap { (side.sha256) } }
                }
            }
        }
    }
}
