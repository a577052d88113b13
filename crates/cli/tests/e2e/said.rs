//! What a server says on stderr. A warning or an error that its test does not expect fails the test: with rows all right,
//! it would be the only trace of a fault.

use std::io::{BufRead, BufReader, Read};
use std::thread::JoinHandle;

/// Words of lines that any server may say, and why it may.
const ALWAYS_EXPECTED: &[(&str, &str)] = &[
    ("torn tail cut: it was never acknowledged", "the process before was killed while it wrote"),
    ("unacknowledged bytes at", "the same, said once more by the program"),
    (
        "a commit failed; looking whether it landed",
        "of two loops that commit to one table at the same moment one tries again",
    ),
];

/// The reader of a server's stderr, which shows it as the test's own.
#[derive(Debug)]
pub(crate) struct Said {
    reader: JoinHandle<Vec<String>>,
    expected: Vec<String>,
}

impl Said {
    /// Reads until the server has ended. Lines with one of the `expected` words are no news.
    pub(crate) fn on(stderr: impl Read + Send + 'static, expected: &[String]) -> Self {
        Self { reader: std::thread::spawn(move || alarms(stderr)), expected: expected.to_vec() }
    }

    /// Waits for the end of stderr, and gives the warnings and errors that nobody expects.
    pub(crate) fn unexpected(self) -> Vec<String> {
        let expected = self.expected;
        let always = ALWAYS_EXPECTED.iter().map(|(words, _)| *words);
        let words: Vec<&str> = always.chain(expected.iter().map(String::as_str)).collect();
        let mut lines = self.reader.join().unwrap();
        lines.retain(|line| !words.iter().any(|words| line.contains(words)));
        lines
    }
}

/// All warnings and errors. Everything is passed on to the test's stderr.
#[allow(clippy::print_stderr, reason = "who looks into a failed test wants to see what the server said")]
fn alarms(stderr: impl Read) -> Vec<String> {
    let mut alarms = Vec::new();
    for line in BufReader::new(stderr).split(b'\n') {
        // A pipe that fails has ended.
        let Ok(line) = line else { break };
        let line = String::from_utf8_lossy(&line).into_owned();
        eprintln!("{line}");
        if is_alarm(&line) {
            alarms.push(line);
        }
    }
    alarms
}

/// `<time> WARN …`, `<time> ERROR …`, or the `error: …` with which a command ends.
fn is_alarm(line: &str) -> bool {
    let mut words = line.split_whitespace();
    words.next() == Some("error:") || matches!(words.next(), Some("WARN" | "ERROR"))
}

#[cfg(test)]
mod tests {
    use std::panic::{AssertUnwindSafe, catch_unwind};
    use std::process::{Command, Stdio};

    use pinmill_testkit::KillOnDrop;

    use super::*;
    use crate::world::Server;

    const LINES: &str = "2026-11-30T19:22:54Z  WARN odd topic=\"t\"\n2026-11-30T19:22:55Z ERROR worse\n\
                         2026-11-30T19:22:56Z  INFO no WARN at all\nerror: it ended\n  hint: an ERROR\n";

    #[test]
    fn warnings_and_errors_that_a_test_does_not_expect_are_told() {
        let unexpected = |expected: &[&str]| {
            let expected: Vec<String> = expected.iter().map(|words| (*words).to_owned()).collect();
            Said::on(LINES.as_bytes(), &expected).unexpected().len()
        };
        assert_eq!(unexpected(&[]), 3);
        assert_eq!(unexpected(&["odd topic", "never said"]), 2);
        assert_eq!(unexpected(&["odd", "worse", "it ended"]), 0);
        let cut = "x WARN /d/0.seg: cut 3 unacknowledged bytes at 7: torn\n";
        assert_eq!(Said::on(cut.as_bytes(), &[]).unexpected(), Vec::<String>::new());
    }

    /// The end of a process that prints these lines on stderr, as a server's.
    fn end_of_a_server(expected: &[&str]) -> std::thread::Result<()> {
        let mut shell = Command::new("sh");
        shell.args(["-c", "printf '%s' \"$0\" >&2; echo url; exec sleep 600", LINES]).stderr(Stdio::piped());
        let mut child = KillOnDrop::spawn_piped(&mut shell).unwrap();
        let url = child.read_line().unwrap();
        let expected: Vec<String> = expected.iter().map(|words| (*words).to_owned()).collect();
        let server = Server::heard(child, url, &expected);
        catch_unwind(AssertUnwindSafe(|| server.kill()))
    }

    #[test]
    fn a_server_that_says_something_unexpected_fails_its_test() {
        assert!(end_of_a_server(&["odd", "worse", "it ended"]).is_ok());
        let panic = end_of_a_server(&["odd"]).unwrap_err();
        let words = panic.downcast_ref::<String>().unwrap();
        assert!(words.contains("worse") && words.contains("it ended") && !words.contains("odd"), "{words}");
    }
}
