//! Tasks, from the call that creates one to its report and its result.

use std::time::Instant;

use serde_json::{Value, json};
use tracing::{info, warn};

use super::{Inner, Installation, Refusal};
use crate::aws_command::{AwsCommand, OperationShadowUpdate};
use crate::clock;
use crate::device::DeviceState;
use crate::faults::ResultFate;
use crate::publication::is_thing_name;
use crate::task::{self, ReportVisibility, ShadowUpdateStatus, Task, TaskReport, TaskRun, TaskSettings, TaskStatus};
use crate::template::{self, Parameter};

/// Task that a call creates.
#[derive(Debug)]
pub(crate) struct NewTask {
    template: String,
    parameters: Vec<Parameter>,
    pub(crate) settings: TaskSettings,
    /// Run an equal task again instead of creating another one (`rerunIfExists`).
    pub(crate) reruns: bool,
}

impl NewTask {
    pub(crate) fn new(template: &str, parameters: Vec<Parameter>) -> Self {
        Self { template: template.to_owned(), parameters, settings: TaskSettings::default(), reruns: true }
    }
}

/// Filter of `GET /taskReports/findSince`.
#[derive(Debug)]
pub(crate) struct WantedReports<'w> {
    /// Milliseconds since 1970.
    pub(crate) since: u64,
    pub(crate) limit: usize,
    pub(crate) task_id: Option<&'w str>,
    pub(crate) device_id: Option<&'w str>,
}

impl Installation {
    /// Schedules a run and returns the task's id: that of an equal task, if there is one. Each call is one more run, even
    /// if the earlier one is still to come.
    pub(crate) fn schedule(&self, device_id: &str, new: NewTask) -> Result<String, Refusal> {
        let mut inner = self.inner();
        let device = inner.by_id(device_id)?.endpoint.clone();
        let NewTask { template, parameters, settings, reruns } = new;
        if !inner.templates.value.contains(&template) {
            return Err(Refusal::UnknownTemplate(template));
        }
        let decoded = template::decode(&template, &parameters, &self.catalogue).map_err(Refusal::Parameters)?;
        let shown: Vec<_> = parameters.iter().map(|p| format!("{}={:?}", p.name, p.value)).collect();
        let mut task = Task {
            id: format!("{}:{}", inner.task_prefix, inner.tasks.distinct_ids() + 1),
            device,
            template,
            parameters,
            settings,
            decoded,
            status: TaskStatus::Scheduled,
            report: None,
            run: None,
            shadow_update: ShadowUpdateStatus::None,
            removed: false,
            of_removed_device: false,
        };
        let equal = inner.tasks.equal_to(&task).filter(|_| reruns).map(|equal| equal.id.clone());
        let again = if equal.is_some() { " again" } else { "" };
        if let Some(id) = equal {
            task.id = id;
        }
        info!("{}: task {} scheduled{again}: {} {}", task.device, task.id, task.template, shown.join(" "));
        let id = task.id.clone();
        inner.tasks.add(task);
        Ok(id)
    }

    /// Tries to reach the device. Returns its endpoint name if it is online, so that the caller runs its tasks.
    pub(crate) fn start_session(&self, device_id: &str) -> Result<Option<String>, Refusal> {
        let mut inner = self.inner();
        let device = inner.by_id(device_id)?;
        let endpoint = device.endpoint.clone();
        let state = device.state;
        let waiting = inner.tasks.waiting(&endpoint);
        if state == DeviceState::Online {
            info!("{endpoint}: session started, {waiting} task(s) to run");
            return Ok(Some(endpoint));
        }
        info!("{endpoint}: session asked for, but the device is {}: {waiting} task(s) wait for it", state.word());
        Ok(None)
    }

    /// Runs the device's scheduled tasks, oldest first, as long as it is online.
    pub(crate) fn run_scheduled(&self, endpoint: &str) {
        while self.run_next(endpoint) {}
    }

