//! The calls to Coiote: reports of all devices, the report of one task, the removal of a task, the waking of a device.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bounded_cache::BoundedCache;
use coiote::{Client, Reports, TaskReport};
use coiote_access::{Access, Call, Error, FIND_DEVICE, START_SESSION, call_with_retries};
use lambda_support::{Deadline, elapsed_ms};

const READ_REPORT: Call = Call { name: "read_report", time_metric: "ReadReportTime" };
const REMOVE_TASK: Call = Call { name: "remove_task", time_metric: "RemoveTaskTime" };

/// Time limit for all tries of a call about one task: others wait.
const ONE_TASK_LIMIT: Duration = Duration::from_secs(5);

/// Time limit for a page of the reports of all devices.
const REPORTS_LIMIT: Duration = Duration::from_secs(10);

/// Shortest time between two reads of the secret while Coiote refuses the call for all reports.
const SECRET_REREAD_INTERVAL: Duration = Duration::from_secs(10 * 60);

/// Client of Coiote that remembers the ids of devices.
pub(crate) struct CoioteCalls {
    access: Arc<Access>,
    /// By endpoint name.
    device_ids: BoundedCache<String, String>,
    /// When Coiote last refused the call for all reports although the secret was read again.
    reports_refused_at: Mutex<Option<Instant>>,
    /// Number of calls that Coiote has answered.
    answers: AtomicU64,
    /// Number of those among them that start a session.
    session_answers: AtomicU64,
}

impl CoioteCalls {
    pub(crate) fn new(access: Access) -> CoioteCalls {
        CoioteCalls {
            access: Arc::new(access),
            device_ids: BoundedCache::default(),
            reports_refused_at: Mutex::default(),
            answers: AtomicU64::default(),
            session_answers: AtomicU64::default(),
        }
    }

    /// Begins to read the secret before the first event comes.
    pub(crate) fn warm_up(&self) {
        self.access.warm_up();
    }

    /// Waits until no call is under way: between two events an environment may be frozen.
    pub(crate) async fn wait_until_idle(&self, deadline: Deadline) {
        self.access.wait_until_idle(deadline).await;
    }

    /// Reports of all devices that were updated since that time (ISO 8601). There is one try: the next read is soon.
    pub(crate) async fn reports_since(&self, since: &str, deadline: Deadline) -> Result<Reports, Error> {
        // A user who may not read reports is refused each time, and no other secret helps.
        let refused_at = self.reports_refused_at.lock().map_or(None, |refused_at| *refused_at);
        let is_refused_again = refused_at.is_some_and(|at| at.elapsed() < SECRET_REREAD_INTERVAL);
        let read = async |client: &Client| {
            let time = deadline.time_for(REPORTS_LIMIT).ok_or(Error::OutOfTime)?;
            let begun = Instant::now();
            let read = client.reports_since(since, time).await;
            lambda_support::record("FindReportsTime", elapsed_ms(begun));
            match read {
                Err(refusal @ coiote::Error::Unauthorized(_)) if is_refused_again => Ok(Err(refusal)),
                read => Ok(Ok(read?)),
            }
        };
        let read = self.access.with_secret_refresh(deadline, read).await;
        if let (Err(Error::Coiote(coiote::Error::Unauthorized(_))), Ok(mut refused_at)) =
            (&read, self.reports_refused_at.lock())
        {
            *refused_at = Some(Instant::now());
        }
        self.note(read.and_then(|read| Ok(read?)))
    }

    /// Report about a task of the thing's device. None where there is none yet, or no such device any more.
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
        self.note(self.access.with_secret_refresh(deadline, read).await).map(|(report, _)| report)
    }

    /// Removes a task. Returns whether Coiote had it.
    pub(crate) async fn remove(&self, task_id: &str, deadline: Deadline) -> Result<bool, Error> {
        let deadline = for_one_task(deadline);
        let remove = async |client: &Client| {
            call_with_retries(REMOVE_TASK, deadline, coiote::Error::is_retryable, |time| {
                client.remove_task(task_id, time)
            })
            .await
        };
        self.note(self.access.with_secret_refresh(deadline, remove).await).map(|(was_there, _)| was_there)
    }

    /// Forgets the id of the thing's device: the device may have been removed since, and added again with another id.
    pub(crate) fn forget_device(&self, thing: &str) {
        self.device_ids.remove(thing);
    }

    /// Wakes the thing's device. Returns whether there is such a device.
    pub(crate) async fn wake(&self, thing: &str, deadline: Deadline) -> Result<bool, Error> {
        let deadline = for_one_task(deadline);
        let woken = self.wake_known(thing, deadline).await;
        if !matches!(woken, Err(Error::Coiote(coiote::Error::NotFound(_)))) {
            return woken;
        }
        self.forget_device(thing);
        self.wake_known(thing, deadline).await
    }

    async fn wake_known(&self, thing: &str, deadline: Deadline) -> Result<bool, Error> {
        let Some(device_id) = self.device_id(thing, deadline).await? else { return Ok(false) };
        let start = async |client: &Client| {
            call_with_retries(START_SESSION, deadline, coiote::Error::is_retryable, |time| {
                client.start_session(&device_id, time)
            })
            .await
        };
        let started = self.note(self.access.with_secret_refresh(deadline, start).await);
        count_answer(&self.session_answers, &started);
        started.map(|((), _)| true)
    }

    /// Number of calls that Coiote has answered. It does not grow while Coiote is away.
    pub(crate) fn answers(&self) -> u64 {
        self.answers.load(Ordering::Relaxed)
    }

    /// Number of calls to start a session that Coiote has answered: it may answer other calls while it starts none.
    pub(crate) fn session_answers(&self) -> u64 {
        self.session_answers.load(Ordering::Relaxed)
    }

    /// Counts the result of a call if Coiote has answered it.
    fn note<T>(&self, result: Result<T, Error>) -> Result<T, Error> {
        count_answer(&self.answers, &result);
        result
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
        let (found, _) = self.access.with_secret_refresh(deadline, find).await?;
        let [id] = found.as_slice() else { return Ok(None) };
        self.device_ids.insert(thing.to_owned(), id.clone());
        Ok(Some(id.clone()))
    }
}

/// Whether Coiote has answered the call, and would answer a later one in the same way.
pub(crate) fn is_answer(error: &Error) -> bool {
    use coiote::Error::{NotFound, Refused, Unauthorized, UnexpectedAnswer};
    matches!(error, Error::Coiote(Unauthorized(_) | Refused(_) | NotFound(_) | UnexpectedAnswer(_)))
}

fn count_answer<T>(answers: &AtomicU64, result: &Result<T, Error>) {
    if result.as_ref().err().is_none_or(is_answer) {
        answers.fetch_add(1, Ordering::Relaxed);
    }
}

fn for_one_task(deadline: Deadline) -> Deadline {
    Deadline::within(deadline.left().min(ONE_TASK_LIMIT))
}
