//! Running of an operation on a device, key by key.

use std::collections::BTreeMap;
use std::time::Instant;

use serde_json::{Map, Value};

use super::content::{Content, Objects};
use super::path::Path;
use super::{DEVICE, Device};
use crate::decoded_operation::{Argument, DecodedOperation, KeyValue, Keys};

const ERROR_CODE: u16 = 11;
const RESET_ERROR_CODE: u16 = 12;
/// Test object. It counts executions and keeps their last arguments, as in Anjay's demo client.
const TEST_OBJECT: u16 = 33605;
const COUNTER: u16 = 1;
const INCREMENT_COUNTER: u16 = 2;
const LAST_ARGUMENTS: u16 = 4;

/// Key that failed, and why.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(crate) struct KeyFailure {
    pub(crate) key: String,
    pub(crate) reason: String,
}

/// Outcome of an operation.
#[derive(Debug, Default)]
pub(crate) struct Outcome {
    pub(crate) failures: Vec<KeyFailure>,
    /// Number of keys; the whole data model and all observations count as one.
    pub(crate) attempted: usize,
    /// Values by object name, object instance and resource name; for Discover, links by key.
    pub(crate) result: Map<String, Value>,
}

impl Outcome {
    pub(super) fn record(&mut self, key: &str, done: Result<(), String>) {
        self.attempted += 1;
        if let Err(reason) = done {
            self.failures.push(KeyFailure { key: key.to_owned(), reason });
        }
    }
}

impl Device {
    /// Runs the operation, except for the refused keys, which fail with the reasons in the map.
    pub(crate) fn run(
        &mut self,
        operation: &DecodedOperation,
        refused: &BTreeMap<String, String>,
        now: Instant,
    ) -> Outcome {
        self.runs += 1;
        let mut outcome = Outcome::default();
        let possible = operation.without(|key| refused.contains_key(key));
        let is_possible = refused.is_empty() || !operation.is_all_or_nothing();
        if let Some(possible) = possible.filter(|_| is_possible) {
            outcome = self.run_possible(&possible, now);
        }
        for (key, reason) in refused {
            outcome.record(key, Err(reason.clone()));
        }
        if !is_possible {
            let keys: Vec<_> = operation.operation_keys().into_iter().map(|part| part.key).collect();
            outcome.attempted = keys.len();
            fail_the_others(keys.iter(), &mut outcome, "nothing was done, because another key failed");
        }
        outcome
    }

    fn run_possible(&mut self, operation: &DecodedOperation, now: Instant) -> Outcome {
        let mut outcome = Outcome::default();
        match operation {
            DecodedOperation::Read { keys } | DecodedOperation::ReadComposite { keys } => self.read(keys, &mut outcome),
            DecodedOperation::Write { values } => self.write(values, &mut outcome),
            DecodedOperation::WriteComposite { values } => self.write_all_or_nothing(values, &mut outcome),
            DecodedOperation::Observe { targets } => self.observe(targets, now, &mut outcome),
            DecodedOperation::ObserveComposite { keys } => self.observe_composite(keys, now, &mut outcome),
            DecodedOperation::CancelObserve { keys } => self.cancel(keys, false, &mut outcome),
            DecodedOperation::CancelObserveComposite { keys } => self.cancel(keys, true, &mut outcome),
            DecodedOperation::WriteAttributes { targets } => self.write_attributes(targets, &mut outcome),
            DecodedOperation::Execute { key, arguments } => {
                let done = self.execute(key, arguments);
                outcome.record(key, done);
            }
            DecodedOperation::Discover { keys } => self.discover(keys, &mut outcome),
            DecodedOperation::Create { keys, values } => self.create(keys, values, &mut outcome),
            DecodedOperation::Delete { keys } => {
                for key in keys {
                    let done = self.delete(key);
                    outcome.record(key, done);
                }
            }
        }
        outcome
    }

    fn read(&self, keys: &Keys, outcome: &mut Outcome) {
        let Keys::Some(keys) = keys else {
            outcome.result = self.readable_values();
            return outcome.record("", Ok(()));
        };
        let mut result = Objects::new();
        for key in keys {
            let done = self.model.catalogue.resolve(key).and_then(|path| self.model.read(path, &mut result));
            outcome.record(key, done);
        }
        outcome.result = self.model.render(&result);
    }

