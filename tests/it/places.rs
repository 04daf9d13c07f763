//! Each sink has a place of its own in the log of changes.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::support::{Ended, Home, Receiver, callback, wait_until};

const MOMENT: i64 = 1_632_234_645_000;

fn post(receiver: &Receiver, message_id: &str) {
    assert_eq!(receiver.post(&callback(message_id, "SENT", MOMENT)).status, 200);
}

/// Waits until every sink has been given all that is stored.
fn wait_for_all_sinks(receiver: &Receiver) {
    wait_until("every sink has come to the end", || {
        let sinks = receiver.admin_get("/api/v1/sinks").json();
        sinks.as_array().expect("a list").iter().all(|sink| sink["lag"] == 0)
    });
}

/// What each sink wrote, in order: a field of each of its lines.
fn written(ended: &Ended, field: &str) -> BTreeMap<String, Vec<String>> {
    let mut written: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let text = |value: &Value| value.as_str().expect("a string").to_owned();
    for line in ended.changes_on_the_log() {
        written.entry(text(&line["sink"])).or_default().push(text(&line[field]));
    }
    written
}

fn texts(texts: &[&str]) -> Vec<String> {
    texts.iter().map(|&text| text.to_owned()).collect()
}

#[test]
fn a_new_sink_begins_with_what_comes_or_with_all_that_is_kept_as_it_is_told() {
    let receiver = Receiver::start("[sinks.first.log]");
    ["a", "b", "c"].iter().for_each(|id| post(&receiver, id));
    wait_for_all_sinks(&receiver);
    let ended = receiver.end("TERM");
    assert_eq!(written(&ended, "message_id"), BTreeMap::from([("first".to_owned(), texts(&["a", "b", "c"]))]));

    let home = ended.home;
    home.configure(
        "[sinks.first.log]\n[sinks.plain.log]\n[sinks.later.log]\n[sinks.later.delivery]\nstart = \"now\"\n\
         [sinks.whole.log]\n[sinks.whole.delivery]\nstart = \"beginning\"",
    );
    let receiver = home.start();
    post(&receiver, "d");
    wait_for_all_sinks(&receiver);
    let expected = BTreeMap::from([
        ("first".to_owned(), texts(&["d"])),
        ("later".to_owned(), texts(&["d"])),
        ("plain".to_owned(), texts(&["d"])),
        ("whole".to_owned(), texts(&["a", "b", "c", "d"])),
    ]);
    let ended = receiver.end("TERM");
    assert_eq!(written(&ended, "message_id"), expected);

    // Where to begin is asked once: from now on each has its place.
    let receiver = ended.home.start();
    post(&receiver, "e");
    wait_for_all_sinks(&receiver);
    let expected = ["first", "later", "plain", "whole"].map(|sink| (sink.to_owned(), texts(&["e"])));
    assert_eq!(written(&receiver.end("TERM"), "message_id"), BTreeMap::from(expected));
}

#[test]
fn a_start_after_a_stop_goes_on_where_each_sink_was() {
    let mut home = Home::new("[sinks.one.log]\n[sinks.two.log]");
    let mut all: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let mut posted = Vec::new();
    for run in 0..4 {
        let receiver = home.start();
        for n in 0..50 {
            let message_id = format!("{run}-{n}");
            post(&receiver, &message_id);
            posted.push(message_id);
        }
        // In the middle of delivering, perhaps: what was not delivered is delivered by the next run, and nothing twice.
        let ended = receiver.end("TERM");
        assert_eq!(ended.status.code(), Some(0));
        for (sink, written) in written(&ended, "message_id") {
            all.entry(sink).or_default().extend(written);
        }
        home = ended.home;
    }
    let receiver = home.start();
    wait_for_all_sinks(&receiver);
    for (sink, written) in written(&receiver.end("TERM"), "message_id") {
        all.entry(sink).or_default().extend(written);
    }
    assert_eq!(all, BTreeMap::from(["one", "two"].map(|sink| (sink.to_owned(), posted.clone()))));
}

