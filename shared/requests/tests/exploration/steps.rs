//! Steps from a world to the next ones, and its continuation without faults.

use requests::{Cancel, CanceledBy, DueAction, Event, Status, Verdict, has_result};

use crate::{Action, Delivery, Phase, Setup, World, bit};

impl World {
    /// All steps that are possible, each with the world after it.
    pub(crate) fn steps(&self, setup: &Setup) -> Vec<(Action, World)> {
        let mut steps = Steps { before: self, setup, found: Vec::new() };
        steps.author();
        steps.deliveries();
        steps.redrives();
        steps.runs();
        steps.tasks();
        steps.results();
        steps.job_and_reconcile();
        steps.removals();
        steps.time();
        steps.found
    }

    /// Continues without faults while time passes, and checks that all requests end.
    pub(crate) fn drain(&mut self, setup: &Setup, device_is_awake: bool) {
        self.is_draining = true;
        for _ in 0..500 {
            if self.broken.is_some() {
                return;
            }
            if !self.runs.is_empty() {
                match self.runs[0].phase.clone() {
                    Phase::Sending => self.reach(setup, 0),
                    Phase::Reached { .. } => {
                        let outcome = self.created(setup, 0);
                        self.runs[0].phase = Phase::Outcome(outcome, None);
                    }
                    Phase::Outcome(..) | Phase::Late(_) => self.save(setup, 0),
                }
                continue;
            }
            if let Some(index) = self.removals.iter().position(|removal| !removal.deleted) {
                self.delete(index);
                continue;
            }
            if !self.removals.is_empty() {
                self.removed(setup, 0);
                continue;
            }
            if !self.queue.is_empty() {
                self.start(setup, 0, false, false);
                continue;
            }
            if let Some(index) = self.results.iter().position(|result| result.folding) {
                self.fold(setup, index);
                continue;
            }
            if let Some(index) = self.results.iter().position(|result| result.deliveries > 0) {
                self.deliver_result(setup, index, false, false);
                continue;
            }
            if device_is_awake && let Some(index) = self.tasks.iter().position(|task| task.pending) {
                self.device_runs(setup, index, true, true);
                continue;
            }
            let mut changed = self.apply(setup, Event::Tick { at: self.now }) == Verdict::Changed;
            for task in self.tasks.clone() {
                changed |= self.report(setup, &task.id);
            }
            let before = self.device.clone();
            for action in self.device.due_actions(self.now) {
                self.act_on(setup, &action);
            }
            if changed || before != self.device || !self.runs.is_empty() || !self.removals.is_empty() {
                continue;
            }
            let Some(moment) = self.next_moment() else { break };
            self.wait_until(moment);
        }
        if let Some(open) = self.device.open().first() {
            self.break_with(format!("request {} never gets a last word: {open:?}", open.name));
        }
        for record in self.device.ended().to_vec() {
            let Some(request) = self.request_of(&record.name) else { continue };
            if record.status() == Status::Succeeded
                && record.operation != "cancelRequest"
                && self.done & bit(request) == 0
                && !self.did_as_good(setup, request)
            {
                self.break_with(format!("request {} is SUCCEEDED, and the device did not do it", record.name));
            }
            // By now all reports have come.
            if matches!(record.status(), Status::Canceled | Status::TimedOut)
                && record.task_id.is_some()
                && (self.done & self.ran) & bit(request) != 0
                && !self.may_be_the_run_of_another(&record)
            {
                self.break_with(format!(
                    "request {} is {}, and the device did it",
                    record.name,
                    record.status().as_str()
                ));
            }
        }
    }
}

/// Steps from a world, as they are found.
struct Steps<'a> {
    before: &'a World,
    setup: &'a Setup,
    found: Vec<(Action, World)>,
}

