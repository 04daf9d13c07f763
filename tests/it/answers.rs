//! What is answered to a body, by what is in it.

use serde_json::{Value, json};

use crate::support::{JSON, Receiver, SECRET, STORED, callback, path};

/// A callback with this phone number, which no answer may repeat.
fn documented() -> Value {
    json!({
        "instanceId": "instance.id", "status": "READ", "ids": ["A"], "momment": 1_632_234_645_000_i64,
        "phoneDevice": 0, "phone": PHONE, "type": "MessageStatusCallback", "isGroup": false
    })
}

const PHONE: &str = "5544987654321";

/// The callback with fields replaced; `Value::Null` stays, and an absent value takes the field away.
fn with(fields: &[(&str, Option<Value>)]) -> String {
    let mut callback = documented();
    let object = callback.as_object_mut().expect("it is one");
    for (field, value) in fields {
        match value {
            Some(value) => object.insert((*field).to_owned(), value.clone()),
            None => object.remove(*field),
        };
    }
    callback.to_string()
}

/// The pointers of a 422, in order.
fn pointers(receiver: &Receiver, body: &str) -> Vec<String> {
    let answer = receiver.post(body);
    let problem = answer.problem(422);
    assert!(!answer.body.contains(PHONE) && !answer.body.contains(SECRET), "{answer:?}");
    let mut pointers = Vec::new();
    for error in problem["errors"].as_array().expect("a list") {
        assert!(error["detail"].as_str().is_some_and(|detail| !detail.is_empty()), "{error}");
        pointers.push(error["pointer"].as_str().expect("a pointer").to_owned());
    }
    pointers
}

