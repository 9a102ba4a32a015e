//! Install fields as form controls.

use std::collections::BTreeSet;

use contracts::registry::{InstallField, InstallFieldType, Installation};
use maud::{Markup, html};
use registry_model::install_fields::{is_secret, title};

use crate::pages::form::{Errors, Submission};

/// What the controls show.
pub(super) struct Context<'a> {
    pub(super) installation: Option<&'a Installation>,
    pub(super) entered: Option<&'a Submission>,
    pub(super) errors: &'a Errors,
    pub(super) stored: &'a BTreeSet<String>,
    /// The fields a changed entry asks for.
    pub(super) wanted: &'a [String],
}

/// The id of a field's control, to which the error summary leads.
pub(super) fn id(key: &str) -> String {
    format!("field-{key}")
}

/// A label, help, error and control.
pub(super) fn field(field: &InstallField, context: &Context<'_>) -> Markup {
    let id = id(&field.key);
    let error = context.errors.fields.get(&field.key);
    let stored = is_secret(field) && context.stored.contains(&field.key);
    let must = field.required && !stored && (is_secret(field) || field.default_value.is_empty());
    let help = !field.description.is_empty();
    let mut described = Vec::new();
    described.extend(help.then(|| format!("{id}-help")));
    described.extend(stored.then(|| format!("{id}-stored")));
    described.extend(error.map(|_| format!("{id}-error")));
    let described = Some(described.join(" ")).filter(|ids| !ids.is_empty());
    let invalid = error.map(|_| "true");
    let value = value(field, context);
    let boolean = field.r#type() == InstallFieldType::Boolean;
    html! {
        div.field.choice[boolean] {
            @if !boolean {
                label for=(id) {
                    (title(field))
                    @if must { span.required { " (required)" } } @else { span.optional { " (optional)" } }
                }
            }
            @if help && !boolean { p.help id={ (id) "-help" } { (field.description) } }
            @if stored { p.help id={ (id) "-stored" } { "A value is stored. Leave this empty to keep it." } }
            @if context.wanted.contains(&field.key) && error.is_none() { p.wanted { "The entry asks for this now." } }
            @if let Some(error) = error { p.error id={ (id) "-error" } { (error) } }
            @match field.r#type() {
                InstallFieldType::Secret => {
                    input id=(id) type="password" name={ "secret." (field.key) } autocomplete="off" spellcheck="false"
                        autocapitalize="off" required[must] aria-invalid=[invalid] aria-describedby=[described];
                }
                InstallFieldType::File => {
                    textarea id=(id) name={ "secret." (field.key) } rows="6" autocomplete="off" spellcheck="false"
                        autocapitalize="off" required[must] aria-invalid=[invalid] aria-describedby=[described] {}
                }
                InstallFieldType::Boolean => {
                    input id=(id) type="checkbox" name={ "value." (field.key) } value="true" checked[value == "true"]
                        aria-invalid=[invalid] aria-describedby=[described];
                    label for=(id) { (title(field)) }
                    @if help { p.help id={ (id) "-help" } { (field.description) } }
                }
                InstallFieldType::Select => {
                    select id=(id) name={ "value." (field.key) } required[must] aria-invalid=[invalid] aria-describedby=[described] {
                        @if !field.options.contains(&value) || !field.required {
                            option value="" { @if must { "Choose" } @else { "None" } }
                        }
                        @for option in &field.options {
                            option value=(option) selected[*option == value] { (option) }
                        }
                    }
                }
                InstallFieldType::Number => {
                    input id=(id) type="number" step="any" name={ "value." (field.key) } value=(value) autocomplete="off"
                        required[must] aria-invalid=[invalid] aria-describedby=[described];
                }
                InstallFieldType::String | InstallFieldType::Unspecified => {
                    input id=(id) type="text" name={ "value." (field.key) } value=(value) autocomplete="off"
                        required[must] aria-invalid=[invalid] aria-describedby=[described];
                }
            }
        }
    }
}

/// What was entered, else what is kept, else the default. Secrets have none.
fn value(field: &InstallField, context: &Context<'_>) -> String {
    if is_secret(field) {
        return String::new();
    }
    if let Some(entered) = context.entered {
        return entered.values.get(&field.key).cloned().unwrap_or_default();
    }
    let kept = context
        .installation
        .and_then(|installation| installation.values.get(&field.key));
    kept.unwrap_or(&field.default_value).clone()
}
