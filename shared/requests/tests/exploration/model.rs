//! Model around the state machine: runs, Coiote, the device, the shadow, reconcile.

use requests::{
    Claim, ClaimDue, Created, DatamodelWrite, DueAction, Event, Folded, History, Millis, Name, NamedPaths,
    NotHandedOver, NotWoken, Reason, Record, ReportStatus, Reported, ResultReceived, Status, Verdict, code, has_result,
    is_write, keys_overlap, may_run_twice,
};
use serde_json::json;

use crate::{
    APART, ATTEMPTS, Delivery, LIFETIME, Phase, RUN_LIMIT, Removal, Run, START, Setup, ShadowResult, Task, World, bit,
};

impl World {
    pub(crate) fn claim(&self, setup: &Setup, delivery: &Delivery, mark: &str) -> Claim {
        let request = &setup.requests[usize::from(delivery.request)];
        let version = self.versions[usize::from(delivery.request)];
        let made_at = START - 100_000 + version * 1_000;
        // A cancelRequest takes back the first request.
        let keys = match request.operation {
            "cancelRequest" => self.versions[..1].iter().map(u64::to_string).collect(),
            _ => request.keys.iter().map(|key| (*key).to_owned()).collect(),
        };
        Claim {
            name: self.name(delivery.request),
            mark: mark.to_owned(),
            run: format!("run-{}", delivery.run),
            operation: request.operation.to_owned(),
            keys,
            client_token: request.token.map(str::to_owned),
            digest: format!("content-{}", request.content),
            requested_at: made_at / 1_000,
            with_reported: request.with_reported,
            at: self.now,
            void_at: self.now + RUN_LIMIT,
            expires_at: made_at + LIFETIME,
            rejected: None,
            waits: None,
            redriven: delivery.redriven,
            history: None,
        }
    }

    pub(crate) fn mark(&mut self) -> String {
        self.marks += 1;
        format!("mark-{}", self.marks)
    }

    /// A delivery ends without success, and is attempted again.
    pub(crate) fn fails(&mut self, delivery: Option<Delivery>) {
        let Some(mut delivery) = delivery else { return };
        delivery.attempts -= 1;
        if delivery.attempts > 0 {
            self.queue.push(delivery);
        } else {
            self.failed.push(delivery.request);
        }
    }

    /// A run claims its request. The append may happen twice, or the run may die before its response.
    pub(crate) fn start(&mut self, setup: &Setup, index: usize, twice: bool, dies: bool) {
        let delivery = self.queue.remove(index);
        let repeated = self.saves_again(setup, delivery.request);
        let mark = self.mark();
        let mut claim = self.claim(setup, &delivery, &mark);
        let mut verdict = self.apply(setup, Event::Claim(Box::new(claim.clone())));
        if twice {
            verdict = self.apply(setup, Event::Claim(Box::new(claim.clone())));
        }
        if verdict == Verdict::NeedsHistory {
            // No request is filed in this model, so the history is empty.
            claim.history = Some(History::default());
            verdict = self.apply(setup, Event::Claim(Box::new(claim)));
        }
        if let Some(first) = repeated.filter(|_| verdict == Verdict::Send) {
            let version = self.versions[usize::from(delivery.request)];
            self.break_with(format!("request {version} saves request {first} again, and is to be sent"));
        }
        if dies {
            return self.fails(Some(delivery));
        }
        match verdict {
            Verdict::Send => self.runs.push(Run {
                request: delivery.request,
                mark,
                void_at: self.now + RUN_LIMIT,
                phase: Phase::Sending,
                delivery: Some(delivery),
            }),
            Verdict::Wait => self.bodies |= bit(delivery.request),
            Verdict::Busy => self.fails(Some(delivery)),
            _ => {}
        }
    }

