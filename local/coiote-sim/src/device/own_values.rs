//! Values that the device changes by itself, and values that it sends unasked.

use std::collections::BTreeMap;
use std::time::Instant;

use serde_json::{Map, Value};

use super::content::Objects;
use super::drift::{self, Drift};
use super::path::Path;
use super::{DEVICE, Device};

const BATTERY_LEVEL: u16 = 9;
const TEMPERATURE: u16 = 3303;
const SENSOR_VALUE: u16 = 5700;
/// Largest step of the temperature, in tenths of a degree.
const LARGEST_STEP: i8 = 5;

impl Device {
    /// Present values at the paths in the form of a result, as LwM2M Send carries them. The error names the path.
    pub(crate) fn values_at(&self, keys: &[String]) -> Result<Map<String, Value>, String> {
        let mut result = Objects::new();
        for key in keys {
            let read = self.model.catalogue.resolve(key).and_then(|path| self.model.read(path, &mut result));
            read.map_err(|reason| format!("{key:?}: {reason}"))?;
        }
        Ok(self.model.render(&result))
    }

    /// Whole objects in the form of a result: readable values, and executable resources without one.
    pub(crate) fn values_of(&self, objects: &[u16]) -> Map<String, Value> {
        let mut result = Objects::new();
        for object in objects {
            // An object that the device lacks adds nothing.
            let _ = self.model.read(Path::Object(*object), &mut result);
            self.model.add_executable(*object, &mut result);
        }
        self.model.render(&result)
    }

    /// Sets readable resources, all or none. The error names the path.
    pub(crate) fn set_values(&mut self, values: &BTreeMap<String, String>) -> Result<(), String> {
        let mut checked = Vec::new();
        for (key, text) in values {
            let path = self.model.catalogue.resolve(key);
            let path = path.and_then(|path| self.model.check_own_value(path, text).map(|()| path));
            checked.push((path.map_err(|reason| format!("{key:?}: {reason}"))?, text));
        }
        for (path, text) in checked {
            self.change_by_itself(path, text);
        }
        Ok(())
    }

    pub(super) fn change_by_itself(&mut self, path: Path, text: &str) {
        self.model.put_at(path, text);
        self.changed_by_itself.insert(path);
    }

    /// Present values of everything that the device has ever changed by itself, by name.
    pub(crate) fn own_values(&self) -> BTreeMap<String, String> {
        let texts = self.changed_by_itself.iter().filter_map(|path| {
            let text = self.model.text_at(*path)?;
            Some((self.name_of(*path), text.to_owned()))
        });
        texts.collect()
    }

    /// Restores the values of an earlier run, except those whose object instance is gone.
    pub(crate) fn restore_own_values(&mut self, values: &BTreeMap<String, String>) {
        for (key, text) in values {
            if let Ok(path) = self.model.catalogue.resolve(key) {
                self.change_by_itself(path, text);
            }
        }
    }

    pub(crate) fn observations_ended_after(&self) -> u64 {
        self.observations_ended_after
    }

    /// Ends all observations if they ended after this number of operations. Called after each operation that is run again.
    pub(crate) fn end_observations_after(&mut self, runs: u64) {
        self.observations_ended_after = runs;
        if self.runs == runs {
            self.forget_all_observations();
        }
    }

    pub(crate) fn set_drift(&mut self, drift: Option<Drift>) {
        self.drift = drift;
    }

    pub(crate) fn next_drift(&self) -> Option<Instant> {
        self.drift.as_ref().map(Drift::next)
    }

    /// Lets the values drift if that is due.
    pub(crate) fn drift(&mut self, now: Instant) {
        if !self.drift.as_mut().is_some_and(|drift| drift.is_due(now)) {
            return;
        }
        if let Some(level) = self.model.text(DEVICE, 0, BATTERY_LEVEL) {
            self.change_by_itself(Path::Resource(DEVICE, 0, BATTERY_LEVEL), &drift::battery(level));
        }
        if let Some(value) = self.model.text(TEMPERATURE, 0, SENSOR_VALUE) {
            let tenths = fastrand::i8(1..=LARGEST_STEP) * if fastrand::bool() { 1 } else { -1 };
            let value = drift::temperature(value, tenths);
            self.change_by_itself(Path::Resource(TEMPERATURE, 0, SENSOR_VALUE), &value);
        }
    }
}
