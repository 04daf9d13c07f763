//! The operator's listener, and the commands that ask it.

use serde_json::{Value, json};

use crate::support::{Answer, Receiver, callback, connect, eventually, output_of, program, read_answer, send_head};

const START: i64 = 1_632_234_645_000;

/// Gets a path with exactly these headers.
fn get(receiver: &Receiver, path: &str, headers: &[&str]) -> Answer {
    let mut stream = connect(receiver.admin);
    send_head(&mut stream, &[&[format!("GET {path} HTTP/1.1").as_str()], headers].concat());
    read_answer(&mut stream)
}

#[test]
fn it_says_that_it_lives_and_what_makes_it_ready() {
    let receiver = Receiver::start("[sinks.audit.log]\n[sinks.second.log]\n");
    let live = receiver.admin_get("/livez");
    assert_eq!((live.status, live.json()), (200, json!({ "live": true })));
    let ready = receiver.admin_get("/readyz");
    assert_eq!((ready.status, ready.header("content-type")), (200, Some("application/json")));
    let ready = ready.json();
    assert_eq!(ready["ready"], true);
    for check in ["store", "serving", "sink:audit", "sink:second"] {
        assert_eq!(ready["checks"][check]["ok"], true, "{check}: {ready}");
    }
    // Health is not for the public listener.
    receiver.post_to("/readyz", &[], b"").problem(404);
}

#[test]
fn others_than_this_host_need_the_token() {
    let token = "canary-token-77aa0b";
    let receiver = Receiver::start(&format!("[admin]\nlisten = \"0.0.0.0:0\"\ntoken = \"{token}\"\n"));
    let right = format!("authorization: Bearer {token}");
    for path in
        ["/metrics", "/api/v1/changes", "/api/v1/sinks", "/api/v1/instances", "/api/v1/rejected", "/api/v1/messages/A"]
    {
        for wrong in [
            vec!["host: localhost"],
            vec!["host: localhost", "authorization: Bearer canary-token-77aa0"],
            vec!["host: localhost", "authorization: Bearer canary-token-77aa0b0"],
            vec!["host: localhost", "authorization: Basic canary-token-77aa0b"],
            vec!["host: localhost", "authorization: canary-token-77aa0b"],
            vec!["host: localhost", "authorization: Bearer"],
        ] {
            get(&receiver, path, &wrong).problem(401);
        }
        let query = format!("{path}?token={token}");
        get(&receiver, &query, &["host: localhost"]).problem(401);
        // With it, another name is no matter: the receiver may have one on the network.
        let status = get(&receiver, path, &["host: receiver.internal", &right]).status;
        assert_eq!(status, if path.ends_with("/A") { 404 } else { 200 });
    }
    for (path, method) in [("retry", "POST"), ("drop", "POST")] {
        let mut stream = connect(receiver.admin);
        send_head(&mut stream, &[&format!("{method} /api/v1/rejected/1/{path} HTTP/1.1"), "host: localhost"]);
        read_answer(&mut stream).problem(401);
    }
    for health in ["/livez", "/readyz"] {
        assert_eq!(get(&receiver, health, &["host: receiver.internal"]).status, 200, "health is no secret");
    }
    for (headers, are_there) in [(["host: localhost", "accept: */*"], false), (["host: localhost", &right], true)] {
        let ready = get(&receiver, "/readyz", &headers).json();
        assert_eq!(
            ready.get("instances").is_some(),
            are_there,
            "whose accounts these are is nobody else's business: {ready}"
        );
    }

    // The commands have it from the configuration, and reach a listener on all addresses.
    receiver.post(&callback("A", "READ", START));
    assert_eq!(receiver.run(&["show", "A"]).0, 0);
    assert_eq!(receiver.run(&["healthcheck"]).0, 0);
    receiver.home().configure("[admin]\nlisten = \"0.0.0.0:0\"\ntoken = \"another\"\n");
    for command in [["show", "A"].as_slice(), &["rejected", "list"], &["rejected", "drop", "1"]] {
        let (code, _, error) = receiver.run(command);
        assert_eq!(code, 2, "another token is a wrong configuration");
        assert!(error.contains("[admin]") && !error.contains("another"), "{error}");
    }
}

#[test]
fn a_token_can_come_from_a_file() {
    let home = crate::support::Home::new("[admin]\nlisten = \"127.0.0.1:0\"\ntoken_file = \"token\"\n");
    std::fs::write(home.config().with_file_name("token"), "canary-token-from-a-file\n").expect("it can be written");
    let receiver = home.start();
    receiver.admin_get("/api/v1/changes").problem(401);
    let right = ["host: localhost", "authorization: Bearer canary-token-from-a-file"];
    assert_eq!(get(&receiver, "/api/v1/changes", &right).status, 200);
    assert_eq!(receiver.run(&["rejected", "list"]).0, 0);
}