#[test]
fn the_answer_counts_what_was_stored_and_what_was_known() {
    let receiver = Receiver::start("");
    let post = |ids: &[&str]| {
        let answer = receiver.post(&with(&[("ids", Some(json!(ids)))]));
        assert_eq!((answer.status, answer.header("content-type")), (200, Some("application/json")));
        answer.body
    };
    assert_eq!(post(&["A", "B"]), r#"{"stored": 2, "duplicates": 0}"#);
    assert_eq!(post(&["A", "B"]), r#"{"stored": 0, "duplicates": 2}"#);
    assert_eq!(post(&["C", "A", "D", "B", "E"]), r#"{"stored": 3, "duplicates": 2}"#);
    assert_eq!(receiver.stored().len(), 5);
}

#[test]
fn what_is_not_known_is_stored_and_no_error() {
    let receiver = Receiver::start("");
    for body in [
        with(&[("status", Some(json!("ANSWERED")))]),
        with(&[("status", Some(json!("ÜÑKNOWN \u{1f600} status")))]),
        with(&[("ids", Some(json!(["never-seen-before"])))]),
        with(&[("newField", Some(json!({"a": [1, null, {"b": "c"}]}))), ("", Some(json!(1)))]),
        with(&[("phone", Some(json!("120363@newsletter")))]),
        with(&[("phone", Some(json!("not a number at all")))]),
    ] {
        assert_eq!(receiver.post(&body).body, STORED, "{body}");
    }
}

#[test]
fn what_is_not_one_json_object_is_answered_400() {
    let receiver = Receiver::start("");
    let whole = documented().to_string();
    let doubled = format!("{whole}\n{whole}");
    let trailing = format!("{whole} x");
    let comma = whole.replace('}', ",}");
    let nan = whole.replace("1632234645000", "NaN");
    let bodies: Vec<&[u8]> = vec![
        b"",
        b" \r\n\t ",
        b"null",
        b"true",
        b"17",
        b"[]",
        b"[{}]",
        b"{",
        b"{\"type\":\"MessageStatusCallback\"",
        b"status=READ",
        b"{'type':'MessageStatusCallback'}",
        b"{\"type\":\"Message\xff\"}",
        b"\xff\xfe{\x00}\x00",
        b"\xef\xbb\xbf",
        &whole.as_bytes()[..whole.len() - 1],
        &whole.as_bytes()[..whole.len() / 2],
        doubled.as_bytes(),
        trailing.as_bytes(),
        comma.as_bytes(),
        nan.as_bytes(),
    ];
    let string = format!("\"{PHONE}\"");
    for body in bodies.into_iter().chain([string.as_bytes()]) {
        let answer = receiver.post_to(&path(), &JSON, body);
        answer.problem(400);
        assert!(!answer.body.contains(PHONE), "{answer:?}");
    }
    assert!(receiver.stored().is_empty());
    assert_eq!(receiver.admin_get("/api/v1/rejected").json(), json!([]), "only JSON objects are kept as rejected");
}

#[test]
fn a_field_that_is_missing_or_of_the_wrong_kind_is_named() {
    let receiver = Receiver::start("");
    for field in ["type", "status", "ids"] {
        assert_eq!(pointers(&receiver, &with(&[(field, None)])), [format!("/{field}")]);
    }
    let wrong: [(&str, &[Value]); 9] = [
        ("type", &[json!(null), json!(1), json!(["MessageStatusCallback"])]),
        ("status", &[json!(null), json!(""), json!(3), json!(true), json!({"a": PHONE})]),
        ("ids", &[json!({}), json!("A"), json!(5), json!([])]),
        ("phone", &[json!(5_544_987_654_321_i64), json!([PHONE]), json!(false)]),
        ("instanceId", &[json!(7), json!({})]),
        ("participant", &[json!(5_544_987_654_321_i64), json!([])]),
        ("isGroup", &[json!("false"), json!(0), json!([])]),
        ("phoneDevice", &[json!("0"), json!(1.5), json!({}), json!(1e300)]),
        (
            "momment",
            &[
                json!("yesterday"),
                json!("+1632234645000"),
                json!(" 1632234645000"),
                json!(""),
                json!([]),
                json!(1.5),
                json!(-1),
                json!(true),
                json!(i64::MAX),
            ],
        ),
    ];
    for (field, values) in wrong {
        for value in values {
            let body = with(&[(field, Some(value.clone()))]);
            assert_eq!(pointers(&receiver, &body), [format!("/{field}")], "{body}");
        }
    }
    assert_eq!(pointers(&receiver, &with(&[("participantDevice", Some(json!("19")))])), ["/participantDevice"]);
    assert_eq!(pointers(&receiver, &with(&[("ids", None), ("id", Some(json!(["A"])))])), ["/id"]);
    assert!(receiver.stored().is_empty());
}

#[test]
fn a_missing_id_is_told_apart_from_each_wrong_one() {
    let receiver = Receiver::start("");
    let ids = |ids: Value| pointers(&receiver, &with(&[("ids", Some(ids))]));
    assert_eq!(ids(json!(["A", "B", "C", 4])), ["/ids/3"]);
    assert_eq!(ids(json!(["A", ""])), ["/ids/1"]);
    assert_eq!(ids(json!([null, "A", ["B"], {}])), ["/ids/0", "/ids/2", "/ids/3"]);
    assert_eq!(ids(json!((0..1001).map(|n| n.to_string()).collect::<Vec<_>>())), ["/ids"]);
    assert_eq!(pointers(&receiver, &with(&[("ids", None), ("messageId", Some(json!("A")))])), ["/ids"]);
}

#[test]
fn everything_wrong_is_named_at_once() {
    let receiver = Receiver::start("");
    let body = with(&[
        ("type", None),
        ("status", None),
        ("ids", Some(json!(["A", 1]))),
        ("phone", Some(json!(5))),
        ("isGroup", Some(json!("no"))),
        ("momment", Some(json!("later"))),
    ]);
    let mut found = pointers(&receiver, &body);
    found.sort();
    assert_eq!(found, ["/ids/1", "/isGroup", "/momment", "/phone", "/status", "/type"]);
    assert_eq!(pointers(&receiver, "{}"), ["/type", "/status", "/ids"]);
    let twice = documented().to_string().replacen('{', r#"{"status":"SENT","#, 1);
    assert_eq!(pointers(&receiver, &twice), ["/status"], "which of the two is meant can't be known");
}

/// What people register one URL for: all of these reach it.
const OTHERS: [&str; 7] = [
    r#"{"type":"ReceivedCallback","status":"RECEIVED","messageId":"A","phone":"5544987654321"}"#,
    r#"{"type":"DeliveryCallback","ids":["A"],"status":"SENT","phone":"5544987654321","error":"x"}"#,
    r#"{"type":"PresenceChatCallback","phone":"5544987654321","status":"COMPOSING"}"#,
    r#"{"type":"ConnectedCallback","connected":true,"phone":"5544987654321"}"#,
    r#"{"type":"messagestatuscallback","status":"READ","ids":["A"],"phone":"5544987654321"}"#,
    r#"{"type":"5544987654321","status":"READ","ids":["A"]}"#,
    r#"{"attendance":{"id":1},"chat":{"phone":"5544987654321"}}"#,
];

#[test]
fn another_type_of_callback_is_no_status_however_much_it_looks_like_one() {
    let receiver = Receiver::start("");
    for body in OTHERS {
        assert_eq!(pointers(&receiver, body), ["/type"], "{body}");
    }
    assert!(receiver.stored().is_empty());
}

#[test]
fn other_types_can_be_accepted_and_are_kept_all_the_same() {
    let receiver = Receiver::start("other_types = \"accept\"\n");
    for body in OTHERS {
        let answer = receiver.post(body);
        assert_eq!((answer.status, answer.body.as_str()), (200, r#"{"stored": 0, "duplicates": 0}"#), "{body}");
    }
    // These are not another type, but broken.
    for body in [with(&[("type", None)]), with(&[("type", Some(json!(1)))]), with(&[("status", None)]), "{}".into()] {
        receiver.post(&body).problem(422);
    }
    assert!(receiver.stored().is_empty());
    assert_eq!(receiver.admin_get("/api/v1/rejected").json().as_array().map(Vec::len), Some(OTHERS.len() + 4));
}

#[test]
fn json_of_any_depth_is_answered() {
    const LEVELS: usize = 100_000;
    let receiver = Receiver::start("limits = { body = \"4MiB\" }\n");
    let lists = format!("{}{}", "[".repeat(LEVELS), "]".repeat(LEVELS));
    let objects = format!("{}1{}", r#"{"a":"#.repeat(LEVELS), "}".repeat(LEVELS));
    receiver.post(&lists).problem(400);
    receiver.post(&"[".repeat(LEVELS)).problem(400);
    receiver.post(&r#"{"a":"#.repeat(LEVELS)).problem(400);
    receiver.post(&objects).problem(422);
    for (field, value) in [("unknown", &lists), ("unknown", &objects), ("phone", &lists), ("ids", &lists)] {
        let body = with(&[(field, None)]).replacen('{', &format!(r#"{{"{field}":{value},"#), 1);
        let answer = receiver.post(&body);
        assert!(answer.problem(422)["errors"].to_string().contains(&format!("/{field}")), "{answer:?}");
    }
    assert_eq!(receiver.post(&callback("A", "READ", 1)).body, STORED, "it lives on");
}

#[test]
fn unusual_json_of_a_callback_is_a_callback() {
    let receiver = Receiver::start("");
    let pretty = serde_json::to_string_pretty(&documented()).expect("JSON");
    assert_eq!(receiver.post(&format!("\r\n {pretty}\n\t ")).body, STORED);
    // The same with its keys and texts escaped: it says the same, so it is known.
    let escaped = documented().to_string().replace("\"type\"", "\"\\u0074ype\"").replace("READ", "R\\u0045AD");
    assert_eq!(receiver.post(&escaped).body, r#"{"stored": 0, "duplicates": 1}"#);
    // An id with a lone surrogate is no text, and NUL is.
    assert_eq!(pointers(&receiver, &documented().to_string().replace("[\"A\"]", "[\"\\ud800\"]")), ["/ids/0"]);
    assert_eq!(receiver.post(&documented().to_string().replace("[\"A\"]", "[\"A\\u0000\"]")).body, STORED);
}
