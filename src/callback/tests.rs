use proptest::prelude::*;
use serde_json::{Map, Value, json};

use super::*;

/// A callback with every known field.
fn full() -> Map<String, Value> {
    let value = json!({
        "instanceId": "instance.id", "status": "READ", "ids": ["one", "two"], "momment": 1_632_234_645_000_i64,
        "phoneDevice": 0, "participant": "5544888888888", "participantDevice": 19, "phone": "1203630000-group",
        "type": "MessageStatusCallback", "isGroup": true
    });
    value.as_object().unwrap().clone()
}

fn parse_value(value: &Value) -> Result<Callback, Invalid> {
    parse(value.to_string().as_bytes())
}

/// What later parts see of a callback, but for its text.
fn seen(callback: &Callback) -> String {
    let facts: Vec<_> = callback.ids().iter().map(|id| callback.facts(id)).collect();
    format!("{facts:?} {}", callback.is_group())
}

#[test]
fn every_field_is_read() {
    let callback = parse_value(&Value::Object(full())).unwrap();
    assert_eq!(callback.ids(), ["one", "two"]);
    let facts = callback.facts("one");
    assert_eq!(facts.instance_id.as_deref(), Some("instance.id"));
    assert_eq!(facts.status.as_str(), "READ");
    assert_eq!(facts.recipient(), "5544888888888");
    assert_eq!(facts.device, Some(19), "the participant's device, where there is a participant");
    assert_eq!(facts.moment.unwrap().to_string(), "2021-09-21T14:30:45Z");
    assert!(callback.is_group());
}

#[test]
fn a_moment_is_read_in_every_form_it_comes_in() {
    for momment in [json!(1_632_234_645_000_i64), json!(1_632_234_645), json!("1632234645000"), json!("1632234645")] {
        let mut fields = full();
        fields.insert("momment".into(), momment.clone());
        let moment = parse_value(&Value::Object(fields)).unwrap().facts("one").moment;
        assert_eq!(moment.unwrap().as_millisecond(), 1_632_234_645_000, "{momment}");
    }
}

#[test]
fn what_is_optional_may_be_missing_null_or_empty() {
    let minimal = json!({ "type": TYPE, "status": "SENT", "id": "one" });
    let expected = seen(&parse_value(&minimal).unwrap());
    for empty in [Value::Null, json!("")] {
        let mut fields = minimal.as_object().unwrap().clone();
        fields.extend(["instanceId", "phone", "participant"].map(|key| (key.to_owned(), empty.clone())));
        fields.extend(["ids", "momment", "isGroup", "phoneDevice"].map(|key| (key.to_owned(), Value::Null)));
        assert_eq!(seen(&parse_value(&Value::Object(fields)).unwrap()), expected);
    }
}

#[test]
fn a_group_is_known_by_its_phone_when_nothing_else_says_so() {
    for (phone, is_group) in [("120363-group", true), ("120363@g.us", true), ("5544999999999", false), ("1@lid", false)]
    {
        let callback = json!({ "type": TYPE, "status": "SENT", "ids": ["one"], "phone": phone });
        assert_eq!(parse_value(&callback).unwrap().is_group(), is_group, "{phone}");
    }
}

#[test]
fn each_wrong_field_is_named_by_its_pointer() {
    for (key, wrong, pointer) in [
        ("type", json!(5), "/type"),
        ("status", json!(["READ"]), "/status"),
        ("status", json!(""), "/status"),
        ("ids", json!("one"), "/ids"),
        ("ids", json!([]), "/ids"),
        ("ids", json!(vec!["x"; MAX_IDS + 1]), "/ids"),
        ("ids", json!(["one", "two", null]), "/ids/2"),
        ("ids", json!([""]), "/ids/0"),
        ("momment", json!(-1), "/momment"),
        ("momment", json!("soon"), "/momment"),
        ("momment", json!(9_000_000_000_000_000_000_u64), "/momment"),
        ("momment", json!(1.5), "/momment"),
        ("phone", json!(5_544_999_999_999_i64), "/phone"),
        ("isGroup", json!("false"), "/isGroup"),
        ("instanceId", json!({}), "/instanceId"),
        ("phoneDevice", json!("0"), "/phoneDevice"),
        ("participant", json!(true), "/participant"),
        ("participantDevice", json!(0.5), "/participantDevice"),
    ] {
        let mut fields = full();
        fields.insert(key.into(), wrong.clone());
        match parse_value(&Value::Object(fields)) {
            Err(Invalid::Fields(errors)) => {
                assert_eq!(errors.iter().map(|error| error.pointer.as_str()).collect::<Vec<_>>(), [pointer], "{wrong}");
            }
            other => panic!("{key}: {wrong}: {other:?}"),
        }
    }
}

#[test]
fn everything_wrong_is_said_at_once() {
    let errors = match parse_value(&json!({ "ids": [1], "momment": [], "phone": 5 })) {
        Err(Invalid::Fields(errors)) => errors,
        other => panic!("{other:?}"),
    };
    let pointers: Vec<_> = errors.iter().map(|error| error.pointer.as_str()).collect();
    assert_eq!(pointers, ["/type", "/status", "/ids/0", "/phone", "/momment"]);
}

#[test]
fn other_callbacks_are_told_from_broken_ones() {
    for other in [
        json!({ "type": "ReceivedCallback", "status": "RECEIVED", "messageId": "one" }),
        json!({ "type": "messagestatuscallback", "status": "READ", "ids": ["one"] }),
        json!({ "attendance": {}, "chat": {} }),
    ] {
        assert!(matches!(parse_value(&other), Err(Invalid::OtherType(_))), "{other}");
    }
    assert!(matches!(parse_value(&json!({ "status": "READ", "ids": ["one"] })), Err(Invalid::Fields(_))));
}