    /// Runs the scheduled tasks of all devices that are online: after a restart no session is started again.
    pub(crate) fn run_all_scheduled(&self) {
        let endpoints: Vec<_> = self.inner().devices.iter().map(|device| device.endpoint.clone()).collect();
        for endpoint in endpoints {
            self.run_scheduled(&endpoint);
        }
    }

    /// Runs the device's oldest scheduled task. Returns `false` if there is none or the device is not online.
    fn run_next(&self, endpoint: &str) -> bool {
        let mut inner = self.inner();
        let Inner { devices, tasks, faults, held, .. } = &mut *inner;
        let device =
            devices.iter_mut().find(|device| device.endpoint == endpoint && device.state == DeviceState::Online);
        let Some(device) = device else { return false };
        let Some((task, number)) = tasks.take_next(endpoint) else { return false };
        info!("{endpoint}: task {} runs", task.id);
        let started = clock::now_in_millis();
        let now = Instant::now();
        let refused = device.refused_of(&task.decoded);
        let outcome = device.run(&task.decoded, &refused, now);
        device.notice_changes();
        self.wake_timer();
        let finished = clock::now_in_millis();
        let report = TaskReport::new(&task.id, &device.id, (started, finished), &outcome);
        let answer = shortened(&Value::Object(outcome.result.clone()).to_string());
        info!("{endpoint}: task {} ended with {:?}: {}; result {answer}", task.id, report.status, report.summary);
        let fate = faults.report_fate();
        let from = finished + u64::try_from(fate.after.as_millis()).unwrap_or(u64::MAX / 2);
        let shown = ReportVisibility { from, alone: fate.alone, listed: fate.listed };
        task.run = Some(TaskRun { refused, ..TaskRun::new(number, &task.decoded, &outcome, finished, shown) });
        task.status = TaskStatus::Done;
        task.report = Some(report);
        if let Some(operation) = task.decoded.reported_as() {
            let payload = task::shadow_update(operation, &outcome, &task.id);
            task.shadow_update = self.report_result(endpoint, &task.id, payload, faults.result_fate(), now, held);
        }
        true
    }

    /// Sends a result to its operation shadow, unless there is none or the faults lose or delay it.
    fn report_result(
        &self,
        endpoint: &str,
        task_id: &str,
        payload: Value,
        fate: ResultFate,
        now: Instant,
        held: &mut Vec<(Instant, AwsCommand)>,
    ) -> ShadowUpdateStatus {
        if self.to_aws.is_none() || !is_thing_name(endpoint) {
            info!("{endpoint}: result of task {task_id} kept: there is no AWS connection, or no such thing");
            return ShadowUpdateStatus::Kept { payload };
        }
        let command = AwsCommand::UpdateShadow(OperationShadowUpdate::new(endpoint, task_id, &payload));
        match fate {
            ResultFate::Lost => {
                info!("{endpoint}: result of task {task_id} lost, as the faults ask for it");
                return ShadowUpdateStatus::Lost { payload };
            }
            ResultFate::SentAfter(pause) => held.push((now + pause, command)),
            ResultFate::Sent => self.command(command),
        }
        ShadowUpdateStatus::Sent { payload }
    }

    pub(crate) fn shadow_accepted(&self, endpoint: &str, task_id: &str, version: Option<u64>) {
        let shown = version.map_or_else(|| "unknown".to_owned(), |version| version.to_string());
        info!("{endpoint}: AWS accepted the result of task {task_id}; operation shadow version {shown}");
        self.inner().tasks.settle(task_id, |payload| ShadowUpdateStatus::Accepted { version, payload });
    }

    pub(crate) fn shadow_rejected(&self, endpoint: &str, task_id: &str, code: Option<u64>, message: String) {
        let shown = code.unwrap_or_default();
        warn!("{endpoint}: AWS rejected the result of task {task_id}: {shown} {message}");
        self.inner().tasks.settle(task_id, |payload| ShadowUpdateStatus::Rejected { code, message, payload });
    }

