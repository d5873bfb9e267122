//! Outcomes of requests, from the reports about their tasks.

use coiote::{TaskReport, TaskStatus};
use requests::{DELETE, Device, Event, Millis, Name, Record, ReportStatus, Reported, State, Status, has_result};

use crate::properties;

/// Events on a device's requests, and the requests after them.
#[derive(Debug, Clone)]
pub(crate) struct AppliedEvents {
    pub(crate) after: Device,
    pub(crate) events: Vec<Event>,
}

impl AppliedEvents {
    /// The device, without events yet.
    pub(crate) fn of(device: &Device) -> AppliedEvents {
        AppliedEvents { after: device.clone(), events: Vec::new() }
    }

    pub(crate) fn apply(&mut self, event: Event) {
        self.after.apply(&event);
        self.events.push(event);
    }
}

/// Event of a report about a task of the device.
pub(crate) fn report_event(device: &Device, report: &TaskReport, at: Millis) -> Event {
    let request = find_by_task(device, &report.task_id);
    // The values that were read are in the datamodel shadow.
    let has_values = request.is_some_and(|record| has_result(&record.operation));
    let properties = report.properties().filter(|_| !has_values);
    Event::Report(Reported {
        task_id: report.task_id.clone(),
        // Without a start it may be the report of an earlier task: at 0 it decides no request.
        started_at: report.started_at.unwrap_or(0),
        status: match report.status {
            TaskStatus::Success => ReportStatus::Success,
            TaskStatus::Warning | TaskStatus::Error => ReportStatus::Refused,
        },
        summary: report.summary.clone().unwrap_or_default(),
        properties: properties.map(properties::cut),
        at,
    })
}

/// The request that was handed over as that task.
pub(crate) fn find_by_task<'a>(device: &'a Device, task_id: &str) -> Option<&'a Record> {
    device.open().iter().chain(device.ended()).find(|record| record.task_id.as_deref() == Some(task_id))
}

/// Whether the report about the request's task is still missing.
pub(crate) fn is_awaited(device: &Device, name: &Name) -> bool {
    device.find(name).is_some_and(|record| record.state == State::Scheduled && record.reported_at == 0)
}

/// Requests with an outcome that they did not have before.
pub(crate) fn new_outcomes<'a>(before: &Device, after: &'a Device) -> Vec<&'a Record> {
    let is_new = |record: &&Record| before.find(&record.name).is_none_or(|known| known.state != record.state);
    after.ended().iter().filter(is_new).collect()
}

/// Object instances that a device has deleted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Deleted {
    /// Request by which it has.
    pub(crate) request: Name,
    pub(crate) keys: Vec<String>,
    /// When the device began to delete them, in seconds since 1970.
    pub(crate) at: u64,
}

/// Object instances that the device has deleted.
pub(crate) fn deleted(outcomes: &[&Record]) -> Vec<Deleted> {
    outcomes
        .iter()
        .filter(|record| record.operation == DELETE && record.status() == Status::Succeeded)
        .filter_map(|record| {
            Some(Deleted { request: record.name.clone(), keys: record.keys.clone(), at: record.ran_at()? })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use requests::{Claim, Created};
    use serde_json::json;

    use super::*;

    fn scheduled(operation: &str, keys: &[&str], task_id: &str, handed_over_at: u64) -> Device {
        let (mut device, name, mark) = (Device::default(), Name::Version(1), "m".to_owned());
        device.apply(&Event::Claim(Box::new(Claim {
            name: name.clone(),
            mark: mark.clone(),
            run: "r".to_owned(),
            operation: operation.to_owned(),
            keys: keys.iter().map(|key| (*key).to_owned()).collect(),
            client_token: None,
            digest: String::new(),
            requested_at: 100,
            with_reported: false,
            at: 100_000,
            void_at: 160_000,
            expires_at: 1_000_000,
            rejected: None,
            waits: None,
            redriven: false,
            history: None,
        })));
        device.apply(&Event::Created(Created {
            name,
            mark,
            task_id: task_id.to_owned(),
            handed_over_at,
            call_took: 1,
            sent_at: 101_000,
            at: 101_000,
            notice: None,
            is_followed: true,
        }));
        device
    }

    fn report(status: &str, start: Option<&str>) -> TaskReport {
        serde_json::from_value(json!({
            "taskId": "t", "deviceId": "d", "status": status, "startTime": start, "summary": "4.04 Not Found",
            "properties": [{"name": "/5/0", "value": "</5/0>"}],
        }))
        .unwrap()
    }

    const LATER: Option<&str> = Some("1970-01-01T00:02:00Z");

    #[test]
    fn a_delete_that_succeeded_deletes_its_keys() {
        let before = scheduled("delete", &["Portfolio.5"], "t", 101);
        let event = report_event(&before, &report("Success", LATER), 121_000);
        let mut after = before.clone();
        after.apply(&event);
        let outcomes = new_outcomes(&before, &after);
        assert_eq!(outcomes.iter().map(|record| record.status()).collect::<Vec<_>>(), [Status::Succeeded]);
        let gone = Deleted { request: Name::Version(1), keys: vec!["Portfolio.5".to_owned()], at: 120 };
        assert_eq!(deleted(&outcomes), [gone]);
        assert!(new_outcomes(&after, &after).is_empty(), "counted once");
    }

    #[test]
    fn the_time_of_a_deletion_is_by_the_clock_of_aws() {
        // Coiote's clock is a day ahead, or its 201 has no time.
        for (handed_over_at, start, deleted_at) in
            [(86_501, "1970-01-02T00:01:59Z", 119), (0, "1970-01-01T00:02:00Z", 120)]
        {
            let mut device = scheduled("delete", &["Portfolio.5"], "t", handed_over_at);
            device.apply(&report_event(&device, &report("Success", Some(start)), 121_000));
            let [deleted] = &deleted(&device.ended().iter().collect::<Vec<_>>())[..] else { panic!("{start}") };
            assert_eq!(deleted.at, deleted_at, "{start}");
        }
    }

    #[test]
    fn a_delete_that_the_device_refused_deletes_nothing() {
        for status in ["Warning", "Error"] {
            let before = scheduled("delete", &["Portfolio.5"], "t", 101);
            let event = report_event(&before, &report(status, LATER), 121_000);
            let mut after = before.clone();
            after.apply(&event);
            let outcomes = new_outcomes(&before, &after);
            assert_eq!(outcomes.iter().map(|record| record.status()).collect::<Vec<_>>(), [Status::Failed], "{status}");
            assert!(deleted(&outcomes).is_empty());
        }
    }

    #[test]
    fn a_report_with_an_earlier_start_or_none_decides_nothing() {
        for start in [None, Some("1970-01-01T00:01:39Z")] {
            let mut device = scheduled("execute", &["Device.0.Reboot"], "t", 101);
            let event = report_event(&device, &report("Success", start), 121_000);
            device.apply(&event);
            assert!(is_awaited(&device, &Name::Version(1)), "{start:?}");
        }
    }

    #[test]
    fn properties_are_kept_of_operations_without_a_result_in_the_shadow() {
        for (operation, expected) in [("discover", Some(r#"{"/5/0":"</5/0>"}"#)), ("read", None)] {
            let device = scheduled(operation, &["Portfolio"], "t", 101);
            let Event::Report(reported) = report_event(&device, &report("Success", LATER), 1) else {
                panic!("no report")
            };
            assert_eq!(reported.properties.as_deref(), expected, "{operation}");
        }
    }
}
