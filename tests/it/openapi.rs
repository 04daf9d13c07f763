//! The description of the operator's API says what the routes are, what they may be asked, and what they answer.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::net::SocketAddr;

use plugchat_receiver::sink::FailureKind;
use serde_json::{Map, Value, json};

use crate::inside::{Destination, Inside};
use crate::support::{Answer, JSON, Receiver, callback, eventually, repository, request};

const START: i64 = 1_632_234_645_000;

/// The description, and what of it was seen to be true.
struct Description {
    document: Value,
    /// Methods and routes with the statuses that they answered.
    seen: RefCell<BTreeSet<(String, String, u16)>>,
}

impl Description {
    fn of(admin: SocketAddr) -> Self {
        let document = request(admin, "GET", "/api/openapi.json", &[], b"").json();
        Self { document, seen: RefCell::default() }
    }

    /// Every operation: its method, its route and what is said of it.
    fn operations(&self) -> Vec<(String, String, Value)> {
        let paths = self.document["paths"].as_object().expect("an object");
        let of_path = |(path, methods): (&String, &Value)| {
            let methods = methods.as_object().expect("an object").clone();
            let path = path.clone();
            methods.into_iter().map(move |(method, operation)| (method.to_uppercase(), path.clone(), operation))
        };
        paths.iter().flat_map(of_path).collect()
    }

    /// What stands where a reference leads.
    fn resolve<'a>(&'a self, value: &'a Value) -> &'a Value {
        match value["$ref"].as_str() {
            Some(reference) => {
                let pointer = reference.strip_prefix('#').expect("a reference within the document");
                self.document.pointer(pointer).unwrap_or_else(|| panic!("{reference} leads nowhere"))
            }
            None => value,
        }
    }

    /// The names of what an operation may be asked in this place.
    fn parameters(&self, operation: &Value, place: &str) -> BTreeSet<String> {
        let parameters = operation["parameters"].as_array().cloned().unwrap_or_default();
        let resolved = parameters.iter().map(|parameter| self.resolve(parameter));
        let in_place = resolved.filter(|parameter| parameter["in"] == place);
        in_place.map(|parameter| parameter["name"].as_str().expect("text").to_owned()).collect()
    }

    /// Asserts that an answer is one of those that are described.
    fn check(&self, method: &str, route: &str, answer: &Answer) {
        let operation = &self.document["paths"][route][method.to_lowercase()];
        let response = self.resolve(&operation["responses"][answer.status.to_string()]);
        let media_type = answer.header("content-type").expect("every answer has one");
        let schema = &response["content"][media_type]["schema"];
        assert!(schema.is_object(), "{method} {route}: not described: {answer:?}");
        if media_type.ends_with("json") {
            self.fits(&answer.json(), schema).unwrap_or_else(|wrong| panic!("{method} {route}: {wrong}: {answer:?}"));
        }
        self.seen.borrow_mut().insert((method.to_owned(), route.to_owned(), answer.status));
    }

    /// Whether a value is what the schema says, and has nothing that it doesn't say. Knows as much of schemas as the description uses.
    fn fits(&self, value: &Value, schema: &Value) -> Result<(), String> {
        let schema = self.resolve(schema);
        if let Some(one_of) = schema["oneOf"].as_array() {
            let fitting = one_of.iter().filter(|schema| self.fits(value, schema).is_ok()).count();
            return if fitting == 1 { Ok(()) } else { Err(format!("{value} fits {fitting} of {one_of:?}")) };
        }
        let is = |name: &Value| match name.as_str() {
            Some("string") => value.is_string(),
            Some("integer") => value.is_i64() || value.is_u64(),
            Some("number") => value.is_number(),
            Some("boolean") => value.is_boolean(),
            Some("array") => value.is_array(),
            Some("object") => value.is_object(),
            Some("null") => value.is_null(),
            _ => panic!("unknown type: {schema}"),
        };
        let is_right = match &schema["type"] {
            Value::Null => schema["allOf"].is_array(),
            Value::Array(types) => types.iter().any(is),
            one => is(one),
        };
        let is_listed = schema["enum"].as_array().is_none_or(|values| values.contains(value));
        let is_constant = schema.get("const").is_none_or(|constant| constant == value);
        let is_time = schema["format"] != "date-time"
            || value.as_str().is_none_or(|text| text.parse::<jiff::Timestamp>().is_ok());
        if !(is_right && is_listed && is_constant && is_time) {
            return Err(format!("{value} is not {schema}"));
        }
        match value {
            Value::Array(items) => items.iter().try_for_each(|item| self.fits(item, &schema["items"])),
            Value::Object(members) => self.members_fit(members, schema),
            _ => Ok(()),
        }
    }

