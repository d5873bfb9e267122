//! Values by object, object instance and resource: the shape of a data model and of what is read from it.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::resource_type::ResourceType;

/// Content by object, object instance and resource.
pub(crate) type Objects = BTreeMap<u16, BTreeMap<u16, Instance>>;
/// Content by resource.
pub(crate) type Instance = BTreeMap<u16, Content>;

/// Content of a resource.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Content {
    /// Value of a single resource; `None` where it holds none.
    Single(Option<String>),
    /// Values by resource instance; `None` where one holds none.
    Multiple(BTreeMap<u16, Option<String>>),
}

impl Content {
    /// A resource without a value, or without resource instances.
    pub(crate) fn empty(multiple: bool) -> Self {
        if multiple { Self::Multiple(BTreeMap::new()) } else { Self::Single(None) }
    }

    /// The content as it stands in a result.
    pub(crate) fn render(&self, kind: ResourceType) -> Value {
        let shown = |value: &Option<String>| match value {
            Some(value) => json!(kind.shown(value)),
            None => json!({"noValue": true}),
        };
        match self {
            Self::Single(value) => shown(value),
            Self::Multiple(values) => {
                Value::Object(values.iter().map(|(id, value)| (id.to_string(), shown(value))).collect())
            }
        }
    }
}
