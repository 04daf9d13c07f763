use std::cell::RefCell;
use std::collections::VecDeque;

use anyhow::anyhow;
use futures_util::StreamExt as _;
use futures_util::stream::{iter, pending};
use tokio::time::Instant;

use super::*;

/// What a connection comes to.
enum Scripted {
    /// It says this, and then?
    Says(&'static [&'static str], End),
    /// It does not come about.
    Not(NotFollowed),
    /// Somebody takes it and says nothing.
    Nothing,
}

#[derive(Clone, Copy)]
enum End {
    Closed,
    Silent,
    Broken,
}

use End::{Broken, Closed, Silent};
use Scripted::{Not, Nothing, Says};

fn response(pieces: &'static [&'static str], end: End) -> Response {
    let said = iter(pieces).map(|piece| Ok::<_, std::io::Error>(piece.as_bytes()));
    let body = match end {
        Closed => reqwest::Body::wrap_stream(said),
        Silent => reqwest::Body::wrap_stream(said.chain(pending())),
        Broken => reqwest::Body::wrap_stream(said.chain(iter([Err(std::io::ErrorKind::ConnectionReset.into())]))),
    };
    axum::http::Response::new(body).into()
}

/// Follows what is scripted until the script ends; what was told, what was asked for and after how many seconds, and how it ended.
async fn played(script: impl IntoIterator<Item = Scripted>) -> (Vec<String>, Vec<(Option<String>, u64)>, String) {
    let begun = Instant::now();
    let (script, asked, told) =
        (RefCell::new(VecDeque::from_iter(script)), RefCell::new(Vec::new()), RefCell::new(Vec::new()));
    let connect = async |last_id: Option<&str>| {
        asked.borrow_mut().push((last_id.map(str::to_owned), begun.elapsed().as_secs()));
        let next = script.borrow_mut().pop_front();
        match next {
            Some(Says(pieces, end)) => Ok(response(pieces, end)),
            Some(Not(error)) => Err(error),
            Some(Nothing) => std::future::pending().await,
            None => Err(NotFollowed::ForGood(anyhow!("the script has ended"))),
        }
    };
    let tell = |it: Told<'_>| {
        told.borrow_mut().push(match it {
            Told::Event(Event { name, data }) => format!("{name} {data}"),
            Told::Lost { why, last_id } => format!("lost after {}: {why}", last_id.unwrap_or("-")),
            Told::Back => "back".to_owned(),
        });
        Ok(if told.borrow().last().is_some_and(|last| last.ends_with("stop")) {
            ControlFlow::Break(())
        } else {
            ControlFlow::Continue(())
        })
    };
    let followed = follow(connect, tell).await;
    (told.into_inner(), asked.into_inner(), followed.map_or_else(|error| error.to_string(), |()| "enough".to_owned()))
}

fn for_now() -> NotFollowed {
    NotFollowed::ForNow(anyhow!("not now"))
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_falls_silent_is_given_up_and_followed_by_one_that_goes_on_where_it_was() {
    let (told, asked, ended) = played([
        Says(&["retry: 1000\nid: 4\n\n", "id: 5\nevent: change\ndata: a\n\nid: 6\ndata: half"], Silent),
        Says(&["id: 5\n\n", "id: 6\nevent: change\ndata: b\n\n", ": alive\nid: 9\n\n"], Silent),
        Says(&["id: 9\n\nid: 10\nevent: change\ndata: stop\n\n"], Silent),
    ])
    .await;
    let silence = "nothing has come for 25 seconds";
    let (first, second) = (format!("lost after 5: {silence}"), format!("lost after 9: {silence}"));
    assert_eq!(told, ["change a", &first, "back", "change b", &second, "back", "change stop"]);
    assert_eq!(ended, "enough");
    let ids: Vec<_> = asked.iter().map(|(id, _)| id.as_deref()).collect();
    assert_eq!(ids, [None, Some("5"), Some("9")]);
    let seconds: Vec<_> = asked.iter().map(|(_, after)| *after).collect();
    assert!((25..=26).contains(&seconds[1]) && (50..=52).contains(&seconds[2]), "{seconds:?}");
}

#[tokio::test(start_paused = true)]
async fn a_heartbeat_is_life_enough() {
    let beats = iter(0..100).then(|beat| async move {
        tokio::time::sleep(Duration::from_secs(10)).await;
        Ok::<_, std::io::Error>(if beat == 99 { "data: stop\n\n" } else { ": alive\n\n" })
    });
    let connections = RefCell::new(VecDeque::from([reqwest::Body::wrap_stream(beats)]));
    let connect = async |_: Option<&str>| {
        let body = connections.borrow_mut().pop_front().expect("one connection is enough");
        Ok(axum::http::Response::new(body).into())
    };
    let mut told = Vec::new();
    let tell = |it: Told<'_>| {
        told.push(format!("{it:?}"));
        Ok(ControlFlow::Break(()))
    };
    follow(connect, tell).await.unwrap();
    assert!(told.len() == 1 && told[0].contains("stop"), "{told:?}");
}

#[tokio::test(start_paused = true)]
async fn a_lost_connection_is_said_once_and_tried_again_more_and_more_seldom() {
    let failing = (0..50).map(|number| if number % 10 == 9 { Nothing } else { Not(for_now()) });
    let script = [Says(&["retry: 2000\nid: 4\n\n"], Broken)].into_iter().chain(failing);
    let (told, asked, ended) = played(script.chain([Says(&["id: 4\n\ndata: stop\n\n"], Closed)])).await;
    assert_eq!(told, ["lost after 4: it broke off", "back", " stop"]);
    assert_eq!((asked.len(), ended.as_str()), (52, "enough"));
    let pauses: Vec<u64> = asked.windows(2).map(|two| two[1].1 - two[0].1).collect();
    assert!(pauses[0] <= 2, "{pauses:?}");
    assert!(pauses.iter().all(|pause| *pause <= 10 + 25 + 1), "{pauses:?}");
    assert!(asked[51].1 > 120, "its pauses are five seconds on the average: {asked:?}");
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_is_lost_at_once_again_and_again_is_tried_more_and_more_seldom_too() {
    let (_, asked, _) = played((0..50).map(|_| Says(&["retry: 0\nid: 4\n\n"], Closed))).await;
    assert!((100..500).contains(&asked[50].1), "its pauses are five seconds on the average: {asked:?}");
    let (_, asked, _) = played((0..50).map(|_| Says(&["retry: 0\nid: 4\n\ndata: x\n\n"], Closed))).await;
    assert!(asked[50].1 <= 5, "they begin anew with each event: {asked:?}");
}

#[tokio::test(start_paused = true)]
async fn what_will_never_be_followed_is_an_error_and_so_is_a_first_connection_that_does_not_come_about() {
    for (first, error) in [
        (Not(for_now()), "not now"),
        (Nothing, "no receiver answers: no answer came in time"),
        (Not(anyhow!("never").into()), "never"),
    ] {
        let (told, asked, ended) = played([first]).await;
        assert_eq!((told, asked.len(), ended.as_str()), (Vec::new(), 1, error));
    }
    let (told, _, ended) = played([Says(&["id: 4\n\n"], Closed), Not(for_now()), Not(anyhow!("never").into())]).await;
    assert_eq!(told, ["lost after 4: the receiver has ended it"]);
    assert_eq!(ended, "never");
}
