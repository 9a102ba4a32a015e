//! URI templates (RFC 6570), as far as telling whose a URI is requires.

/// Whether the URI may be made from this template: its literal parts are there, in order, and what is between them could be the values
/// of its expressions. Takes time linear in both for each expression.
pub(super) fn fits(template: &str, uri: &str) -> bool {
    let Some(parts) = parts(template) else {
        return false;
    };
    let [(first, _), rest @ ..] = &parts[..] else {
        return false;
    };
    let Some(mut left) = uri.strip_prefix(first) else {
        return false;
    };
    for (index, (literal, spans)) in rest.iter().enumerate() {
        let last = index + 1 == rest.len();
        let at = match (last, literal.is_empty()) {
            // What remains is the value of the last expression.
            (true, true) => Some(left.len()),
            (true, false) => left
                .len()
                .checked_sub(literal.len())
                .filter(|_| left.ends_with(literal)),
            (false, _) => left.find(literal),
        };
        let Some(at) = at else {
            return false;
        };
        if !spans && left[..at].contains('/') {
            return false;
        }
        left = &left[at + literal.len()..];
    }
    left.is_empty()
}

/// Whether it says whose URIs it makes: it begins with a scheme.
pub(super) fn is_specific(template: &str) -> bool {
    let literal = template.split('{').next().unwrap_or_default();
    let scheme = literal.split_once(':').map(|(scheme, _)| scheme.as_bytes());
    scheme.is_some_and(|scheme| {
        scheme.first().is_some_and(u8::is_ascii_alphabetic)
            && scheme
                .iter()
                .all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(byte))
    })
}

/// The literal parts, each with whether the expression before it may have slashes in its values. `None`: it is not a template.
fn parts(template: &str) -> Option<Vec<(&str, bool)>> {
    let mut parts = Vec::new();
    let (mut rest, mut spans) = (template, false);
    while let Some((literal, after)) = rest.split_once('{') {
        parts.push((literal, spans));
        let (expression, after) = after.split_once('}')?;
        spans = expression.starts_with(['+', '#', '/', '?', '&', ';', '.']) || expression.ends_with('*');
        rest = after;
    }
    parts.push((rest, spans));
    Some(parts)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tells_whose_a_uri_is() {
        for (template, uri, expected) in [
            ("file:///{path}", "file:///a", true),
            ("file:///{path}", "file:///a/b", false),
            ("file:///{+path}", "file:///a/b", true),
            ("test://t/{id}/data", "test://t/1/data", true),
            ("test://t/{id}/data", "test://t//data", true),
            ("test://t/{id}/data", "test://t/1/2/data", false),
            ("test://t/{id}/data", "test://t/data", false),
            ("a{x}b{y}c", "a1b2c", true),
            ("a{x}b{y}c", "a1c", false),
            ("a{?q}", "a?q=/1", true),
            ("plain", "plain", true),
            ("plain", "plainer", false),
            ("a{x", "a1", false),
            ("ü{x}", "üß", true),
        ] {
            assert_eq!(fits(template, uri), expected, "{template} {uri}");
        }
    }

    #[test]
    fn tells_templates_of_everything_from_those_of_some() {
        for (template, expected) in [
            ("file:///{path}", true),
            ("x-1.a+b:{y}", true),
            ("{+x}", false),
            ("{scheme}://{x}", false),
            ("f{x}:a", false),
            ("{x}:a", false),
            (":{x}", false),
            ("a b:{x}", false),
            ("1:{x}", false),
        ] {
            assert_eq!(is_specific(template), expected, "{template}");
        }
    }
}
