//! Steps from a world to the next ones, and its continuation without faults.

use requests::{Cancel, DueAction, Event, Status, Verdict, has_result};

use crate::{Action, Delivery, Phase, Setup, World, bit};

impl World {
    /// All steps that are possible, each with the world after it.
    pub(crate) fn steps(&self, setup: &Setup) -> Vec<(Action, World)> {
        let mut steps: Vec<(Action, World)> = Vec::new();
        let mut add = |name: String, is_fault: bool, step: &dyn Fn(&mut World)| {
            if is_fault && self.faults == 0 {
                return;
            }
            let mut world = self.clone();
            world.faults -= u8::from(is_fault);
            step(&mut world);
            steps.push((Action(name), world));
        };
        if self.versions.len() < setup.requests.len() {
            add(format!("author makes request {}", self.next_version), false, &|world| world.make());
        }
        for (index, delivery) in self.queue.iter().enumerate() {
            let who = format!("delivery {} of request {}", delivery.run, self.versions[usize::from(delivery.request)]);
            let is_first = !self.queue[..index].contains(delivery);
            if !is_first {
                continue;
            }
            add(format!("{who} claims"), false, &|world| world.start(setup, index, false, false));
            add(format!("{who} claims, appended twice"), true, &|world| world.start(setup, index, true, false));
            add(format!("{who} claims and dies"), true, &|world| world.start(setup, index, false, true));
            add(format!("{who} comes twice"), true, &|world| {
                let mut again = world.queue[index].clone();
                again.run += 10;
                world.queue.push(again);
            });
        }
        if self.redrives > 0 {
            for (index, request) in self.failed.iter().enumerate() {
                add(format!("request {} is redriven", self.versions[usize::from(*request)]), false, &|world| {
                    world.redrives -= 1;
                    let request = world.failed.remove(index);
                    world.queue.push(Delivery { request, run: 20 + request, redriven: true, attempts: 1 });
                });
            }
            for record in self.device.ended().iter().filter(|record| record.status() == Status::Failed) {
                let Some(request) = self.request_of(&record.name) else { continue };
                add(format!("request {}, which FAILED, is redriven", record.name), true, &|world| {
                    world.redrives -= 1;
                    world.queue.push(Delivery { request, run: 20 + request, redriven: true, attempts: 1 });
                });
            }
        }
        for (index, run) in self.runs.iter().enumerate() {
            let who = format!("run {} of request {}", run.mark, self.versions[usize::from(run.request)]);
            match &run.phase {
                Phase::Sending => {
                    add(format!("{who}: the task is made"), false, &|world| world.reach(setup, index));
                    for (what, maybe, again) in
                        [("surely not", false, true), ("perhaps", true, true), ("refused", false, false)]
                    {
                        add(format!("{who}: {what}"), true, &|world| {
                            let outcome = world.not_done(&world.runs[index], maybe, again);
                            world.runs[index].phase = Phase::Outcome(outcome, None);
                        });
                    }
                    add(format!("{who} dies before it sends"), true, &|world| world.dies(index));
                }
                Phase::Reached { .. } => {
                    add(format!("{who}: 201"), false, &|world| {
                        let outcome = world.created(&world.runs[index]);
                        world.runs[index].phase = Phase::Outcome(outcome, None);
                    });
                    add(format!("{who}: the 201 is late"), true, &|world| {
                        let late = world.created(&world.runs[index]);
                        let outcome = world.not_done(&world.runs[index], true, true);
                        world.runs[index].phase = Phase::Outcome(outcome, Some(late));
                    });
                    add(format!("{who} dies after it has sent"), true, &|world| world.dies(index));
                }
                Phase::Outcome(..) => {
                    add(format!("{who} saves its word"), false, &|world| world.save(setup, index));
                    add(format!("{who} dies before it saves"), true, &|world| world.dies(index));
                }
                Phase::Late(_) => {
                    add(format!("{who} saves its late 201"), false, &|world| world.save(setup, index));
                    add(format!("{who} dies before its late 201"), false, &|world| {
                        world.runs.remove(index);
                    });
                }
            }
        }
        // The device runs its tasks in their order.
        let first = self.tasks.iter().position(|task| task.pending);
        for (index, task) in self.tasks.iter().enumerate() {
            if first == Some(index) {
                let has_result = has_result(
                    setup.requests.iter().find(|request| request.content == task.content).unwrap().operation,
                );
                add(format!("the device runs {}", task.id), false, &|world| {
                    world.device_runs(setup, index, true, true);
                });
                add(format!("the device refuses {}", task.id), true, &|world| {
                    world.device_runs(setup, index, false, true);
                });
                if has_result {
                    add(format!("the device runs {}, its result is refused", task.id), true, &|world| {
                        world.device_runs(setup, index, true, false);
                    });
                }
            }
            if task.report.is_some() {
                add(format!("reconcile sees the report of {}", task.id), false, &|world| {
                    world.report(setup, &world.tasks[index].id.clone());
                });
            }
        }
        for (index, result) in self.results.iter().enumerate() {
            let version = result.version;
            if result.deliveries > 0 {
                add(format!("result {version} comes"), false, &|world| {
                    world.deliver_result(setup, index, false, false)
                });
                add(format!("result {version} is appended twice"), true, &|world| {
                    world.deliver_result(setup, index, true, false);
                });
                add(format!("result {version} comes, its run dies"), true, &|world| {
                    world.deliver_result(setup, index, false, true);
                });
                add(format!("result {version} will come twice"), true, &|world| world.results[index].deliveries += 1);
                add(format!("result {version} is lost"), true, &|world| {
                    world.results[index].deliveries = 0;
                    world.results[index].is_lost = true;
                });
            }
            if result.folding {
                add(format!("result {version} is folded"), false, &|world| world.fold(setup, index));
                add(format!("result {version}: its run dies"), true, &|world| {
                    world.results[index].folding = false;
                    world.results[index].deliveries += 1;
                });
            }
        }
        for record in self.device.open().iter().filter(|_| self.ends_of_job > 0) {
            add(format!("AWS ends the execution of request {}", record.name), false, &|world| {
                world.ends_of_job -= 1;
                let (name, by) = (record.name.clone(), "the job".to_owned());
                world.apply(setup, Event::Cancel(Cancel { name, by, at: world.now }));
            });
        }
        add("tick".to_owned(), false, &|world| {
            world.apply(setup, Event::Tick { at: world.now });
        });
        for action in self.device.due_actions(self.now) {
            let is_under_way = matches!(&action, DueAction::Removal { name, .. } if self.removals.iter().any(|other| other.name == *name));
            if !is_under_way {
                add(format!("reconcile: {action:?}"), false, &|world| world.act_on(setup, &action));
            }
            if let DueAction::HandOver { name } = &action {
                add(format!("reconcile: {action:?}, appended twice"), true, &|world| {
                    world.hand_over(setup, name, true)
                });
            }
        }
        for (index, removal) in self.removals.iter().enumerate() {
            let name = removal.name.clone();
            if removal.deleted {
                add(format!("reconcile: task of {name} is removed"), false, &|world| world.removed(setup, index));
                add(format!("reconcile dies after it has removed the task of {name}"), true, &|world| {
                    world.removals.remove(index);
                });
            } else {
                add(format!("reconcile removes the task of {name}"), false, &|world| world.delete(index));
                add(format!("reconcile cannot remove the task of {name}"), true, &|world| {
                    let removal = world.removals.remove(index);
                    world.apply(setup, Event::ReportRequested { name: removal.name, at: world.now });
                });
            }
        }
        if self.jumps > 0
            && let Some(moment) = self.next_moment().filter(|moment| self.may_jump_to(*moment))
        {
            add(format!("time passes: {} s", (moment - self.now).div_ceil(1_000)), false, &|world| {
                world.now = moment;
                world.jumps -= 1;
            });
        }
        if self.jumps > 0 {
            let end = self.device.open().iter().map(|record| record.expires_at).max();
            if let Some(end) = end.filter(|end| *end > self.now && self.may_jump_to(*end)) {
                add("time passes: a lifetime".to_owned(), false, &|world| {
                    world.now = end;
                    world.jumps -= 1;
                });
            }
        }
        steps
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
                        let outcome = self.created(&self.runs[0]);
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
            self.now = moment;
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
            if record.status() == Status::Canceled && (self.done & self.ran) & bit(request) != 0 {
                self.break_with(format!("request {} is CANCELED, and the device did it", record.name));
            }
        }
    }
}