    /// A run claims a request that reconcile has found due.
    pub(crate) fn hand_over(&mut self, setup: &Setup, name: &Name, twice: bool) {
        let Some(request) = self.request_of(name) else { return };
        if self.bodies & bit(request) == 0 {
            return;
        }
        let mark = self.mark();
        let take = Event::ClaimDue(ClaimDue {
            name: name.clone(),
            mark: mark.clone(),
            run: "run-take".to_owned(),
            at: self.now,
            void_at: self.now + RUN_LIMIT,
        });
        let mut verdict = self.apply(setup, take.clone());
        if twice {
            verdict = self.apply(setup, take);
        }
        if verdict == Verdict::Send {
            self.runs.push(Run { request, mark, void_at: self.now + RUN_LIMIT, phase: Phase::Sending, delivery: None });
        }
    }

    pub(crate) fn not_done(&self, run: &Run, maybe: bool, again: bool) -> Event {
        Event::NotHandedOver(NotHandedOver {
            name: self.name(run.request),
            mark: run.mark.clone(),
            reason: Reason::new("COIOTE_UNAVAILABLE", "503"),
            may_have_reached_coiote: maybe,
            retry_at: again.then_some(self.now + 1_000),
            at: self.now,
        })
    }

    pub(crate) fn not_woken(&self, run: &Run) -> Event {
        let Phase::Reached { task_id, .. } = &run.phase else { unreachable!() };
        Event::NotWoken(NotWoken {
            name: self.name(run.request),
            task_id: task_id.clone(),
            reason: Reason::new(code::SESSION_NOT_STARTED, "503"),
            at: self.now,
        })
    }

    /// The POST reaches Coiote, which creates the task or has an equal one run again.
    pub(crate) fn reach(&mut self, setup: &Setup, run: usize) {
        let request = self.runs[run].request;
        let spec = &setup.requests[usize::from(request)];
        let version = self.versions[usize::from(request)];
        let before = self.posts.clone();
        self.posts.push(request);
        self.check_rejected();
        if !may_run_twice(spec.operation) && before.contains(&request) {
            self.break_with(format!("{} of request {version} is sent twice", spec.operation));
        }
        if let Some(token) = spec.token.filter(|_| !may_run_twice(spec.operation)) {
            // All requests of a world are made within the window of a token.
            let is_same = |other: &&u8| {
                let of_other = &setup.requests[usize::from(**other)];
                **other != request && of_other.token == Some(token) && of_other.content == spec.content
            };
            if let Some(other) = before.iter().find(is_same) {
                let other = self.versions[usize::from(*other)];
                self.break_with(format!("request {version} is sent, and so was request {other} of the same token"));
            }
        }
        if is_write(spec.operation) {
            for other in before {
                let of_other = &setup.requests[usize::from(other)];
                let is_one_key = spec.keys.iter().any(|key| of_other.keys.iter().any(|other| keys_overlap(key, other)));
                if is_write(of_other.operation) && self.versions[usize::from(other)] > version && is_one_key {
                    self.break_with(format!("write {version} is sent after the newer one"));
                }
            }
        }
        self.clock += APART;
        if self.first_post_at[usize::from(request)] == 0 {
            self.first_post_at[usize::from(request)] = self.now;
        }
        let number = self.tasks.len();
        let task = match self.tasks.iter_mut().find(|task| task.content == spec.content && !task.removed) {
            Some(task) => task,
            None => {
                self.tasks.push(Task {
                    id: format!("task-{}-{number}", spec.content),
                    content: spec.content,
                    pending: true,
                    removed: false,
                    posted_by: 0,
                    report: None,
                });
                self.tasks.last_mut().unwrap()
            }
        };
        self.ran &= !bit(request);
        task.pending = true;
        task.posted_by |= bit(request);
        self.runs[run].phase = Phase::Reached { task_id: task.id.clone(), reached: self.clock, sent_at: self.now };
    }