#[test]
fn what_is_no_object_is_told_without_repeating_it() {
    let bodies: [&[u8]; 9] = [
        b"",
        b" \n",
        b"null",
        b"[]",
        b"\"5544999999999\"",
        b"{\"type\":",
        b"{} {}",
        b"{\"a\":1}x",
        b"{\"a\":\"\xff\"}",
    ];
    for body in bodies {
        match parse(body) {
            Err(Invalid::NotAnObject(detail)) => assert!(!detail.contains("55449"), "{detail}"),
            other => panic!("{body:?}: {other:?}"),
        }
    }
}

#[test]
fn deep_nesting_is_refused_by_its_field_and_overflows_nothing() {
    let deep = |levels: usize| format!("{}1{}", "[".repeat(levels), "]".repeat(levels));
    let callback = |extra: &str| format!(r#"{{"type":"{TYPE}","status":"READ","ids":["one"],"a/b":{extra}}}"#);
    assert!(parse(callback(&deep(MAX_DEPTH)).as_bytes()).is_ok());
    match parse(callback(&deep(30_000)).as_bytes()) {
        Err(Invalid::Fields(errors)) => assert_eq!(errors[0].pointer, "/a~1b"),
        other => panic!("{other:?}"),
    }
    assert!(matches!(parse(deep(30_000).as_bytes()), Err(Invalid::NotAnObject(_))));
}

#[test]
fn half_a_surrogate_pair_is_refused_and_a_whole_one_is_not() {
    for (value, is_fine) in [
        (r#""\ud83d\ude00""#, true),
        (r#""\\ud800""#, true),
        (r#"["\u00e9\n\\", {"\ud83d\ude00": 1}]"#, true),
        (r#""\ud800""#, false),
        (r#""\udc00\ud800""#, false),
        (r#""\ud83dx\ude00""#, false),
        (r#"[{"\uD800": 1}]"#, false),
        (r#""\\\ud800""#, false),
    ] {
        let body = format!(r#"{{"type":"{TYPE}","status":"READ","ids":["one"],"extra":{value}}}"#);
        assert_eq!(parse(body.as_bytes()).is_ok(), is_fine, "{value}");
    }
}

#[test]
fn of_many_errors_the_first_are_told_and_the_others_counted() {
    match parse_value(&json!({ "type": TYPE, "status": "READ", "ids": vec![1; MAX_IDS] })) {
        Err(Invalid::Fields(errors)) => {
            assert_eq!(errors.len(), MAX_ERRORS + 1);
            assert_eq!(errors[MAX_ERRORS].detail, "has 980 more errors");
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_field_that_stands_twice_is_ambiguous() {
    let body = format!(r#"{{"type":"{TYPE}","status":"READ","status":"SENT","ids":["one"],"x":1,"x":2}}"#);
    match parse(body.as_bytes()) {
        Err(Invalid::Fields(errors)) => assert_eq!(errors[0].pointer, "/status"),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_body_is_cut_to_one_id_and_is_otherwise_as_it_came() {
    let text = format!(r#"{{ "b": 1.50, "ids" : ["one", "tw\"o"] , "type":"{TYPE}","status":"READ", "a": [1e400] }}"#);
    let callback = parse(text.as_bytes()).unwrap();
    let cut = callback.body().cut_to("tw\"o");
    assert_eq!(cut.get(), text.replace(r#"["one", "tw\"o"]"#, r#"["tw\"o"]"#));
}

/// Any JSON value, a few levels deep.
fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        ".{0,12}".prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 24, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::btree_map(".{0,6}", inner, 0..4).prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

/// Writes an object with its members in this order.
fn write(members: &[(String, Value)]) -> String {
    let members: Vec<_> = members.iter().map(|(key, value)| format!("{}:{value}", Value::from(key.as_str()))).collect();
    format!("{{{}}}", members.join(","))
}

proptest! {
    #[test]
    fn any_bytes_get_an_answer(bytes in prop::collection::vec(any::<u8>(), 0..512)) {
        let _ = parse(&bytes);
    }

    #[test]
    fn any_object_of_the_known_fields_gets_an_answer(values in prop::collection::vec(any_json(), 11)) {
        let keys = ["type", "status", "ids", "id", "momment", "phone", "isGroup", "instanceId", "phoneDevice", "participant",
            "participantDevice"];
        let members: Vec<_> = keys.map(str::to_owned).into_iter().zip(values).collect();
        if let Err(Invalid::Fields(errors)) = parse(write(&members).as_bytes()) {
            prop_assert!(!errors.is_empty());
        }
    }

    #[test]
    fn fields_added_or_in_another_order_change_nothing(
        extra in prop::collection::btree_map("x[a-z]{0,6}", any_json(), 0..5),
        order in Just((0..10).collect::<Vec<usize>>()).prop_shuffle(),
    ) {
        let plain: Vec<(String, Value)> = full().into_iter().collect();
        let mut members: Vec<_> = order.iter().map(|index| plain[*index].clone()).collect();
        for (place, member) in extra.into_iter().enumerate() {
            members.insert(place * 2, member);
        }
        let text = write(&members);
        let callback = parse(text.as_bytes()).unwrap();
        prop_assert_eq!(seen(&callback), seen(&parse_value(&Value::Object(full())).unwrap()));
        let cut: Value = serde_json::from_str(callback.body().cut_to("one").get()).unwrap();
        let mut expected: Value = serde_json::from_str(&text).unwrap();
        expected["ids"] = json!(["one"]);
        prop_assert_eq!(cut, expected);
    }
}
