//! Checks of the promises, after each event.

use std::collections::HashSet;
use std::hash::{DefaultHasher, Hash, Hasher};

use requests::{Device, Event, Name, Record, State, Status, Verdict, code, has_result, may_run_twice};

use crate::{Sabotage, Setup, World, bit, sabotaged};

impl World {
    /// Applies an event, and checks the promises.
    pub(crate) fn apply(&mut self, setup: &Setup, event: Event) -> Verdict {
        let event = sabotaged(setup, event, self);
        if setup.sabotage == Sabotage::NoTick && matches!(event, Event::Tick { .. }) {
            return Verdict::Unchanged;
        }
        if setup.sabotage == Sabotage::NothingIsProven && matches!(event, Event::Report(_)) {
            let mut json = serde_json::to_value(&self.device).unwrap();
            for record in json.get_mut("e").and_then(|ended| ended.as_array_mut()).into_iter().flatten() {
                let record = record.as_object_mut().unwrap();
                if record.remove("p").is_some() && record["s"] == "EF" {
                    record.insert("s".to_owned(), "ET".into());
                }
            }
            self.device = serde_json::from_value(json).unwrap();
        }
        let is_canceled = |device: &Device, task_id: &String| {
            device.ended().iter().any(|r| r.status() == Status::Canceled && r.task_id.as_ref() == Some(task_id))
        };
        if setup.sabotage == Sabotage::CanceledIsFinal
            && matches!(&event, Event::Report(report) if is_canceled(&self.device, &report.task_id))
        {
            return Verdict::Unchanged;
        }
        let before = self.device.clone();
        let mut verdict = self.device.apply(&event);
        if setup.sabotage == Sabotage::RejectedIsSent && verdict == Verdict::Ended(Status::Rejected) {
            verdict = Verdict::Send;
        }
        self.check_final_statuses(setup, &before, &event);
        self.check_rejected();
        self.check_waking();
        if setup.sabotage == Sabotage::None && !self.is_draining {
            self.check_repetition(&event, &verdict);
        }
        verdict
    }

    /// Checks that the same event changes nothing when applied again, and has the same verdict.
    pub(crate) fn check_repetition(&mut self, event: &Event, verdict: &Verdict) {
        let mut hasher = DefaultHasher::new();
        self.device.hash(&mut hasher);
        let mut again = self.device.clone();
        if hasher.finish().is_multiple_of(128) {
            // As if the item was written in between.
            again = serde_json::from_str(&serde_json::to_string(&again).unwrap()).unwrap();
        }
        let second = again.apply(event);
        let is_same = match event {
            Event::Claim(_) | Event::ClaimDue(_) => second == *verdict,
            Event::Result(_) => match verdict {
                Verdict::Fold(name) => second == Verdict::Fold(name.clone()),
                _ => matches!(second, Verdict::Duplicate(_)),
            },
            // The others are saved with a condition, so they are never appended twice.
            _ => true,
        };
        if !is_same {
            self.break_with(format!("{event:?} is {verdict:?} and then {second:?}"));
        }
        if again != self.device {
            self.break_with(format!("{event:?} applied twice is not as applied once: {:?} {again:?}", self.device));
        }
    }

    /// Checks that no REJECTED request was sent.
    pub(crate) fn check_rejected(&mut self) {
        let is_rejected = |record: &&Record| record.status() == Status::Rejected;
        let rejected: Vec<Name> = self.device.ended().iter().filter(is_rejected).map(|r| r.name.clone()).collect();
        for name in rejected {
            if self.request_of(&name).is_some_and(|request| self.posts.contains(&request)) {
                self.break_with(format!("request {name} is REJECTED, and was sent"));
            }
        }
    }

    /// Checks that only a request whose task Coiote has says that its device was not woken.
    pub(crate) fn check_waking(&mut self) {
        let says_it = |record: &&Record| {
            record.is_to_be_woken || record.reason.as_ref().is_some_and(|r| r.code == code::SESSION_NOT_STARTED)
        };
        let records = self.device.open().iter().chain(self.device.ended());
        let wrong = records.filter(says_it).find(|record| record.state != State::Scheduled || !record.is_to_be_woken);
        if let Some(name) = wrong.map(|record| record.name.clone()) {
            self.break_with(format!("request {name} is not scheduled, and says that its device was not woken"));
        }
    }

