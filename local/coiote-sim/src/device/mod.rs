//! One LwM2M device: its data model, what is observed on it, and what was executed.

mod definition;
mod discover;
mod drift;
mod model;
mod notification;
mod observe;
mod operations;
mod path;
mod refusals;
mod registration;
mod value;
mod values;

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

pub(crate) use definition::{Catalogue, DataFileError};
pub(crate) use drift::Drift;
pub(crate) use operations::{Failure, Outcome};
pub(crate) use path::Path;
pub(crate) use registration::Registration;

use model::DataModel;
use observe::Observation;
use registration::LastRegistration;

use crate::attributes::Attributes;
use crate::clock;

/// The Device object: manufacturer, model, reboot.
const DEVICE: u16 = 3;
const MANUFACTURER: u16 = 0;
const MODEL_NUMBER: u16 = 1;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum State {
    /// Listening: it runs its tasks as soon as a session starts.
    #[default]
    Online,
    /// Registered, in queue mode: it runs its tasks when it wakes up.
    Sleeping,
    /// Not registered: it runs its tasks when it comes back.
    Deregistered,
}

impl State {
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Online => "online",
            Self::Sleeping => "sleeping",
            Self::Deregistered => "deregistered",
        }
    }
}

impl std::str::FromStr for State {
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
    pub(crate) state: State,
    model: DataModel,
    observations: Vec<Observation>,
    attributes: BTreeMap<Path, Attributes>,
    /// How often each executable resource ran, by its name: what proves that a reboot happened once.
    executions: BTreeMap<String, u64>,
    last_registration: Option<LastRegistration>,
    drift: Option<Drift>,
    /// What the device has changed of itself, and no operation: a restart cannot derive it.
    changed_by_itself: BTreeSet<Path>,
    /// How many operations ran, and how many had run when all observations ended with the registration.
    runs: u64,
    observations_ended_after: u64,
    /// What it refuses, and how it says so.
    refusals: BTreeMap<Path, String>,
}

impl Device {
    pub(crate) fn new(
        catalogue: Arc<Catalogue>,
        endpoint: String,
        id: Option<String>,
        state: State,
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
            last_registration: (state != State::Deregistered).then_some(registered),
            drift: None,
            changed_by_itself: BTreeSet::new(),
            runs: 0,
            observations_ended_after: 0,
            refusals: BTreeMap::new(),
        })
    }

    /// What the Device object says: manufacturer and model.
    pub(crate) fn set_make(&mut self, manufacturer: Option<String>, model: Option<String>) {
        for (resource, text) in [(MANUFACTURER, manufacturer), (MODEL_NUMBER, model)] {
            if let Some(text) = text {
                self.change_by_itself(Path::Resource(DEVICE, 0, resource), &text);
            }
        }
    }

    /// As Coiote names the type of a device: manufacturer and model, with a dot between them.
    pub(crate) fn make(&self) -> String {
        let text = |resource| self.model.text(DEVICE, 0, resource).unwrap_or_default();
        format!("{}.{}", text(MANUFACTURER), text(MODEL_NUMBER))
    }

    /// Gives what it tells the server. Its observations end with its registration.
    pub(crate) fn change_state(&mut self, state: State) -> Option<Registration> {
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
        self.state != State::Deregistered
    }

    /// What Coiote's REST API tells about a device.
    pub(crate) fn description(&self) -> Value {
        let text = |resource| self.model.text(DEVICE, 0, resource);
        json!({
            "id": self.id,
            "manufacturer": text(MANUFACTURER),
            "modelName": text(MODEL_NUMBER),
            "properties": self.properties(),
        })
    }

    /// What the control API tells about a device.
    pub(crate) fn inside(&self) -> Value {
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

    /// All readable values, in the form of a result.
    pub(crate) fn readable_values(&self) -> Map<String, Value> {
        self.model.render(&self.model.read_all())
    }

    /// The path in names, as keys are written.
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

/// An id that is not the endpoint name and holds a colon, as on installations where callers must look it up and
/// percent-encode it. The same endpoint has the same id on every start (FNV-1a).
fn default_id(endpoint: &str) -> String {
    let hash = endpoint
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
    format!("d:{hash:016x}")
}
