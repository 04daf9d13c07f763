//! Every form of callback that is documented or was captured, and what is stored and logged for it.

use serde_json::{Value, json};

use crate::support::{Receiver, callback};

/// A callback with these fields over the usual ones; `null` as a field's value here means that the callback hasn't got it.
fn with(fields: &Value) -> String {
    let mut callback: Value = serde_json::from_str(&callback("A", "READ", 1_632_234_645_000)).expect("JSON");
    let object = callback.as_object_mut().expect("it is one");
    for (field, value) in fields.as_object().expect("an object") {
        match value {
            Value::Null => object.remove(field),
            value => object.insert(field.clone(), value.clone()),
        };
    }
    callback.to_string()
}

/// Posts each, all of which are new, and returns what is stored for them, with the log's lines.
fn store(receiver: &Receiver, bodies: &[String]) -> Vec<(Value, Value)> {
    let before = receiver.stored().len();
    for body in bodies {
        let answer = receiver.post(body);
        assert_eq!((answer.status, &answer.json()["duplicates"]), (200, &json!(0)), "{body}: {answer:?}");
    }
    let stored = receiver.stored().split_off(before);
    let lines = receiver.changes_on_the_log(stored.len());
    for (change, line) in stored.iter().zip(&lines) {
        let same = [
            "id",
            "status",
            "previous_status",
            "transition",
            "message_id",
            "instance_id",
            "device",
            "moment",
            "received_at",
        ];
        for field in same {
            assert_eq!(change[field], line[field], "{field}: {change} {line}");
        }
    }
    stored.into_iter().zip(lines).collect()
}

/// Likewise for one callback with one id.
fn stored(receiver: &Receiver, body: &str) -> Value {
    let mut all = store(receiver, &[body.to_owned()]);
    assert_eq!(all.len(), 1);
    all.remove(0).0
}

#[test]
fn a_change_has_every_field_of_the_contract() {
    let receiver = Receiver::start("");
    let body = callback("A", "READ", 1_632_234_645_000);
    let (change, line) = store(&receiver, std::slice::from_ref(&body)).remove(0);
    let expected = json!({
        "seq": change["seq"], "id": change["id"], "type": "message.status", "status": "READ", "previous_status": null,
        "transition": "advance", "message_id": "A", "instance_id": "instance.id", "phone": "5544999999999",
        "participant": null, "device": 0, "is_group": false, "moment": "2021-09-21T14:30:45Z",
        "received_at": change["received_at"], "callback": serde_json::from_str::<Value>(&body).expect("JSON"),
    });
    assert_eq!(change, expected);
    let id = change["id"].as_str().expect("text");
    assert!(id.len() == 32 && id.bytes().all(|b| b.is_ascii_hexdigit()), "{id}");
    let received_at = change["received_at"].as_str().expect("text");
    assert_eq!((received_at.len(), received_at.ends_with('Z')), ("2026-11-22T12:00:00.123Z".len(), true));
    assert_eq!(line["message"], "READ advance 55449****9999");
    assert_eq!((&line["phone"], &line["chat"]), (&json!("55449****9999"), &json!("direct")));
    assert_eq!((&line["sink"], &line["level"]), (&json!("audit"), &json!("INFO")));
    assert_eq!(line["since_previous_ms"], Value::Null);
    assert_eq!(line.get("participant"), None, "where there is none, it takes no room");
}

