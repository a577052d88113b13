//! Told to stop, a gateway ends what it has begun and begins nothing more.

use std::time::Duration;

use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;

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