    // Responses to calls

    /// The task report as JSON.
    pub(crate) fn report(&self, task_id: &str, device_id: &str) -> Result<Value, Refusal> {
        let mut inner = self.inner();
        let endpoint = inner.by_id(device_id)?.endpoint.clone();
        let report = inner.tasks.report(task_id, &endpoint, clock::now_in_millis());
        report.map(|report| json!(report)).ok_or_else(|| Refusal::NoReport(task_id.to_owned()))
    }

    pub(crate) fn reports_since(&self, wanted: &WantedReports<'_>) -> Value {
        let inner = self.inner();
        let faults = inner.faults.report_faults();
        let mut found = inner.tasks.reports_since(wanted.since, clock::now_in_millis());
        found.retain(|(task, report)| {
            wanted.task_id.is_none_or(|id| task.id == id) && wanted.device_id.is_none_or(|id| report.device_id == id)
        });
        found.truncate(wanted.limit);
        if faults.twice {
            found = found.iter().flat_map(|report| [*report, *report]).collect();
        }
        if faults.shuffled {
            fastrand::shuffle(&mut found);
        }
        info!("{} report(s) updated since {} told", found.len(), clock::iso_of_millis(wanted.since));
        found.into_iter().map(|(_, report)| json!(report)).collect()
    }

    /// Ids of all tasks, or of those with the name.
    pub(crate) fn task_ids(&self, name: Option<&str>) -> Vec<String> {
        let inner = self.inner();
        let wanted = inner.tasks.current().filter(|task| name.is_none_or(|name| name_of(task) == name));
        wanted.map(|task| task.id.clone()).collect()
    }

    pub(crate) fn task(&self, id: &str) -> Result<Value, Refusal> {
        let inner = self.inner();
        let task = inner.tasks.get(id).ok_or_else(|| Refusal::UnknownTask(id.to_owned()))?;
        Ok(json!({
            "id": task.id,
            "config": {
                "taskName": name_of(task),
                "parameters": task.parameters,
                "properties": task.settings.properties,
                "isActive": true,
            },
        }))
    }

    pub(crate) fn remove_task(&self, id: &str) -> Result<(), Refusal> {
        if !self.inner().tasks.remove(id) {
            return Err(Refusal::UnknownTask(id.to_owned()));
        }
        info!("task {id} removed");
        Ok(())
    }

    /// All tasks, oldest first, or those of one device.
    pub(crate) fn tasks(&self, endpoint: Option<&str>) -> Result<Value, serde_json::Error> {
        let inner = self.inner();
        let wanted: Vec<_> =
            inner.tasks.iter().filter(|task| endpoint.is_none_or(|name| task.device == name)).collect();
        serde_json::to_value(wanted)
    }

    /// Runs in the order in which devices made them, filtered by device and task.
    pub(crate) fn runs(&self, endpoint: Option<&str>, task_id: Option<&str>) -> Vec<Value> {
        let inner = self.inner();
        let wanted = inner
            .tasks
            .iter()
            .filter(|task| endpoint.is_none_or(|name| task.device == name))
            .filter(|task| task_id.is_none_or(|id| task.id == id));
        let mut runs: Vec<_> = wanted.filter_map(|task| Some((task.run.as_ref()?, task))).collect();
        runs.sort_by_key(|(run, _)| run.number);
        let view = |(run, task): (&TaskRun, &Task)| {
            json!({
                "number": run.number,
                "taskId": task.id,
                "device": task.device,
                "template": task.template,
                "finishTime": clock::iso_of_millis(run.finished),
                "status": task.report.as_ref().map(|report| report.status),
                "done": run.done,
                "failed": run.failed,
            })
        };
        runs.into_iter().map(view).collect()
    }
}

/// Name of a task; its template's name if it was given none.
fn name_of(task: &Task) -> &str {
    task.settings.task_name.as_deref().unwrap_or(&task.template)
}

