//! What the program says when it fails, and the exit code it fails with.

use std::fmt::Display;

use pinmill_lake::words;

/// An expected failure: something the user asked for did not hold.
pub(crate) const EXPECTED: u8 = 1;
/// Wrong usage, or a defect of ours.
pub(crate) const INTERNAL: u8 = 2;
/// `audit` found an imbalance.
pub(crate) const UNBALANCED: u8 = 4;
/// A configuration that cannot be used.
pub(crate) const CONFIG: u8 = 78;
/// Ctrl-c or SIGTERM came before the work was done, or came twice: what a shell says of SIGINT.
pub(crate) const INTERRUPTED: u8 = 130;

/// Why a command ended without doing what it was asked.
#[derive(Debug)]
pub(crate) struct Failure {
    /// What happened, where and why.
    pub(crate) message: String,
    /// What to do about it.
    pub(crate) hints: Vec<String>,
    /// The process's exit code.
    pub(crate) exit: u8,
    /// True: all has been said already (a report on stdout), print nothing more.
    pub(crate) silent: bool,
}

impl Failure {
    /// A failure that a correct program can meet: bad data, a full disk, a port in use.
    pub(crate) fn expected(message: impl Display) -> Self {
        Self { message: message.to_string(), hints: Vec::new(), exit: EXPECTED, silent: false }
    }

    /// Wrong usage or an internal error.
    pub(crate) fn internal(message: impl Display) -> Self {
        Self { exit: INTERNAL, ..Self::expected(message) }
    }

    /// A bad configuration.
    pub(crate) fn config(message: impl Display) -> Self {
        Self { exit: CONFIG, ..Self::expected(message) }
    }

    /// Ends with `exit` and says nothing: the command's output told everything.
    pub(crate) fn told(exit: u8) -> Self {
        Self { exit, silent: true, ..Self::expected("") }
    }

    /// An error with its causes, one after another.
    pub(crate) fn chain(error: &(dyn std::error::Error + 'static)) -> Self {
        let mut message = words(error);
        let mut source = error.source();
        while let Some(cause) = source {
            let text = words(cause);
            if !message.contains(&text) {
                message.push_str("\n  caused by: ");
                message.push_str(&text);
            }
            source = cause.source();
        }
        Self::expected(message)
    }

    /// Adds what to do about it.
    pub(crate) fn hint(mut self, hint: impl Display) -> Self {
        self.hints.push(hint.to_string());
        self
    }

    /// Says why, in an error's words.
    pub(crate) fn because(mut self, error: &impl Display) -> Self {
        self.message = format!("{}: {error}", self.message);
        self
    }

    /// Says where it happened.
    pub(crate) fn within(mut self, place: &str) -> Self {
        self.message = format!("{place}: {}", self.message);
        self
    }
}

impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Self {
        // A reader that went away (`pinmill answer | head`) has all that it wanted.
        if error.kind() == std::io::ErrorKind::BrokenPipe { Self::told(0) } else { Self::expected(error) }
    }
}

/// Gives any error of the rooms the CLI's shape.
pub(crate) trait OrFail<T> {
    /// Turns an error into a [`Failure`] with its chain of causes.
    fn or_fail(self) -> Result<T, Failure>;
}

impl<T, E: std::error::Error + 'static> OrFail<T> for Result<T, E> {
    fn or_fail(self) -> Result<T, Failure> {
        self.map_err(|error| Failure::chain(&error))
    }
}

impl From<pinmill_flow::Error> for Failure {
    fn from(error: pinmill_flow::Error) -> Self {
        let failure = Self::chain(&error);
        error.hint().into_iter().fold(failure, Self::hint)
    }
}

impl From<pinmill_lake::Error> for Failure {
    fn from(error: pinmill_lake::Error) -> Self {
        let failure = Self::chain(&error);
        error.hint().into_iter().fold(failure, Self::hint)
    }
}