#[test]
fn web_pages_and_names_made_to_point_here_are_refused() {
    let receiver = Receiver::start("");
    for path in ["/api/v1/changes", "/api/v1/sinks", "/api/v1/rejected", "/api/v1/messages/A"] {
        for headers in [
            vec!["host: localhost", "origin: http://localhost"],
            vec!["host: localhost", "origin: null"],
            vec!["host: evil.example"],
            vec!["host: localhost.evil.example:8081"],
            vec!["host: 203.0.113.7"],
            vec!["x: y"],
        ] {
            let answer = get(&receiver, path, &headers);
            answer.problem(403);
            assert_eq!(answer.header("access-control-allow-origin"), None);
        }
    }
    for host in ["host: localhost", "host: localhost:8081", "host: 127.0.0.1", "host: 127.0.0.1:1", "host: [::1]:8081"]
    {
        assert_eq!(get(&receiver, "/api/v1/changes", &[host]).status, 200, "{host}");
    }
}

#[test]
fn what_is_not_there_is_answered_like_any_refusal() {
    let receiver = Receiver::start("");
    for path in ["/", "/api", "/api/v1/messages/A", "/api/v1/rejected/1", "/message-status"] {
        receiver.admin_get(path).problem(404);
    }
    for path in ["/livez", "/api/v1/changes", "/api/v1/sinks", "/api/v1/messages/A"] {
        let answer = receiver.admin_post(path);
        assert!(answer.header("allow").is_some_and(|allow| allow.contains("get")), "{answer:?}");
        answer.problem(405);
    }
    for path in ["/api/v1/rejected/x", "/api/v1/messages/%FF", "/api/v1/rejected/99999999999999999999"] {
        receiver.admin_get(path).problem(400);
    }
}

#[test]
fn changes_come_in_order_and_in_pages() {
    let receiver = Receiver::start("");
    assert_eq!(receiver.admin_get("/api/v1/changes").json(), json!({ "changes": [], "next": 0 }));
    for number in 0..150 {
        receiver.post(&callback(&format!("M{number}"), "READ", START));
    }
    let page = |query: &str| {
        let page = receiver.admin_get(&format!("/api/v1/changes?{query}")).json();
        let ids: Vec<_> =
            page["changes"].as_array().expect("a list").iter().map(|change| change["message_id"].clone()).collect();
        (ids, page["next"].as_i64().expect("a number"))
    };
    let names = |range: std::ops::Range<usize>| range.map(|number| json!(format!("M{number}"))).collect::<Vec<_>>();
    let (first, next) = page("");
    assert_eq!(first, names(0..100), "a hundred when not asked for a number");
    assert_eq!(page(&format!("after={next}")).0, names(100..150));
    let (two, next) = page("limit=2");
    assert_eq!(two, names(0..2));
    assert_eq!(page(&format!("limit=3&after={next}")).0, names(2..5));
    let (all, end) = page("limit=5000");
    assert_eq!(all, names(0..150));
    assert_eq!(page(&format!("after={end}")), (vec![], end), "where the log ends, it stays");
    for wrong in ["after=x", "limit=-1", "limit=x", "unknown=1"] {
        receiver.admin_get(&format!("/api/v1/changes?{wrong}")).problem(400);
    }
}

#[test]
fn changes_can_be_asked_for_by_status_instance_and_phone() {
    let receiver = Receiver::start("");
    let post = |id: &str, status: &str, instance: &str, phone: &str, participant: Option<&str>| {
        let body = json!({ "type": "MessageStatusCallback", "status": status, "ids": [id], "instanceId": instance,
            "phone": phone, "participant": participant, "momment": START });
        assert_eq!(receiver.post(&body.to_string()).status, 200);
    };
    post("A", "READ", "one", "551146251396", None);
    post("B", "MESSAGE_READ", "two", "551146251396", None);
    post("C", "SENT", "one", "551143095355", None);
    post("D", "READ", "two", "120363835109990214-group", Some("551146251396"));
    post("E", "ANSWERED", "two words&more", "+55 11", None);
    let found = |query: &str| {
        let page = receiver.admin_get(&format!("/api/v1/changes?{query}")).json();
        let ids = page["changes"].as_array().expect("a list").iter();
        (
            ids.map(|change| change["message_id"].as_str().expect("text").to_owned()).collect::<String>(),
            page["next"].clone(),
        )
    };
    let end = json!(5);
    for (query, ids) in [
        ("status=READ", "ABD"),
        ("status=message_read", "ABD"),
        ("status=answered", "E"),
        ("status=PLAYED", ""),
        ("instance=one", "AC"),
        ("instance=two%20words%26more", "E"),
        ("instance=On", ""),
        ("phone=551146251396", "ABD"),
        ("phone=120363835109990214-group", "D"),
        ("phone=%2B55+11", "E"),
        ("phone=5511", ""),
        ("status=READ&instance=two&phone=551146251396", "BD"),
        ("status=READ&instance=two&after=2", "D"),
    ] {
        assert_eq!(found(query), (ids.to_owned(), end.clone()), "{query}");
    }
    assert_eq!(found("status=READ&limit=1"), ("A".into(), json!(1)));
}

