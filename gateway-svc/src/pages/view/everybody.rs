//! All installations of an entry, as an admin sees them: their state, and the way to the page that says more. Nobody but their owners acts
//! on them here.

use contracts::registry::{Condition, ConditionStatus, ConditionType, Entry};
use maud::{Markup, html};

use super::words::{slug, state_text};
use crate::{
    pages::{
        Pages,
        link::{Link, progress_path},
        model::everybody::Everybody,
    },
    sentence::as_sentence,
};

pub(in crate::pages) fn section(pages: &Pages, entry: &Entry, link: &Link, everybody: &Everybody) -> Markup {
    html! {
        section.everybody aria-labelledby="everybody" {
            h2 #everybody { "All installations" }
            p { "You see them as an admin: whether they work, and why not. Nobody sees their secrets or tokens." }
            @if everybody.installations.is_empty() { p { "Nobody has installed it." } }
            ul {
                @for owned in &everybody.installations {
                    @let installation = &owned.installation;
                    @let said = installation.conditions.iter().filter(|condition| concerns_an_admin(condition));
                    li {
                        a href={ (pages.prefix) (progress_path(slug(entry), &installation.uid, link)) } { (owned.owner) }
                        ": " (state_text(installation.state()))
                        @for condition in said { " " (as_sentence(&condition.message)) }
                    }
                }
            }
            @if everybody.more {
                p { "These are the first. ListInstallations of the gRPC API has them all." }
            }
        }
    }
}

/// What does not hold, and tools that are left out.
fn concerns_an_admin(condition: &Condition) -> bool {
    condition.status() == ConditionStatus::False
        || condition.r#type() == ConditionType::ToolsDiscovered && !condition.message.is_empty()
}
