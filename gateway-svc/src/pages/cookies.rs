//! Reads and writes cookies (RFC 6265bis): `HttpOnly`, `SameSite=Lax`. Where the public URL is https they are `Secure` and have the prefix
//! `__Host-`, so that neither another host of the domain nor an attacker on the network who answers over http can set them. Those are sent
//! to all paths of the host; others to one.

use std::time::Duration;

use axum::http::{HeaderMap, HeaderValue, header};

/// The value of a cookie.
pub(super) fn get<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers
        .get_all(header::COOKIE)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(';'))
        .filter_map(|pair| pair.trim().split_once('='))
        .find_map(|(key, value)| (key == name).then_some(value))
}

/// Where a cookie goes.
#[derive(Clone, Copy)]
pub(super) struct Scope<'a> {
    /// Path of the public URL; empty at the root.
    pub(super) prefix: &'a str,
    /// Path below it.
    pub(super) path: &'a str,
    /// Only over https, and then for every path.
    pub(super) secure: bool,
}

/// A name that browsers accept only from this very host over https, where that is what we have.
pub(super) fn name(base: &str, secure: bool) -> String {
    if secure {
        format!("__Host-{base}")
    } else {
        base.to_owned()
    }
}

/// The name of a cookie for one of several things that are under way.
pub(super) fn tagged(base: &str, what: &str) -> String {
    let tag: String = what
        .chars()
        .filter(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_'))
        .take(8)
        .collect();
    format!("{base}_{tag}")
}

/// Adds a `Set-Cookie`.
pub(super) fn set(headers: &mut HeaderMap, name: &str, value: &str, scope: Scope<'_>, max_age: Duration) {
    let Scope { prefix, path, secure } = scope;
    let (prefix, path) = if secure { ("", "/") } else { (prefix, path) };
    let secure = if secure { "; Secure" } else { "" };
    let age = max_age.as_secs();
    let cookie = format!("{name}={value}; Path={prefix}{path}; Max-Age={age}; HttpOnly; SameSite=Lax{secure}");
    if let Ok(cookie) = HeaderValue::try_from(cookie) {
        headers.append(header::SET_COOKIE, cookie);
    }
}

/// Adds a `Set-Cookie` that removes the cookie.
pub(super) fn clear(headers: &mut HeaderMap, name: &str, scope: Scope<'_>) {
    set(headers, name, "", scope, Duration::ZERO);
}
