//! Place of deletions among the results of a device. Results have their order by the version of the shadow, but no shadow carries a
//! deletion.

use crate::device::{Device, ResultEntry};
use crate::record::{DELETE, Record, Status};

/// Accuracy of the time of a deletion, in seconds: Coiote's clock may be another one, and both are in whole seconds.
const ACCURACY: u64 = 2;

impl Device {
    /// Requests by which the device has deleted something since the result with that version.
    pub fn deletions_since(&self, version: u64) -> impl Iterator<Item = &Record> {
        let result = self.result(version);
        let is_deletion = |record: &&Record| record.operation == DELETE && record.status() == Status::Succeeded;
        let is_since = move |record: &&Record| {
            result.is_some_and(|result| self.is_deleted_since(result, Some(record), record.ran_at()))
        };
        self.ended().iter().filter(is_deletion).filter(is_since)
    }

    /// Whether the device has deleted something since the result: at that time, in seconds since 1970, by that request. Within the
    /// accuracy of the time, the order of the requests decides; without it, values stay.
    pub fn is_deleted_since(&self, result: &ResultEntry, deletion: Option<&Record>, deleted_at: Option<u64>) -> bool {
        let (Some(deleted_at), 1..) = (deleted_at, result.reported_at) else { return false };
        if deleted_at.abs_diff(result.reported_at) > ACCURACY {
            return deleted_at > result.reported_at;
        }
        let answered = result.answers.as_ref().and_then(|name| self.find(name));
        answered.zip(deletion).is_some_and(|(answered, deletion)| answered.order() < deletion.order())
    }
}
