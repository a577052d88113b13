//! Dies at a named point when a test asks for it: `PINMILL_CRASH_AT=name[:nth]`.
//!
//! `PINMILL_PANIC_AT=name[:times]` lets the task that comes there panic instead, so many times (once).
//!
//! Only a binary built with the Cargo feature `failpoints` has crash points; any other refuses the variables, so
//! that a test of crashes can never pass because nothing crashed.

/// Arms the crash points that the variables name.
#[cfg(feature = "failpoints")]
pub(crate) fn arm() {
    if let Ok(asked) = std::env::var("PINMILL_CRASH_AT") {
        let (name, nth) = numbered(&asked);
        armed("PINMILL_CRASH_AT", &asked, die_at(name, nth));
    }
    if let Ok(asked) = std::env::var("PINMILL_PANIC_AT") {
        let (name, times) = numbered(&asked);
        armed("PINMILL_PANIC_AT", &asked, fail::cfg(name, &format!("{times}*panic(asked for)->off")));
    }
}

/// A name and the number behind it; 1 where there is none.
#[cfg(feature = "failpoints")]
fn numbered(asked: &str) -> (&str, u64) {
    match asked.rsplit_once(':') {
        Some((name, number)) if !name.ends_with(':') => {
            number.parse().map_or((asked, 1), |number| (name, number))
        }
        _ => (asked, 1),
    }
}

#[cfg(feature = "failpoints")]
fn armed(variable: &str, asked: &str, armed: Result<(), String>) {
    if let Err(error) = armed {
        tracing::error!(%error, "{variable}={asked} could not be armed");
        crate::stderr::flush();
        std::process::abort();
    }
}

#[cfg(feature = "failpoints")]
fn die_at(name: &str, nth: u64) -> Result<(), String> {
    use std::sync::atomic::{AtomicU64, Ordering};

    let passed = AtomicU64::new(0);
    fail::cfg_callback(name, move || {
        if passed.fetch_add(1, Ordering::Relaxed) + 1 == nth {
            crate::stderr::flush();
            std::process::abort();
        }
    })
}

/// Refuses the variables: this binary has no crash points.
#[cfg(not(feature = "failpoints"))]
pub(crate) fn arm() {
    for variable in ["PINMILL_CRASH_AT", "PINMILL_PANIC_AT", "PINMILL_STORE_FAULTS"] {
        if std::env::var_os(variable).is_some() {
            tracing::error!("{variable} is set, but this binary was built without the feature `failpoints`");
            crate::stderr::flush();
            std::process::abort();
        }
    }
}
