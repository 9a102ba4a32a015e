//! Lists of scopes (RFC 6749, section 3.3).

/// The longest list.
pub(crate) const MAX: usize = 100;
/// The longest scope (bytes).
const MAX_LENGTH: usize = 200;

/// The scopes in a text, without those that no authorization server could have: an upstream wrote it.
pub(crate) fn parse(text: &str) -> Vec<String> {
    let scopes = text.split(' ').filter(|scope| is_scope(scope));
    union(scopes.map(str::to_owned), [])
}

/// Each once, in order, at most [`MAX`].
pub(crate) fn union(first: impl IntoIterator<Item = String>, second: impl IntoIterator<Item = String>) -> Vec<String> {
    let mut scopes: Vec<String> = Vec::new();
    for scope in first.into_iter().chain(second) {
        if scopes.len() < MAX && !scopes.contains(&scope) {
            scopes.push(scope);
        }
    }
    scopes
}

fn is_scope(text: &str) -> bool {
    let permitted = |byte: u8| matches!(byte, 0x21 | 0x23..=0x5b | 0x5d..=0x7e);
    (1..=MAX_LENGTH).contains(&text.len()) && text.bytes().all(permitted)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn takes_what_can_be_a_scope() {
        assert_eq!(parse("read  write read"), ["read", "write"]);
        assert_eq!(parse("a\"b c\\d é\n https://api/.default"), ["https://api/.default"]);
        assert_eq!(parse(&"x".repeat(MAX_LENGTH + 1)), [""; 0]);
        let many: Vec<String> = (0..500).map(|number| number.to_string()).collect();
        assert_eq!(parse(&many.join(" ")).len(), MAX);
    }
}
