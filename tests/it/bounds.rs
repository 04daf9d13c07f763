//! Every bound of the public listener: size, time, connections, callbacks in flight, room. Each is answered, and each is over
//! when its cause is.

use std::net::TcpStream;

use crate::support::{
    JSON, Receiver, STORED, callback, connect, eventually, path, read_answer, read_to_close, send_head, send_request,
    try_read_answer, write,
};

const LIMIT: usize = 64 << 10;

/// A valid callback of this many bytes.
fn callback_of(length: usize) -> String {
    let short = callback("A", "READ", 1);
    let padding = "x".repeat(length - short.len() - r#","pad":"""#.len());
    format!("{},\"pad\":\"{padding}\"}}", short.strip_suffix('}').expect("an object"))
}

fn start_chunked(receiver: &Receiver) -> TcpStream {
    let mut stream = connect(receiver.address);
    let start = format!("POST {} HTTP/1.1", path());
    send_head(&mut stream, &[&start, "host: x", "content-type: application/json", "transfer-encoding: chunked"]);
    stream
}

fn chunk(bytes: &[u8]) -> Vec<u8> {
    [format!("{:x}\r\n", bytes.len()).as_bytes(), bytes, b"\r\n"].concat()
}

/// Sends a callback's head, waits until the receiver reads the body, and sends half of it: this one is in flight now.
fn half_sent(receiver: &Receiver, body: &str) -> TcpStream {
    let mut stream = connect(receiver.address);
    let (start, length) = (format!("POST {} HTTP/1.1", path()), format!("content-length: {}", body.len()));
    let head = [&start, "host: x", "content-type: application/json", "expect: 100-continue", &length];
    send_head(&mut stream, &head);
    assert_eq!(read_answer(&mut stream).status, 100);
    write(&mut stream, &body.as_bytes()[..body.len() / 2]);
    stream
}

#[test]
fn a_body_up_to_the_limit_is_taken_and_a_larger_one_is_not() {
    let receiver = Receiver::start("");
    assert_eq!(receiver.post(&callback_of(LIMIT)).body, STORED);
    receiver.post(&callback_of(LIMIT + 1)).problem(413);

    let mut stream = start_chunked(&receiver);
    for part in callback_of(LIMIT - 1).as_bytes().chunks(1000) {
        write(&mut stream, &chunk(part));
    }
    write(&mut stream, b"0\r\n\r\n");
    assert_eq!(read_answer(&mut stream).status, 200);

    let mut stream = start_chunked(&receiver);
    write(&mut stream, &chunk(callback_of(LIMIT + 1).as_bytes()));
    read_answer(&mut stream).problem(413);
}

#[test]
fn the_limit_can_be_another() {
    let receiver = Receiver::start("limits = { body = \"1KiB\" }\n");
    assert_eq!(receiver.post(&callback_of(1024)).status, 200);
    receiver.post(&callback_of(1025)).problem(413);
}

#[test]
fn too_large_a_body_is_answered_before_it_is_sent() {
    let receiver = Receiver::start("");
    let mut stream = connect(receiver.address);
    let start = format!("POST {} HTTP/1.1", path());
    send_head(&mut stream, &[&start, "host: x", "content-type: application/json", "content-length: 99999999999"]);
    read_answer(&mut stream).problem(413);
    assert_eq!(read_to_close(&mut stream), "");
}

#[test]
fn a_caller_that_sends_too_much_without_looking_up_gets_its_answer() {
    let receiver = Receiver::start("");
    let much = vec![b' '; 1 << 20];
    let mut stream = connect(receiver.address);
    let (start, length) = (format!("POST {} HTTP/1.1", path()), format!("content-length: {}", much.len()));
    send_head(&mut stream, &[&start, "host: x", "content-type: application/json", &length]);
    read_answer(&mut stream).problem(413);
    assert_eq!(read_to_close(&mut stream), "");
    for part in much.chunks(1 << 12) {
        // Were the connection reset now, this would fail, and a caller that writes before it reads would never see the answer.
        write(&mut stream, part);
    }

    let mut stream = start_chunked(&receiver);
    let mut sending = stream.try_clone().expect("a socket can be shared");
    let endless = std::thread::spawn(move || {
        use std::io::Write as _;
        while sending.write_all(&chunk(&[b' '; 8192])).is_ok() {}
    });
    read_answer(&mut stream).problem(413);
    endless.join().expect("the receiver closes the connection at some point");
}

#[test]
fn slow_headers_are_answered_408_and_the_connection_closes() {
    let receiver = Receiver::start("limits = { header_timeout = \"500ms\" }\n");
    let mut stream = connect(receiver.address);
    write(&mut stream, format!("POST {} HTTP/1.1\r\nhost: ", path()).as_bytes());
    let answer = read_answer(&mut stream);
    assert_eq!(answer.header("connection"), Some("close"));
    answer.problem(408);
    assert_eq!(read_to_close(&mut stream), "");
}

#[test]
fn a_second_request_with_slow_headers_is_answered_408_too() {
    let receiver = Receiver::start("limits = { header_timeout = \"500ms\" }\n");
    let mut stream = connect(receiver.address);
    send_request(&mut stream, "POST", &path(), &JSON, callback("A", "READ", 1).as_bytes());
    assert_eq!(read_answer(&mut stream).status, 200);
    write(&mut stream, b"POST /");
    read_answer(&mut stream).problem(408);
    assert_eq!(read_to_close(&mut stream), "");
}

#[test]
fn headers_that_began_with_the_request_before_them_are_answered_408_too() {
    let receiver = Receiver::start("limits = { header_timeout = \"1h\", idle_timeout = \"500ms\" }\n");
    let mut stream = connect(receiver.address);
    let body = callback("A", "READ", 1);
    let head = format!(
        "POST {} HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
        path(),
        body.len()
    );
    write(&mut stream, format!("{head}{body}{}", &head[..20]).as_bytes());
    assert_eq!(read_answer(&mut stream).body, STORED);
    read_answer(&mut stream).problem(408);
    assert_eq!(read_to_close(&mut stream), "");
}

#[test]
fn a_slow_body_is_answered_408_and_the_connection_closes() {
    let receiver = Receiver::start("limits = { body_timeout = \"500ms\" }\n");
    let mut fixed = half_sent(&receiver, &callback("A", "READ", 1));
    let mut chunked = start_chunked(&receiver);
    write(&mut chunked, &chunk(b"{\"type\":"));
    for stream in [&mut fixed, &mut chunked] {
        let answer = read_answer(stream);
        assert_eq!(answer.header("connection"), Some("close"));
        answer.problem(408);
        assert_eq!(read_to_close(stream), "");
    }
    assert!(receiver.stored().is_empty());
}

#[test]
fn a_connection_that_says_nothing_is_closed() {
    let receiver = Receiver::start("limits = { header_timeout = \"500ms\" }\n");
    assert_eq!(read_to_close(&mut connect(receiver.address)), "");
}

#[test]
fn a_quiet_connection_outlives_the_time_for_headers() {
    let receiver = Receiver::start("limits = { header_timeout = \"500ms\" }\n");
    let mut quiet = connect(receiver.address);
    send_request(&mut quiet, "POST", &path(), &JSON, callback("A", "READ", 1).as_bytes());
    assert_eq!(read_answer(&mut quiet).status, 200);
    // This one begins later and is given up for its slow headers: by then the quiet one has been quiet for longer than that.
    let mut slow = connect(receiver.address);
    write(&mut slow, b"POST");
    read_answer(&mut slow).problem(408);
    send_request(&mut quiet, "POST", &path(), &JSON, callback("B", "READ", 1).as_bytes());
    assert_eq!(read_answer(&mut quiet).body, STORED);
}

#[test]
fn a_quiet_connection_is_closed_at_its_own_time() {
    let receiver = Receiver::start("limits = { header_timeout = \"1h\", idle_timeout = \"500ms\" }\n");
    let mut quiet = connect(receiver.address);
    send_request(&mut quiet, "POST", &path(), &JSON, callback("A", "READ", 1).as_bytes());
    assert_eq!(read_answer(&mut quiet).status, 200);
    assert_eq!(read_to_close(&mut quiet), "");
}

#[test]
fn connections_above_the_bound_are_told_to_come_again_until_another_ends() {
    let receiver = Receiver::start("limits = { connections = 2 }\n");
    let mut open: Vec<TcpStream> = (0..2).map(|_| connect(receiver.address)).collect();
    for (number, stream) in open.iter_mut().enumerate() {
        send_request(stream, "POST", &path(), &JSON, callback(&format!("M{number}"), "READ", 1).as_bytes());
        assert_eq!(read_answer(stream).status, 200);
    }
    let mut third = connect(receiver.address);
    read_answer(&mut third).problem(503);
    assert_eq!(read_to_close(&mut third), "");

    // Those that have a place keep it, and the operator's listener has places of its own.
    send_request(&mut open[0], "POST", &path(), &JSON, callback("M2", "READ", 1).as_bytes());
    assert_eq!(read_answer(&mut open[0]).body, STORED);
    assert_eq!(receiver.admin_get("/readyz").status, 200);

    open.pop();
    eventually("a place is free again", || {
        let mut stream = connect(receiver.address);
        send_request(&mut stream, "POST", &path(), &JSON, callback("M3", "READ", 1).as_bytes());
        // One that is not even told so has to come again, too.
        try_read_answer(&mut stream).ok().filter(|answer| answer.status == 200)
    });
}

#[test]
fn callbacks_above_the_bound_are_told_to_come_again_until_another_ends() {
    let receiver = Receiver::start("limits = { in_flight = 1 }\n");
    let body = callback("A", "READ", 1);
    let mut first = half_sent(&receiver, &body);
    let second = callback("B", "READ", 1);
    receiver.post(&second).problem(503);
    assert_eq!(receiver.admin_get("/readyz").status, 200, "being busy is not being broken");

    write(&mut first, &body.as_bytes()[body.len() / 2..]);
    assert_eq!(read_answer(&mut first).body, STORED);
    assert_eq!(receiver.post(&second).body, STORED);

    // A caller that hangs up half-way leaves its place as well.
    drop(half_sent(&receiver, &body));
    eventually("the place is free again", || {
        let answer = receiver.post(&callback("C", "READ", 1));
        (answer.status == 200).then_some(())
    });
}

#[test]
fn a_full_store_tells_callers_to_come_again_and_is_not_ready() {
    // A sink whose destination is not there, so that nothing that is stored can go.
    let receiver =
        Receiver::start("[store.sqlite]\nmax_size = \"1MiB\"\n[sinks.crm.forward]\nurl = \"http://127.0.0.1:9/\"\n");
    let body = callback_of(8 << 10);
    let full =
        (0..256).map(|n| receiver.post(&body.replacen("[\"A\"]", &format!("[\"{n}\"]"), 1))).find(|a| a.status != 200);
    full.expect("256 times 8 KiB are more than 1 MiB").problem(503);
    receiver.post("{}").problem(503);
    let ready = receiver.admin_get("/readyz");
    assert_eq!((ready.status, &ready.json()["checks"]["store"]["ok"]), (503, &false.into()), "{ready:?}");
    let (code, _, error) = receiver.run(&["healthcheck"]);
    assert_eq!(code, 1);
    assert!(error.contains("store (the store is full)"), "{error}");
}