    fn members_fit(&self, members: &Map<String, Value>, schema: &Value) -> Result<(), String> {
        let (mut properties, mut required) = (Map::new(), Vec::new());
        self.collect(schema, &mut properties, &mut required);
        if let Some(missing) = required.iter().find(|name| !members.contains_key(*name)) {
            return Err(format!("{missing} is missing"));
        }
        members.iter().try_for_each(|(name, value)| {
            match (properties.get(name), &schema["additionalProperties"]) {
                (Some(property), _) => self.fits(value, property),
                (None, Value::Bool(true)) => Ok(()),
                (None, other @ Value::Object(_)) => self.fits(value, other),
                _ => Err("is not described".to_owned()),
            }
            .map_err(|wrong| format!("{name}: {wrong}"))
        })
    }

    /// The properties of a schema and of those that it is made of.
    fn collect(&self, schema: &Value, properties: &mut Map<String, Value>, required: &mut Vec<String>) {
        let schema = self.resolve(schema);
        properties.extend(schema["properties"].as_object().cloned().unwrap_or_default());
        let names = schema["required"].as_array().into_iter().flatten();
        required.extend(names.map(|name| name.as_str().expect("text").to_owned()));
        for part in schema["allOf"].as_array().into_iter().flatten() {
            self.collect(part, properties, required);
        }
    }
}

/// The routes that the source has, and their methods.
fn routes() -> BTreeSet<(String, String)> {
    let source = std::fs::read_to_string(repository("src/admin.rs")).expect("it is there");
    let parts = source.split(".route(\"").skip(1);
    let route = |part: &str| {
        let (path, rest) = part.split_once("\", ").expect("a route has a handler");
        let (method, _) = rest.split_once('(').expect("a handler has a method");
        (method.to_uppercase(), path.to_owned())
    };
    parts.map(route).collect()
}

#[test]
fn it_has_every_route_and_no_other() {
    let receiver = Receiver::start("");
    let description = Description::of(receiver.admin);
    let described: BTreeSet<_> = description.operations().into_iter().map(|(method, path, _)| (method, path)).collect();
    assert!(described.len() > 10);
    assert_eq!(described, routes());
    assert_eq!(description.document["info"]["version"], env!("CARGO_PKG_VERSION"));
    let mut names = BTreeSet::new();
    for (method, path, operation) in description.operations() {
        let name = operation["operationId"].as_str().expect("text").to_owned();
        assert!(names.insert(name), "{operation}");
        let in_path: BTreeSet<_> =
            path.split('/').filter_map(|part| part.strip_prefix('{')?.strip_suffix('}')).map(str::to_owned).collect();
        assert_eq!(description.parameters(&operation, "path"), in_path, "{method} {path}");
    }
}

#[test]
fn it_has_all_that_each_route_may_be_asked() {
    let receiver = Receiver::start("");
    let description = Description::of(receiver.admin);
    // What a route says that it expected when it is asked for something else.
    let expected = |answer: &Answer| -> BTreeSet<String> {
        let detail = answer.problem(400)["detail"].as_str().expect("text").to_owned();
        let names = detail.split_once("expected ").map_or("", |(_, names)| names);
        names.split('`').skip(1).step_by(2).map(str::to_owned).collect()
    };
    let mut asked = 0;
    for (method, path, operation) in description.operations() {
        let real = path.replace("{name}", "audit").replace("{id}", "1").replace("{message_id}", "A");
        let in_query = description.parameters(&operation, "query");
        if in_query.is_empty() {
            continue;
        }
        asked += 1;
        let answer = request(receiver.admin, &method, &format!("{real}?neither=1"), &[], b"");
        assert_eq!(expected(&answer), in_query, "{method} {path}");
        let body = &operation["requestBody"]["content"]["application/json"]["schema"];
        if body.is_object() {
            let properties = description.resolve(body)["properties"].as_object().expect("an object");
            let answer = request(receiver.admin, &method, &real, &JSON, b"{\"neither\": 1}");
            assert_eq!(expected(&answer), properties.keys().cloned().collect(), "{method} {path}");
        }
    }
    assert!(asked >= 6);
}

