//! Dies at a named point when a test asks for it: `PINMILL_CRASH_AT=name[:nth]`.
//!
//! Only a binary built with the Cargo feature `failpoints` has crash points; any other refuses the variable, so
//! that a test of crashes can never pass because nothing crashed.

/// Arms the crash point that `PINMILL_CRASH_AT` names.
#[cfg(feature = "failpoints")]
pub(crate) fn arm() {
    use std::sync::atomic::{AtomicU64, Ordering};

    let Ok(asked) = std::env::var("PINMILL_CRASH_AT") else { return };
    let (name, nth) = match asked.rsplit_once(':') {
        Some((name, nth)) if !name.ends_with(':') => match nth.parse::<u64>() {
            Ok(nth) => (name.to_owned(), nth),
            Err(_) => (asked.clone(), 1),
        },
        _ => (asked.clone(), 1),
    };
    let passed = AtomicU64::new(0);
    let armed = fail::cfg_callback(name, move || {
        if passed.fetch_add(1, Ordering::Relaxed) + 1 == nth {
            std::process::abort();
        }
    });
    if let Err(error) = armed {
        tracing::error!(%error, "PINMILL_CRASH_AT={asked} could not be armed");
        std::process::abort();
    }
}

/// Refuses `PINMILL_CRASH_AT`: this binary has no crash points.
#[cfg(not(feature = "failpoints"))]
pub(crate) fn arm() {
    if std::env::var_os("PINMILL_CRASH_AT").is_some() {
        tracing::error!(
            "PINMILL_CRASH_AT is set, but this binary was built without the feature `failpoints`"
        );
        std::process::abort();
    }
}
