//! A build without a database's client says how to get one with it.

#![cfg(not(any(feature = "mysql", feature = "postgres", feature = "sqlite")))]

use pinmill_emulate::open;

#[tokio::test]
async fn a_source_that_was_left_out_says_how_to_build_it_in() {
    for (spec, client) in [
        ("sqlite:rows.db", "sqlite"),
        ("mysql://me:s3cret@localhost/rows", "mysql"),
        ("postgres://me:s3cret@localhost/rows", "postgres"),
    ] {
        let error = open(&spec.parse().unwrap(), 100).await.unwrap_err().to_string();
        assert!(error.contains(client) && !error.contains("s3cret"), "{error}");
        // The program has this feature alone.
        assert!(error.contains("--features databases"), "{error}");
    }
}
