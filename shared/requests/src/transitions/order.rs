//! Order of requests: by version, and of writes with a common key.

use std::cmp::Ordering;

use crate::device::Device;
use crate::matching::keys_overlap;
use crate::record::{Name, Record, State, is_write};

/// Seconds for which AWS IoT keeps the version of a deleted shadow. One that is created later begins with version 0.
///
/// <https://docs.aws.amazon.com/iot/latest/developerguide/device-shadow-data-flow.html>
pub const VERSION_KEPT: u64 = 48 * 3_600;

impl Device {
    /// Forgets the versions of the operation shadow if an update with this version and time, in seconds since 1970, is of a new
    /// shadow. An update of the same shadow that came after the newest request would have a newer version.
    pub(super) fn note_new_shadow(&mut self, version: u64, at: u64) {
        let newest = self.find(&Name::Version(self.newest)).map_or(self.newest_at, |record| record.requested_at);
        if version > self.newest || !is_long_after(at, newest) {
            return;
        }
        self.newest = 0;
        self.newest_at = 0;
        self.newest_digest.clear();
        self.seen_results.clear();
        self.results.clear();
        self.datamodel = None;
        self.resaved = 0;
        self.beside_earlier = 0;
    }

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

/// Whether a time, in seconds since 1970, is so long after another one that the versions of a shadow may have begun anew
/// between them; `false` if one of them is unknown (0).
pub fn is_long_after(late: u64, early: u64) -> bool {
    early > 0 && early.saturating_add(VERSION_KEPT) <= late
}

/// Whether a request was made before another one. One without a version comes after the one that was the newest at its claim.
pub(super) fn is_before(one: &Record, other: &Record) -> bool {
    if is_long_after(one.requested_at, other.requested_at) || is_long_after(other.requested_at, one.requested_at) {
        return one.requested_at < other.requested_at;
    }
    let place = |record: &Record| (record.order(), record.name.version().is_none(), record.requested_at);
    place(one) < place(other)
}

/// Order of two requests by when they were made.
pub(super) fn by_making(one: &Record, other: &Record) -> Ordering {
    is_before(other, one).cmp(&is_before(one, other))
}

/// Whether both requests are writes, and of a common key.
fn write_common_key(one: &Record, other: &Record) -> bool {
    is_write(&one.operation)
        && is_write(&other.operation)
        && one.keys.iter().any(|key| other.keys.iter().any(|other| keys_overlap(key, other)))
}
