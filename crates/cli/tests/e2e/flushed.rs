//! That bytes and names really reach the disk before anybody relies on them: the system calls of `serve`, in their order.
//!
//! No other test can see it: what was written and not flushed is there all the same, until the power fails.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use pinmill_testkit::KillOnDrop;
use pinmill_testkit::services::strace;

use crate::data::user;
use crate::world::{Client, Server, World, await_some, block_on};

const CALLS: &str = "openat,mkdir,mkdirat,write,writev,pwrite64,pwritev,pwritev2,sendto,sendmsg,fsync,fdatasync,link,linkat,\
                     rename,renameat,renameat2";
const TOPIC: &str = "traced.user";
const STREAM: &str = "streaming-traced-user";
const STAGING: &str = "_pinmill/staging";

/// What a traced call did.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Did {
    /// Wrote to a file.
    Write(PathBuf),
    /// Had a file or a folder flushed.
    Flush(PathBuf),
    /// Gave a file or a folder a name; where it was before.
    Name(PathBuf, PathBuf),
    /// Made a folder.
    Folder(PathBuf),
    /// Sent something over a socket.
    Send,
}

/// A call, with the lines of the trace at which it began and ended: others may lie in between.
#[derive(Debug, Clone)]
struct Call {
    begin: usize,
    end: usize,
    did: Did,
    text: String,
}

/// All calls of a trace that worked, in the order in which they ended.
fn calls(trace: &str) -> Vec<Call> {
    let mut begun: BTreeMap<&str, (usize, &str)> = BTreeMap::new();
    let mut calls = Vec::new();
    for (number, line) in trace.lines().enumerate() {
        let Some((thread, rest)) = line.split_once(char::is_whitespace) else { continue };
        let rest = rest.trim_start();
        if let Some(first) = rest.strip_suffix("<unfinished ...>") {
            begun.insert(thread, (number, first));
            continue;
        }
        let (begin, text) = match rest.split_once(" resumed>") {
            Some((_, end)) if rest.starts_with("<... ") => match begun.remove(thread) {
                Some((begin, first)) => (begin, format!("{first}{end}")),
                None => continue,
            },
            _ => (number, rest.to_owned()),
        };
        if let Some(did) = did(&text) {
            calls.push(Call { begin, end: number, did, text });
        }
    }
    calls
}

/// What a whole call did; `None` where it failed, or is none that counts here.
fn did(text: &str) -> Option<Did> {
    let (name, arguments) = text.split_once('(')?;
    let (arguments, result) = arguments.rsplit_once(" = ")?;
    if result.starts_with('-') {
        return None;
    }
    // The file behind a descriptor stands in angle brackets.
    let file = || {
        let (_, rest) = arguments.split_once('<')?;
        Some(PathBuf::from(rest.split_once('>')?.0))
    };
    let quoted: Vec<PathBuf> = arguments.split('"').skip(1).step_by(2).map(PathBuf::from).collect();
    match name {
        "fsync" | "fdatasync" => Some(Did::Flush(file()?)),
        "write" | "writev" | "pwrite64" | "pwritev" | "pwritev2" | "sendto" | "sendmsg" => {
            let file = file()?;
            Some(if file.is_absolute() { Did::Write(file) } else { Did::Send })
        }
        "mkdir" | "mkdirat" => Some(Did::Folder(quoted.first()?.clone())),
        "link" | "linkat" | "rename" | "renameat" | "renameat2" => {
            let [from, to] = quoted.as_slice() else { return None };
            Some(Did::Name(from.clone(), to.clone()))
        }
        _ => None,
    }
}

/// The trace, and questions to it.
struct Trace(Vec<Call>);

impl Trace {
    /// The first call after line `after` that fits.
    fn first(&self, after: usize, what: &str, fits: impl Fn(&Call) -> bool) -> &Call {
        let found = self.0.iter().find(|call| call.begin > after && fits(call));
        found.unwrap_or_else(|| panic!("after line {after} of the trace there is no {what}"))
    }

