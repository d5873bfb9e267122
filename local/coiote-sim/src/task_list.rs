//! All tasks in the order of their creation, with indexes by id, by equality and by device: there may be tens of
//! thousands.

use std::collections::{HashMap, VecDeque};

use crate::task::{ShadowUpdateStatus, Task, TaskReport, TaskStatus};
use crate::template::Parameter;

#[derive(Debug, Default)]
pub(crate) struct TaskList {
    tasks: Vec<Task>,
    by_id: HashMap<String, Vec<usize>>,
    /// Position of the last task among equal ones.
    last_equal: HashMap<TaskIdentity, usize>,
    /// Positions of scheduled tasks by endpoint name, oldest first. Removed ones stay until they are skipped.
    scheduled: HashMap<String, VecDeque<usize>>,
    runs: u64,
}

/// Key of a task: two tasks with the same key are equal.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct TaskIdentity {
    device: String,
    template: String,
    parameters: Vec<Parameter>,
    settings: String,
}

impl From<&Task> for TaskIdentity {
    fn from(task: &Task) -> Self {
        Self {
            device: task.device.clone(),
            template: task.template.clone(),
            parameters: task.parameters.clone(),
            settings: format!("{:?}", task.settings),
        }
    }
}

impl TaskList {
    pub(crate) fn add(&mut self, task: Task) {
        let index = self.tasks.len();
        self.by_id.entry(task.id.clone()).or_default().push(index);
        self.last_equal.insert(TaskIdentity::from(&task), index);
        self.runs = self.runs.max(task.run.as_ref().map_or(0, |run| run.number));
        if task.status == TaskStatus::Scheduled {
            self.scheduled.entry(task.device.clone()).or_default().push_back(index);
        }
        self.tasks.push(task);
    }

    pub(crate) fn len(&self) -> usize {
        self.tasks.len()
    }

    /// Number of different ids.
    pub(crate) fn distinct_ids(&self) -> usize {
        self.by_id.len()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Task> {
        self.tasks.iter()
    }

    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Task> {
        self.tasks.iter_mut()
    }

    /// Task that is run again instead of adding this equal one.
    pub(crate) fn equal_to(&self, task: &Task) -> Option<&Task> {
        let index = self.last_equal.get(&TaskIdentity::from(task))?;
        self.tasks.get(*index).filter(|equal| !equal.removed && !equal.of_removed_device)
    }

    pub(crate) fn waiting(&self, endpoint: &str) -> usize {
        let tasks = self.scheduled.get(endpoint).into_iter().flatten().filter_map(|index| self.tasks.get(*index));
        tasks.filter(|task| task.status == TaskStatus::Scheduled).count()
    }

    /// Takes the oldest scheduled task of the device, and the number of its run. The caller runs it.
    pub(crate) fn take_next(&mut self, endpoint: &str) -> Option<(&mut Task, u64)> {
        let queue = self.scheduled.get_mut(endpoint)?;
        let tasks = &self.tasks;
        let is_scheduled = |index: &usize| tasks.get(*index).is_some_and(|task| task.status == TaskStatus::Scheduled);
        let index = std::iter::from_fn(|| queue.pop_front()).find(is_scheduled)?;
        self.runs += 1;
        Some((self.tasks.get_mut(index)?, self.runs))
    }

    /// Tasks with the id, oldest first: one for each run that was asked for.
    fn with_id(&self, id: &str) -> impl DoubleEndedIterator<Item = &Task> {
        self.by_id.get(id).into_iter().flatten().filter_map(|index| self.tasks.get(*index))
    }

    /// The last task with the id, unless it was removed.
    pub(crate) fn get(&self, id: &str) -> Option<&Task> {
        self.with_id(id).next_back().filter(|task| !task.removed)
    }

    /// Tasks that are not removed, one for each id, in the order of their first creation.
    pub(crate) fn current(&self) -> impl Iterator<Item = &Task> {
        let first =
            |(index, task): &(usize, &Task)| self.by_id.get(&task.id).and_then(|all| all.first()) == Some(index);
        self.tasks.iter().enumerate().filter(first).filter_map(|(_, task)| self.get(&task.id))
    }

    /// The last task with the id that has run, unless it was removed.
    fn last_run(&self, id: &str) -> Option<&Task> {
        self.with_id(id).rev().find(|task| task.report.is_some()).filter(|task| !task.removed)
    }

    /// Report of the last run, if the REST API shows it when it is asked for singly.
    pub(crate) fn report(&self, id: &str, endpoint: &str, now: u64) -> Option<&TaskReport> {
        let task = self.last_run(id).filter(|task| task.device == endpoint)?;
        let shown = task.run.as_ref()?.shown;
        task.report.as_ref().filter(|_| shown.alone && shown.from <= now)
    }

    /// Reports that were updated since, in the order of their last updates.
    pub(crate) fn reports_since(&self, since: u64, now: u64) -> Vec<(&Task, &TaskReport)> {
        let mut found: Vec<_> = self
            .tasks
            .iter()
            .filter_map(|task| Some((task, task.run.as_ref()?, task.report.as_ref()?)))
            .filter(|(_, run, _)| run.finished >= since && run.shown.listed && run.shown.from <= now)
            .filter(|(task, ..)| self.last_run(&task.id).is_some_and(|last| std::ptr::eq(last, *task)))
            .collect();
        found.sort_by_key(|(_, run, _)| (run.finished, run.number));
        found.into_iter().map(|(task, _, report)| (task, report)).collect()
    }

    /// Removes the task. Returns `false` if there is none.
    pub(crate) fn remove(&mut self, id: &str) -> bool {
        if self.get(id).is_none() {
            return false;
        }
        for index in self.by_id.get(id).into_iter().flatten() {
            if let Some(task) = self.tasks.get_mut(*index) {
                task.removed = true;
                if task.status == TaskStatus::Scheduled {
                    task.status = TaskStatus::Removed;
                }
            }
        }
        true
    }

    /// Notes the response of AWS to the oldest result of the task that is sent and not answered.
    pub(crate) fn settle(&mut self, id: &str, settled: impl FnOnce(serde_json::Value) -> ShadowUpdateStatus) {
        let tasks = &self.tasks;
        let is_sent = |index: &&usize| {
            tasks.get(**index).is_some_and(|task| matches!(task.shadow_update, ShadowUpdateStatus::Sent { .. }))
        };
        let sent = self.by_id.get(id).into_iter().flatten().find(is_sent).copied();
        if let Some(task) = sent.and_then(|index| self.tasks.get_mut(index)) {
            let sent = std::mem::replace(&mut task.shadow_update, ShadowUpdateStatus::None);
            task.shadow_update = settled(sent.into_payload());
        }
    }
}
