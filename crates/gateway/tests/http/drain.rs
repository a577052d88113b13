//! Told to stop, a gateway ends what it has begun and begins nothing more.

use std::sync::Arc;
use std::time::Duration;

use pinmill_broker::{EventLog as _, MemoryLog};
use pinmill_gateway::{Gateway, GatewayConfig};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;

use crate::support::{get, post_json, serve, within};

const RECORD: &str = r#"{"records":[{"value":1}]}"#;

#[tokio::test]
async fn requests_in_flight_are_answered_and_idle_connections_closed() {
    let served = serve(|_| {}).await;
    let mut idle = served.connect().await;
    assert_eq!(idle.ask(get("/topics")).await.status, 200);
    let mut silent = served.connect().await;

    let request = post_json("/topics/t", RECORD);
    let (begin, end) = request.split_at(request.len() - 5);
    let mut half_sent = served.connect().await;
    half_sent.send(begin).await;
    served.log.hold_appends(true);
    let mut waiting = served.connect().await;
    waiting.send(&request).await;
    served.until_metric("pinmill_gateway_connections ", 5.0).await;

    served.stop.cancel();
    assert!(idle.rest().await.is_empty());
    assert!(silent.rest().await.is_empty());
    within(async { while TcpStream::connect(served.address).await.is_ok() {} }).await;

    half_sent.send(end).await;
    served.log.hold_appends(false);
    for client in [&mut half_sent, &mut waiting] {
        let answer = client.answer(false).await.expect("a request in flight is answered");
        assert_eq!(answer.status, 200);
        assert_eq!(answer.header("connection"), Some("close"));
        assert!(client.rest().await.is_empty());
    }
    let log = std::sync::Arc::clone(&served.log);
    assert_eq!(served.stopped().await.cut, 0);
    assert_eq!(log.records("t")[0].len(), 2);
}

#[tokio::test]
async fn what_does_not_end_in_time_is_cut_and_counted() {
    let served = serve(|config| config.drain_timeout = Duration::from_millis(100)).await;
    served.make_topic("t", 1).await;
    served.log.hold_appends(true);
    let mut stuck = served.connect().await;
    stuck.send(post_json("/topics/t", RECORD)).await;
    served.until_metric("pinmill_gateway_connections ", 2.0).await;
    assert_eq!(served.stopped().await.cut, 1);
    assert!(stuck.rest().await.is_empty(), "what was not stored is not acknowledged");
}

#[tokio::test]
async fn a_process_with_one_deadline_cuts_when_it_comes() {
    let log = Arc::new(MemoryLog::new());
    let mut config = GatewayConfig { drain_timeout: Duration::from_secs(3600), ..GatewayConfig::default() };
    config.listen.set_port(0);
    let gateway = Gateway::bind(config, Arc::<MemoryLog>::clone(&log)).await.unwrap();
    let (address, stop, cut) = (gateway.local_addr(), CancellationToken::new(), CancellationToken::new());
    let serving = tokio::spawn(gateway.serve_until(stop.clone(), cut.clone()));
    log.create_topic("t", 1).await.unwrap();
    log.hold_appends(true);
    let mut stuck = TcpStream::connect(address).await.unwrap();
    stuck.write_all(&post_json("/topics/t", RECORD)).await.unwrap();
    let asked = "GET /topics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    let mut other = TcpStream::connect(address).await.unwrap();
    other.write_all(asked.as_bytes()).await.unwrap();
    within(other.read_to_end(&mut Vec::new())).await.unwrap();
    stop.cancel();
    cut.cancel();
    assert_eq!(within(serving).await.unwrap().cut, 1);
}

#[tokio::test]
async fn posts_under_load_are_all_acknowledged_or_not_begun_when_it_stops() {
    let served = serve(|_| {}).await;
    served.make_topic("t", 1).await;
    let log = std::sync::Arc::clone(&served.log);
    let clients: Vec<_> = (0..16)
        .map(|_| {
            let served = &served;
            async move {
                let mut client = served.connect().await;
                let mut acknowledged = 0;
                loop {
                    let request = post_json("/topics/t", RECORD);
                    if client.stream.write_all(&request).await.is_err() {
                        return acknowledged;
                    }
                    match client.answer(false).await {
                        Some(answer) => assert_eq!(answer.status, 200),
                        None => return acknowledged,
                    }
                    acknowledged += 1;
                }
            }
        })
        .collect();
    let stop = served.stop.clone();
    let stopper = async {
        within(async {
            while log.records("t")[0].len() < 500 {
                tokio::task::yield_now().await;
            }
        })
        .await;
        stop.cancel();
    };
    let (acknowledged, ()) = tokio::join!(futures::future::join_all(clients), stopper);
    assert_eq!(served.stopped().await.cut, 0);
    assert_eq!(
        log.records("t")[0].len(),
        acknowledged.iter().sum::<usize>(),
        "stored is acknowledged, and nothing else"
    );
}
