//! What is left when the process is killed without warning.

use std::collections::{HashMap, HashSet};
use std::net::{SocketAddr, TcpStream};
use std::process::Stdio;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::support::{Ended, Home, JSON, PATIENCE, Receiver, path, send_request, try_read_answer, wait_until};

/// How often the receiver is killed.
const KILLS: usize = 40;

/// How many connections load it.
const CONNECTIONS: u64 = 6;

/// What makes a change what it is: its message, status, moment and device.
type Key = (String, String, i64, i64);

const RANKS: [&str; 4] = ["SENT", "RECEIVED", "READ", "PLAYED"];

#[test]
fn what_was_acknowledged_survives_a_kill() {
    let seed = std::env::var("SEED").ok().map(|seed| seed.parse().expect("SEED is a number"));
    let seed: u64 = seed.unwrap_or_else(|| getrandom::u64().expect("the system has randomness"));
    eprintln!("this run: SEED={seed}");
    let mut random = Random::new(seed);
    let mut callers: Vec<Caller> = (0..CONNECTIONS).map(|number| Caller::new(number, random.next())).collect();
    let mut home = Home::new("");
    let mut log = Vec::new();
    for _ in 0..KILLS {
        let receiver = home.start();
        let ended = load_and_kill(receiver, &mut callers, &mut random);
        log.extend(ended.changes_on_the_log());
        home = ended.home;
        if random.below(3) == 0 {
            let ended = start_and_kill(home, &mut random);
            log.extend(ended.changes_on_the_log());
            home = ended.home;
        }
    }

    let receiver = home.start();
    wait_until("everything is delivered", || receiver.admin_get("/api/v1/sinks").json()[0]["lag"] == 0);
    let stored = receiver.stored();
    let keys: Vec<Key> = stored.iter().map(key_of).collect();
    let mut times: HashMap<&Key, usize> = HashMap::new();
    for key in &keys {
        *times.entry(key).or_default() += 1;
    }
    let acknowledged: HashSet<&Key> = callers.iter().flat_map(|caller| &caller.acknowledged).collect();
    assert!(acknowledged.len() > KILLS, "hardly anything was acknowledged: {}", acknowledged.len());
    for key in &acknowledged {
        assert_eq!(times.get(key), Some(&1), "acknowledged, so it is there exactly once: {key:?}");
    }
    let sent: HashSet<&Key> = callers.iter().flat_map(|caller| &caller.sent).collect();
    for (key, times) in &times {
        assert!(sent.contains(key), "nobody sent it: {key:?}");
        assert_eq!(*times, 1, "stored twice: {key:?}");
    }
    assert_transitions_are_consistent(&stored);

    // What was acknowledged is known as such, too: it is a duplicate now.
    for (body, changes) in callers.iter().flat_map(|caller| caller.some_taken.iter()) {
        assert_eq!(receiver.post(body).body, format!(r#"{{"stored": 0, "duplicates": {changes}}}"#), "{body}");
    }

    eprintln!("{} stored, {} acknowledged, {} lines on the log", stored.len(), acknowledged.len(), log.len());
    let ended = receiver.end("TERM");
    assert_eq!(ended.status.code(), Some(0));
    log.extend(ended.changes_on_the_log());
    assert_the_log_has_all_in_order(&log, &stored);
    assert_database_is_intact(&ended.home);
}

/// Loads a receiver from all connections and kills it somewhere in the middle.
fn load_and_kill(receiver: Receiver, callers: &mut [Caller], random: &mut Random) -> Ended {
    let address = receiver.address;
    let answered = AtomicUsize::new(0);
    // Some die before the first answer.
    let enough = random.below(250) as usize;
    let dither = random.below(20_000);
    std::thread::scope(|threads| {
        let loading: Vec<_> =
            callers.iter_mut().map(|caller| threads.spawn(|| caller.load(address, &answered))).collect();
        let deadline = Instant::now() + PATIENCE;
        while answered.load(Ordering::Relaxed) < enough {
            assert!(Instant::now() < deadline, "too few answers: {}", receiver.output());
            std::thread::yield_now();
        }
        // An answer has just come: without this, every kill would come at the same point of the next commit.
        (0..dither).for_each(|_| std::hint::spin_loop());
        let ended = receiver.end("KILL");
        for thread in loading {
            thread.join().expect("a caller ended in a surprise");
        }
        ended
    })
}

/// Kills a receiver somewhere in its start, which is when it takes up what the kill before has left.
fn start_and_kill(home: Home, random: &mut Random) -> Ended {
    let mut command = home.command(&["serve"]);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the program starts");
    let moment = Instant::now() + Duration::from_micros(random.below(60_000));
    // No condition is waited for: any moment will do.
    while Instant::now() < moment {
        std::thread::yield_now();
    }
    child.kill().expect("it can be killed");
    let output = child.wait_with_output().expect("it can be waited for");
    Ended { status: output.status, output: String::from_utf8_lossy(&output.stdout).into_owned(), home }
}

/// One connection's callbacks: conversations of one to four messages at a time, some of them told twice.
struct Caller {
    random: Random,
    number: u64,
    conversations: u64,
    ahead: Vec<String>,
    sent: HashSet<Key>,
    acknowledged: HashSet<Key>,
    /// Some that were answered 200, with how many changes each is.
    some_taken: Vec<(String, usize)>,
}

impl Caller {
    fn new(number: u64, seed: u64) -> Self {
        Self {
            random: Random::new(seed),
            number,
            conversations: 0,
            ahead: Vec::new(),
            sent: HashSet::new(),
            acknowledged: HashSet::new(),
            some_taken: Vec::new(),
        }
    }

    /// Posts, one after another on one connection, until the receiver is gone.
    fn load(&mut self, address: SocketAddr, answered: &AtomicUsize) {
        let Ok(mut stream) = TcpStream::connect(address) else { return };
        stream.set_read_timeout(Some(PATIENCE)).expect("a time-out can be set");
        loop {
            let body = self.next_body();
            let keys = keys_of(&body);
            self.sent.extend(keys.iter().cloned());
            send_request(&mut stream, "POST", &path(), &JSON, body.as_bytes());
            let Ok(answer) = try_read_answer(&mut stream) else {
                // Whether it was stored is not known; a caller would send it again.
                self.ahead.push(body);
                return;
            };
            assert_eq!(answer.status, 200, "{answer:?}");
            let answer = answer.json();
            let number = |name: &str| answer[name].as_u64().expect("a number");
            let (stored, duplicates) = (number("stored"), number("duplicates"));
            assert_eq!(stored + duplicates, keys.len() as u64, "{body}");
            if keys.iter().any(|key| self.acknowledged.contains(key)) {
                assert_eq!(stored, 0, "acknowledged before, so it is a duplicate: {body}");
            }
            if self.random.below(20) == 0 {
                self.some_taken.push((body, keys.len()));
            }
            self.acknowledged.extend(keys);
            answered.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn next_body(&mut self) -> String {
        if self.ahead.is_empty() {
            self.begin_conversation();
        }
        let body = self.ahead.pop().expect("a conversation has callbacks");
        if self.random.below(8) == 0 {
            self.ahead.push(body.clone());
        }
        body
    }

    fn begin_conversation(&mut self) {
        self.conversations += 1;
        let messages = 1 + self.random.below(4);
        let ids: Vec<String> = (0..messages).map(|n| format!("{}-{}-{n}", self.number, self.conversations)).collect();
        let body = |status: &str, moment: i64, device: u64| {
            json!({
                "instanceId": "instance.id", "status": status, "ids": ids, "momment": moment, "phoneDevice": device,
                "phone": "5544999999999", "type": "MessageStatusCallback", "isGroup": false
            })
            .to_string()
        };
        let moments = (1_632_234_645_000..).step_by(1000);
        self.ahead = RANKS.iter().zip(moments).map(|(status, moment)| body(status, moment, 0)).collect();
        self.ahead.reverse();
        // Now and then two of them come the wrong way round, and now and then it is read on another device as well.
        if self.random.below(4) == 0 {
            self.ahead.swap(1, 2);
        }
        if self.random.below(4) == 0 {
            self.ahead.insert(0, body("READ", 1_632_234_700_000, 1));
        }
    }
}

fn keys_of(body: &str) -> Vec<Key> {
    let body: Value = serde_json::from_str(body).expect("it was made here");
    let text = |value: &Value| value.as_str().expect("a string").to_owned();
    let number = |value: &Value| value.as_i64().expect("a number");
    let ids = body["ids"].as_array().expect("a list");
    ids.iter()
        .map(|id| (text(id), text(&body["status"]), number(&body["momment"]), number(&body["phoneDevice"])))
        .collect()
}

/// The key of a stored change, taken from what the receiver made of it and not from the body that it keeps.
fn key_of(change: &Value) -> Key {
    let text = |name: &str| change[name].as_str().expect("a string").to_owned();
    let moment: jiff::Timestamp = text("moment").parse().expect("a moment");
    (text("message_id"), text("status"), moment.as_millisecond(), change["device"].as_i64().expect("a number"))
}

/// Tells each message's story again from the log, and compares what the receiver said of each step.
fn assert_transitions_are_consistent(stored: &[Value]) {
    let mut seen: HashMap<&str, Vec<&str>> = HashMap::new();
    for change in stored {
        let status = change["status"].as_str().expect("a string");
        let earlier = seen.entry(change["message_id"].as_str().expect("a string")).or_default();
        let rank = |status: &str| RANKS.iter().position(|known| *known == status);
        let highest = earlier.iter().filter_map(|status| rank(status)).max();
        let transition = match rank(status) {
            rank if rank > highest => "advance",
            _ if earlier.contains(&status) => "repeat",
            _ => "late",
        };
        assert_eq!(change["transition"], transition, "{change}");
        assert_eq!(change["previous_status"], json!(highest.map(|highest| RANKS[highest])), "{change}");
        earlier.push(status);
    }
}

/// A kill makes the log go back to what may not have been delivered, and never skip anything: the first lines of all changes
/// stand in the order stored.
fn assert_the_log_has_all_in_order(log: &[Value], stored: &[Value]) {
    let mut known = HashSet::new();
    let firsts: Vec<&Value> = log.iter().map(|line| &line["id"]).filter(|id| known.insert(id.to_string())).collect();
    let expected: Vec<&Value> = stored.iter().map(|change| &change["id"]).collect();
    for (index, (first, expected)) in firsts.iter().zip(&expected).enumerate() {
        assert_eq!(first, expected, "the log's change number {index} is not the store's");
    }
    assert_eq!(firsts.len(), expected.len(), "changes on the log and in the store");
}

fn assert_database_is_intact(home: &Home) {
    let database = rusqlite::Connection::open(home.store().join("store.sqlite3")).expect("it can be opened");
    let verdict: String =
        database.query_row("PRAGMA integrity_check", [], |row| row.get(0)).expect("it can be checked");
    assert_eq!(verdict, "ok");
}

/// A small generator (splitmix64), so that a run can be had again from its seed.
struct Random(u64);

impl Random {
    fn new(seed: u64) -> Self {
        Self(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }
}
