//! Tests with any input: it must not lead to a panic, nor to a task that Coiote would read as something else.
//!
//! Two kinds of tests check the same properties. Property tests generate JSON of every shape in every place;
//! `PROPTEST_CASES=300000` generates more. Fuzz targets take bytes; they run for a fixed number of inputs, which
//! `BOLERO_RANDOM_ITERATIONS=20000000` raises. With coverage guidance, after `cargo install cargo-bolero`:
//!
//! ```sh
//! cargo bolero test --package lwm2m-fuzz --engine libfuzzer --rustc-bootstrap --sanitizer NONE any_input::event_bytes   # or any_input::path_text
//! ```

use lwm2m::keys::Selection;
use lwm2m::operation::NewInstance;
use lwm2m::path::{Level, Target};
use lwm2m::{Operation, OperationName, Request, Strictness, Task};
use proptest::prelude::*;
use proptest::test_runner::RngSeed;
use serde_json::{Value as Json, json};

/// Checks the properties of the task and of all findings.
fn check(event: Json) {
    for strictness in [Strictness::Reject, Strictness::Notice] {
        let mut event = event.clone();
        let request = Request::take(|field| event.as_object_mut().and_then(|object| object.remove(field)));
        let findings = match request.parse(strictness) {
            Ok(accepted) => {
                check_task(&accepted.operation, &Task::from(&accepted.operation));
                accepted.notices
            }
            Err(findings) => {
                assert!(!findings.is_empty(), "rejected for no reason");
                findings
            }
        };
        for finding in findings {
            assert!(!finding.message.is_empty() && !finding.message.contains(char::is_control), "{finding:?}");
            assert!(finding.message.chars().count() < 600, "{finding:?}");
        }
    }
}

fn check_task(operation: &Operation, task: &Task) {
    assert_eq!(task.template, format!("AWS{}CertAuth", operation.name()));
    let parameter = |name| task.parameters.iter().find(|(given, _)| *given == name).map(|(_, value)| value.as_str());
    let keys = parameter("keys").unwrap();
    // Coiote splits at commas, so there have to be as many parts as keys, or a single key with a comma, no part of which may
    // look like a key
    let count = number_of_keys(operation);
    let parts: Vec<&str> = keys.split(',').collect();
    let is_a_place =
        |part: &&str| matches!(Target::parse(part), Ok(Target::Path(path)) if path.level() > Level::Object);
    if count == 1 {
        assert!(Target::parse(keys).is_ok() && !parts.iter().skip(1).any(is_a_place), "{keys}");
    } else {
        assert_eq!(parts.len(), count, "{keys}");
        assert!(parts.iter().all(|key| Target::parse(key).is_ok()), "{keys}");
    }
    if let Some(values) = parameter("values") {
        assert_eq!(parts.len(), count, "{keys}: a comma in a key beside values");
        let bare = matches!(operation, Operation::Create(NewInstance::Bare(_)));
        assert!(bare && values.is_empty() || values.split(',').count() == count, "{keys} / {values}");
    }
    if let Some(attributes) = parameter("attributes") {
        assert!(
            attributes.starts_with("[{") && attributes.ends_with("}]") && !attributes.contains(' '),
            "{attributes}"
        );
        assert_eq!(attributes.matches('{').count(), count, "{keys} / {attributes}");
    }
}

/// Number of keys that Coiote has to read: one for the whole data model.
fn number_of_keys(operation: &Operation) -> usize {
    match operation {
        Operation::Read(selection)
        | Operation::ReadComposite(selection)
        | Operation::CancelObserve(selection)
        | Operation::ObserveComposite(selection)
        | Operation::CancelObserveComposite(selection) => match selection {
            Selection::All => 1,
            Selection::Keys(keys) => keys.paths().len(),
        },
        Operation::Write(assignments)
        | Operation::WriteComposite(assignments)
        | Operation::Create(NewInstance::With(assignments)) => assignments.iter().count(),
        Operation::Observe(keys) | Operation::WriteAttributes(keys) => keys.iter().count(),
        Operation::Discover(keys) | Operation::Delete(keys) => keys.paths().len(),
        Operation::Execute { .. } | Operation::Create(NewInstance::Bare(_)) => 1,
    }
}

