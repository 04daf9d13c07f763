//! What is said of a server to which nothing is given.

use super::destination::{Destination, sink_to};
use super::logins::{LOGIN, USER};
use crate::sink::conformance::{Give as _, delivery};
use crate::sink::queue::Broker as _;

#[tokio::test]
async fn reaching_the_server_says_what_it_would_do_and_adds_nothing() {
    let destination = Destination::start();
    let address = destination.server.address();
    let sink = destination.sink("");
    let synced = "; what it confirms is synced to its disk (appendfsync always)";
    assert_eq!(
        sink.reach().await.unwrap(),
        format!("{address} answers and takes entries into the stream changes, which has 0 entries{synced}")
    );
    assert_eq!(redis::cmd("EXISTS").arg("changes").query::<u64>(&mut destination.client()).unwrap(), 0);
    sink.give(&[delivery("m")]).await.unwrap();
    assert!(sink.reach().await.unwrap().contains("which has 1 entries"));
    assert_eq!(destination.message_ids("changes"), ["m"]);
    for (setting, said) in [
        ("appendfsync everysec", "synced to its disk within a second or two"),
        ("appendfsync no", "on its disk when its system likes"),
        ("appendonly no", "in its memory only"),
    ] {
        destination.tell(&format!("CONFIG SET {setting}"));
        let told = sink.reach().await.unwrap();
        assert!(told.contains(said), "{told}");
    }
    let sink = destination.sink("stream = \"changes:{status}\"");
    assert!(sink.reach().await.unwrap().contains("into the stream changes:_, which has 0 entries"));
    destination.tell("SET changes:_ text");
    assert!(sink.reach().await.unwrap_err().contains("the key is there, and is no stream"));
    destination.tell("CONFIG SET maxmemory 1");
    assert!(sink.reach().await.unwrap_err().contains("OOM"));
    destination.tell("CONFIG SET maxmemory 0");

    // A user who may do nothing else is told no more.
    destination.tell(&format!("ACL SETUSER {}", USER.strip_prefix("user ").unwrap()));
    let sink = sink_to(&format!("redis://{LOGIN}@{address}"), "");
    assert_eq!(sink.reach().await.unwrap(), format!("{address} answers and takes entries into the stream changes"));
}