#[test]
fn one_callback_may_speak_of_a_thousand_messages() {
    let receiver = Receiver::start("");
    let ids: Vec<String> = (0..1000).map(|number| format!("3EB0{number:016X}")).collect();
    let body = with(&json!({ "ids": ids }));
    assert!(body.len() < 64 << 10);
    assert_eq!(receiver.post(&body).body, r#"{"stored": 1000, "duplicates": 0}"#);
    let stored = receiver.stored();
    for (change, id) in stored.iter().zip(&ids) {
        assert_eq!((&change["message_id"], &change["callback"]["ids"]), (&json!(id), &json!([id])));
    }
    assert_eq!(receiver.changes_on_the_log(1000).len(), stored.len());
}

#[test]
fn an_id_alone_is_taken_when_there_are_no_ids() {
    let receiver = Receiver::start("");
    let change = stored(&receiver, &with(&json!({ "ids": null, "id": "ALONE" })));
    assert_eq!((&change["message_id"], &change["callback"]["id"]), (&json!("ALONE"), &json!("ALONE")));
    let null = with(&json!({ "ids": null })).replacen('{', r#"{"ids":null,"id":"BESIDE NULL","#, 1);
    assert_eq!(stored(&receiver, &null)["message_id"], "BESIDE NULL");
    let both = stored(&receiver, &with(&json!({ "ids": ["LISTED"], "id": "NOT THIS" })));
    assert_eq!(both["message_id"], "LISTED");
}

#[test]
fn an_id_twice_in_a_callback_is_stored_once() {
    let receiver = Receiver::start("");
    let answer = receiver.post(&with(&json!({ "ids": ["A", "B", "A"] })));
    assert_eq!(answer.body, r#"{"stored": 2, "duplicates": 1}"#);
    let ids: Vec<_> = receiver.stored().iter().map(|change| change["message_id"].clone()).collect();
    assert_eq!(ids, ["A", "B"]);
}

#[test]
fn the_moment_is_read_in_milliseconds_in_seconds_and_from_text() {
    let receiver = Receiver::start("");
    let moments = [
        (json!(1_632_234_645_000_i64), json!("2021-09-21T14:30:45Z")),
        (json!(1_632_234_645), json!("2021-09-21T14:30:45Z")),
        (json!("1632234645000"), json!("2021-09-21T14:30:45Z")),
        (json!("1632234645"), json!("2021-09-21T14:30:45Z")),
        (json!(1_632_234_645_123_i64), json!("2021-09-21T14:30:45.123Z")),
        (json!(1_000_000_000_000_i64), json!("2001-09-09T01:46:40Z")),
        (json!(0), json!("1970-01-01T00:00:00Z")),
        (Value::Null, Value::Null),
    ];
    for (number, (momment, moment)) in moments.into_iter().enumerate() {
        let change = stored(&receiver, &with(&json!({ "ids": [format!("M{number}")], "momment": momment })));
        assert_eq!(change["moment"], moment);
    }
    let null = with(&json!({ "ids": ["NULL"], "momment": null })).replacen('{', r#"{"momment":null,"#, 1);
    assert_eq!(stored(&receiver, &null)["moment"], Value::Null);
    // As seconds this is the year 33658: no moment that anybody means.
    receiver.post(&with(&json!({ "ids": ["FAR"], "momment": 999_999_999_999_i64 }))).problem(422);
}

#[test]
fn seconds_and_milliseconds_of_one_moment_are_the_same_event() {
    let receiver = Receiver::start("");
    receiver.post(&with(&json!({ "momment": 1_632_234_645_000_i64 })));
    for momment in [json!(1_632_234_645), json!("1632234645"), json!("1632234645000")] {
        let answer = receiver.post(&with(&json!({ "momment": momment })));
        assert_eq!(answer.body, r#"{"stored": 0, "duplicates": 1}"#, "{momment}");
    }
}

#[test]
fn every_kind_of_chat_keeps_its_phone_and_its_participant() {
    let receiver = Receiver::start("");
    let forms = [
        (json!({ "phone": "551146251396" }), "direct", "551146251396", Value::Null, json!(0)),
        (json!({ "phone": "241320502831241@lid" }), "direct", "241320502831241@lid", Value::Null, json!(0)),
        (json!({ "phone": "120363@newsletter" }), "direct", "120363@newsletter", Value::Null, json!(0)),
        (
            json!({ "phone": "120363835109990214-group", "participant": "551194333722", "participantDevice": 47,
                "phoneDevice": null, "isGroup": true }),
            "group",
            "120363835109990214-group",
            json!("551194333722"),
            json!(47),
        ),
        (
            json!({ "phone": "5511988887777-1600000000@g.us", "participant": "241320502831241@lid", "isGroup": true,
                "phoneDevice": null }),
            "group",
            "5511988887777-1600000000@g.us",
            json!("241320502831241@lid"),
            Value::Null,
        ),
        (
            json!({ "phone": "status@broadcast", "participant": "5511978716504", "participantDevice": 19 }),
            "story",
            "status@broadcast",
            json!("5511978716504"),
            json!(19),
        ),
    ];
    for (number, (mut fields, chat, phone, participant, device)) in forms.into_iter().enumerate() {
        fields["ids"] = json!([format!("M{number}")]);
        let (change, line) = store(&receiver, &[with(&fields)]).remove(0);
        assert_eq!(
            (&change["phone"], &change["participant"], &change["device"]),
            (&json!(phone), &participant, &device)
        );
        assert_eq!((&line["chat"], &change["is_group"]), (&json!(chat), &json!(chat == "group")));
    }
}

#[test]
fn a_group_is_known_by_its_phone_when_the_callback_does_not_say() {
    let receiver = Receiver::start("");
    for (number, (phone, is_group)) in
        [("120363835109990214-group", true), ("1600000000@g.us", true), ("5544999999999", false)].iter().enumerate()
    {
        let fields = json!({ "ids": [format!("M{number}")], "isGroup": null, "phone": phone });
        assert_eq!(stored(&receiver, &with(&fields))["is_group"], *is_group, "{phone}");
    }
}

#[test]
fn a_callback_needs_no_more_than_type_status_and_ids() {
    let receiver = Receiver::start("");
    let body = r#"{"type":"MessageStatusCallback","status":"READ","ids":["A"]}"#;
    let change = stored(&receiver, body);
    for field in ["phone", "participant", "instance_id", "device", "moment"] {
        assert_eq!(change[field], Value::Null, "{field}");
    }
    assert_eq!(receiver.post(body).body, r#"{"stored": 0, "duplicates": 1}"#);
    let nulls = r#"{"type":"MessageStatusCallback","status":"READ","ids":["A"],"phone":null,"participant":null,"instanceId":null,"phoneDevice":null,"participantDevice":null,"isGroup":null,"momment":null}"#;
    assert_eq!(receiver.post(nulls).body, r#"{"stored": 0, "duplicates": 1}"#, "null is as good as absent");
}

#[test]
fn the_callback_is_kept_as_it_came_with_its_ids_cut_to_one() {
    let receiver = Receiver::start("");
    let rest = r#" "zeta" : {"b":1,"a":[1.50, 1e3,"\u00e9\/"]},"status":"READ" ,"type":"MessageStatusCallback","big":12345678901234567890123,"momment":1632234645000,"a":null,"a":2}"#;
    let body = format!("{{\"ids\": [ \"A\" , \"B\\u0022\" ],{rest}");
    assert_eq!(receiver.post(&body).body, r#"{"stored": 2, "duplicates": 0}"#);
    let text = receiver.admin_get("/api/v1/changes").body;
    for cut in [r#"["A"]"#, r#"["B\""]"#] {
        let kept = format!("{{\"ids\": {cut},{rest}");
        assert!(text.contains(&kept), "{kept} is not in {text}");
    }
}

#[test]
fn old_and_new_spellings_and_lower_case_are_the_same_status() {
    let receiver = Receiver::start("");
    let spellings = [
        ["SENT", "MESSAGE_SENT", "sent", "message_sent"].as_slice(),
        &["RECEIVED", "MESSAGE_RECEIVED", "received", "Received"],
        &["READ", "MESSAGE_READ", "read", "Message_Read"],
        &["PLAYED", "MESSAGE_PLAYED", "played"],
        &["READ-SELF", "READ_BY_ME", "MESSAGE_READ-SELF", "read_by_me", "read-self"],
    ];
    for same in spellings {
        for (number, spelling) in same.iter().enumerate() {
            let answer = receiver.post(&callback(same[0], spelling, 1_632_234_645_000));
            assert_eq!(answer.json()["stored"], i32::from(number == 0), "{spelling}");
        }
        // At another moment each is a repeat, or has no rank, and is spelled as it came.
        for (number, spelling) in same.iter().enumerate() {
            receiver.post(&callback(same[0], spelling, 1_632_234_646_000 + number as i64 * 1000));
            let change = receiver.stored().pop().expect("stored");
            let transition = if same[0] == "READ-SELF" { "unranked" } else { "repeat" };
            assert_eq!((&change["status"], &change["transition"]), (&json!(spelling), &json!(transition)));
        }
    }
}
