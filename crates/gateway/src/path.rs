//! Paths as clients send them, and as the routes expect them.

/// First segments of the routes. What stands before one of them is a stage.
const ROOTS: [&str; 6] = ["topics", "streams", "brokers", "healthz", "readyz", "metrics"];

/// Leaves out a stage before a route (`/dev/topics` is `/topics`), slashes at the end and repeated ones at the start.
///
/// A path that starts with a route's own name has no stage: `/topics/topics` is the topic called topics. The bare root
/// is no route behind a stage, so that a mistyped path is not answered as if it had been understood.
pub(crate) fn canonical(path: &str) -> &str {
    let trimmed = path.trim_end_matches('/');
    let extra = trimmed.bytes().take_while(|byte| *byte == b'/').count().saturating_sub(1);
    let trimmed = &trimmed[extra..];
    let Some((stage, rest)) = trimmed.strip_prefix('/').and_then(|path| path.split_once('/')) else {
        return if trimmed.is_empty() { "/" } else { trimmed };
    };
    let root = rest.split('/').next().unwrap_or_default();
    if !ROOTS.contains(&stage) && ROOTS.contains(&root) { &trimmed[1 + stage.len()..] } else { trimmed }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_stage_and_outer_slashes_are_left_out() {
        for (sent, expected) in [
            ("/", "/"),
            ("", "/"),
            ("//", "/"),
            ("/topics", "/topics"),
            ("/topics/", "/topics"),
            ("//topics/a//", "/topics/a"),
            ("/dev/topics", "/topics"),
            ("/prod/topics/a.pin", "/topics/a.pin"),
            ("/test/topics/a/partitions/0/offsets/", "/topics/a/partitions/0/offsets"),
            ("/dev/brokers", "/brokers"),
            ("/dev/streams/streaming-1-pin/record", "/streams/streaming-1-pin/record"),
            ("/dev/healthz", "/healthz"),
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
