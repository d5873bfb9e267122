//! The operation of a task, decoded from its template and parameters.

use serde::{Deserialize, Serialize, Serializer};

use crate::attributes::Attributes;

/// LwM2M operation of a task. Keys are still names: only the device that runs the task resolves them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "operation", rename_all = "camelCase")]
pub(crate) enum DecodedOperation {
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

impl DecodedOperation {
    /// Name of the operation in the operation shadow. Coiote writes results of these three only.
    pub(crate) fn reported_as(&self) -> Option<&'static str> {
        match self {
            Self::Read { .. } => Some("read"),
            Self::Write { .. } => Some("write"),
            Self::ReadComposite { .. } => Some("readComposite"),
            _ => None,
        }
    }

    /// Keys with the value to write or the arguments of Execute. The key of everything there is, is `""`.
    pub(crate) fn operation_keys(&self) -> Vec<OperationKey> {
        let bare = |keys: &[String]| keys.iter().map(|key| OperationKey { key: key.clone(), value: None }).collect();
        let valued = |values: &[KeyValue]| {
            values.iter().map(|v| OperationKey { key: v.key.clone(), value: Some(v.value.clone()) }).collect()
        };
        match self {
            Self::Read { keys }
            | Self::ReadComposite { keys }
            | Self::CancelObserve { keys }
            | Self::ObserveComposite { keys }
            | Self::CancelObserveComposite { keys } => match keys {
                Keys::All => bare(&[String::new()]),
                Keys::Some(keys) => bare(keys),
            },
            Self::Write { values } | Self::WriteComposite { values } => valued(values),
            Self::Observe { targets } | Self::WriteAttributes { targets } => {
                targets.iter().map(|target| OperationKey { key: target.key.clone(), value: None }).collect()
            }
            Self::Execute { key, arguments } => {
                let arguments: Vec<_> = arguments.iter().map(Argument::text).collect();
                let value = (!arguments.is_empty()).then(|| arguments.join(","));
                vec![OperationKey { key: key.clone(), value }]
            }
            Self::Create { keys, values } if values.is_empty() => bare(keys),
            Self::Create { values, .. } => valued(values),
            Self::Discover { keys } | Self::Delete { keys } => bare(keys),
        }
    }

    /// The operation without some of its keys; `None` if no key is left.
    pub(crate) fn without(&self, left_out: impl Fn(&str) -> bool) -> Option<Self> {
        let mut fewer = self.clone();
        let rest = match &mut fewer {
            Self::Read { keys }
            | Self::ReadComposite { keys }
            | Self::CancelObserve { keys }
            | Self::ObserveComposite { keys }
            | Self::CancelObserveComposite { keys } => match keys {
                Keys::All => 1,
                Keys::Some(keys) => {
                    keys.retain(|key| !left_out(key));
                    keys.len()
                }
            },
            Self::Write { values } | Self::WriteComposite { values } => {
                values.retain(|value| !left_out(&value.key));
                values.len()
            }
            Self::Observe { targets } | Self::WriteAttributes { targets } => {
                targets.retain(|target| !left_out(&target.key));
                targets.len()
            }
            Self::Execute { key, .. } => usize::from(!left_out(key)),
            Self::Create { keys, values } => {
                values.retain(|value| !left_out(&value.key));
                keys.retain(|key| !left_out(key));
                keys.len()
            }
            Self::Discover { keys } | Self::Delete { keys } => {
                keys.retain(|key| !left_out(key));
                keys.len()
            }
        };
        (rest > 0).then_some(fewer)
    }

    /// Whether a key that fails makes all others fail.
    pub(crate) fn is_all_or_nothing(&self) -> bool {
        matches!(self, Self::WriteComposite { .. } | Self::Create { .. })
    }
}

/// Key of an operation, with its value to write or its arguments.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct OperationKey {
    pub(crate) key: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) value: Option<String>,
}

/// Keys of an operation, or everything there is: the whole data model, or all observations.
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

/// Argument of Execute: a digit, and optionally a text.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Argument {
    pub(crate) number: u8,
    pub(crate) value: Option<String>,
}

impl Argument {
    /// The argument as a parameter writes it: `0='abc'`, or `1` without a text.
    fn text(&self) -> String {
        match &self.value {
            Some(value) => format!("{}='{value}'", self.number),
            None => self.number.to_string(),
        }
    }
}
