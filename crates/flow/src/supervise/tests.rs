use std::sync::atomic::{AtomicUsize, Ordering};

use futures::FutureExt;

use super::*;

const QUICK: Backoff = Backoff { first: Duration::from_millis(1), longest: Duration::from_millis(4) };

fn passing() -> Error {
    Error::Topics(pinmill_broker::Error::Unavailable("for now".to_owned()))
}

fn nothing(_: Rest) -> BoxFuture<'static, ()> {
    futures::future::pending().boxed()
}

fn only(parts: &Parts) -> PartStatus {
    let [status] = <[_; 1]>::try_from(parts.status()).unwrap();
    status
}

#[test]
fn pauses_double_up_to_the_longest() {
    let pauses = std::iter::successors(Some(QUICK.after(None)), |last| Some(QUICK.after(Some(*last))));
    assert_eq!(pauses.take(4).map(|pause| pause.as_millis()).collect::<Vec<_>>(), [1, 2, 4, 4]);
}

#[tokio::test]
async fn a_part_begins_again_after_errors_and_panics_and_says_how_often_and_why() {
    let (parts, stop) = (Parts::default(), CancellationToken::new());
    let part = parts.add("p");
    assert_eq!(only(&parts).state, PartState::Starting);
    let attempts = AtomicUsize::new(0);
    let attempt = || {
        let (attempt, part) = (attempts.fetch_add(1, Ordering::SeqCst), part.clone());
        async move {
            match attempt {
                0 => Err(passing()),
                1 => panic!("a defect of number {attempt}"),
                _ => {
                    part.works();
                    Ok(attempt)
                }
            }
        }
    };
    assert_eq!(supervise(&part, &stop, QUICK, nothing, attempt).await.unwrap(), 2);
    let status = only(&parts);
    assert_eq!((status.state, status.restarts), (PartState::Done, 2));
    assert!(status.last_error.unwrap().contains("a defect of number 1"));
}

#[tokio::test]
async fn an_error_that_is_final_stops_the_part_which_waits_for_the_end() {
    let (parts, stop) = (Parts::default(), CancellationToken::new());
    let part = parts.add("p");
    let attempt = || async { Err::<(), _>(Error::CrashPoint("flow::load::files_written")) };
    let resting = |rest| {
        assert_eq!(rest, Rest::End);
        nothing(rest)
    };
    let supervised = supervise(&part, &stop, QUICK, resting, attempt);
    let ended = async {
        while only(&parts).state != PartState::Stopped {
            tokio::task::yield_now().await;
        }
        stop.cancel();
    };
    let (result, ()) = futures::join!(supervised, ended);
    assert!(matches!(result, Err(Error::CrashPoint(_))));
    assert_eq!(only(&parts).restarts, 0);
}

#[tokio::test]
async fn a_part_that_is_told_to_stop_while_it_pauses_has_one_last_attempt() {
    let (parts, stop) = (Parts::default(), CancellationToken::new());
    let part = parts.add("p");
    let long = Backoff { first: Duration::from_secs(3600), longest: Duration::from_secs(3600) };
    let attempts = Arc::new(AtomicUsize::new(0));
    let attempt = || {
        let before = attempts.fetch_add(1, Ordering::SeqCst);
        async move { if before == 0 { Err(passing()) } else { Ok("done") } }
    };
    let supervised = supervise(&part, &stop, long, nothing, attempt);
    let ended = async {
        while only(&parts).state != PartState::Failing {
            tokio::task::yield_now().await;
        }
        stop.cancel();
    };
    let (result, ()) = futures::join!(supervised, ended);
    assert_eq!(result.unwrap(), "done");
}

#[tokio::test(start_paused = true)]
async fn a_loop_that_gives_no_sign_of_life_is_stalled_until_it_does() {
    let parts = Parts::default();
    let part = parts.add("p");
    part.works_on();
    tokio::time::advance(STALLED_AFTER).await;
    assert_eq!(only(&parts).state, PartState::Working);
    tokio::time::advance(Duration::from_secs(1)).await;
    assert_eq!(only(&parts).state, PartState::Stalled);
    part.works_on();
    assert_eq!(only(&parts).state, PartState::Working);
    part.works();
    tokio::time::advance(STALLED_AFTER * 2).await;
    assert_eq!(only(&parts).state, PartState::Working, "it does not promise signs of life");
}