    /// No final status changes, except by an event that may improve it (docs/answers.md, "Statuses").
    pub(crate) fn check_final_statuses(&mut self, setup: &Setup, before: &Device, event: &Event) {
        let mut broken = None;
        let mut proven = 0;
        for old in before.ended() {
            let Some(new) = self.device.find(&old.name) else {
                broken = Some(format!("request {} is forgotten without being filed", old.name));
                continue;
            };
            let word =
                |record: &Record| (record.status(), record.reason.as_ref().map(|reason| reason.code.to_string()));
            if new.state == old.state && word(new) == word(old) {
                continue;
            }
            let request = self.request_of(&old.name);
            let is_proven = request.is_some_and(|request| self.proven & bit(request) != 0);
            let code = old.reason.as_ref().map_or("", |reason| reason.code.as_ref());
            let yields = match old.state {
                State::Ended(Status::TimedOut | Status::Canceled) => true,
                State::Ended(Status::Failed) => [code::OUTCOME_UNKNOWN, code::RESULT_NOT_STORED].contains(&code),
                _ => false,
            };
            // By a result that could have been another request's.
            let has_got_result = old.result_version.is_none() && new.result_version.is_some();
            let is_allowed = match event {
                Event::Report(_) => (yields || old.status() == Status::Succeeded) && !is_proven,
                Event::Folded(_) | Event::Result(_) => yields && has_result(&old.operation) && !is_proven,
                Event::Created(_) => yields && !is_proven,
                Event::Claim(claim) => claim.redriven && old.status() == Status::Failed && old.task_id.is_none(),
                _ => has_got_result && yields && !is_proven,
            };
            if !is_allowed {
                broken = Some(format!(
                    "last word of request {} changed from {:?} to {:?} by {event:?}",
                    old.name,
                    word(old),
                    word(new)
                ));
            }
        }
        if let Event::Report(report) = event {
            let task = self.tasks.iter().find(|task| task.id == report.task_id);
            let (asked, first) = task.and_then(|task| task.report).map_or((0, 0), |(.., asked, first)| (asked, first));
            for new in self.device.ended().iter().chain(self.device.open()) {
                let old = before.find(&new.name);
                if old.is_some_and(|old| old.state == new.state && old.reported_at == new.reported_at) {
                    continue;
                }
                let Some(request) = self.request_of(&new.name) else { continue };
                if new.operation == "cancelRequest" {
                    continue;
                }
                if asked & bit(request) == 0 {
                    broken = Some(format!("a report of a run before its hand-over concludes request {}", new.name));
                }
                if old.is_some_and(|old| old.status() == Status::Succeeded) && first & bit(request) == 0 {
                    broken =
                        Some(format!("the report of another request's run takes the success of request {}", new.name));
                }
                if !new.is_open() && new.reason.as_ref().is_none_or(|reason| reason.code != code::RESULT_NOT_STORED) {
                    proven |= bit(request);
                }
            }
            for record in self.device.ended().iter().filter(|record| record.status() == Status::Canceled) {
                // A run of its task since it was sent the last time, and the report of that run.
                let has_run = |request: u8| asked & self.ran & bit(request) != 0;
                if self.may_be_the_run_of_another(record) {
                    continue;
                }
                if record.task_id.as_ref() == Some(&report.task_id)
                    && self.request_of(&record.name).is_some_and(has_run)
                {
                    broken =
                        Some(format!("request {} stays CANCELED, and the report of its run has come", record.name));
                }
            }
        }
        self.proven |= proven;
        // Each result answers one request, which was handed over before.
        let mut counted = HashSet::new();
        for record in self.device.open().iter().chain(self.device.ended()) {
            let Some(version) = record.result_version else { continue };
            let version = version % 1_000;
            if !counted.insert(version) {
                broken = Some(format!("result {version} answers two requests"));
            }
            let Some(request) = self.request_of(&record.name) else { continue };
            let first_post_at = self.first_post_at[usize::from(request)];
            let made_at = self.results.iter().find(|result| result.version == version).map(|result| result.at);
            // Shadows have times in seconds. If every response counts as a 201, only the end is checked.
            let is_looked_at = setup.sabotage != Sabotage::AnyAnswerIsCreated;
            if is_looked_at
                && (first_post_at == 0 || made_at.is_none_or(|made_at| made_at / 1_000 + 1 < first_post_at / 1_000))
            {
                broken =
                    Some(format!("result {version} answers request {}, which was handed over after it", record.name));
            }
        }
        if let Some(broken) = broken {
            self.break_with(broken);
        }
    }

    /// Whether the run may have been another request's, for all that is known: an equal one, whose outcome is unknown or was told.
    pub(crate) fn may_be_the_run_of_another(&self, record: &Record) -> bool {
        self.device.open().iter().chain(self.device.ended()).any(|other| {
            let is_told = matches!(other.status(), Status::Succeeded | Status::Failed);
            other.name != record.name
                && other.may_have_been_sent()
                && (&other.operation, &other.keys) == (&record.operation, &record.keys)
                && (other.task_id.is_none() || other.may_have_reached_coiote || is_told)
        })
    }

    /// The request just before this one, if it is known and this one only saves it again.
    pub(crate) fn saves_again(&self, setup: &Setup, request: u8) -> Option<Name> {
        let spec = &setup.requests[usize::from(request)];
        let first = usize::from(request.checked_sub(1).filter(|_| spec.with_reported)?);
        let is_same = !may_run_twice(spec.operation) && setup.requests[first].content == spec.content;
        let name = Name::Version(*self.versions.get(first).filter(|_| is_same)?);
        self.device.find(&name).is_some().then_some(name)
    }

    /// Whether the device did another request whose result answers this one as well: an equal one, or a read that includes its keys.
    /// Shadows have times in seconds, so a result of the second of the hand-over counts.
    pub(crate) fn did_as_good(&self, setup: &Setup, request: u8) -> bool {
        let spec = &setup.requests[usize::from(request)];
        let first_post_at = self.first_post_at[usize::from(request)];
        setup.requests.iter().any(|other| {
            let covers = other.operation == "read" && spec.keys.iter().all(|key| other.keys.contains(key));
            let done_at = self.done_at[usize::from(other.content)];
            (other.content == spec.content || (other.operation == spec.operation && covers))
                && done_at > 0
                && first_post_at > 0
                && done_at / 1_000 + 1 >= first_post_at / 1_000
        })
    }
}
