//! Posting over TLS: a gateway whose certificate the system trusts is posted to, and any other is not.
//!
//! Which certificates the system trusts is read from the environment (`SSL_CERT_FILE`), so the posting is done by this test's
//! program once more, as a process of its own.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking, and so do its helpers")]

use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use pinmill_emulate::{Generator, Options, Summary, Target, emulate};
use rcgen::{CertifiedKey, generate_simple_self_signed};
use rustls::ServerConfig;
use rustls::pki_types::PrivatePkcs8KeyDer;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

const URL: &str = "PINMILL_TEST_TLS_URL";
/// Set when the certificate in the environment is not that of the server.
const STRANGER: &str = "PINMILL_TEST_TLS_STRANGER";

/// Serves one record a request, and as many requests as come.
async fn serve(listener: TcpListener, acceptor: TlsAcceptor) {
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        let acceptor = acceptor.clone();
        tokio::spawn(async move {
            // the client that does not trust the certificate ends the handshake
            let Ok(stream) = acceptor.accept(stream).await else { return };
            let mut stream = BufReader::new(stream);
            loop {
                let (mut line, mut length) = (String::new(), 0);
                while line != "\r\n" {
                    line.clear();
                    if stream.read_line(&mut line).await.unwrap_or(0) == 0 {
                        return;
                    }
                    if let Some(value) = line.to_lowercase().strip_prefix("content-length: ") {
                        length = value.trim().parse().unwrap();
                    }
                }
                stream.read_exact(&mut vec![0; length]).await.unwrap();
                let body = r#"{"offsets":[{"partition":0,"offset":1,"error_code":null,"error":null}]}"#;
                let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len());
                stream.write_all(answer.as_bytes()).await.unwrap();
                stream.flush().await.unwrap();
            }
        });
    }
}

async fn post(url: &str) -> Summary {
    let target = Target::topics(url, None).unwrap();
    let options = Options { posts: Some(5), connections: 2, retries: 0, ..Options::new(target) };
    emulate(options, Arc::new(Generator::new(100)), &CancellationToken::new()).await.unwrap()
}

/// What the process with a certificate in its environment does.
async fn post_as_child(url: &str) {
    let summary = post(url).await;
    if std::env::var_os(STRANGER).is_none() {
        assert!(summary.is_complete() && summary.acknowledged == 15, "{summary} {:?}", summary.errors);
    } else {
        assert!(!summary.is_complete() && summary.acknowledged == 0, "{summary}");
        assert!(
            summary.gave_up.as_ref().is_some_and(|why| why.contains("certificate")),
            "{:?}",
            summary.gave_up
        );
        assert_eq!(summary.ambiguous, 0, "nothing was sent to a stranger");
    }
}

async fn assert_child(url: &str, trusted: &Path, stranger: bool) {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "a_certificate_that_the_system_trusts_is_taken_and_no_other"]);
    command.env(URL, url).env("SSL_CERT_FILE", trusted).env_remove("SSL_CERT_DIR");
    if stranger {
        command.env(STRANGER, "1");
    }
    let output = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_certificate_that_the_system_trusts_is_taken_and_no_other() {
    if let Ok(url) = std::env::var(URL) {
        return post_as_child(&url).await;
    }
    let CertifiedKey { cert, signing_key } = generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let dir = pinmill_testkit::temp_dir();
    let file = dir.path().join("certificate.pem");
    std::fs::write(&file, cert.pem()).unwrap();
    let key = PrivatePkcs8KeyDer::from(signing_key.serialize_der());
    let config = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![cert.der().clone()], key.into())
        .unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("https://localhost:{}", listener.local_addr().unwrap().port());
    tokio::spawn(serve(listener, TlsAcceptor::from(Arc::new(config))));

    assert_child(&url, &file, false).await;

    let other = dir.path().join("other.pem");
    std::fs::write(&other, generate_simple_self_signed(["localhost".to_owned()]).unwrap().cert.pem())
        .unwrap();
    assert_child(&url, &other, true).await;
}
