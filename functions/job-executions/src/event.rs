//! Parses an event: records of the table's stream, a canceled job, or the schedule.

use ledger::{Change, RequestSummary};
use requests::{CanceledBy, Name, Record, Status};
use serde_json::Value as Json;

/// Reason of an invocation.
#[derive(Debug)]
pub(crate) enum Trigger {
    /// Requests of devices have changed.
    RequestsChanged {
        updates: Vec<JobUpdate>,
        /// Records of unknown form, a line each.
        unreadable: Vec<String>,
    },
    /// The job with this id was canceled, with its executions.
    JobCanceled(String),
    /// The schedule: it is time to look for executions without a request.
    Schedule,
}

/// News about the request of a job's execution.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct JobUpdate {
    pub(crate) thing: String,
    pub(crate) name: Name,
    pub(crate) summary: RequestSummary,
}

impl Trigger {
    pub(crate) fn parse(event: &Json) -> Trigger {
        if let Some(records) = event.get("Records").and_then(Json::as_array) {
            let (changes, unreadable) = ledger::changes(records);
            let unreadable = unreadable.into_iter().map(|record| record.reason).collect();
            return Trigger::RequestsChanged { updates: changes.iter().flat_map(updates).collect(), unreadable };
        }
        let job_id = event.get("canceledJob").and_then(Json::as_str);
        job_id.map_or(Trigger::Schedule, |job_id| Trigger::JobCanceled(job_id.to_owned()))
    }
}

/// Updates for the jobs' requests whose summary has changed. Those that had ended are left out: AWS takes no second outcome. One
/// that had ended under the same name may be of a job that was deleted and created again.
fn updates(change: &Change) -> Vec<JobUpdate> {
    let Change { thing, before, after } = change;
    let is_new = |record: &&Record| match before.find(&record.name) {
        Some(known) if record.name.is_reused(known.requested_at, record.requested_at) => true,
        Some(known) => known.is_open() && RequestSummary::from_record(known) != RequestSummary::from_record(record),
        None => true,
    };
    // AWS takes no status of an execution that it has ended, and the one of a job that was created again has the same name.
    let has_execution = |record: &Record| !record.canceled_by.as_ref().is_some_and(CanceledBy::has_ended_execution);
    let of_job =
        |record: &&Record| record.name.is_of_job() && record.status() != Status::Ignored && has_execution(record);
    let records = after.open().iter().chain(after.ended()).filter(of_job).filter(is_new);
    records
        .map(|record| JobUpdate {
            thing: thing.clone(),
            name: record.name.clone(),
            summary: RequestSummary::from_record(record),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use requests::Device;
    use serde_json::json;

    use super::*;

    fn device(open: &[(&str, &str, &str)], ended: &[(&str, &str, &str)]) -> Device {
        let records = |list: &[(&str, &str, &str)]| -> Vec<_> {
            let record = |(name, state, task): &(&str, &str, &str)| json!({"n": name, "o": "read", "s": state, "i": task, "z": 1});
            list.iter().map(record).collect()
        };
        serde_json::from_value(json!({"o": records(open), "e": records(ended)})).unwrap()
    }

    #[test]
    fn only_changes_of_jobs_requests_are_updates() {
        let updated = |before: &Device, after: &Device| -> Vec<String> {
            let change = Change { thing: "a".to_owned(), before: before.clone(), after: after.clone() };
            updates(&change).into_iter().map(|update| update.name.to_string()).collect()
        };
        let before = device(&[("job:a:1", "H", ""), ("job:b:1", "S", "t"), ("x", "H", "")], &[("job:c:1", "EF", "t")]);
        assert_eq!(updated(&Device::default(), &before), ["job:a:1", "job:b:1", "job:c:1"]);
        assert!(updated(&before, &before).is_empty());
        let after = device(&[("job:b:1", "S", "t"), ("x", "S", "t")], &[("job:c:1", "E", "t"), ("job:a:1", "E", "t")]);
        assert_eq!(updated(&before, &after), ["job:a:1"], "c had ended before");
    }

    #[test]
    fn a_request_of_a_job_that_was_created_again_is_an_update() {
        let device = |list: &str, state: &str, requested_at: u64| -> Device {
            let record = json!({"n": "job:a:1", "o": "read", "s": state, "q": requested_at, "z": 1});
            serde_json::from_value(json!({list: [record]})).unwrap()
        };
        let ended = device("e", "E", 100);
        for (list, state) in [("o", "H"), ("e", "E")] {
            let change = |requested_at| Change {
                thing: "a".to_owned(),
                before: ended.clone(),
                after: device(list, state, requested_at),
            };
            assert_eq!(updates(&change(160)).len(), 1, "{state}");
            assert!(updates(&change(101)).is_empty(), "{state}: AWS rounds some times");
        }
    }

    #[test]
    fn a_request_whose_execution_aws_has_ended_is_no_update() {
        let updated = |canceled_by: &str| {
            let device = |list: &str, state: &str| -> Device {
                let record = json!({"n": "job:a:1", "o": "read", "s": state, "c": canceled_by, "z": 1});
                serde_json::from_value(json!({list: [record]})).unwrap()
            };
            let change =
                |(list, state)| Change { thing: "a".to_owned(), before: device("o", "H"), after: device(list, state) };
            [("o", "S"), ("e", "EC"), ("e", "E")].map(|after| updates(&change(after)).len())
        };
        for over in ["canceled", "timed_out", "removed", "deleted", "over"] {
            let by = CanceledBy::JobOver { job_id: "a".to_owned(), over: over.to_owned() };
            assert_eq!(updated(&by.to_string()), [0, 0, 0], "{over}");
        }
        assert_eq!(updated(&CanceledBy::Newer.to_string()), [0, 0, 0]);
        assert_eq!(updated(&CanceledBy::Request(Name::Version(17)).to_string()), [1, 1, 1], "AWS has not");
    }

    #[test]
    fn events_are_told_apart() {
        assert!(matches!(Trigger::parse(&json!({"canceledJob": "x"})), Trigger::JobCanceled(id) if id == "x"));
        assert!(matches!(Trigger::parse(&json!({"source": "aws.events"})), Trigger::Schedule));
        let Trigger::RequestsChanged { updates, unreadable } =
            Trigger::parse(&json!({"Records": [{"eventSource": "aws:dynamodb"}]}))
        else {
            panic!("no records")
        };
        assert_eq!((updates.len(), unreadable.len()), (0, 1));
    }
}
