//! One LwM2M device: its data model, observations, attributes and executions.

mod content;
mod definition;
mod discover;
mod drift;
mod model;
mod notification;
mod observe;
mod own_values;
mod path;
mod refusals;
mod registration;
mod resource_type;
mod run;

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::hash::Hasher;
use std::sync::Arc;

use fnv::FnvHasher;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

pub(crate) use definition::{Catalogue, DataFileError};
pub(crate) use drift::Drift;
pub(crate) use path::Path;
pub(crate) use registration::Registration;
pub(crate) use run::{KeyFailure, Outcome};

use model::DataModel;
use observe::Observation;
use registration::LastRegistration;

use crate::attributes::Attributes;
use crate::clock;

/// Device object.
const DEVICE: u16 = 3;
const MANUFACTURER: u16 = 0;
const MODEL_NUMBER: u16 = 1;

/// Connectivity of a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum DeviceState {
    /// Registered and reachable: it runs its tasks as soon as a session starts.
    #[default]
    Online,
    /// Registered, in queue mode: it runs its tasks when it wakes up.
    Sleeping,
    /// Not registered: it runs its tasks when it comes back.
    Deregistered,
}

impl DeviceState {
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Online => "online",
            Self::Sleeping => "sleeping",
            Self::Deregistered => "deregistered",
        }
    }
}

impl std::str::FromStr for DeviceState {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        [Self::Online, Self::Sleeping, Self::Deregistered]
            .into_iter()
            .find(|state| state.word() == text)
            .ok_or_else(|| format!("state {text:?}: online, sleeping or deregistered is expected"))
    }
}

#[derive(Debug)]
pub(crate) struct Device {
    pub(crate) endpoint: String,
    pub(crate) id: String,
    pub(crate) state: DeviceState,
    model: DataModel,
    observations: Vec<Observation>,
    attributes: BTreeMap<Path, Attributes>,
    /// Number of executions by the resource's name: proves that a reboot happened once.
    executions: BTreeMap<String, u64>,
    last_registration: Option<LastRegistration>,
    drift: Option<Drift>,
    /// Values that the device changed by itself and no operation: a restart cannot derive them.
    changed_by_itself: BTreeSet<Path>,
    /// Number of operations that ran.
    runs: u64,
    /// Value of `runs` when all observations ended with the registration.
    observations_ended_after: u64,
    /// Paths that the device refuses, and with which words.
    refusals: BTreeMap<Path, String>,
}

impl Device {
    pub(crate) fn new(
        catalogue: Arc<Catalogue>,
        endpoint: String,
        id: Option<String>,
        state: DeviceState,
    ) -> Result<Self, DataFileError> {
        let registered = LastRegistration { operation: Registration::Register, time: clock::now() };
        Ok(Self {
            model: DataModel::new(catalogue, &endpoint)?,
            id: id.unwrap_or_else(|| default_id(&endpoint)),
            endpoint,
            state,
            observations: Vec::new(),
            attributes: BTreeMap::new(),
            executions: BTreeMap::new(),
            last_registration: (state != DeviceState::Deregistered).then_some(registered),
            drift: None,
            changed_by_itself: BTreeSet::new(),
            runs: 0,
            observations_ended_after: 0,
            refusals: BTreeMap::new(),
        })
    }

    /// Sets manufacturer and model number in the Device object.
    pub(crate) fn set_manufacturer_and_model(&mut self, manufacturer: Option<String>, model: Option<String>) {
        for (resource, text) in [(MANUFACTURER, manufacturer), (MODEL_NUMBER, model)] {
            if let Some(text) = text {
                self.change_by_itself(Path::Resource(DEVICE, 0, resource), &text);
            }
        }
    }

    /// Device type as Coiote names it: manufacturer and model, joined by a dot.
    pub(crate) fn device_type(&self) -> String {
        let text = |resource| self.model.text(DEVICE, 0, resource).unwrap_or_default();
        format!("{}.{}", text(MANUFACTURER), text(MODEL_NUMBER))
    }

    /// Changes the state and returns the message to the server. Observations end with the registration.
    pub(crate) fn change_state(&mut self, state: DeviceState) -> Option<Registration> {
        let operation = Registration::between(self.state, state);
        self.state = state;
        match operation {
            Some(Registration::Deregister) => {
                self.observations_ended_after = self.runs;
                self.forget_all_observations();
            }
            Some(operation) => self.last_registration = Some(LastRegistration { operation, time: clock::now() }),
            None => {}
        }
        operation
    }

    pub(crate) fn is_registered(&self) -> bool {
        self.state != DeviceState::Deregistered
    }

    /// The device as Coiote's REST API shows it.
    pub(crate) fn description(&self) -> Value {
        let text = |resource| self.model.text(DEVICE, 0, resource);
        json!({
            "id": self.id,
            "manufacturer": text(MANUFACTURER),
            "modelName": text(MODEL_NUMBER),
            "properties": self.properties(),
        })
    }

    /// The device as the control API shows it.
    pub(crate) fn control_view(&self) -> Value {
        let count = |key: &str| self.executions.get(key).copied().unwrap_or_default();
        let attributes: Map<String, Value> =
            self.attributes.iter().map(|(path, attributes)| (self.name_of(*path), json!(attributes))).collect();
        json!({
            "endpoint": self.endpoint,
            "id": self.id,
            "state": self.state,
            "reboots": count("Device.0.Reboot"),
            "factoryResets": count("Device.0.Factory Reset"),
            "executions": self.executions,
            "observations": self.observations,
            "attributes": attributes,
            "refusals": self.refusals_by_name(),
        })
    }

    /// All readable values in the form of a result.
    pub(crate) fn readable_values(&self) -> Map<String, Value> {
        self.model.render(&self.model.read_all())
    }

    /// Name of the path, as keys are written.
    fn name_of(&self, path: Path) -> String {
        let name = |object, resource| {
            self.model.catalogue.resource(object, resource).map_or_else(|| resource.to_string(), |r| r.name.clone())
        };
        let object =
            self.model.catalogue.object(path.object()).map_or_else(|| path.object().to_string(), |o| o.name.clone());
        match path {
            Path::Object(_) => object,
            Path::Instance(_, i) => format!("{object}.{i}"),
            Path::Resource(o, i, r) => format!("{object}.{i}.{}", name(o, r)),
            Path::ResourceInstance(o, i, r, ri) => format!("{object}.{i}.{}.{ri}", name(o, r)),
        }
    }
}

/// Id of a device that is given none. The same endpoint name has the same id at every start.
///
/// It holds a colon and is not the endpoint name, so that callers have to look it up and percent-encode it.
fn default_id(endpoint: &str) -> String {
    let mut hasher = FnvHasher::default();
    hasher.write(endpoint.as_bytes());
    format!("d:{:016x}", hasher.finish())
}
