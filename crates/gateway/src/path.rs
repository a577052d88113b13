//! Paths as clients send them, and as the routes expect them.

use std::borrow::Cow;

use http::Method;

/// First segments of the routes. What stands before one of them is a stage.
const ROOTS: [&str; 6] = ["topics", "streams", "brokers", "healthz", "readyz", "metrics"];

/// Leaves out a stage before a route (`/dev/topics` is `/topics`), slashes at the end, and all but one of several in a row,
/// as API Gateway does.
///
/// A path that starts with a route's own name has no stage: `/topics/topics` is the topic called topics. The bare root
/// is no route behind a stage, so that a mistyped path is not answered as if it had been understood.
pub(crate) fn canonical(path: &str) -> Cow<'_, str> {
    if path.contains("//") {
        let mut single = String::with_capacity(path.len());
        for character in path.chars() {
            if character != '/' || !single.ends_with('/') {
                single.push(character);
            }
        }
        return Cow::Owned(without_stage(&single).to_owned());
    }
    Cow::Borrowed(without_stage(path))
}

/// The route in a path whose slashes stand alone.
fn without_stage(path: &str) -> &str {
    let trimmed = path.strip_suffix('/').unwrap_or(path);
    let Some((stage, rest)) = trimmed.strip_prefix('/').and_then(|path| path.split_once('/')) else {
        return if trimmed.is_empty() { "/" } else { trimmed };
    };
    let root = rest.split('/').next().unwrap_or_default();
    if !ROOTS.contains(&stage) && ROOTS.contains(&root) { &trimmed[1 + stage.len()..] } else { trimmed }
}

/// Whether a request brings records, by its method and its path without a stage.
pub(crate) fn takes_records(method: &Method, path: &str) -> bool {
    let mut segments = path.split('/').skip(1);
    let segments = [(); 5].map(|()| segments.next());
    match segments {
        [Some("topics"), Some(_), None, ..]
        | [Some("topics"), Some(_), Some("partitions"), Some(_), None] => method == Method::POST,
        [Some("streams"), Some(_), Some("record" | "records"), None, ..] => method == Method::PUT,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_stage_and_slashes_too_many_are_left_out() {
        for (sent, expected) in [
            ("/", "/"),
            ("", "/"),
            ("//", "/"),
            ("///", "/"),
            ("/topics", "/topics"),
            ("/topics/", "/topics"),
            ("//topics/a//", "/topics/a"),
            ("/dev/topics", "/topics"),
            ("/dev//topics/x", "/topics/x"),
            ("//dev///topics//x//partitions///0/", "/topics/x/partitions/0"),
            ("/dev//streams//s//record", "/streams/s/record"),
            ("/prod/topics/a.pin", "/topics/a.pin"),
            ("/test/topics/a/partitions/0/offsets/", "/topics/a/partitions/0/offsets"),
            ("/dev/brokers", "/brokers"),
            ("/dev/streams/streaming-1-pin/record", "/streams/streaming-1-pin/record"),
            ("/dev//healthz", "/healthz"),
            ("*", "*"),
        ] {
            assert_eq!(canonical(sent), expected, "{sent}");
        }
    }

    #[test]
    fn a_routes_own_name_is_no_stage_and_there_is_at_most_one() {
        for path in [
            "/topics/topics",
            "/topics/topics/partitions",
            "/topics/brokers",
            "/brokers/topics",
            "/a/b/topics",
            "/dev",
            "/dev/nothing",
            "/dev/dev/topics/a",
        ] {
            assert_eq!(canonical(path), path);
        }
    }
}