    /// Coiote's response, with the time at which it is sent: the task may have run since the POST reached Coiote.
    pub(crate) fn created(&mut self, setup: &Setup, run: usize) -> Event {
        let run = &self.runs[run];
        let Phase::Reached { task_id, reached, sent_at } = &run.phase else { unreachable!() };
        // Only matters if something has happened since.
        self.clock += if self.clock > *reached { APART } else { 0 };
        Event::Created(Created {
            name: self.name(run.request),
            mark: run.mark.clone(),
            task_id: task_id.clone(),
            handed_over_at: self.clock.checked_add_signed(setup.ahead).unwrap(),
            call_took: self.clock - reached,
            sent_at: *sent_at,
            at: self.now,
            notice: None,
            is_followed: true,
        })
    }

    /// The run saves its outcome.
    pub(crate) fn save(&mut self, setup: &Setup, run: usize) {
        let Run { phase, .. } = self.runs[run].clone();
        let (mut event, late) = match phase {
            Phase::Outcome(event, late) => (event, late),
            Phase::Late(event) => (event, None),
            Phase::Sending | Phase::Reached { .. } => unreachable!(),
        };
        match &mut event {
            Event::Created(created) => created.at = self.now,
            Event::NotWoken(not_woken) => not_woken.at = self.now,
            _ => {}
        }
        let request = self.runs[run].request;
        if self.apply(setup, event) == Verdict::Wait {
            self.bodies |= bit(request);
        }
        match late {
            Some(late) => self.runs[run].phase = Phase::Late(late),
            None => {
                self.runs.remove(run);
            }
        }
    }

    pub(crate) fn dies(&mut self, run: usize) {
        let run = self.runs.remove(run);
        self.fails(run.delivery);
    }

    /// The device runs a task. Its result comes into the shadow, or AWS IoT refuses it.
    pub(crate) fn device_runs(&mut self, setup: &Setup, task: usize, is_good: bool, is_stored: bool) {
        self.clock += APART;
        let started = self.clock.checked_add_signed(setup.ahead).unwrap();
        let ran = self.ran;
        let task = &mut self.tasks[task];
        task.pending = false;
        task.report = Some((started, is_good, task.posted_by, task.posted_by & !ran));
        self.ran |= task.posted_by;
        if is_good {
            self.done |= task.posted_by;
            self.done_at[usize::from(task.content)] = self.now;
        }
        let (content, asked) = (task.content, task.posted_by);
        let operation = setup.requests.iter().find(|request| request.content == content).unwrap().operation;
        if has_result(operation) && is_stored && asked != 0 {
            self.results.push(ShadowResult {
                version: self.next_version,
                content,
                is_good,
                at: self.now,
                deliveries: 1,
                folding: false,
                is_lost: false,
            });
            self.next_version += 1;
        }
    }

    pub(crate) fn deliver_result(&mut self, setup: &Setup, index: usize, twice: bool, dies: bool) {
        let result = &mut self.results[index];
        result.deliveries -= 1;
        let result = result.clone();
        let request = setup.requests.iter().find(|request| request.content == result.content).unwrap();
        let mut tree = json!({});
        for key in request.keys.iter().filter(|_| result.is_good) {
            key.split('.').fold(&mut tree, |tree, part| &mut tree[part]);
        }
        let failed =
            if result.is_good { vec![String::new()] } else { request.keys.iter().map(|k| (*k).to_owned()).collect() };
        let event = Event::Result(ResultReceived {
            version: result.version,
            mark: String::new(),
            reported_at: result.at / 1_000,
            operation: request.operation.to_owned(),
            paths: NamedPaths::of(&tree),
            touched: Vec::new(),
            failed_keys: failed,
            at: self.now,
        });
        let mut verdict = self.apply(setup, event.clone());
        if twice {
            verdict = self.apply(setup, event);
        }
        if dies {
            self.results[index].deliveries += 1;
        } else if matches!(verdict, Verdict::Fold(_)) {
            self.results[index].folding = true;
        }
    }

