//! Update masks (AIP-134, AIP-161): whole top-level fields only.
//!
//! An update takes its message apart with a pattern that names every field, and hands each to [`Mask::apply`]: a field that is
//! added to the contract cannot be forgotten, since the compiler then refuses the pattern.

use prost_types::FieldMask;
use service_kit::status::Violations;

/// What an update changes.
#[derive(Debug)]
pub(crate) struct Mask {
    wanted: Wanted,
    /// The fields that can be changed, as far as they were applied.
    known: Vec<&'static str>,
}

#[derive(Debug)]
enum Wanted {
    /// No mask: the fields that are set.
    Set,
    /// `*`: all, also those that are not set.
    All,
    /// These.
    Named(Vec<String>),
}

/// The most paths of a mask: no message has as many fields.
const MAX_PATHS: usize = 64;

/// Refuses a mask that is too long. To be called before a transaction begins, which would hold up others while a long one is read.
pub(crate) fn check_size(mask: Option<&FieldMask>) -> Result<(), Violations> {
    let mut violations = Violations::new();
    if mask.is_some_and(|mask| mask.paths.len() > MAX_PATHS) {
        violations.add("update_mask", format!("must have at most {MAX_PATHS} paths"));
    }
    violations.into_result(())
}

impl Mask {
    /// Reads a mask; none and an empty one are the same.
    pub(crate) fn new(mask: Option<&FieldMask>) -> Self {
        let paths = mask.map(|mask| mask.paths.as_slice()).unwrap_or_default();
        let wanted = match paths {
            [] => Wanted::Set,
            [path] if path == "*" => Wanted::All,
            paths => Wanted::Named(paths.to_vec()),
        };
        Self {
            wanted,
            known: Vec::new(),
        }
    }

    /// Replaces `current` by `change` if this field is to be changed: named, or set where the mask names none. Returns whether it is.
    pub(crate) fn apply<T: Default + PartialEq>(&mut self, field: &'static str, current: &mut T, change: T) -> bool {
        self.known.push(field);
        let takes = match &self.wanted {
            Wanted::All => true,
            Wanted::Set => change != T::default(),
            Wanted::Named(paths) => paths.iter().any(|path| path == field),
        };
        if takes {
            *current = change;
        }
        takes
    }

    /// As [`Mask::apply`], for one case of a oneof: where it is named and not set in `change`, it is cleared if it is the case of
    /// `current`. To be called for each case.
    pub(crate) fn apply_case<T: Clone>(
        &mut self,
        field: &'static str,
        current: &mut Option<T>,
        change: &Option<T>,
        is_case: impl Fn(&T) -> bool,
    ) {
        self.known.push(field);
        let set = change.as_ref().is_some_and(&is_case);
        let clears = match &self.wanted {
            Wanted::All => change.is_none(),
            Wanted::Set => false,
            Wanted::Named(paths) if paths.iter().any(|path| path == field) => true,
            Wanted::Named(_) => return,
        };
        if set {
            current.clone_from(change);
        } else if clears && current.as_ref().is_some_and(&is_case) {
            *current = None;
        }
    }

