//! The ids of tasks as clients know them: signed, and bound to the caller and the gateway or agent.
//!
//! The same task always has the same id, by which clients recognize it in lists and notifications. What is in an id is no secret of the gateway's, so
//! it is not encrypted.

use std::sync::Arc;

use aws_lc_rs::{constant_time::verify_slices_are_equal, hmac};
use data_encoding::BASE64URL_NOPAD;
use service_kit::keys::Ring;

use crate::domain::ConsumerRef;

const PURPOSE: &[u8] = b"chandlery mcp tasks 1";
const TAG: usize = 16;
/// The longest id of a server's: one of the gateway's is repeated in a header.
const LONGEST_OWN: usize = 1024;
/// No longer id is one of ours.
const LONGEST: usize = 2048;

/// Makes and reads ids. All replicas share the keys.
#[derive(Debug)]
pub(in crate::mcp) struct TaskIds(Vec<hmac::Key>);

/// The tasks of one caller at one gateway or agent.
#[derive(Clone, Debug)]
pub(in crate::mcp) struct OwnTasks {
    ids: Arc<TaskIds>,
    /// Who that is.
    whose: Arc<[u8]>,
}

/// A task, as an id of the gateway's names it.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::mcp) struct Named {
    /// Uid of the installation whose server has it.
    pub(in crate::mcp) installation: String,
    /// The id that the server knows it by.
    pub(in crate::mcp) own: String,
}

impl TaskIds {
    /// With keys that have other uses too.
    pub(in crate::mcp) fn new(ring: &Ring) -> Self {
        let derive = |key: &[u8; 32]| {
            let derived = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), PURPOSE);
            hmac::Key::new(hmac::HMAC_SHA256, derived.as_ref())
        };
        Self(ring.keys().map(derive).collect())
    }

    /// Those of this caller.
    pub(in crate::mcp) fn of(self: &Arc<Self>, subject: &str, consumer: &ConsumerRef) -> OwnTasks {
        // Neither contains a line end.
        let whose = format!("{subject}\n{consumer}\n");
        OwnTasks {
            ids: Arc::clone(self),
            whose: whose.into_bytes().into(),
        }
    }
}

impl OwnTasks {
    /// The client's id of a task that the server of this installation knows by `own`. `None`: the server's is too long.
    pub(in crate::mcp) fn id(&self, installation: &str, own: &str) -> Option<String> {
        if own.len() > LONGEST_OWN {
            return None;
        }
        // A uid contains no line end.
        let named = format!("{installation}\n{own}");
        let key = self.ids.0.first()?;
        let sealed = [&self.tag(key, named.as_bytes())[..], named.as_bytes()].concat();
        Some(BASE64URL_NOPAD.encode(&sealed))
    }

    /// The task of this id; `None`: it is none of this caller's.
    pub(in crate::mcp) fn find(&self, id: &str) -> Option<Named> {
        if id.len() > LONGEST {
            return None;
        }
        let sealed = BASE64URL_NOPAD.decode(id.as_bytes()).ok()?;
        let (tag, named) = sealed.split_first_chunk::<TAG>()?;
        let is_ours = |key| verify_slices_are_equal(tag, &self.tag(key, named)).is_ok();
        self.ids.0.iter().find(|key| is_ours(key))?;
        let (installation, own) = std::str::from_utf8(named).ok()?.split_once('\n')?;
        Some(Named {
            installation: installation.to_owned(),
            own: own.to_owned(),
        })
    }

    fn tag(&self, key: &hmac::Key, named: &[u8]) -> [u8; TAG] {
        let mut mac = hmac::Context::with_key(key);
        mac.update(&self.whose);
        mac.update(named);
        let mut tag = [0; TAG];
        tag.copy_from_slice(&mac.sign().as_ref()[..TAG]);
        tag
    }
}

#[cfg(test)]
mod tests {
    use pretty_assertions::assert_eq;

    use super::*;
    use crate::domain::ConsumerKind;

    fn own(key: u8, subject: &str, kind: ConsumerKind, slug: &str) -> OwnTasks {
        Arc::new(TaskIds::new(&Ring::from([key; 32]))).of(subject, &ConsumerRef::new(kind, slug))
    }

    #[test]
    fn an_id_is_one_callers_and_the_same_at_every_replica() {
        use ConsumerKind::{Agent, Gateway};
        let (alices, replicas) = (own(1, "users/a", Gateway, "g"), own(1, "users/a", Gateway, "g"));
        let id = alices.id("i-1", "t\u{fc}\n1").unwrap();
        assert_eq!(replicas.id("i-1", "t\u{fc}\n1").unwrap(), id);
        assert!(
            id.bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte))
        );
        let named = Named {
            installation: "i-1".to_owned(),
            own: "t\u{fc}\n1".to_owned(),
        };
        assert_eq!(replicas.find(&id), Some(named));
        for other in [
            own(1, "users/b", Gateway, "g"),
            own(1, "users/a", Gateway, "h"),
            own(1, "users/a", Agent, "g"),
            own(2, "users/a", Gateway, "g"),
        ] {
            assert_eq!(other.find(&id), None);
        }
        assert_ne!(alices.id("i-2", "t").unwrap(), alices.id("i-1", "t").unwrap());
    }

    #[test]
    fn no_other_id_is_one() {
        let tasks = own(1, "users/a", ConsumerKind::Gateway, "g");
        let id = tasks.id("i-1", "t").unwrap();
        let longest = "t".repeat(LONGEST_OWN);
        assert!(tasks.find(&tasks.id("i-1", &longest).unwrap()).is_some());
        assert_eq!(tasks.id("i-1", &format!("{longest}t")), None);
        for odd in [
            "",
            "t",
            "AAAA",
            "\u{fc}",
            &id[1..],
            &id[..id.len() - 1],
            &id.to_lowercase(),
            &"A".repeat(1 << 20),
        ] {
            assert_eq!(tasks.find(odd), None, "{odd}");
        }
    }

    /// After a rotation, clients still have ids of the key before.
    #[test]
    fn an_id_of_the_previous_key_is_known() {
        let old = Ring::from([1; 32]);
        let new = old.rotated().unwrap();
        let of = |ring| Arc::new(TaskIds::new(ring)).of("users/a", &ConsumerRef::new(ConsumerKind::Gateway, "g"));
        assert!(of(&new).find(&of(&old).id("i-1", "t").unwrap()).is_some());
        assert!(of(&old).find(&of(&new).id("i-1", "t").unwrap()).is_none());
    }
}
