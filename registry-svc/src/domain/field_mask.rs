//! Update masks (AIP-134, AIP-161): whole top-level fields only.

use prost_types::FieldMask;
use service_kit::status::Violations;

/// What an update changes.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Paths {
    /// All that can be changed: no mask, an empty one, or `*`.
    All,
    /// These, without repetition.
    Some(Vec<&'static str>),
}

impl Paths {
    /// Whether this field is to be changed.
    pub(crate) fn holds(&self, field: &str) -> bool {
        match self {
            Self::All => true,
            Self::Some(paths) => paths.contains(&field),
        }
    }
}

/// Reads a mask over `fields`, the names that can be changed.
pub(crate) fn parse(mask: Option<&FieldMask>, fields: &[&'static str]) -> Result<Paths, Violations> {
    let paths = mask.map(|mask| mask.paths.as_slice()).unwrap_or_default();
    if paths.is_empty() || paths == ["*"] {
        return Ok(Paths::All);
    }
    let mut violations = Violations::new();
    let mut known = Vec::new();
    for (index, path) in paths.iter().enumerate() {
        if let Some(&field) = fields.iter().find(|field| *field == path) {
            if !known.contains(&field) {
                known.push(field);
            }
            continue;
        }
        let top = path.split('.').next().unwrap_or_default();
        let wrong = if path == "*" {
            "* must stand alone".to_owned()
        } else if fields.contains(&top) {
            format!("{path:?} lies within a field: name the whole field, {top:?}, and send all of it")
        } else {
            format!("{path:?} cannot be changed; what can: {}", fields.join(", "))
        };
        violations.add(format!("update_mask.paths[{index}]"), wrong);
    }
    violations.into_result(Paths::Some(known))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mask(paths: &[&str]) -> Option<FieldMask> {
        Some(FieldMask {
            paths: paths.iter().map(|&path| path.to_owned()).collect(),
        })
    }

    #[test]
    fn takes_whole_fields() {
        let fields = ["labels", "version"];
        assert_eq!(parse(None, &fields).unwrap(), Paths::All);
        assert_eq!(parse(mask(&[]).as_ref(), &fields).unwrap(), Paths::All);
        assert_eq!(parse(mask(&["*"]).as_ref(), &fields).unwrap(), Paths::All);
        assert_eq!(
            parse(mask(&["version", "version"]).as_ref(), &fields).unwrap(),
            Paths::Some(vec!["version"])
        );
    }

    #[test]
    fn names_every_path_it_refuses() {
        let wrong = parse(
            mask(&["labels.a", "version", "uid", "*"]).as_ref(),
            &["labels", "version"],
        )
        .unwrap_err();
        let fields: Vec<_> = wrong.iter().map(|(field, _)| field).collect();
        assert_eq!(
            fields,
            ["update_mask.paths[0]", "update_mask.paths[2]", "update_mask.paths[3]"]
        );
    }
}
