//! All tasks, in the order in which they were asked for. Whatever is looked for is found without looking at all of them:
//! there may be tens of thousands.

use std::collections::{HashMap, VecDeque};

use crate::tasks::{Report, ShadowUpdate, Status, Task};
use crate::template::Parameter;

#[derive(Debug, Default)]
pub(crate) struct TaskList {
    tasks: Vec<Task>,
    by_id: HashMap<String, Vec<usize>>,
    /// The last of those that equal each other
    alike: HashMap<Likeness, usize>,
    /// By endpoint name, oldest first; also those that were removed since
    scheduled: HashMap<String, VecDeque<usize>>,
    runs: u64,
}

/// What makes two tasks equal.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Likeness {
    device: String,
    template: String,
    parameters: Vec<Parameter>,
    settings: String,
}

impl From<&Task> for Likeness {
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
        self.alike.insert(Likeness::from(&task), index);
        self.runs = self.runs.max(task.run.as_ref().map_or(0, |run| run.number));
        if task.status == Status::Scheduled {
            self.scheduled.entry(task.device.clone()).or_default().push_back(index);
        }
        self.tasks.push(task);
    }

    pub(crate) fn len(&self) -> usize {
        self.tasks.len()
    }

    /// How many different ids there are.
    pub(crate) fn ids(&self) -> usize {
        self.by_id.len()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Task> {
        self.tasks.iter()
    }

    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Task> {
        self.tasks.iter_mut()
    }

    /// The task that would be run again instead of this one.
    pub(crate) fn equal_to(&self, task: &Task) -> Option<&Task> {
        let index = self.alike.get(&Likeness::from(task))?;
        self.tasks.get(*index).filter(|equal| !equal.removed && !equal.of_removed_device)
    }

    pub(crate) fn waiting(&self, endpoint: &str) -> usize {
        let tasks = self.scheduled.get(endpoint).into_iter().flatten().filter_map(|index| self.tasks.get(*index));
        tasks.filter(|task| task.status == Status::Scheduled).count()
    }

    /// The oldest that is scheduled for the device, which has to run now; and the number of its run.
    pub(crate) fn take(&mut self, endpoint: &str) -> Option<(&mut Task, u64)> {
        let queue = self.scheduled.get_mut(endpoint)?;
        let tasks = &self.tasks;
        let is_scheduled = |index: &usize| tasks.get(*index).is_some_and(|task| task.status == Status::Scheduled);
        let index = std::iter::from_fn(|| queue.pop_front()).find(is_scheduled)?;
        self.runs += 1;
        Some((self.tasks.get_mut(index)?, self.runs))
    }

    /// All of this id, oldest first: one for each time that it was asked for.
    fn of(&self, id: &str) -> impl DoubleEndedIterator<Item = &Task> {
        self.by_id.get(id).into_iter().flatten().filter_map(|index| self.tasks.get(*index))
    }

    /// The task, unless it was removed.
    pub(crate) fn get(&self, id: &str) -> Option<&Task> {
        self.of(id).next_back().filter(|task| !task.removed)
    }

    /// Ids of those that are there, in the order in which they were first asked for.
    pub(crate) fn present(&self) -> impl Iterator<Item = &Task> {
        let first =
            |(index, task): &(usize, &Task)| self.by_id.get(&task.id).and_then(|all| all.first()) == Some(index);
        self.tasks.iter().enumerate().filter(first).filter_map(|(_, task)| self.get(&task.id))
    }

    /// What it was run last, unless it was removed.
    fn last_run(&self, id: &str) -> Option<&Task> {
        self.of(id).rev().find(|task| task.report.is_some()).filter(|task| !task.removed)
    }

    /// The report of its last run, where the REST API shows it to who asks for it.
    pub(crate) fn report(&self, id: &str, endpoint: &str, now: u64) -> Option<&Report> {
        let task = self.last_run(id).filter(|task| task.device == endpoint)?;
        let shown = task.run.as_ref()?.shown;
        task.report.as_ref().filter(|_| shown.alone && shown.from <= now)
    }

    /// The reports that were updated since, in the order of their last updates.
    pub(crate) fn reports_since(&self, since: u64, now: u64) -> Vec<(&Task, &Report)> {
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

    /// Whether it was there.
    pub(crate) fn remove(&mut self, id: &str) -> bool {
        if self.get(id).is_none() {
            return false;
        }
        for index in self.by_id.get(id).into_iter().flatten() {
            if let Some(task) = self.tasks.get_mut(*index) {
                task.removed = true;
                if task.status == Status::Scheduled {
                    task.status = Status::Removed;
                }
            }
        }
        true
    }

    /// What AWS has said of a result that was sent.
    pub(crate) fn settle(&mut self, id: &str, settled: impl FnOnce(serde_json::Value) -> ShadowUpdate) {
        let tasks = &self.tasks;
        let is_sent = |index: &&usize| {
            tasks.get(**index).is_some_and(|task| matches!(task.shadow_update, ShadowUpdate::Sent { .. }))
        };
        let sent = self.by_id.get(id).into_iter().flatten().find(is_sent).copied();
        if let Some(task) = sent.and_then(|index| self.tasks.get_mut(index)) {
            let sent = std::mem::replace(&mut task.shadow_update, ShadowUpdate::None);
            task.shadow_update = settled(sent.into_payload());
        }
    }
}
