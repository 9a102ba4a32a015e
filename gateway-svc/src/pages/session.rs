//! Sign-in sessions, kept by the browser in a sealed cookie. It contains the opener's own token, which the browser cannot read.

use std::{
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use axum::http::HeaderMap;
use secrecy::{ExposeSecret as _, SecretString};
use serde::{Deserialize, Serialize};
use service_kit::{User, identity::Use};

use super::{Pages, cookies, seal};

const PURPOSE: &str = "session";
const COOKIE: &str = "chandlery_session";
/// The pages, and `/signout`.
const PATH: &str = "/";
/// Browsers take 4,096 bytes a cookie, name and attributes included; a long token is spread over several.
const CHUNK: usize = 3_400;
const MAX_CHUNKS: usize = 5;
/// Nobody stays signed in for longer, however long their token lasts.
const MAX_AGE: Duration = Duration::from_secs(12 * 3600);

/// A signed-in opener.
pub(super) struct Session {
    /// Random; forms are bound to it.
    pub(super) id: String,
    /// The opener's ID token.
    pub(super) token: SecretString,
    /// Whom it names.
    pub(super) user: Arc<User>,
    /// When it ends, in seconds since 1970.
    until: u64,
}

impl Session {
    /// `users/{user}`: whose quotas it costs.
    pub(super) fn caller(&self) -> Arc<str> {
        self.user.id.resource_name().into()
    }
}

#[derive(Serialize)]
struct Sealed<'a> {
    id: &'a str,
    token: &'a str,
    until: u64,
}

#[derive(Deserialize)]
struct Opened {
    id: String,
    token: String,
    until: u64,
}

/// The token does not fit into cookies.
#[derive(Debug)]
pub(super) struct TooLong;

impl Pages {
    /// The session of a request; `None` if nobody is signed in, or not any more.
    pub(super) async fn session(&self, headers: &HeaderMap) -> Option<Session> {
        let name = cookies::name(COOKIE, self.secure);
        let first = cookies::get(headers, &format!("{name}_0"))?;
        let (count, first) = first.split_once('.')?;
        let count: usize = count.parse().ok().filter(|count| (1..=MAX_CHUNKS).contains(count))?;
        let mut sealed = first.to_owned();
        for chunk in 1..count {
            sealed.push_str(cookies::get(headers, &format!("{name}_{chunk}"))?);
        }
        let opened: Opened = self.sealer.open(PURPOSE, &sealed)?;
        let token = SecretString::from(opened.token);
        if seconds(self.clock.now()) >= opened.until || self.revoked.contains(&opened.id) {
            return None;
        }
        let user = self
            .verifier
            .verify_for(Use::SignIn, token.expose_secret())
            .await
            .ok()?;
        Some(Session {
            id: opened.id,
            token,
            user,
            until: opened.until,
        })
    }

    /// Keeps a token that was verified to be `user`'s in the browser, until it ends.
    pub(super) fn start_session(
        &self,
        headers: &mut HeaderMap,
        token: &SecretString,
        user: &User,
    ) -> Result<(), TooLong> {
        let now = self.clock.now();
        let age = user.expires_at.duration_since(now).unwrap_or_default().min(MAX_AGE);
        let session = Sealed {
            id: &seal::random(),
            token: token.expose_secret(),
            until: seconds(now + age),
        };
        let sealed = self.sealer.seal(PURPOSE, &session);
        let count = sealed.len().div_ceil(CHUNK);
        if count > MAX_CHUNKS {
            return Err(TooLong);
        }
        let name = cookies::name(COOKIE, self.secure);
        for chunk in 0..count {
            let part = &sealed[chunk * CHUNK..sealed.len().min((chunk + 1) * CHUNK)];
            let value = if chunk == 0 {
                format!("{count}.{part}")
            } else {
                part.to_owned()
            };
            cookies::set(headers, &format!("{name}_{chunk}"), &value, self.session_scope(), age);
        }
        Ok(())
    }

    /// Ends a session, wherever its cookies may be.
    pub(super) fn revoke(&self, session: &Session) {
        self.revoked
            .revoke(&session.id, session.until, seconds(self.clock.now()));
    }

    /// Makes the browser forget.
    pub(super) fn end_session(&self, headers: &mut HeaderMap) {
        let name = cookies::name(COOKIE, self.secure);
        for chunk in 0..MAX_CHUNKS {
            cookies::clear(headers, &format!("{name}_{chunk}"), self.session_scope());
        }
    }

    fn session_scope(&self) -> cookies::Scope<'_> {
        cookies::Scope {
            prefix: &self.prefix,
            path: PATH,
            secure: self.secure,
        }
    }
}

/// Seconds since 1970.
pub(super) fn seconds(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}
