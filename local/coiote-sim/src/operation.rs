//! What a task asks of a device, once its parameters are understood.

use serde::{Serialize, Serializer};

use crate::attributes::Attributes;

/// One LwM2M operation. Keys are still names: what they point at is known to the device that runs the task.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "operation", rename_all = "camelCase")]
pub(crate) enum Operation {
    Read { keys: Keys },
    Write { values: Vec<KeyValue> },
    Observe { targets: Vec<KeyAttributes> },
    CancelObserve { keys: Keys },
    Execute { key: String, arguments: Vec<Argument> },
    WriteAttributes { targets: Vec<KeyAttributes> },
    Discover { keys: Vec<String> },
    Create { keys: Vec<String>, values: Vec<KeyValue> },
    Delete { keys: Vec<String> },
    ReadComposite { keys: Keys },
    WriteComposite { values: Vec<KeyValue> },
    ObserveComposite { keys: Keys },
    CancelObserveComposite { keys: Keys },
}

impl Operation {
    /// The name under which Coiote reports a result into the operation shadow; only these three are reported.
    pub(crate) fn reported_as(&self) -> Option<&'static str> {
        match self {
            Self::Read { .. } => Some("read"),
            Self::Write { .. } => Some("write"),
            Self::ReadComposite { .. } => Some("readComposite"),
            _ => None,
        }
    }
}

/// Some keys, or everything there is: the whole data model, or all observations.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Keys {
    All,
    Some(Vec<String>),
}

impl Serialize for Keys {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::All => serializer.serialize_str("all"),
            Self::Some(keys) => keys.serialize(serializer),
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct KeyValue {
    pub(crate) key: String,
    pub(crate) value: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct KeyAttributes {
    pub(crate) key: String,
    pub(crate) attributes: Attributes,
}

/// An argument of Execute: a digit, and a text unless it stands alone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Argument {
    pub(crate) number: u8,
    pub(crate) value: Option<String>,
}
