//! `*` patterns of topic and stream names.

/// True when `name` is called as `pattern` says; `*` stands for any run of characters, the empty one included.
pub(crate) fn matches(pattern: &str, name: &str) -> bool {
    let mut parts = pattern.split('*');
    let Some(rest) = parts.next().and_then(|first| name.strip_prefix(first)) else { return false };
    let parts: Vec<&str> = parts.collect();
    let Some((last, middle)) = parts.split_last() else { return rest.is_empty() };
    let mut rest = rest;
    for part in middle {
        // The leftmost match leaves most for the parts after it.
        match rest.find(part) {
            Some(at) => rest = rest.get(at + part.len()..).unwrap_or_default(),
            None => return false,
        }
    }
    rest.ends_with(last)
}

#[cfg(test)]
mod tests {
    use super::matches;

    #[test]
    fn a_star_stands_for_any_run_of_characters() {
        for (pattern, name, expected) in [
            ("pin", "pin", true),
            ("pin", "pins", false),
            ("pin", "a.pin", false),
            ("*.pin", "124df56aef51.pin", true),
            ("*.pin", ".pin", true),
            ("*.pin", "pin", false),
            ("*.pin", "a.pin.b", false),
            ("*-pin", "streaming-124df56aef51-pin", true),
            ("a*b*c", "a-b-b-c", true),
            ("a*b*c", "acb", false),
            ("*", "", true),
            ("aa*aa", "aaa", false),
        ] {
            assert_eq!(matches(pattern, name), expected, "{pattern} against {name}");
        }
    }
}
