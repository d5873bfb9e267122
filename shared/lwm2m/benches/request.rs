//! Time to parse, check and encode a request, by its number of keys: `cargo bench --package lwm2m`.
//!
//! The time per key should be about the same from 1 to 3,000 keys; sorting may add a logarithm.

use divan::counter::ItemsCount;
use divan::{Bencher, black_box};
use lwm2m::{Request, Strictness, Task, objects};
use serde_json::{Value as Json, json};

const COUNTS: [usize; 3] = [1, 100, 3_000];

fn main() {
    println!("tables of the built-in objects: {} bytes", objects::size_of_tables());
    divan::main();
}

#[divan::bench(args = COUNTS)]
fn read(bencher: Bencher, count: usize) {
    let keys: Vec<String> = (0..count).map(|i| format!("Temperature.{i}.Sensor Value")).collect();
    handle(bencher, count, json!({"operation": "read", "keys": keys}));
}

#[divan::bench(args = COUNTS)]
fn read_by_number(bencher: Bencher, count: usize) {
    let keys: Vec<String> = (0..count).map(|i| format!("/3303/{i}/5700")).collect();
    handle(bencher, count, json!({"operation": "read", "keys": keys}));
}

#[divan::bench(args = COUNTS)]
fn write(bencher: Bencher, count: usize) {
    let keys: Vec<String> = (0..count).map(|i| format!("Light Control.{i}.Dimmer")).collect();
    let values: Vec<usize> = (0..count).map(|i| i % 100).collect();
    handle(bencher, count, json!({"operation": "write", "keys": keys, "values": values}));
}

#[divan::bench(args = COUNTS)]
fn observe(bencher: Bencher, count: usize) {
    let keys: Vec<String> = (0..count).map(|i| format!("Temperature.{i}.Sensor Value")).collect();
    let attributes: Vec<Json> =
        (0..count).map(|i| json!({"pmin": i, "pmax": i + 60, "gt": 30.5, "lt": 10.0})).collect();
    handle(bencher, count, json!({"operation": "observe", "keys": keys, "attributes": attributes}));
}

/// Every key is wrong and similar to a valid one.
#[divan::bench(args = COUNTS)]
fn mistakes(bencher: Bencher, count: usize) {
    let keys: Vec<String> = (0..count).map(|i| format!("Temperature.{i}.Sensor Valeu")).collect();
    handle(bencher, count, json!({"operation": "read", "keys": keys}));
}

fn handle(bencher: Bencher, count: usize, event: Json) {
    bencher.counter(ItemsCount::new(count)).with_inputs(|| event.clone()).bench_values(|mut event| {
        let request = Request::take(|field| event.as_object_mut().and_then(|object| object.remove(field)));
        let parsed = request.parse(Strictness::Reject);
        black_box(parsed.map(|accepted| Task::from(&accepted.operation)))
    });
}
