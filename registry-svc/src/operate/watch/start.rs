//! The first message of a watch: who watches, and what.

use contracts::registry::{ObjectKind, WatchStart};
use service_kit::{Workload, status::Violations};
use url::Url;

use crate::{domain::Error, operate::propagation::Name, store::Object};

/// Longest name of a process, and longest address (bytes).
const MAX_INSTANCE: usize = 128;
const MAX_ADDRESS: usize = 1_024;

/// A watch that is allowed.
#[derive(Debug)]
pub(crate) struct Start {
    pub(crate) name: Name,
    /// Bit n stands for `ObjectKind` n.
    pub(crate) kinds: i64,
    /// Where peers reach it; empty: nowhere.
    pub(crate) address: String,
    /// The revision that is in force there, and the epoch it belongs to. `None`: it needs a snapshot.
    pub(crate) resume: Option<(i64, String)>,
}

impl Start {
    /// Checks what a workload asks for.
    pub(crate) fn parse(workload: Workload, start: WatchStart) -> Result<Self, Error> {
        let mut violations = Violations::new();
        let mut kinds = 0;
        let mut forbidden = None;
        for (index, &kind) in start.kinds.iter().enumerate() {
            match object(kind) {
                None => violations.add(format!("start.kinds[{index}]"), "must be a kind that can be watched"),
                Some(object) if !may_watch(workload, object) => forbidden = Some(object),
                Some(object) => kinds |= object.bit(),
            }
        }
        if start.kinds.is_empty() {
            let allowed = Object::ALL.into_iter().filter(|&object| may_watch(workload, object));
            kinds = allowed.fold(0, |kinds, object| kinds | object.bit());
        }
        if !is_instance(&start.instance) {
            violations.add(
                "start.instance",
                "must be 1 to 128 of the characters A-Z, a-z, 0-9, '.', '_' and '-'",
            );
        }
        if !start.address.is_empty() && workload != Workload::Gateway {
            violations.add(
                "start.address",
                "must be empty: only gateway-svc is called by its peers",
            );
        } else if !start.address.is_empty() && !is_address(&start.address) {
            violations.add("start.address", "must be an http or https URL of at most 1,024 bytes");
        }
        if start.resume_revision < 0 {
            violations.add("start.resume_revision", "must not be negative");
        }
        violations.into_result(())?;
        if let Some(object) = forbidden {
            return Err(Error::Denied {
                what: format!("{workload} may not watch {}", object.kind().as_str_name()),
                required: Workload::Gateway.name(),
            });
        }
        Ok(Self {
            name: Name {
                workload,
                instance: start.instance,
            },
            kinds,
            address: start.address,
            resume: (start.resume_revision > 0).then_some((start.resume_revision, start.database_epoch)),
        })
    }
}

fn object(kind: i32) -> Option<Object> {
    let kind = ObjectKind::try_from(kind).ok()?;
    Object::ALL.into_iter().find(|object| object.kind() == kind)
}

/// Each workload watches what it needs: the hashes of tokens, for one, are the gateway's.
const fn may_watch(workload: Workload, object: Object) -> bool {
    match workload {
        Workload::Gateway => true,
        Workload::Credential => matches!(object, Object::Entry | Object::EntryRevision | Object::Installation),
        Workload::Orchestrator => matches!(
            object,
            Object::Entry | Object::EntryRevision | Object::Installation | Object::Runtime
        ),
        Workload::Registry => false,
    }
}

fn is_instance(instance: &str) -> bool {
    (1..=MAX_INSTANCE).contains(&instance.len())
        && instance
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-'))
}

fn is_address(address: &str) -> bool {
    address.len() <= MAX_ADDRESS
        && Url::parse(address).is_ok_and(|url| matches!(url.scheme(), "http" | "https") && url.has_host())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn start(kinds: &[ObjectKind]) -> WatchStart {
        WatchStart {
            kinds: kinds.iter().map(|&kind| kind.into()).collect(),
            instance: "pod-1.a_b".to_owned(),
            ..WatchStart::default()
        }
    }

    #[test]
    fn each_workload_watches_what_it_needs() {
        let all = Object::ALL.into_iter().fold(0, |kinds, object| kinds | object.bit());
        let of_credentials = Object::Entry.bit() | Object::EntryRevision.bit() | Object::Installation.bit();
        let kinds = |workload| Start::parse(workload, start(&[])).unwrap().kinds;
        assert_eq!(kinds(Workload::Gateway), all);
        assert_eq!(kinds(Workload::Credential), of_credentials);
        assert_eq!(kinds(Workload::Orchestrator), of_credentials | Object::Runtime.bit());
        for (workload, kind) in [
            (Workload::Credential, ObjectKind::GatewayToken),
            (Workload::Credential, ObjectKind::Runtime),
            (Workload::Orchestrator, ObjectKind::ToolAssignment),
            (Workload::Registry, ObjectKind::Entry),
        ] {
            let refused = Start::parse(workload, start(&[kind])).unwrap_err();
            assert!(
                matches!(refused, Error::Denied { .. }),
                "{workload} {kind:?}: {refused:?}"
            );
        }
        let some = Start::parse(Workload::Credential, start(&[ObjectKind::Entry])).unwrap();
        assert_eq!(some.kinds, Object::Entry.bit());
    }

    #[test]
    fn what_is_wrong_is_named() {
        let asked = WatchStart {
            kinds: vec![0, 1, 99],
            instance: "ä".to_owned(),
            address: "ftp://x".to_owned(),
            resume_revision: -1,
            ..WatchStart::default()
        };
        let Error::Invalid(violations) = Start::parse(Workload::Gateway, asked.clone()).unwrap_err() else {
            panic!("not a violation")
        };
        let text = format!("{violations:?}");
        for field in [
            "start.kinds[0]",
            "start.kinds[2]",
            "start.instance",
            "start.address",
            "start.resume_revision",
        ] {
            assert!(text.contains(field), "{field}: {text}");
        }
        let mut asked = start(&[]);
        asked.address = "https://10.0.0.7:8443".to_owned();
        let parsed = Start::parse(Workload::Gateway, asked.clone()).unwrap();
        assert_eq!(
            (parsed.address.as_str(), parsed.resume),
            ("https://10.0.0.7:8443", None)
        );
        assert!(Start::parse(Workload::Credential, asked).is_err());
        for instance in ["", "a/b", "a b", &"a".repeat(129)] {
            let asked = WatchStart {
                instance: instance.to_owned(),
                ..WatchStart::default()
            };
            assert!(Start::parse(Workload::Gateway, asked).is_err(), "{instance}");
        }
    }
}