#[test]
fn what_the_routes_answer_is_what_it_says() {
    let destination = Destination::new(|id| match id {
        id if id.starts_with('R') => Some(FailureKind::Refused),
        id if id.starts_with('T') => Some(FailureKind::TryAgain { after: None }),
        _ => None,
    });
    let inside = Inside::start(&destination);
    let description = Description::of(inside.admin());
    let ask = |method: &str, route: &str, path: &str, body: &str| {
        let answer = request(inside.admin(), method, path, &[], body.as_bytes());
        description.check(method, route, &answer);
        answer.json()
    };
    let get = |route: &str| ask("GET", route, route, "");

    for id in ["A", "R1", "R2", "T1", "B"] {
        inside.post(&callback(id, "READ", START));
    }
    let group =
        json!({ "type": "MessageStatusCallback", "status": "?", "ids": ["A"], "phone": "1-group", "participant": "2" });
    inside.post(&group.to_string());
    assert_eq!(inside.try_post("{\"type\": \"MessageStatusCallback\"}").status, 422);
    assert_eq!(inside.try_post("{\"type\": \"Other\"}").status, 422);
    eventually("two are dead, and one is deferred", || {
        let sink = get("/api/v1/sinks")[0].clone();
        (sink["dead"] == 2 && sink["deferred"] == 1 && sink["lag"] == 0).then_some(())
    });
    for route in ["/livez", "/readyz", "/api/openapi.json", "/api/v1/changes", "/api/v1/instances", "/api/v1/rejected"]
    {
        get(route);
    }
    description.check("GET", "/metrics", &inside.get("/metrics"));
    let stream = request(inside.admin(), "GET", "/api/v1/changes", &[("accept", "text/event-stream")], b"");
    assert_eq!(stream.header("content-type"), Some("text/event-stream"));
    description.check("GET", "/api/v1/changes", &stream);
    for id in ["A", "R1", "T1"] {
        ask("GET", "/api/v1/messages/{message_id}", &format!("/api/v1/messages/{id}"), "");
    }
    let dead = "/api/v1/sinks/{name}/dead";
    assert_eq!(ask("GET", dead, "/api/v1/sinks/own/dead", "").as_array().map(Vec::len), Some(2));
    let retry = (format!("{dead}/retry"), "/api/v1/sinks/own/dead/retry");
    ask("POST", &retry.0, retry.1, "{\"dry_run\": true}");
    ask("POST", &format!("{dead}/drop"), "/api/v1/sinks/own/dead/drop?id=1", "");

    let replay = ("/api/v1/sinks/{name}/replay", "/api/v1/sinks/own/replay");
    let slowly = "{\"since\": \"2020-01-01T00:00:00Z\", \"rate\": 0.1}";
    assert_eq!(ask("POST", replay.0, replay.1, slowly)["started"], true);
    ask("POST", replay.0, replay.1, slowly);
    eventually("the replay is shown", || get("/api/v1/sinks")[0]["replay"].is_object().then_some(()));
    let steer =
        |what: &str| ask("POST", &format!("/api/v1/sinks/{{name}}/{what}"), &format!("/api/v1/sinks/own/{what}"), "");
    assert!(steer("replay/cancel")["last_replay"].is_object());
    assert_eq!(steer("pause")["state"], "paused");
    steer("resume");

    let rejected = "/api/v1/rejected/{id}";
    ask("GET", rejected, "/api/v1/rejected/1", "");
    ask("POST", &format!("{rejected}/retry"), "/api/v1/rejected/1/retry", "");
    ask("POST", &format!("{rejected}/drop"), "/api/v1/rejected/1/drop", "");

    ask("POST", "/api/v1/erase", "/api/v1/erase", "{\"phone\": \"+55 44 99999-9999\", \"dry_run\": true}");

    // What is not there, and what is not understood.
    for (method, route, operation) in description.operations() {
        let nobody = route.replace("{name}", "nobody").replace("{id}", "99").replace("{message_id}", "none");
        if nobody != route {
            let query = if route.ends_with("/replay") { "?since=2020-01-01T00:00:00Z" } else { "" };
            ask(&method, &route, &format!("{nobody}{query}"), "");
        }
        if !description.parameters(&operation, "query").is_empty() {
            let known = route.replace("{name}", "own");
            ask(&method, &route, &format!("{known}?neither=1"), "");
        }
        if route.starts_with("/api/") || route == "/metrics" {
            let answer = request(inside.admin(), &method, &route, &[("origin", "http://localhost")], b"");
            description.check(&method, &route, &answer);
            assert_eq!(answer.status, 403);
        }
    }
    let described = description.operations().into_iter().flat_map(|(method, route, operation)| {
        let statuses: Vec<u16> = operation["responses"]
            .as_object()
            .expect("an object")
            .keys()
            .map(|status| status.parse().expect("a status"))
            .collect();
        statuses.into_iter().map(move |status| (method.clone(), route.clone(), status))
    });
    let seen = description.seen.borrow();
    // It takes a version that knows more.
    let retried = ("POST".to_owned(), format!("{rejected}/retry"), 200);
    for answer in described.filter(|answer| ![400, 401, 503].contains(&answer.2) && *answer != retried) {
        assert!(seen.contains(&answer), "described, and never answered: {answer:?}");
    }
}
