//! Order of requests: by version, and of writes with a common key.

use crate::device::Device;
use crate::matching::keys_overlap;
use crate::record::{Name, Record, State, is_write};

impl Device {
    /// Inserts an open request at its place in the order.
    pub(super) fn insert(&mut self, record: Record) {
        let place = self.open.iter().position(|other| is_before(&record, other)).unwrap_or(self.open.len());
        self.open.insert(place, record);
    }

    /// An older write of one of the request's keys that is not at Coiote yet.
    pub(crate) fn older_write(&self, record: &Record) -> Option<&Name> {
        let is_on_its_way = |other: &&Record| {
            matches!(other.state, State::Held | State::Waiting)
                && is_before(other, record)
                && write_common_key(other, record)
        };
        self.open.iter().find(is_on_its_way).map(|other| &other.name)
    }

    /// A newer write of one of the request's keys that may have been sent.
    pub(super) fn overtaking(&self, record: &Record) -> Option<Name> {
        let overtakes =
            |other: &&Record| is_before(record, other) && other.may_have_been_sent() && write_common_key(other, record);
        self.records().find(overtakes).map(|other| other.name.clone())
    }
}

/// Whether a request was made before another one. One without a version comes after the one that was the newest at its claim.
pub(super) fn is_before(one: &Record, other: &Record) -> bool {
    let place = |record: &Record| (record.order(), record.name.version().is_none(), record.requested_at);
    place(one) < place(other)
}

/// Whether both requests are writes, and of a common key.
fn write_common_key(one: &Record, other: &Record) -> bool {
    is_write(&one.operation)
        && is_write(&other.operation)
        && one.keys.iter().any(|key| other.keys.iter().any(|other| keys_overlap(key, other)))
}
