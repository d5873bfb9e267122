//! The calls to Coiote: reports of all devices, the report of one task, the removal of a task.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bounded_cache::BoundedCache;
use coiote::{Client, Reports, TaskReport};
use coiote_access::{Access, Call, Error, call_with_retries};
use lambda_support::{Deadline, elapsed_ms};

const FIND_DEVICE: Call = Call { name: "find_device", time_metric: "FindDeviceTime" };
const READ_REPORT: Call = Call { name: "read_report", time_metric: "ReadReportTime" };
const REMOVE_TASK: Call = Call { name: "remove_task", time_metric: "RemoveTaskTime" };

/// Time for all tries of a call about one task: others wait.
const ONE_TASK_LIMIT: Duration = Duration::from_secs(5);

/// Time limit of a look at the reports of all devices.
const REPORTS_LIMIT: Duration = Duration::from_secs(10);

/// While Coiote refuses the look at the reports, the secret is read again for it so seldom.
const READ_SECRET_AGAIN: Duration = Duration::from_secs(10 * 60);

/// The way to Coiote, with the ids of devices that were found before.
pub(crate) struct CoioteSide {
    access: Arc<Access>,
    /// By endpoint name.
    device_ids: BoundedCache<String, String>,
    /// When Coiote refused the look at the reports of all devices, and the secret was read again for it.
    refused: Mutex<Option<Instant>>,
}

impl CoioteSide {
    pub(crate) fn new(access: Access) -> CoioteSide {
        CoioteSide { access: Arc::new(access), device_ids: BoundedCache::default(), refused: Mutex::default() }
    }

    /// Begins what can be done before the first event is there.
    pub(crate) fn warm_up(&self) {
        self.access.warm_up();
    }

    /// Waits until no call is under way: between two events an environment may be frozen.
    pub(crate) async fn wait_until_idle(&self, deadline: Deadline) {
        self.access.wait_until_idle(deadline).await;
    }

    /// Reports that were updated since then (ISO 8601). One try: the next look is soon.
    pub(crate) async fn reports_since(&self, since: &str, deadline: Deadline) -> Result<Reports, Error> {
        // A user who may not read reports is refused each time, and no other secret helps.
        let refused = self.refused.lock().map_or(None, |refused| *refused);
        let is_refused_again = refused.is_some_and(|at| at.elapsed() < READ_SECRET_AGAIN);
        let read = async |client: &Client| {
            let time = deadline.time_for(REPORTS_LIMIT).ok_or(Error::OutOfTime)?;
            let begun = Instant::now();
            let read = client.reports_since(since, time).await;
            metrics::histogram!("FindReportsTime").record(elapsed_ms(begun));
            match read {
                Err(refusal @ coiote::Error::Unauthorized(_)) if is_refused_again => Ok(Err(refusal)),
                read => Ok(Ok(read?)),
            }
        };
        let read = self.access.call(deadline, read).await;
        if let (Err(Error::Coiote(coiote::Error::Unauthorized(_))), Ok(mut refused)) = (&read, self.refused.lock()) {
            *refused = Some(Instant::now());
        }
        Ok(read??)
    }

    /// Report about a task of the thing's device. Nothing where there is none yet, or no such device any more.
    pub(crate) async fn report(
        &self,
        thing: &str,
        task_id: &str,
        deadline: Deadline,
    ) -> Result<Option<TaskReport>, Error> {
        let deadline = for_one_task(deadline);
        let Some(device_id) = self.device_id(thing, deadline).await? else { return Ok(None) };
        let read = async |client: &Client| {
            call_with_retries(READ_REPORT, deadline, coiote::Error::is_retryable, |time| {
                client.report(task_id, &device_id, time)
            })
            .await
        };
        self.access.call(deadline, read).await.map(|(report, _)| report)
    }

    /// Removes a task; whether it was there.
    pub(crate) async fn remove(&self, task_id: &str, deadline: Deadline) -> Result<bool, Error> {
        let deadline = for_one_task(deadline);
        let remove = async |client: &Client| {
            call_with_retries(REMOVE_TASK, deadline, coiote::Error::is_retryable, |time| {
                client.remove_task(task_id, time)
            })
            .await
        };
        self.access.call(deadline, remove).await.map(|(was_there, _)| was_there)
    }

    /// Id of the only device with the thing's name as its endpoint name.
    async fn device_id(&self, thing: &str, deadline: Deadline) -> Result<Option<String>, Error> {
        if let Some(id) = self.device_ids.get(thing) {
            return Ok(Some(id));
        }
        let find = async |client: &Client| {
            call_with_retries(FIND_DEVICE, deadline, coiote::Error::is_retryable, |time| {
                client.find_devices(thing, time)
            })
            .await
        };
        let (found, _) = self.access.call(deadline, find).await?;
        let [id] = found.as_slice() else { return Ok(None) };
        self.device_ids.insert(thing.to_owned(), id.clone());
        Ok(Some(id.clone()))
    }
}

fn for_one_task(deadline: Deadline) -> Deadline {
    Deadline::within(deadline.left().min(ONE_TASK_LIMIT))
}