/// JSON of every shape, up to five levels deep.
fn any_json() -> impl Strategy<Value = Json> {
    let leaf = prop_oneof![
        Just(Json::Null),
        any::<bool>().prop_map(Json::Bool),
        any_number(),
        any::<String>().prop_map(Json::String),
        any_key().prop_map(Json::String),
    ];
    leaf.prop_recursive(5, 60, 6, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(Json::Array),
            prop::collection::vec((any_name(), inner), 0..6)
                .prop_map(|fields| Json::Object(fields.into_iter().collect())),
        ]
    })
}

fn any_number() -> impl Strategy<Value = Json> {
    // Far beyond floats and 64 bits
    "-?(0|[1-9][0-9]{0,40})(\\.[0-9]{1,40})?([eE][+-]?[0-9]{1,4})?"
        .prop_map(|text| serde_json::from_str(&text).unwrap())
}

fn any_name() -> impl Strategy<Value = String> {
    prop_oneof![Just("pmin".into()), Just("gt".into()), Just("con".into()), Just("thingName".into()), any::<String>()]
}

/// Texts that are paths, or similar to paths.
fn any_key() -> impl Strategy<Value = String> {
    let part = || {
        prop_oneof![
            Just("Device"),
            Just("LwM2M Server"),
            Just("LwM2M v1.0 Test Object"),
            Just("Location"),
            Just("Vendor"),
            Just("UTC Offset"),
            Just("Lifetime"),
            Just("PM2.5"),
            Just("Validity (MCC, MNC)"),
            Just("0"),
            Just("1"),
            Just("65534"),
            Just("65535"),
            Just(""),
            Just(" "),
            Just("/"),
            Just("3"),
            Just("4"),
            Just("14"),
            Just("26241"),
            Just("all"),
            Just("ü"),
            Just("\u{2028}"),
        ]
    };
    let joined =
        |separator: &'static str| prop::collection::vec(part(), 0..6).prop_map(move |parts| parts.join(separator));
    prop_oneof![4 => joined("."), 2 => joined("/").prop_map(|ids| format!("/{ids}")), 1 => any::<String>()]
}

/// Fields of a request, each of them valid or any JSON.
fn any_event() -> impl Strategy<Value = Json> {
    let operation = prop_oneof![
        9 => prop::sample::select(OperationName::ALL).prop_map(|name| json!(name.as_str())),
        1 => any_json()
    ];
    let keys = prop_oneof![9 => prop::collection::vec(any_key(), 0..6).prop_map(|keys| json!(keys)), 1 => any_json()];
    let values = || prop_oneof![6 => prop::collection::vec(any_json(), 0..6).prop_map(Json::Array), 1 => any_json()];
    (operation, keys, values(), values(), any_json(), any_json()).prop_map(
        |(operation, keys, values, attributes, arguments, other)| {
            json!({"operation": operation, "keys": keys, "values": values, "attributes": attributes, "arguments": arguments,
                   "other": other})
        },
    )
}

/// Fixed inputs, so that a failure is reproducible. `PROPTEST_CASES` and `PROPTEST_RNG_SEED` select others.
fn config() -> ProptestConfig {
    let default = ProptestConfig { failure_persistence: None, ..ProptestConfig::default() };
    match std::env::var("PROPTEST_CASES") {
        Ok(_) => default,
        Err(_) => ProptestConfig { cases: 2_000, rng_seed: RngSeed::Fixed(42), ..default },
    }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn any_json_as_an_event(event in any_json()) {
        check(event);
    }

    #[test]
    fn any_json_as_a_field(event in any_event()) {
        check(event);
    }

    #[test]
    fn a_path_is_the_same_when_it_is_read_back(key in any_key()) {
        if let Ok(Target::Path(path)) = Target::parse(&key) {
            prop_assert_eq!(Target::parse(&path.to_string()), Ok(Target::Path(path.clone())), "{}", key);
            if let Some(number) = path.by_number() {
                prop_assert!(matches!(Target::parse(&number), Ok(Target::Path(same)) if same.level() == path.level()));
            }
            for ancestor in path.ancestors() {
                prop_assert!(ancestor.level() < path.level());
            }
        }
    }
}