    /// Whether a path was flushed between two lines: begun after the first, done before the second.
    fn flushed(&self, path: &Path, after: usize, before: usize) -> bool {
        let flush = Did::Flush(path.to_owned());
        self.0.iter().any(|call| call.did == flush && call.begin > after && call.end < before)
    }

    /// A record with this text was on the disk before the answer about it began.
    fn assert_flushed_before_200(&self, log: &Path, text: &str) {
        let is_record = |call: &Call| match &call.did {
            Did::Write(path) => path.starts_with(log) && call.text.contains(text),
            _ => false,
        };
        let written = self.first(0, text, is_record);
        let Did::Write(segment) = &written.did else { unreachable!("{written:?}") };
        let answer = |call: &Call| call.did == Did::Send && call.text.contains("HTTP/1.1 200");
        let answer = self.first(written.end, "answer", answer);
        assert!(
            self.flushed(segment, written.end, answer.begin),
            "{text}: 200 was sent before {} was flushed",
            segment.display()
        );
    }

    /// Every name below `place` was flushed by its folder before line `before`, and where it stands for a file that was
    /// written here, the file was flushed before it got the name. Gives how many names there were.
    fn assert_names_are_kept(&self, place: &Path, before: usize) -> usize {
        let mut names = 0;
        for call in self.0.iter().filter(|call| call.end < before) {
            let name = match &call.did {
                // What is staged has no name yet that anybody looks for.
                Did::Folder(path) if path.ancestors().skip(1).any(|above| above.ends_with(STAGING)) => {
                    continue;
                }
                Did::Name(from, to) if to.starts_with(place) => {
                    self.assert_whole(from, call);
                    to
                }
                Did::Folder(path) if path.starts_with(place) => path,
                _ => continue,
            };
            names += 1;
            let folder = name.parent().unwrap();
            assert!(self.flushed(folder, call.end, before), "the name {} was not flushed", name.display());
        }
        names
    }

    /// What was written to a file was flushed before it was named.
    fn assert_whole(&self, file: &Path, named: &Call) {
        let write = Did::Write(file.to_owned());
        let last = self.0.iter().rfind(|call| call.did == write && call.end < named.begin);
        if let Some(last) = last {
            let flushed = self.flushed(file, last.end, named.begin);
            assert!(flushed, "{} was named before it was flushed: {}", file.display(), named.text);
        }
    }
}

/// `serve` under strace, which is its grandchild: the process is the server's.
fn serve_traced(world: &World, strace: &Path, trace: &Path) -> Server {
    let serve = world.command(&[
        "serve",
        "--listen",
        "127.0.0.1:0",
        "-q",
        "--batch-every",
        "100ms",
        "--set",
        "archive.max-age=50ms",
    ]);
    let mut command = Command::new(strace);
    command
        .args(["-D", "-f", "-q", "-y", "-s", "4096", "-e", "signal=none", "-e"])
        .arg(format!("trace={CALLS}"))
        .arg("-o")
        .arg(trace)
        .arg(serve.get_program())
        .args(serve.get_args())
        .current_dir(serve.get_current_dir().unwrap());
    for (name, _) in serve.get_envs() {
        command.env_remove(name);
    }
    let mut child = KillOnDrop::spawn_piped(&mut command).unwrap();
    let url = child.read_line().unwrap();
    Server::heard(child, url, &[])
}