    /// Refuses paths that are no field to be changed. To be called once all fields were applied.
    pub(crate) fn finish(self) -> Result<(), Violations> {
        let mut violations = Violations::new();
        let Wanted::Named(paths) = &self.wanted else {
            return Ok(());
        };
        for (index, path) in paths.iter().enumerate() {
            if self.known.contains(&path.as_str()) {
                continue;
            }
            let top = path.split('.').next().unwrap_or_default();
            let wrong = if path == "*" {
                "* must stand alone".to_owned()
            } else if self.known.contains(&top) {
                format!("{path:?} lies within a field: name the whole field, {top:?}, and send all of it")
            } else {
                format!("{path:?} cannot be changed; what can: {}", self.known.join(", "))
            };
            violations.add(format!("update_mask.paths[{index}]"), wrong);
        }
        violations.into_result(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mask(paths: &[&str]) -> FieldMask {
        FieldMask {
            paths: paths.iter().map(|&path| path.to_owned()).collect(),
        }
    }

    /// What becomes of version 1 and labels "a" by a change to version 0 and labels "b".
    fn applied(paths: Option<&[&str]>) -> (i32, String) {
        let paths = paths.map(mask);
        let mut mask = Mask::new(paths.as_ref());
        let (mut version, mut labels) = (1, "a".to_owned());
        mask.apply("version", &mut version, 0);
        mask.apply("labels", &mut labels, "b".to_owned());
        mask.finish().unwrap();
        (version, labels)
    }

    #[test]
    fn takes_what_is_set_what_is_named_or_all() {
        assert_eq!(applied(None), (1, "b".to_owned()), "an older client wipes nothing");
        assert_eq!(applied(Some(&[])), (1, "b".to_owned()));
        assert_eq!(applied(Some(&["*"])), (0, "b".to_owned()));
        assert_eq!(applied(Some(&["version", "version"])), (0, "a".to_owned()));
    }

    #[test]
    fn takes_cases_of_a_oneof() {
        let is_ok = |case: &Result<i32, i32>| case.is_ok();
        let is_err = |case: &Result<i32, i32>| case.is_err();
        let applied = |paths: &[&str], change: Option<Result<i32, i32>>| {
            let paths = mask(paths);
            let mut mask = Mask::new(Some(&paths));
            let mut current = Some(Ok(1));
            mask.apply_case("ok", &mut current, &change, is_ok);
            mask.apply_case("err", &mut current, &change, is_err);
            mask.finish().unwrap();
            current
        };
        assert_eq!(applied(&[], Some(Err(2))), Some(Err(2)));
        assert_eq!(applied(&[], None), Some(Ok(1)));
        assert_eq!(applied(&["ok"], None), None);
        assert_eq!(applied(&["err"], None), Some(Ok(1)));
        assert_eq!(applied(&["err"], Some(Err(2))), Some(Err(2)));
        assert_eq!(applied(&["*"], None), None);
        assert_eq!(applied(&["*"], Some(Err(2))), Some(Err(2)));
    }

    #[test]
    fn names_every_path_it_refuses() {
        let paths = mask(&["labels.a", "version", "uid", "*"]);
        let mut mask = Mask::new(Some(&paths));
        mask.apply("labels", &mut 0, 0);
        mask.apply("version", &mut 0, 0);
        let wrong = mask.finish().unwrap_err();
        let fields: Vec<_> = wrong.iter().map(|(field, _)| field).collect();
        assert_eq!(
            fields,
            ["update_mask.paths[0]", "update_mask.paths[2]", "update_mask.paths[3]"]
        );
    }

    /// What is not named stays, what is named becomes what was sent, and what is no field is refused by its path.
    #[test]
    fn changes_what_it_names_and_nothing_else() {
        let words = [
            "version",
            "labels",
            "remote",
            "self_hosted",
            "*",
            ".",
            "a",
            "",
            "version.x",
            "LABELS",
            " ",
            "_",
            "uid",
        ];
        let is_ok = |case: &Result<i32, i32>| case.is_ok();
        let is_err = |case: &Result<i32, i32>| case.is_err();
        bolero::check!(name = "field_mask")
            .with_iterations(service_kit::fuzz::ITERATIONS)
            .for_each(|bytes: &[u8]| {
                let (paths, values) = service_kit::fuzz::split(bytes);
                let paths: Vec<String> = paths
                    .chunks(2)
                    .map(|chunk| service_kit::fuzz::weave(chunk, &words))
                    .collect();
                let value = |at: usize| values.get(at).map_or(0, |value| i32::from(*value % 3));
                let change = (value(0), value(1), [None, Some(Ok(5)), Some(Err(6))][value(2) as usize]);
                let before = (7, 8, [None, Some(Ok(1)), Some(Err(2))][value(3) as usize]);
                let mut after = before;
                let asked = FieldMask { paths: paths.clone() };
                let mut mask = Mask::new(Some(&asked));
                mask.apply("version", &mut after.0, change.0);
                mask.apply("labels", &mut after.1, change.1);
                mask.apply_case("remote", &mut after.2, &change.2, is_ok);
                mask.apply_case("self_hosted", &mut after.2, &change.2, is_err);
                let known = ["version", "labels", "remote", "self_hosted"];
                let names = |name: &str| paths.iter().any(|path| path == name);
                let (all, set) = (paths == ["*"], paths.is_empty());
                let finished = mask.finish();
                let wrong = paths.iter().filter(|path| !known.contains(&path.as_str())).count();
                match finished {
                    Ok(()) => assert!(all || wrong == 0, "{paths:?}"),
                    Err(violations) => assert_eq!(violations.iter().count(), wrong, "{paths:?}"),
                }
                let taken = |name: &str, change: i32| all || names(name) || (set && change != 0);
                assert_eq!(
                    after.0,
                    if taken("version", change.0) { change.0 } else { before.0 },
                    "{paths:?}"
                );
                assert_eq!(
                    after.1,
                    if taken("labels", change.1) { change.1 } else { before.1 },
                    "{paths:?}"
                );
                if !all && !set && !names("remote") && !names("self_hosted") {
                    assert_eq!(after.2, before.2, "{paths:?}");
                }
                if all {
                    assert_eq!(after.2, change.2);
                }
                assert!(
                    after.2 == before.2 || after.2 == change.2 || after.2.is_none(),
                    "{paths:?}"
                );
            });
    }
}