impl Steps<'_> {
    /// Adds a step. A fault uses up one of those that may happen.
    fn add(&mut self, name: String, is_fault: bool, step: &dyn Fn(&mut World)) {
        if is_fault && self.before.faults == 0 {
            return;
        }
        let mut world = self.before.clone();
        world.faults -= u8::from(is_fault);
        step(&mut world);
        self.found.push((Action(name), world));
    }

    /// The author makes the next request.
    fn author(&mut self) {
        let (before, setup) = (self.before, self.setup);
        if before.versions.len() < setup.requests.len() {
            self.add(format!("author makes request {}", before.next_version), false, &|world| world.make());
        }
    }

    /// A run begins with a delivery, or a delivery is repeated.
    fn deliveries(&mut self) {
        let (before, setup) = (self.before, self.setup);
        for (index, delivery) in before.queue.iter().enumerate() {
            let who =
                format!("delivery {} of request {}", delivery.run, before.versions[usize::from(delivery.request)]);
            let is_first = !before.queue[..index].contains(delivery);
            if !is_first {
                continue;
            }
            self.add(format!("{who} claims"), false, &|world| world.start(setup, index, false, false));
            self.add(format!("{who} claims, appended twice"), true, &|world| world.start(setup, index, true, false));
            self.add(format!("{who} claims and dies"), true, &|world| world.start(setup, index, false, true));
            self.add(format!("{who} comes twice"), true, &|world| {
                let mut again = world.queue[index].clone();
                again.run += 10;
                world.queue.push(again);
            });
        }
    }

    /// An operator redrives a request.
    fn redrives(&mut self) {
        let before = self.before;
        if before.redrives > 0 {
            for (index, request) in before.failed.iter().enumerate() {
                self.add(format!("request {} is redriven", before.versions[usize::from(*request)]), false, &|world| {
                    world.redrives -= 1;
                    let request = world.failed.remove(index);
                    world.queue.push(Delivery { request, run: 20 + request, redriven: true, attempts: 1 });
                });
            }
            for record in before.device.ended().iter().filter(|record| record.status() == Status::Failed) {
                let Some(request) = before.request_of(&record.name) else { continue };
                self.add(format!("request {}, which FAILED, is redriven", record.name), true, &|world| {
                    world.redrives -= 1;
                    world.queue.push(Delivery { request, run: 20 + request, redriven: true, attempts: 1 });
                });
            }
        }
    }

    /// A run goes on, or dies.
    fn runs(&mut self) {
        let (before, setup) = (self.before, self.setup);
        for (index, run) in before.runs.iter().enumerate() {
            let who = format!("run {} of request {}", run.mark, before.versions[usize::from(run.request)]);
            match &run.phase {
                Phase::Sending => {
                    self.add(format!("{who}: the task is made"), false, &|world| world.reach(setup, index));
                    for (what, maybe, again) in
                        [("surely not", false, true), ("perhaps", true, true), ("refused", false, false)]
                    {
                        self.add(format!("{who}: {what}"), true, &|world| {
                            let outcome = world.not_done(&world.runs[index], maybe, again);
                            world.runs[index].phase = Phase::Outcome(outcome, None);
                        });
                    }
                    self.add(format!("{who} dies before it sends"), true, &|world| world.dies(index));
                }
                Phase::Reached { .. } => {
                    self.add(format!("{who}: 201"), false, &|world| {
                        let outcome = world.created(setup, index);
                        world.runs[index].phase = Phase::Outcome(outcome, None);
                    });
                    self.add(format!("{who}: 201, and the device is not woken"), true, &|world| {
                        let outcome = world.created(setup, index);
                        let not_woken = world.not_woken(&world.runs[index]);
                        world.runs[index].phase = Phase::Outcome(outcome, Some(not_woken));
                    });
                    self.add(format!("{who}: the 201 is late"), true, &|world| {
                        let late = world.created(setup, index);
                        let outcome = world.not_done(&world.runs[index], true, true);
                        world.runs[index].phase = Phase::Outcome(outcome, Some(late));
                    });
                    self.add(format!("{who} dies after it has sent"), true, &|world| world.dies(index));
                }
                Phase::Outcome(..) => {
                    self.add(format!("{who} saves its word"), false, &|world| world.save(setup, index));
                    self.add(format!("{who} dies before it saves"), true, &|world| world.dies(index));
                }
                Phase::Late(_) => {
                    self.add(format!("{who} saves what came later"), false, &|world| world.save(setup, index));
                    self.add(format!("{who} dies before it saves what came later"), false, &|world| {
                        world.runs.remove(index);
                    });
                }
            }
        }
    }

    /// The device runs a task, or reconcile reads its report.
    fn tasks(&mut self) {
        let (before, setup) = (self.before, self.setup);
        // The device runs its tasks in their order.
        let first = before.tasks.iter().position(|task| task.pending);
        for (index, task) in before.tasks.iter().enumerate() {
            if first == Some(index) {
                let has_result = has_result(
                    setup.requests.iter().find(|request| request.content == task.content).unwrap().operation,
                );
                self.add(format!("the device runs {}", task.id), false, &|world| {
                    world.device_runs(setup, index, true, true);
                });
                self.add(format!("the device refuses {}", task.id), true, &|world| {
                    world.device_runs(setup, index, false, true);
                });
                if has_result {
                    self.add(format!("the device runs {}, its result is refused", task.id), true, &|world| {
                        world.device_runs(setup, index, true, false);
                    });
                }
            }
            if task.report.is_some() {
                self.add(format!("reconcile sees the report of {}", task.id), false, &|world| {
                    world.report(setup, &world.tasks[index].id.clone());
                });
            }
        }
    }

    /// A result is delivered or folded, or is lost.
    fn results(&mut self) {
        let (before, setup) = (self.before, self.setup);
        for (index, result) in before.results.iter().enumerate() {
            let version = result.version;
            if result.deliveries > 0 {
                self.add(format!("result {version} comes"), false, &|world| {
                    world.deliver_result(setup, index, false, false)
                });
                self.add(format!("result {version} is appended twice"), true, &|world| {
                    world.deliver_result(setup, index, true, false);
                });
                self.add(format!("result {version} comes, its run dies"), true, &|world| {
                    world.deliver_result(setup, index, false, true);
                });
                self.add(format!("result {version} will come twice"), true, &|world| {
                    world.results[index].deliveries += 1
                });
                self.add(format!("result {version} is lost"), true, &|world| {
                    world.results[index].deliveries = 0;
                    world.results[index].is_lost = true;
                });
            }
            if result.folding {
                self.add(format!("result {version} is folded"), false, &|world| world.fold(setup, index));
                self.add(format!("result {version}: its run dies"), true, &|world| {
                    world.results[index].folding = false;
                    world.results[index].deliveries += 1;
                });
            }
        }
    }

    /// AWS ends an execution of the job, or reconcile does what is due.
    fn job_and_reconcile(&mut self) {
        let (before, setup) = (self.before, self.setup);
        for record in before.device.open().iter().filter(|_| before.ends_of_job > 0) {
            self.add(format!("AWS ends the execution of request {}", record.name), false, &|world| {
                world.ends_of_job -= 1;
                let by = CanceledBy::JobOver { job_id: "j".to_owned(), over: "canceled".to_owned() };
                world.apply(setup, Event::Cancel(Cancel { name: record.name.clone(), by, at: world.now }));
            });
        }
        self.add("tick".to_owned(), false, &|world| {
            world.apply(setup, Event::Tick { at: world.now });
        });
        for action in before.device.due_actions(before.now) {
            let is_under_way = matches!(&action, DueAction::Removal { name, .. } if before.removals.iter().any(|other| other.name == *name));
            if !is_under_way {
                self.add(format!("reconcile: {action:?}"), false, &|world| world.act_on(setup, &action));
            }
            if let DueAction::Report { name, .. } = &action
                && before.device.find(name).is_some_and(|record| record.is_to_be_woken)
            {
                self.add(format!("reconcile: {action:?}, and the device is not woken"), true, &|world| {
                    world.apply(setup, Event::ReportRequested { name: name.clone(), at: world.now });
                });
            }
            if let DueAction::HandOver { name } = &action {
                self.add(format!("reconcile: {action:?}, appended twice"), true, &|world| {
                    world.hand_over(setup, name, true)
                });
            }
        }
    }

    /// reconcile removes a task, or cannot.
    fn removals(&mut self) {
        let (before, setup) = (self.before, self.setup);
        for (index, removal) in before.removals.iter().enumerate() {
            let name = removal.name.clone();
            if removal.deleted {
                self.add(format!("reconcile: task of {name} is removed"), false, &|world| world.removed(setup, index));
                self.add(format!("reconcile dies after it has removed the task of {name}"), true, &|world| {
                    world.removals.remove(index);
                });
            } else {
                self.add(format!("reconcile removes the task of {name}"), false, &|world| world.delete(index));
                self.add(format!("Coiote refuses to remove the task of {name}"), true, &|world| {
                    let removal = world.removals.remove(index);
                    world.apply(setup, Event::RemovalRefused { name: removal.name, at: world.now });
                });
            }
        }
    }

    /// Time jumps to the next moment at which something is due.
    fn time(&mut self) {
        let before = self.before;
        if before.jumps > 0
            && let Some(moment) = before.next_moment().filter(|moment| before.may_jump_to(*moment))
        {
            self.add(format!("time passes: {} s", (moment - before.now).div_ceil(1_000)), false, &|world| {
                world.wait_until(moment);
                world.jumps -= 1;
            });
        }
        if before.jumps > 0 {
            let end = before.device.open().iter().map(|record| record.expires_at).max();
            if let Some(end) = end.filter(|end| *end > before.now && before.may_jump_to(*end)) {
                self.add("time passes: a lifetime".to_owned(), false, &|world| {
                    world.wait_until(end);
                    world.jumps -= 1;
                });
            }
        }
    }
}
