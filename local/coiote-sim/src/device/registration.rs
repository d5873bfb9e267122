//! The registration interface: Register, Update and Deregister, and the properties that Coiote has from them.

use serde::Serialize;
use serde_json::{Map, Value, json};

use super::path::Path;
use super::{Device, DeviceState};

/// LwM2M Server object. Its Lifetime is that of the registration.
const LWM2M_SERVER: u16 = 1;
const LIFETIME: u16 = 1;

/// Message of the registration interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub(crate) enum Registration {
    Register,
    Update,
    Deregister,
}

impl Registration {
    /// Message that a device sends when its state changes. One that falls asleep sends nothing.
    pub(super) fn between(from: DeviceState, to: DeviceState) -> Option<Self> {
        match (from, to) {
            (DeviceState::Deregistered, DeviceState::Deregistered) => None,
            (DeviceState::Deregistered, _) => Some(Self::Register),
            (_, DeviceState::Online) => Some(Self::Update),
            (_, DeviceState::Deregistered) => Some(Self::Deregister),
            (_, DeviceState::Sleeping) => None,
        }
    }
}

/// Last Register or Update, and its time.
#[derive(Debug, Clone)]
pub(super) struct LastRegistration {
    pub(super) operation: Registration,
    pub(super) time: String,
}

impl Device {
    /// Coiote's device properties, as in its REST API and in the classic shadow.
    pub(crate) fn properties(&self) -> Map<String, Value> {
        let mut properties = Map::from_iter([
            ("endpointName".to_owned(), json!(self.endpoint)),
            ("lwm2mUri".to_owned(), json!("coap://127.0.0.1:5683")),
            ("lwm2mVersion".to_owned(), json!("1.1")),
            ("registeredMode".to_owned(), json!(if self.state == DeviceState::Deregistered { "none" } else { "U" })),
            ("registeredQueueMode".to_owned(), json!((self.state == DeviceState::Sleeping).to_string())),
            ("registeredObjects".to_owned(), json!(self.registered_objects())),
            ("objectVersions".to_owned(), json!(self.object_versions())),
        ]);
        if let Some(lifetime) = self.lifetime() {
            properties.insert("registeredLifetime".to_owned(), json!(lifetime));
        }
        if let Some(LastRegistration { operation, time }) = &self.last_registration {
            properties.insert("lastRegisterUpdate".to_owned(), json!(time));
            properties.insert("lwm2mLastUpOp".to_owned(), json!(operation));
            properties.insert("lwm2mLastUpOpTime".to_owned(), json!(time));
        }
        properties
    }

    fn lifetime(&self) -> Option<String> {
        let (instance, _) = self.model.instances(LWM2M_SERVER).next()?;
        self.model.text(LWM2M_SERVER, instance, LIFETIME).map(ToOwned::to_owned)
    }

    fn registered_objects(&self) -> String {
        let mut links = Vec::new();
        for object in self.model.catalogue.objects() {
            links.extend(self.model.instances(object.id).map(|(id, _)| format!("<{}>", Path::Instance(object.id, id))));
        }
        links.join(",")
    }

    fn object_versions(&self) -> String {
        let objects = self.model.catalogue.objects();
        objects.map(|o| format!("<{}>;ver={}", Path::Object(o.id), o.version)).collect::<Vec<_>>().join(",")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_follow_from_changes_of_state() {
        use DeviceState::{Deregistered, Online, Sleeping};
        use Registration::{Deregister, Register, Update};
        for (from, to, expected) in [
            (Deregistered, Online, Some(Register)),
            (Deregistered, Sleeping, Some(Register)),
            (Deregistered, Deregistered, None),
            (Sleeping, Online, Some(Update)),
            (Online, Online, Some(Update)),
            (Online, Sleeping, None),
            (Sleeping, Sleeping, None),
            (Online, Deregistered, Some(Deregister)),
            (Sleeping, Deregistered, Some(Deregister)),
        ] {
            assert_eq!(Registration::between(from, to), expected, "{from:?} {to:?}");
        }
    }
}