/// Text shortened for the log, where a whole data model would bury the line. The control API has all of it.
pub(super) fn shortened(text: &str) -> String {
    const SHOWN: usize = 400;
    match text.char_indices().nth(SHOWN) {
        Some((end, _)) => format!("{}… ({} bytes)", text.get(..end).unwrap_or(text), text.len()),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

    use super::super::InstallationOptions;
    use super::*;

    fn installation() -> (Installation, UnboundedReceiver<AwsCommand>) {
        let (to_aws, commands) = unbounded_channel();
        let installation = Installation::new(InstallationOptions::default(), Some(to_aws)).unwrap();
        installation.add_device("endpoint=urn:dev:1,id=one".parse().unwrap()).unwrap();
        (installation, commands)
    }

    fn read(installation: &Installation, key: &str) -> String {
        let keys = Parameter { name: "keys".to_owned(), value: key.to_owned() };
        installation.schedule("one", NewTask::new("AWSreadCertAuth", vec![keys])).unwrap()
    }

    fn sent(commands: &mut UnboundedReceiver<AwsCommand>) -> Vec<String> {
        let commands = std::iter::from_fn(|| commands.try_recv().ok());
        commands
            .filter_map(|c| if let AwsCommand::UpdateShadow(update) = c { Some(update.task_id) } else { None })
            .collect()
    }

    #[test]
    fn results_are_lost_or_come_late_as_the_faults_ask_for_it() {
        let (installation, mut commands) = installation();
        installation.set_faults(serde_json::from_str(r#"{"results": {"lost": 1}}"#).unwrap());
        let lost = read(&installation, "Location");
        installation.run_scheduled("urn:dev:1");
        assert_eq!(installation.tasks(None).unwrap()[0]["shadowUpdate"]["status"], "lost");
        assert_eq!(installation.report(&lost, "one").unwrap()["status"], "Success");

        installation.set_faults(serde_json::from_str(r#"{"results": {"late": 60}}"#).unwrap());
        let late = read(&installation, "Device");
        installation.run_scheduled("urn:dev:1");
        let now = Instant::now();
        assert!(installation.run_due(now).is_some_and(|next| next > now));
        assert_eq!(sent(&mut commands), [""; 0]);
        assert_eq!(installation.run_due(now + Duration::from_secs(61)), None);
        assert_eq!(sent(&mut commands), [late]);
    }

    #[test]
    fn results_overtake_each_other_when_they_are_shuffled() {
        let (installation, mut commands) = installation();
        installation.set_faults(serde_json::from_str(r#"{"results": {"late": 60, "shuffled": true}}"#).unwrap());
        let keys = ["Location", "Device", "Portfolio", "LwM2M Server", "Test object", "Temperature"];
        // They are in order by chance once in 720 times.
        let in_order = (0..20).all(|_| {
            let ids: Vec<_> = keys.iter().map(|key| read(&installation, key)).collect();
            installation.run_scheduled("urn:dev:1");
            installation.run_due(Instant::now() + Duration::from_secs(61));
            sent(&mut commands) == ids
        });
        assert!(!in_order);
    }

    #[test]
    fn two_results_of_one_task_are_settled_one_after_the_other() {
        let (installation, _commands) = installation();
        let id = read(&installation, "Location");
        installation.run_scheduled("urn:dev:1");
        assert_eq!(read(&installation, "Location"), id);
        installation.run_scheduled("urn:dev:1");
        installation.shadow_accepted("urn:dev:1", &id, Some(1));
        let update = |index: usize| installation.tasks(None).unwrap()[index]["shadowUpdate"].clone();
        assert_eq!((update(0)["status"].clone(), update(1)["status"].clone()), (json!("accepted"), json!("sent")));
        installation.shadow_accepted("urn:dev:1", &id, Some(2));
        assert_eq!(update(1)["version"], 2);
    }
}