#[test]
fn records_objects_and_names_are_flushed_before_anybody_relies_on_them() {
    let Some(strace) = strace() else { return };
    let world = World::new();
    let file = world.path("trace");
    let server = serve_traced(&world, &strace, &file);
    let client = Client::new(&server.url);
    block_on(async {
        for id in [7001, 7002] {
            client.post(TOPIC, &[user(id)]).await.unwrap();
        }
        client.create_stream(STREAM, 1).await.unwrap();
        client.put(STREAM, "k", &user(7003)).await.unwrap();
    });
    world.await_rows("user", 1);
    world.await_batch_rows("user", 2);
    server.stop();
    let trace = await_some("the end of the trace", || {
        let text = std::fs::read_to_string(&file).unwrap();
        text.trim_end().ends_with("+++ exited with 0 +++").then_some(text)
    });
    let trace = Trace(calls(&trace));

    // invariant I1, in both logs
    let data = std::fs::canonicalize(world.data()).unwrap();
    let (log, streams, lake) = (data.join("log"), data.join("streams"), data.join("lake"));
    for (log, id) in [(&log, 7001), (&log, 7002), (&streams, 7003)] {
        trace.assert_flushed_before_200(log, &format!("ind\\\":{id}"));
    }
    // invariant L6: the topic's name before the first answer about it
    let made = trace.first(
        0,
        "making of the topic",
        |call| matches!(&call.did, Did::Name(_, to) if *to == log.join("topics").join(TOPIC)),
    );
    let answer = trace.first(made.end, "answer", |call| call.text.contains("HTTP/1.1 200"));
    assert!(trace.flushed(&log.join("topics"), made.end, answer.begin), "the topic's name was not flushed");
    // invariant I2: object, manifest and their names before the archive's position
    let is_position = |call: &Call| match &call.did {
        Did::Write(path) => path.starts_with(log.join("positions")) && call.text.contains("archive"),
        _ => false,
    };
    let object = trace.first(
        0,
        "archive object",
        |call| matches!(&call.did, Did::Name(_, to) if to.starts_with(lake.join("topics").join(TOPIC))),
    );
    let position = trace.first(object.end, "position of the archive", is_position);
    assert!(trace.assert_names_are_kept(&lake.join("topics"), position.begin) >= 1);
    // invariant I4: data files, commits, manifests, answers
    assert!(trace.assert_names_are_kept(&lake, usize::MAX) >= 8);
}

/// What strace writes, of one record and one object.
const SAMPLE: &str = r#"
10 pwritev(9</d/log/topics/t/0/0.seg>, [{iov_base="{\"ind\":7}", iov_len=9}], 1, 64) = 9
11 fdatasync(9</d/log/topics/t/0/0.seg> <unfinished ...>
10 write(3</d/other>, "x", 1) = 1
11 <... fdatasync resumed>) = 0
12 writev(5<socket:[1]>, [{iov_base="HTTP/1.1 200 OK\r\n", iov_len=17}], 1) = 17
10 write(7</d/lake/a/x#1>, "{}", 2) = 2
10 fsync(7</d/lake/a/x#1>) = 0
10 linkat(AT_FDCWD, "/d/lake/a/x#1", AT_FDCWD, "/d/lake/a/x", 0) = 0
10 fsync(8</d/lake/a>) = 0
"#;

fn assert_sample(trace: &str) {
    let trace = Trace(calls(trace));
    trace.assert_flushed_before_200(Path::new("/d/log"), "{\\\"ind\\\":7}");
    assert_eq!(trace.assert_names_are_kept(Path::new("/d/lake"), usize::MAX), 1);
}

#[test]
fn a_trace_that_lacks_a_flush_or_has_it_too_late_is_told_apart() {
    assert_sample(SAMPLE);
    let lines: Vec<&str> = SAMPLE.trim().lines().collect();
    let flushes: Vec<usize> = (0..lines.len()).filter(|n| lines[*n].contains("sync")).collect();
    assert_eq!(flushes.len(), 4);
    for flush in flushes {
        let missing: Vec<&str> =
            lines.iter().enumerate().filter(|(n, _)| *n != flush).map(|(_, l)| *l).collect();
        let failed = lines.iter().map(|line| {
            if *line == lines[flush] { line.replace("= 0", "= -1 EIO") } else { (*line).to_owned() }
        });
        for trace in [missing.join("\n"), failed.collect::<Vec<_>>().join("\n")] {
            let is_whole = trace.contains("<unfinished") && trace == lines.join("\n");
            let told = std::panic::catch_unwind(|| assert_sample(&trace)).is_err();
            assert!(told || is_whole, "{trace}");
        }
    }
    // The answer before the flush.
    let mut late = lines.clone();
    late.swap(3, 4);
    assert!(std::panic::catch_unwind(|| assert_sample(&late.join("\n"))).is_err());
}