#[test]
fn a_message_is_shown_with_where_each_sink_stands() {
    let receiver = Receiver::start("[sinks.all.log]\n[sinks.some.log]\n[sinks.some.filter]\nstatus = [\"READ\"]\n");
    let id = "3EB0/C431 C26A%1916?E07E";
    for (status, at) in [("SENT", 0), ("READ", 5), ("RECEIVED", 3)] {
        receiver.post(&callback(id, status, START + at * 1000));
    }
    let path = "/api/v1/messages/3EB0%2FC431%20C26A%251916%3FE07E";
    let message = eventually("everything is delivered", || {
        let answer = receiver.admin_get(path);
        (!answer.body.contains("\"waiting\"")).then(|| answer.json())
    });
    assert_eq!(message["message_id"], id);
    let recipient = &message["recipients"][0];
    assert_eq!((&recipient["recipient"], &recipient["instance_id"]), (&json!("5544999999999"), &json!("instance.id")));
    assert_eq!(recipient["status"], "READ");
    let changes: Vec<_> = recipient["changes"].as_array().expect("a list").iter().collect();
    let told: Vec<_> =
        changes.iter().map(|change| (&change["status"], &change["transition"], &change["sinks"])).collect();
    let both = json!({ "all": "delivered", "some": "delivered" });
    let filtered = json!({ "all": "delivered", "some": "filtered" });
    assert_eq!(
        told,
        [
            (&json!("SENT"), &json!("advance"), &filtered),
            (&json!("READ"), &json!("advance"), &both),
            (&json!("RECEIVED"), &json!("late"), &filtered)
        ]
    );
    assert_eq!(changes[0]["moment"], "2021-09-21T14:30:45Z");

    let (code, json, _) = receiver.run(&["show", id, "--json"]);
    assert_eq!((code, serde_json::from_str::<Value>(&json).expect("JSON")), (0, message.clone()));
    let (code, text, _) = receiver.run(&["show", id]);
    assert_eq!(code, 0);
    let lines: Vec<_> = text.lines().filter(|line| !line.is_empty()).collect();
    assert_eq!(lines[0], format!("message {id}"));
    assert_eq!(lines[1], "to 55449****9999 in instance.id: READ", "no full phone number, unless asked for");
    for (line, change) in lines[2..].iter().zip(&changes) {
        for part in ["status", "transition", "moment", "received_at"] {
            assert!(line.contains(change[part].as_str().expect("text")), "{part}: {line}");
        }
    }
    assert!(lines[2].ends_with("all delivered, some filtered"), "{text}");
    assert_eq!(lines.len(), 5, "{text}");
}

#[test]
fn a_message_that_is_not_known_is_said_to_be_so() {
    let receiver = Receiver::start("");
    let (code, text, error) = receiver.run(&["show", "A"]);
    assert_eq!((code, text.as_str()), (1, ""));
    assert!(error.contains("no change of this message is stored"), "{error}");
}

#[test]
fn sinks_say_how_far_they_are() {
    let receiver = Receiver::start("[sinks.audit.log]\n");
    receiver.post(&callback("A", "READ", START));
    let sinks = eventually("it is delivered", || {
        let sinks = receiver.admin_get("/api/v1/sinks").json();
        (sinks[0]["lag"] == 0).then_some(sinks)
    });
    assert_eq!((&sinks[0]["name"], &sinks[0]["state"]), (&json!("audit"), &json!("delivering")));
    assert_eq!(sinks[0]["last_error"], Value::Null);
}

#[test]
fn a_health_check_fails_when_nobody_is_there() {
    let receiver = Receiver::start("");
    assert_eq!(receiver.run(&["healthcheck"]), (0, "ready\n".into(), String::new()));
    let admin = receiver.admin.to_string();
    let home = receiver.stop();
    for command in [["healthcheck"].as_slice(), &["show", "A"], &["rejected", "list"]] {
        let (code, text, error) = output_of(home.command(command).env("PLUGCHAT_RECEIVER__ADMIN__LISTEN", &admin));
        assert_eq!((code, text.as_str()), (1, ""));
        assert!(error.contains(&admin) && error.contains("is it running"), "{error}");
    }
}

#[test]
fn an_administration_that_others_can_reach_needs_a_token_to_start() {
    for listen in ["0.0.0.0:0", "[::]:0", "192.0.2.1:8081"] {
        let home = crate::support::Home::new(&format!("[admin]\nlisten = \"{listen}\"\n"));
        for command in ["serve", "check"] {
            let (code, _, error) = output_of(&mut home.command(&[command]));
            assert_eq!(code, 2, "{error}");
            assert!(error.contains("admin.listen") && error.contains("admin.token_file"), "{error}");
        }
    }
    // Nothing that is configured wrongly keeps the help away.
    assert_eq!(output_of(program().arg("--help")).0, 0);
}
