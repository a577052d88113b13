//! A child process that cannot outlive the test.

use std::io::{self, BufRead, BufReader};
use std::process::{Child, ChildStderr, ChildStdout, Command, ExitStatus, Stdio};

use rustix::process::{Pid, Signal, kill_process};

/// A child process that is killed (SIGKILL) and reaped when this value is dropped.
#[derive(Debug)]
pub struct KillOnDrop {
    child: Child,
    stdout: Option<BufReader<ChildStdout>>,
}

impl KillOnDrop {
    /// Starts `command` as it stands.
    ///
    /// # Errors
    /// When the program cannot be started; the message names it.
    pub fn spawn(command: &mut Command) -> io::Result<Self> {
        let child = command.spawn().map_err(|e| {
            io::Error::new(e.kind(), format!("{} cannot be started: {e}", command.get_program().display()))
        })?;
        Ok(Self { child, stdout: None })
    }

    /// Starts `command` with its standard output piped to [`read_line`](Self::read_line).
    ///
    /// # Errors
    /// As [`spawn`](Self::spawn).
    pub fn spawn_piped(command: &mut Command) -> io::Result<Self> {
        let mut started = Self::spawn(command.stdout(Stdio::piped()))?;
        started.stdout = started.child.stdout.take().map(BufReader::new);
        Ok(started)
    }

    /// The next line of the child's standard output without its line end; blocks until there is one. Empty when the
    /// output has ended or is not piped.
    ///
    /// # Errors
    /// When reading the pipe fails.
    pub fn read_line(&mut self) -> io::Result<String> {
        let mut line = String::new();
        if let Some(stdout) = &mut self.stdout {
            stdout.read_line(&mut line)?;
        }
        line.truncate(line.trim_end_matches(['\r', '\n']).len());
        Ok(line)
    }

    /// The child's standard error, where `command` had it piped and nobody has taken it yet.
    pub fn take_stderr(&mut self) -> Option<ChildStderr> {
        self.child.stderr.take()
    }

    /// The process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Sends a signal, for example `Signal::TERM`.
    ///
    /// # Errors
    /// When the process is gone already.
    pub fn signal(&self, signal: Signal) -> io::Result<()> {
        kill_process(Pid::from_child(&self.child), signal)?;
        Ok(())
    }

    /// Kills with SIGKILL and waits: what `kill -9` or a power cut does to a process.
    ///
    /// # Errors
    /// When the process cannot be waited for.
    pub fn kill(&mut self) -> io::Result<ExitStatus> {
        // A child that has ended by itself is no error here: the caller wants it gone.
        let _ = self.child.kill();
        self.child.wait()
    }

    /// Waits until the process ends by itself.
    ///
    /// # Errors
    /// When the process cannot be waited for.
    pub fn wait(&mut self) -> io::Result<ExitStatus> {
        self.child.wait()
    }

    /// The exit status if the process has ended.
    ///
    /// # Errors
    /// When the process cannot be asked.
    pub fn try_wait(&mut self) -> io::Result<Option<ExitStatus>> {
        self.child.try_wait()
    }
}

impl Drop for KillOnDrop {
    fn drop(&mut self) {
        let _ = self.kill();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dropped_child_is_gone() {
        let child = KillOnDrop::spawn(Command::new("sleep").arg("600")).unwrap();
        let pid = Pid::from_child(&child.child);
        drop(child);
        assert!(rustix::process::test_kill_process(pid).is_err());
    }

    #[test]
    fn lines_of_a_child_are_read_one_by_one() {
        let mut child = KillOnDrop::spawn_piped(Command::new("printf").arg("one\\ntwo\\n")).unwrap();
        assert_eq!(child.read_line().unwrap(), "one");
        assert_eq!(child.read_line().unwrap(), "two");
        assert_eq!(child.read_line().unwrap(), "");
        assert!(child.wait().unwrap().success());
    }

    #[test]
    fn stderr_is_given_once_and_only_where_it_is_piped() {
        let mut child = KillOnDrop::spawn(Command::new("true").stderr(Stdio::piped())).unwrap();
        assert!(child.take_stderr().is_some() && child.take_stderr().is_none());
        assert!(KillOnDrop::spawn(&mut Command::new("true")).unwrap().take_stderr().is_none());
    }

    #[test]
    fn a_program_that_does_not_exist_is_named() {
        let error = KillOnDrop::spawn(&mut Command::new("/nowhere/pinmill")).unwrap_err();
        assert!(error.to_string().contains("/nowhere/pinmill"), "{error}");
    }
}
