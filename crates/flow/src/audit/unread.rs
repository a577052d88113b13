//! What lies in the archive and was not read, as problems of an audit.
//!
//! It may hold records that nobody has counted, so an archive with such objects is not balanced. Keys, headers and hidden
//! files hold none: they are in the report and are no problem.

use pinmill_lake::archive::Unread;

use super::Problem;

/// How many are named one by one.
const NAMED: usize = 20;

/// The problems that they are: the first of them by name, and how many more there are.
pub(super) fn problems(unread: &[Unread]) -> Vec<Problem> {
    let all: Vec<&Unread> = unread.iter().filter(|unread| unread.may_hold_records).collect();
    let topic = |unread: &Unread| unread.topic.clone().unwrap_or_else(|| "archive".to_owned());
    let problem =
        |unread: &&Unread| Problem::of(topic(unread), format!("{} is not read: {}", unread.path, unread.why));
    let mut problems: Vec<Problem> = all.iter().take(NAMED).map(problem).collect();
    if let more @ 1.. = all.len().saturating_sub(NAMED) {
        problems.push(Problem::of("archive", format!("{more} more objects are not read")));
    }
    problems
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_may_hold_records_is_named_and_many_are_counted() {
        let unread = |n: usize| Unread {
            topic: Some("t".to_owned()),
            path: format!("topics/t/{n}.avro"),
            why: "Avro is not read".to_owned(),
            may_hold_records: n.is_multiple_of(2),
        };
        let few: Vec<Unread> = (0..4).map(unread).collect();
        assert_eq!(problems(&few).len(), 2);
        assert!(problems(&few)[1].to_string().contains("topics/t/2.avro"));
        let many: Vec<Unread> = (0..100).map(unread).collect();
        let problems = problems(&many);
        assert_eq!(problems.len(), NAMED + 1);
        assert!(problems[NAMED].to_string().contains("30 more"));
    }
}