    pub(crate) fn fold(&mut self, setup: &Setup, index: usize) {
        let result = &mut self.results[index];
        result.folding = false;
        let (version, is_good) = (result.version, result.is_good);
        let reason = (!is_good).then(|| Reason::new(code::DEVICE_REFUSED, "failed keys"));
        self.apply(
            setup,
            Event::Folded(Folded {
                version,
                status: if is_good { Status::Succeeded } else { Status::Failed },
                reason,
                datamodel: None,
                wrote: DatamodelWrite::Nothing,
                at: self.now,
            }),
        );
    }

    /// reconcile reads the task's report, if there is one. Returns whether it changed something.
    pub(crate) fn report(&mut self, setup: &Setup, task_id: &str) -> bool {
        let Some(task) = self.tasks.iter().find(|task| task.id == task_id) else { return false };
        let Some((started_at, is_good, ..)) = task.report else { return false };
        let report = Reported {
            task_id: task_id.to_owned(),
            started_at,
            status: if is_good { ReportStatus::Success } else { ReportStatus::Refused },
            summary: String::new(),
            properties: None,
            at: self.now,
        };
        self.apply(setup, Event::Report(report)) == Verdict::Changed
    }

    /// reconcile wakes the device of a request, if that has failed so far.
    fn wake_again(&mut self, setup: &Setup, name: &Name) {
        if !self.device.find(name).is_some_and(|record| record.is_to_be_woken) {
            return;
        }
        self.apply(setup, Event::Woken { name: name.clone(), at: self.now });
        let reason = self.device.find(name).and_then(|record| record.reason.as_ref());
        if reason.is_some_and(|reason| reason.code == code::SESSION_NOT_STARTED) {
            self.break_with(format!("request {name} says that its device was not woken, and it was"));
        }
    }

    pub(crate) fn act_on(&mut self, setup: &Setup, action: &DueAction) {
        match action {
            DueAction::Report { name, task_id } => {
                if !self.report(setup, task_id) {
                    self.wake_again(setup, name);
                    self.apply(setup, Event::ReportRequested { name: name.clone(), at: self.now });
                }
            }
            DueAction::Removal { name, task_id, is_shared } => {
                if !self.report(setup, task_id) {
                    self.removals.push(Removal {
                        name: name.clone(),
                        task_id: task_id.clone(),
                        is_shared: *is_shared,
                        deleted: false,
                    });
                }
            }
            DueAction::HandOver { name } => self.hand_over(setup, name, false),
        }
    }

    pub(crate) fn delete(&mut self, index: usize) {
        let removal = &mut self.removals[index];
        removal.deleted = true;
        let task = self.tasks.iter_mut().find(|task| task.id == removal.task_id);
        if let Some(task) = task.filter(|_| !removal.is_shared) {
            task.removed = true;
            task.pending = false;
        }
    }

    pub(crate) fn removed(&mut self, setup: &Setup, index: usize) {
        let removal = self.removals.remove(index);
        self.apply(setup, Event::TaskRemoved { name: removal.name, at: self.now });
    }

    /// The next time at which something is due.
    pub(crate) fn next_moment(&self) -> Option<Millis> {
        let of_record = |record: &Record| {
            let result = if record.reported_at > 0 { record.reported_at + 60_000 } else { 0 };
            let void = if record.void_at > 0 { record.void_at + 1 } else { 0 };
            [void, record.due_at, result, record.expires_at]
        };
        self.device.open().iter().flat_map(of_record).filter(|moment| *moment > self.now).min()
    }

    /// Time passes, on both clocks.
    pub(crate) fn wait_until(&mut self, moment: Millis) {
        self.clock += (moment - self.now) / 1_000;
        self.now = moment;
    }

    pub(crate) fn may_jump_to(&self, moment: Millis) -> bool {
        self.runs.iter().all(|run| run.void_at >= moment || matches!(run.phase, Phase::Late(_)))
    }

    pub(crate) fn make(&mut self) {
        let request = self.versions.len() as u8;
        self.versions.push(self.next_version);
        self.next_version += 1;
        self.queue.push(Delivery { request, run: request, redriven: false, attempts: ATTEMPTS });
    }
}