#[test]
fn very_many_and_very_long_keys() {
    let long = |text: &str| text.repeat(10_000);
    for operation in OperationName::ALL.iter().map(|name| name.as_str()) {
        for key in [long("x"), long("."), long("a."), long("1."), long("/1"), long("0"), long(","), long("ü.0.")] {
            check(
                json!({"operation": operation, "keys": [key, key], "values": [key, 1], "attributes": [{"pmin": key}, {}]}),
            );
        }
        for keys in [
            (0..3_000).map(|i| format!("Temperature.{i}.Sensor Value")).collect::<Vec<_>>(),
            (0..3_000).map(|i| format!("Temparature{i}.0")).collect(),
            vec!["Device.0".to_owned(); 3_000],
            vec![String::new(); 3_000],
        ] {
            let ones = vec![1; keys.len()];
            check(json!({"operation": operation, "keys": keys, "values": ones, "attributes": vec![json!({}); 3_000]}));
        }
    }
}

#[test]
fn json_that_can_hardly_be_read() {
    let deep = format!("{}{}", "[".repeat(100), "]".repeat(100));
    for text in [
        r#"{"operation": "read", "keys": ["\ud800"]}"#,
        r#"{"operation": "read", "keys": ["\udc00\ud800.0"]}"#,
        r#"{"operation": "write", "keys": ["A.0.b"], "values": [1e999999]}"#,
        r#"{"operation": "write", "keys": ["A.0.b"], "values": [-0.0]}"#,
        r#"{"operation": "observe", "keys": ["A.0.b"], "attributes": [{"gt": 1e400, "lt": -1e400, "st": 1e-400}]}"#,
        r#"{"operation": "read", "operation": "write", "keys": [], "keys": ["Device"]}"#,
        &format!(r#"{{"operation": "read", "keys": {deep}}}"#),
    ] {
        if let Ok(event) = serde_json::from_str(text) {
            check(event);
        }
    }
}

/// An event made of bytes: a sample event with changes, or the bytes themselves.
fn event_of(input: &[u8]) -> Vec<u8> {
    const SAMPLES: &[&str] = &[
        include_str!("../../events/read.json"),
        include_str!("../../events/write.json"),
        include_str!("../../events/observe.json"),
        include_str!("../../events/write-attributes.json"),
        include_str!("../../events/execute-with-arguments.json"),
        include_str!("../../events/create-with-values.json"),
        include_str!("../../events/read-by-number.json"),
    ];
    let Some((which, changes)) = input.split_first() else { return Vec::new() };
    let Some(sample) = SAMPLES.get(usize::from(*which)) else { return input.to_vec() };
    let mut event = sample.as_bytes().to_vec();
    for change in changes.chunks_exact(4) {
        let [high, low, kind, byte] = change else { continue };
        let at = usize::from(u16::from_be_bytes([*high, *low])) % event.len().max(1);
        match kind % 3 {
            0 => event.iter_mut().skip(at).take(1).for_each(|old| *old = *byte),
            1 => event.insert(at, *byte),
            _ => drop(event.drain(at..(at + usize::from(*byte % 8)).min(event.len()))),
        }
    }
    event
}

#[test]
fn event_bytes() {
    bolero::check!().with_iterations(20_000).with_max_len(256).for_each(|input: &[u8]| {
        if let Ok(event) = serde_json::from_slice(&event_of(input)) {
            check(event);
        }
    });
}

#[test]
fn path_text() {
    bolero::check!().with_iterations(50_000).with_max_len(64).for_each(|input: &[u8]| {
        let text = String::from_utf8_lossy(input);
        // Names and dots are read differently behind a described object
        for text in [text.to_string(), format!("Device.{text}"), format!("LwM2M v1.{text}"), format!("/{text}")] {
            if let Ok(Target::Path(path)) = Target::parse(&text) {
                assert_eq!(Target::parse(&path.to_string()), Ok(Target::Path(path)));
            }
        }
    });
}