#[test]
fn a_sink_that_is_taken_out_holds_nothing_back_and_its_return_is_told_what_it_missed() {
    let both = "[store.sqlite]\nretention = \"1s\"\n[sinks.kept.log]\n[sinks.removed.log]";
    let receiver = Home::new("[sinks.kept.log]\n[sinks.removed.log]").start();
    post(&receiver, "before");
    wait_for_all_sinks(&receiver);
    // Neither is given these three.
    receiver.block_the_log();
    ["a", "b", "c"].iter().for_each(|id| post(&receiver, id));
    let home = receiver.kill();

    home.configure("[store.sqlite]\nretention = \"1s\"\n[sinks.kept.log]");
    let receiver = home.start();
    receiver.wait_for_output("sinks that are no longer configured: nothing is kept for them");
    assert!(receiver.output().contains(r#""sinks":"removed""#), "{}", receiver.output());
    wait_until("nothing is kept for it", || receiver.stored().is_empty());
    let ended = receiver.end("TERM");
    assert!(written(&ended, "message_id")["kept"].ends_with(&texts(&["a", "b", "c"])));
    assert_eq!(written(&ended, "message_id").get("removed"), None);

    let home = ended.home;
    home.configure(both);
    let receiver = home.start();
    receiver.wait_for_output("it goes on with the oldest kept");
    assert!(receiver.output().contains(r#""sink":"removed""#), "{}", receiver.output());
    assert!(!receiver.output().contains("no longer configured"), "{}", receiver.output());
    post(&receiver, "after");
    wait_for_all_sinks(&receiver);
    let expected = ["kept", "removed"].map(|sink| (sink.to_owned(), texts(&["after"])));
    assert_eq!(written(&receiver.end("TERM"), "message_id"), BTreeMap::from(expected));
}

#[test]
fn each_sink_is_given_what_its_filter_lets_through() {
    let receiver = Receiver::start(
        "[sinks.all.log]
         [sinks.read.log]
         [sinks.read.filter]
         status = [\"READ\", \"played\"]
         [sinks.news.log]
         [sinks.news.filter]
         transition = [\"advance\", \"unranked\"]
         [sinks.chats.log]
         [sinks.chats.filter]
         chat = [\"group\", \"story\"]
         [sinks.shop.log]
         [sinks.shop.filter]
         instance = [\"shop\", \"store\"]
         [sinks.both.log]
         [sinks.both.filter]
         status = [\"READ\"]
         chat = [\"direct\"]
         transition = [\"repeat\"]
         instance = [\"shop\"]
         [sinks.none.log]
         [sinks.none.filter]
         instance = [\"nobody\"]",
    );
    let post =
        |instance: Option<&str>, id: &str, status: &str, momment: i64, phone: &str, participant: Option<&str>| {
            let mut body = json!({
                "status": status, "ids": [id], "momment": momment, "phoneDevice": 0, "phone": phone,
                "type": "MessageStatusCallback", "isGroup": phone.contains("group")
            });
            if let Some(instance) = instance {
                body["instanceId"] = instance.into();
            }
            if let Some(participant) = participant {
                body["participant"] = participant.into();
            }
            assert_eq!(receiver.post(&body.to_string()).status, 200, "{body}");
        };
    let (person, group, story) = ("5544999999999", "120363019502650977-group", "status@broadcast");
    post(Some("shop"), "direct", "SENT", MOMENT, person, None);
    post(Some("shop"), "direct", "READ", MOMENT, person, None);
    post(Some("shop"), "direct", "READ", MOMENT + 1000, person, None);
    post(Some("shop"), "direct", "RECEIVED", MOMENT, person, None);
    post(Some("store"), "group", "RECEIVED", MOMENT, group, Some("5511988888888"));
    post(Some("other"), "story", "READ", MOMENT, story, Some("5511977777777"));
    post(None, "self", "READ-SELF", MOMENT, person, None);
    post(None, "voice", "PLAYED", MOMENT, person, None);
    wait_for_all_sinks(&receiver);

    let ended = receiver.end("TERM");
    let mut given: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for line in ended.changes_on_the_log() {
        let text = |name: &str| line[name].as_str().expect("a string").to_owned();
        let short = format!("{} {} {}", text("message_id"), text("status"), text("transition"));
        given.entry(text("sink")).or_default().push(short);
    }
    let expect = |sink: &str, expected: &[&str]| {
        assert_eq!(given.get(sink).cloned().unwrap_or_default(), texts(expected), "{sink}");
    };
    let direct = ["direct SENT advance", "direct READ advance", "direct READ repeat", "direct RECEIVED late"];
    let others = ["group RECEIVED advance", "story READ advance", "self READ-SELF unranked", "voice PLAYED advance"];
    expect("all", &[direct, others].concat());
    expect("read", &[direct[1], direct[2], others[1], others[3]]);
    expect("news", &[&direct[..2], &others].concat());
    expect("chats", &others[..2]);
    expect("shop", &[&direct[..], &others[..1]].concat());
    expect("both", &direct[2..3]);
    expect("none", &[]);
}

#[test]
fn a_start_reads_little_of_a_large_backlog() {
    let home = Home::new("[sinks.first.log]").start().stop();
    let path = home.store().join("store.sqlite3");
    let rows = 200_000;
    let database = rusqlite::Connection::open(&path).expect("it can be opened");
    let body = callback("message", "SENT", MOMENT);
    let now = jiff::Timestamp::now().as_millisecond();
    database
        .execute(
            "INSERT INTO change
             WITH RECURSIVE number(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM number WHERE n < ?1)
             SELECT n, ?2, 'instance.id', 'message-' || n, 'SENT', '5544999999999', NULL, 0, 1632234645000, 0, 1, NULL,
                    NULL, ?3, NULL, NULL, NULL
             FROM number",
            rusqlite::params![rows, now, body],
        )
        .expect("rows can be made");
    // The last connection to close moves everything to the database's file.
    database.close().expect("it can be closed");
    let size = path.metadata().expect("it is there").len();
    assert!(size > 40 << 20, "{size} bytes are no backlog");

    // Its log is read until it listens, and no further: then it delivers no more than fits in a pipe.
    let receiver = home.start_unread();
    let read = read_bytes(receiver.pid());
    assert!(read < size / 4, "{read} of {size} bytes were read by the time that it listens");
    assert_eq!(receiver.post(&callback("after", "SENT", MOMENT)).status, 200);
    let lag = receiver.admin_get("/api/v1/sinks").json()[0]["lag"].as_i64().expect("a number");
    assert!(lag > rows / 2, "most of the backlog is still to be delivered, not {lag}");
}

/// The bytes that a process has read, from whatever file.
fn read_bytes(pid: u32) -> u64 {
    let counters = std::fs::read_to_string(format!("/proc/{pid}/io")).expect("Linux counts them");
    let read = counters.lines().find_map(|line| line.strip_prefix("rchar: ")).expect("it is the first line");
    read.parse().expect("a number")
}