    fn write(&mut self, values: &[KeyValue], outcome: &mut Outcome) {
        let mut result = Objects::new();
        for KeyValue { key, value } in values {
            let path = self.model.catalogue.resolve(key);
            outcome.record(key, path.and_then(|path| self.model.write(path, value, &mut result)));
        }
        outcome.result = self.model.render(&result);
    }

    /// Writes all values or none: Write-Composite is atomic (LwM2M Core 1.1, section 6.3.9).
    fn write_all_or_nothing(&mut self, values: &[KeyValue], outcome: &mut Outcome) {
        let before = self.model.clone();
        self.write(values, outcome);
        if outcome.failures.is_empty() {
            return;
        }
        self.model = before;
        outcome.result = Map::new();
        fail_the_others(
            values.iter().map(|value| &value.key),
            outcome,
            "nothing was written, because another key failed",
        );
    }

    fn execute(&mut self, key: &str, arguments: &[Argument]) -> Result<(), String> {
        let path = self.model.catalogue.resolve(key)?;
        let Path::Resource(object, instance, resource) = path else {
            return Err("only a resource can be executed".to_owned());
        };
        self.model.instance(path)?;
        if !self.model.resource(path, resource)?.operations.executable() {
            return Err("the resource is not executable".to_owned());
        }
        *self.executions.entry(self.name_of(path)).or_default() += 1;
        match (object, resource) {
            (DEVICE, RESET_ERROR_CODE) => {
                let none = BTreeMap::from([(0, Some("0".to_owned()))]);
                self.model.set(object, instance, ERROR_CODE, Content::Multiple(none));
            }
            (TEST_OBJECT, INCREMENT_COUNTER) => self.increment_counter(instance, arguments),
            _ => {}
        }
        Ok(())
    }

    fn increment_counter(&mut self, instance: u16, arguments: &[Argument]) {
        let count: i64 = self.model.text(TEST_OBJECT, instance, COUNTER).and_then(|t| t.parse().ok()).unwrap_or(0);
        self.model.set(TEST_OBJECT, instance, COUNTER, Content::Single(Some(count.saturating_add(1).to_string())));
        let last = arguments.iter().map(|a| (u16::from(a.number), Some(a.value.clone().unwrap_or_default()))).collect();
        self.model.set(TEST_OBJECT, instance, LAST_ARGUMENTS, Content::Multiple(last));
    }

    fn discover(&self, keys: &[String], outcome: &mut Outcome) {
        for key in keys {
            let links = self.links(key).map(|links| {
                outcome.result.insert(key.clone(), Value::String(links));
            });
            outcome.record(key, links);
        }
    }

    fn create(&mut self, keys: &[String], values: &[KeyValue], outcome: &mut Outcome) {
        for key in keys {
            if let Err(reason) = self.model.catalogue.resolve(key) {
                outcome.failures.push(KeyFailure { key: key.clone(), reason });
            }
        }
        outcome.attempted = keys.len();
        let paths: Vec<_> = keys.iter().filter_map(|key| self.model.catalogue.resolve(key).ok()).collect();
        if outcome.failures.is_empty()
            && let Some(instance) = paths.first().and_then(|path| match path {
                Path::Object(object) => Some((*object, self.model.free_instance(*object)?)),
                path => path.instance(),
            })
        {
            let given: Vec<_> = paths.iter().copied().zip(values.iter().map(|value| value.value.as_str())).collect();
            if let Err((position, reason)) = self.model.create(instance, &given) {
                match position.and_then(|position| keys.get(position)) {
                    Some(key) => outcome.failures.push(KeyFailure { key: key.clone(), reason }),
                    None => fail_the_others(keys.iter(), outcome, &reason),
                }
            }
        }
        if !outcome.failures.is_empty() {
            fail_the_others(keys.iter(), outcome, "nothing was created, because another key failed");
        }
    }

    /// Deletes an object instance or a resource instance with its observations and attributes.
    fn delete(&mut self, key: &str) -> Result<(), String> {
        let path = self.model.catalogue.resolve(key)?;
        self.model.delete(path)?;
        self.attributes.retain(|of, _| !path.holds(*of));
        self.forget_observations_below(path);
        Ok(())
    }
}

fn fail_the_others<'k>(keys: impl Iterator<Item = &'k String>, outcome: &mut Outcome, reason: &str) {
    for key in keys {
        if !outcome.failures.iter().any(|failure| &failure.key == key) {
            outcome.failures.push(KeyFailure { key: key.clone(), reason: reason.to_owned() });
        }
    }
}
