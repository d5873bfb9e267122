//! The operations, as types that can only be valid and can always be encoded.

use std::fmt;
use std::ops::RangeInclusive;
use std::str::FromStr;

use crate::arguments::Arguments;
use crate::keys::{Assignments, AttributedKeys, Keys, Selection};
use crate::path::{Level, Path};

/// A valid request. Every part of it was checked when it was made, so nothing further in checks again.
#[derive(Debug, Clone, PartialEq)]
pub enum Operation {
    Read(Selection),
    Write(Assignments),
    Observe(AttributedKeys),
    CancelObserve(Selection),
    Execute { resource: Path, arguments: Option<Arguments> },
    WriteAttributes(AttributedKeys),
    Discover(Keys),
    Create(NewInstance),
    Delete(Keys),
    ReadComposite(Selection),
    WriteComposite(Assignments),
    ObserveComposite(Selection),
    CancelObserveComposite(Selection),
}

/// What a Create makes: one object instance.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NewInstance {
    /// An object instance whose resources the device fills by itself; of an object's path also its id.
    Bare(Path),
    /// An object instance with the values of its resources.
    With(Assignments),
}

impl Operation {
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

    /// The keys as they are sent to Coiote, in that order: paths by name. The whole data model is one key, spelled as the
    /// operation's template takes it: an empty text, or `all` where an observation is cancelled.
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
        /// An operation's name, as requests write it.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum OperationName { $($variant),* }

        impl OperationName {
            pub const ALL: &[OperationName] = &[$(OperationName::$variant),*];

            pub fn as_str(self) -> &'static str {
                match self { $(OperationName::$variant => $name),* }
            }

            /// The levels of the data model between which the operation can address (OMA LwM2M Core 1.1, section 6.3; the
            /// resource instances of a Delete 1.2).
            pub fn levels(self) -> RangeInclusive<Level> {
                match self { $(OperationName::$variant => Level::$from..=Level::$to),* }
            }

            /// Whether it can address the level: a Delete takes no resource as a whole.
            pub fn addresses(self, level: Level) -> bool {
                self.levels().contains(&level) && !(self == OperationName::Delete && level == Level::Resource)
            }
        }
    };
}

operation_names! {
    Read = "read" addresses Root to ResourceInstance,
    // A value is a scalar here, so it needs a resource or a resource instance.
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
