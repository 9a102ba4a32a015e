//! Asks whether stored secrets may go along with what has changed, and shows what that is.

use contracts::credential::{Credential, DestinationChange, DestinationPart, DestinationText};
use maud::{Markup, html};
use registry_client::destination;

use crate::pages::form::Errors;

/// The question, as a part of the form.
pub(super) fn question(moved: &Credential, errors: &Errors) -> Markup {
    let error = errors.fields.get("confirm");
    let code = destination::is_code(&moved.present_destination);
    let described = ["consent", "confirm-error"];
    let described = &described[..if error.is_some() { 2 } else { 1 }];
    html! {
        fieldset.confirm {
            legend { (heading(moved, code)) }
            div #consent { (story(moved, code)) }
            @if !moved.changes.is_empty() { (table(&moved.changes)) }
            @else if code { p { "It is not known what exactly you agreed to: Chandlery did not keep that at the time." } }
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

fn heading(moved: &Credential, code: bool) -> &'static str {
    if destination::is_foreign(&moved.present_destination) {
        "Somebody else has changed your settings"
    } else if code {
        "What runs has changed"
    } else {
        "The destination has changed"
    }
}

fn story(moved: &Credential, code: bool) -> Markup {
    let (bound, present) = (&moved.bound_description, &moved.present_description);
    html! {
        p {
            "Your credential was entered for " code.wrap { (bound) } ". "
            @if destination::is_foreign(&moved.present_destination) { "Since then, somebody else has changed your settings. " }
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
