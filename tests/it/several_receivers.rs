//! Several receivers, each with a store of its own, on one stream: whichever of them is given a callback, its changes are there once.

use serde_json::json;

use crate::broker::nats;
use crate::broker::nats_client::Client;
use crate::queue_nats::{STREAM, assert_whole, post, sink, standing, wait_until_all_is_delivered};
use crate::support::{Home, wait_until};

/// How many messages there are.
const MESSAGES: usize = 60;

#[test]
fn what_is_given_to_two_receivers_is_in_the_stream_once_also_when_one_is_killed() {
    let server = nats::start();
    let sink = sink(&[&server], "create_stream = { name = \"WHATSAPP\" }");
    let start = || Home::new(&sink).start();
    let [first, second] = std::thread::scope(|scope| {
        let steady = scope.spawn(|| {
            let receiver = start();
            post(receiver.address, 0..MESSAGES);
            receiver
        });
        let killed = scope.spawn(|| {
            let receiver = start();
            post(receiver.address, 0..MESSAGES / 2);
            wait_until("it is in the middle", || standing(&receiver)["delivered"] != 0);
            // What it has not delivered by then it delivers when it is back, and some of what it has delivered it delivers again.
            let receiver = receiver.kill().start();
            // As a balancer does with what was not answered.
            post(receiver.address, 0..MESSAGES);
            receiver
        });
        [steady, killed].map(|posting| posting.join().expect("it posts all"))
    });
    for receiver in [&first, &second] {
        wait_until_all_is_delivered(receiver);
        assert_eq!(standing(receiver)["dead"], 0);
    }
    let mut client = Client::connect(server.address());
    assert_whole(&client.stored(STREAM), MESSAGES);

    // What one of them was given while the other was down is no different.
    let home = first.kill();
    post(second.address, MESSAGES..2 * MESSAGES);
    wait_until_all_is_delivered(&second);
    drop(second);
    let first = home.start();
    post(first.address, MESSAGES..2 * MESSAGES);
    wait_until_all_is_delivered(&first);
    assert_whole(&client.stored(STREAM), 2 * MESSAGES);
    assert_eq!(client.ask("STREAM.NAMES", &json!({}))["streams"], json!([STREAM]));
}
