//! LwM2M operations, as types that are valid by construction and can always be encoded.

use std::fmt;
use std::ops::RangeInclusive;
use std::str::FromStr;

use crate::arguments::Arguments;
use crate::keys::{Assignments, AttributedKeys, Keys, Selection};
use crate::path::{Level, Path};

/// A valid LwM2M operation with all of its parameters.
///
/// All parts are checked when they are constructed, so later steps do not check again. Made by
/// [`Request::parse`](crate::Request::parse).
#[derive(Debug, Clone, PartialEq)]
pub enum Operation {
    /// Reads values.
    Read(Selection),
    /// Writes values.
    Write(Assignments),
    /// Starts observations, each with its attributes.
    Observe(AttributedKeys),
    /// Cancels observations.
    CancelObserve(Selection),
    /// Executes a resource.
    Execute {
        /// Path of the resource.
        resource: Path,
        /// Arguments, if any.
        arguments: Option<Arguments>,
    },
    /// Sets and unsets attributes.
    WriteAttributes(AttributedKeys),
    /// Discovers what a device has at the paths, and the attributes there.
    Discover(Keys),
    /// Creates an object instance.
    Create(NewInstance),
    /// Deletes object instances and resource instances.
    Delete(Keys),
    /// Reads values in one message.
    ReadComposite(Selection),
    /// Writes values in one message.
    WriteComposite(Assignments),
    /// Starts one observation of several paths.
    ObserveComposite(Selection),
    /// Cancels an observation of several paths.
    CancelObserveComposite(Selection),
}

/// Object instance that a Create makes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NewInstance {
    /// An object instance whose values the device chooses. For the path of an object, the device chooses its id, too.
    Bare(Path),
    /// An object instance with values for its resources.
    With(Assignments),
}

impl Operation {
    /// Name of the operation.
    pub fn name(&self) -> OperationName {
        match self {
            Operation::Read(_) => OperationName::Read,
            Operation::Write(_) => OperationName::Write,
            Operation::Observe(_) => OperationName::Observe,
            Operation::CancelObserve(_) => OperationName::CancelObserve,
            Operation::Execute { .. } => OperationName::Execute,
            Operation::WriteAttributes(_) => OperationName::WriteAttributes,
            Operation::Discover(_) => OperationName::Discover,
            Operation::Create(_) => OperationName::Create,
            Operation::Delete(_) => OperationName::Delete,
            Operation::ReadComposite(_) => OperationName::ReadComposite,
            Operation::WriteComposite(_) => OperationName::WriteComposite,
            Operation::ObserveComposite(_) => OperationName::ObserveComposite,
            Operation::CancelObserveComposite(_) => OperationName::CancelObserveComposite,
        }
    }

    /// The keys in the form and order in which they are sent to Coiote: paths by name.
    ///
    /// The whole data model is one key in the form that the operation's template takes: an empty text, or `all` to cancel
    /// observations.
    pub fn keys(&self) -> Vec<String> {
        let texts = |paths: &[Path]| paths.iter().map(Path::to_string).collect();
        let selected = |selection: &Selection, all: &str| match selection {
            Selection::All => vec![all.to_owned()],
            Selection::Keys(keys) => texts(keys.paths()),
        };
        let assigned = |assignments: &Assignments| assignments.iter().map(|(path, _)| path.to_string()).collect();
        match self {
            Operation::Read(selection)
            | Operation::ReadComposite(selection)
            | Operation::ObserveComposite(selection) => selected(selection, ""),
            Operation::CancelObserve(selection) | Operation::CancelObserveComposite(selection) => {
                selected(selection, "all")
            }
            Operation::Write(assignments) | Operation::WriteComposite(assignments) => assigned(assignments),
            Operation::Observe(keys) | Operation::WriteAttributes(keys) => {
                keys.iter().map(|(path, _)| path.to_string()).collect()
            }
            Operation::Execute { resource, .. } => vec![resource.to_string()],
            Operation::Discover(keys) | Operation::Delete(keys) => texts(keys.paths()),
            Operation::Create(NewInstance::Bare(path)) => vec![path.to_string()],
            Operation::Create(NewInstance::With(assignments)) => assigned(assignments),
        }
    }
}

macro_rules! operation_names {
    ($($variant:ident = $name:literal addresses $from:ident to $to:ident),* $(,)?) => {
        /// Name of an operation, as requests spell it.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum OperationName {
            $(#[doc = concat!("`", $name, "`")] $variant),*
        }

        impl OperationName {
            /// All operations.
            pub const ALL: &[OperationName] = &[$(OperationName::$variant),*];

            /// The name, as requests spell it.
            pub fn as_str(self) -> &'static str {
                match self { $(OperationName::$variant => $name),* }
            }

            /// Highest and lowest level of the data model that the operation can address (OMA LwM2M Core 1.1, section 6.3;
            /// for resource instances of a Delete, 1.2).
            pub fn levels(self) -> RangeInclusive<Level> {
                match self { $(OperationName::$variant => Level::$from..=Level::$to),* }
            }

            /// Whether the operation can address the level. Delete skips one: it takes no resource as a whole.
            pub fn addresses(self, level: Level) -> bool {
                self.levels().contains(&level) && !(self == OperationName::Delete && level == Level::Resource)
            }
        }
    };
}

operation_names! {
    Read = "read" addresses Root to ResourceInstance,
    // A value is a scalar, so it belongs to a resource or a resource instance
    Write = "write" addresses Resource to ResourceInstance,
    Observe = "observe" addresses Object to ResourceInstance,
    CancelObserve = "cancelObserve" addresses Root to ResourceInstance,
    Execute = "execute" addresses Resource to Resource,
    WriteAttributes = "writeAttributes" addresses Object to ResourceInstance,
    Discover = "discover" addresses Object to Resource,
    Create = "create" addresses Object to ResourceInstance,
    Delete = "delete" addresses ObjectInstance to ResourceInstance,
    ReadComposite = "readComposite" addresses Root to ResourceInstance,
    WriteComposite = "writeComposite" addresses Resource to ResourceInstance,
    ObserveComposite = "observeComposite" addresses Root to ResourceInstance,
    CancelObserveComposite = "cancelObserveComposite" addresses Root to ResourceInstance,
}

impl OperationName {
    /// Levels that the operation can address, for messages.
    pub(crate) fn level_names(self) -> String {
        if self == OperationName::Delete {
            return format!("{} or {}", Level::ObjectInstance.name(), Level::ResourceInstance.name());
        }
        let levels = self.levels();
        if levels.start() == levels.end() {
            levels.start().name().to_owned()
        } else {
            format!("{} to {}", levels.start().name(), levels.end().name())
        }
    }
}

impl fmt::Display for OperationName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for OperationName {
    type Err = ();

    fn from_str(name: &str) -> Result<Self, ()> {
        OperationName::ALL.iter().copied().find(|operation| operation.as_str() == name).ok_or(())
    }
}
