//! The table: what each event does to a request in each state. Nothing else changes a record.

use std::collections::HashSet;

use crate::Millis;
use crate::device::{
    ASK_AFTER, Device, ENDED_KEPT, ENDED_MOST, ENDED_STAYS, FOLD_MAY_TAKE, RESULT_MAY_TAKE, RESULT_STAYS,
    RESULTS_COUNTED, ResultEntry, TOKEN_STAYS,
};
use crate::event::{
    Cancel, Claim, ClaimDue, Created, DatamodelWrite, Event, Folded, NotHandedOver, ReportStatus, Reported,
    ResultReceived,
};
use crate::matching::{came_before_hand_over, covered_hashes, is_met, keys_overlap, waits_for_result};
use crate::record::{CANCEL_REQUEST, Name, Reason, Record, State, Status, code, has_result, is_write, may_run_twice};

/// Two requests with one client token are the same request if their shadow updates lie no further apart, in seconds.
pub const SAME_TOKEN_WINDOW: u64 = 5 * 60;

/// Room of a device's records in bytes, well below the 400 KB of an item: what follows a claim has to fit as well.
const MOST_BYTES: usize = 250_000;

/// Bytes of a record beside its keys, reason and properties.
const RECORD_BYTES: usize = 300;

/// What an event came to, for whoever brought it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// The request is held by this run, which hands it over.
    Send,
    /// The request is to be handed over later: its body has to be kept.
    Wait,
    /// The request came before; it is in this state, and nothing is to be done.
    Duplicate(Status),
    /// An earlier attempt of the same invocation holds the request and may still run.
    Busy,
    /// Whether the request came before is not known here: the claim has to be made again with its history.
    NeedsHistory,
    /// The request has its last word.
    Ended(Status),
    /// The result is to be folded. It answers the request, if any.
    Fold(Option<Name>),
    /// The event changed something.
    Changed,
    /// The event changed nothing.
    Unchanged,
}

impl Device {
    /// Applies an event. The same event applied twice leaves the same state as applied once, and has the same verdict.
    pub fn apply(&mut self, event: &Event) -> Verdict {
        let verdict = match event {
            Event::Claim(claim) => self.claim(claim),
            Event::ClaimDue(take) => self.take(take),
            Event::Created(created) => self.created(created),
            Event::NotHandedOver(not_done) => self.not_done(not_done),
            Event::Result(result) => self.result_came(result),
            Event::Folded(folded) => self.folded(folded),
            Event::Report(report) => self.reported(report),
            Event::ReportRequested { name, at } => self.asked(name, *at),
            Event::TaskRemoved { name, at } => self.removed(name, *at),
            Event::Cancel(Cancel { name, by, at }) => self.cancel(name, by, *at),
            Event::Tick { at } => self.tick(*at),
        };
        let at = event.at();
        self.settle_cancel_requests(at);
        self.forget(at);
        verdict
    }

    fn claim(&mut self, claim: &Claim) -> Verdict {
        let past = match self.standing(claim) {
            Standing::Decided(verdict) => return verdict,
            Standing::Void(index) => return self.take_over(index, claim),
            Standing::Free { may_have_reached_coiote } => may_have_reached_coiote,
        };
        let mut record = Record {
            name: claim.name.clone(),
            operation: claim.operation.clone(),
            keys: claim.keys.clone(),
            client_token: claim.client_token.clone(),
            digest: (!may_run_twice(&claim.operation)).then(|| claim.digest.clone()),
            requested_at: claim.requested_at,
            after: if claim.name.version().is_some() { 0 } else { self.newest },
            waited: 0,
            state: State::Held,
            mark: claim.mark.clone(),
            void_at: claim.void_at,
            run: claim.run.clone(),
            may_have_reached_coiote: past,
            task_id: None,
            handed_over_at: 0,
            due_at: 0,
            tries: 0,
            reason: None,
            result_version: None,
            reported_at: 0,
            proven: false,
            canceled_by: None,
            properties: None,
            updated_at: claim.at,
            expires_at: claim.expires_at,
            is_filed: false,
        };
        record.note_hold(claim.at);
        let word = self.refusal(claim, &record);
        if claim.with_reported {
            self.resaved = self.resaved.max(claim.name.version().unwrap_or(0));
        }
        if let Some(version) = claim.name.version().filter(|version| *version > self.newest) {
            self.newest = version;
            self.newest_digest = claim.digest.clone();
        }
        if let Some((status, reason)) = word {
            end(&mut record, status, Some(reason), claim.at);
            self.ended.push(record);
            return Verdict::Ended(status);
        }
        if record.is_cancel() {
            return self.claim_cancel_request(record, claim.at);
        }
        let waits_for = self.older_write(&record).map(|older| {
            let message = format!("it waits for request {older}, which writes one of its keys");
            Reason::new(code::WAITS_FOR_OLDER_WRITE, message)
        });
        let verdict = match waits_for.or_else(|| claim.waits.clone()) {
            Some(reason) => {
                wait(&mut record, Some(reason), claim.at, claim.at);
                Verdict::Wait
            }
            None => Verdict::Send,
        };
        self.insert(record);
        verdict
    }

    /// Puts an open request at its place among the others.
    fn insert(&mut self, record: Record) {
        let place = self.open.iter().position(|other| is_before(&record, other)).unwrap_or(self.open.len());
        self.open.insert(place, record);
    }

    /// Whether the request can be claimed.
    fn standing(&mut self, claim: &Claim) -> Standing {
        if let Some(index) = self.open.iter().position(|record| record.name == claim.name)
            && let Some(record) = self.open.get_mut(index)
        {
            return match record.state {
                State::Held if record.mark == claim.mark => Standing::Decided(Verdict::Send),
                State::Waiting if record.is_cancel() && record.updated_at == claim.at => {
                    Standing::Decided(Verdict::Changed)
                }
                State::Held if claim.at > record.void_at => Standing::Void(index),
                State::Held if record.run == claim.run => Standing::Decided(Verdict::Busy),
                State::Waiting if !record.is_cancel() => {
                    if claim.redriven {
                        record.due_at = record.due_at.min(claim.at);
                    }
                    Standing::Decided(Verdict::Wait)
                }
                _ => Standing::Decided(Verdict::Duplicate(record.status())),
            };
        }
        let may_be_sent_again = |may_have_been_sent: bool, status: Status| {
            let is_unsent = !may_have_been_sent || may_run_twice(&claim.operation);
            claim.redriven && status == Status::Failed && is_unsent
        };
        if let Some(index) = self.ended.iter().position(|record| record.name == claim.name)
            && let Some(record) = self.ended.get(index)
        {
            let is_other = is_another(record.requested_at, claim);
            let maybe = record.may_have_been_sent();
            if !is_other && record.updated_at == claim.at {
                // This very event was appended twice.
                return Standing::Decided(Verdict::Ended(record.status()));
            }
            if is_other || (record.task_id.is_none() && may_be_sent_again(maybe, record.status())) {
                if is_write(&claim.operation) && claim.history.is_none() {
                    // A newer write of its keys may have left already.
                    return Standing::Decided(Verdict::NeedsHistory);
                }
                self.ended.remove(index);
                return Standing::Free { may_have_reached_coiote: maybe && !is_other };
            }
            return Standing::Decided(Verdict::Duplicate(record.status()));
        }
        let is_new = claim.name.version().is_some_and(|version| version > self.newest) && !claim.redriven;
        // What is delivered late may repeat a request that has left already.
        let is_late = claim.at / 1_000 > claim.requested_at.saturating_add(SAME_TOKEN_WINDOW);
        let needs_tokens = is_late && claim.client_token.is_some() && !may_run_twice(&claim.operation);
        match (&claim.history, &claim.name) {
            _ if is_new && !needs_tokens => Standing::Free { may_have_reached_coiote: false },
            (_, Name::Invocation(_)) => Standing::Free { may_have_reached_coiote: false },
            (None, _) => Standing::Decided(Verdict::NeedsHistory),
            (Some(history), _) => match &history.same {
                Some(past) if !is_another(past.requested_at, claim) => {
                    if may_be_sent_again(past.may_have_been_sent, past.status) {
                        Standing::Free { may_have_reached_coiote: past.may_have_been_sent }
                    } else {
                        Standing::Decided(Verdict::Duplicate(past.status))
                    }
                }
                _ => Standing::Free { may_have_reached_coiote: false },
            },
        }
    }

    /// The run that held it has ended without a word.
    fn take_over(&mut self, index: usize, claim: &Claim) -> Verdict {
        let Some(record) = self.open.get_mut(index) else { return Verdict::Unchanged };
        if !may_run_twice(&record.operation) {
            return self.end_at(index, Status::Failed, Some(interrupted()), claim.at);
        }
        record.may_have_reached_coiote = true;
        if let Some(by) = record.canceled_by.clone() {
            return self.end_unsent(index, &by, claim.at);
        }
        if record.expires_at <= claim.at {
            let reason = lifetime_over(record);
            return self.end_at(index, Status::TimedOut, Some(reason), claim.at);
        }
        hold(record, &claim.mark, &claim.run, claim.at, claim.void_at);
        self.drop_candidate(&claim.name);
        Verdict::Send
    }

    /// Why a request that can be claimed is not dealt with.
    fn refusal(&self, claim: &Claim, record: &Record) -> Option<(Status, Reason)> {
        if let Some(reason) = &claim.rejected {
            return Some((Status::Rejected, reason.clone()));
        }
        if self.bytes() > MOST_BYTES {
            let message =
                "this device has so many open requests that its record is full; wait for them, or take some back";
            return Some((Status::Rejected, Reason::new(code::TOO_MANY_OPEN, message)));
        }
        if claim.expires_at <= claim.at {
            return Some((Status::TimedOut, lifetime_over(record)));
        }
        let rejected = |code, message: String| Some((Status::Rejected, Reason::new(code, message)));
        let Claim { operation, .. } = claim;
        if !may_run_twice(operation) {
            if matches!(claim.name, Name::Invocation(_)) {
                let message = format!(
                    "version: missing; the rule has to pass version AS version, for only by it a second delivery of {operation} \
                     is told from the first"
                );
                return rejected(code::VERSION_MISSING, message);
            }
            if let Some(latest) = self.latest_before(claim).filter(|_| claim.with_reported) {
                let message = format!(
                    "the update carries reported as well and repeats request {latest}, as saving a whole document does; to \
                     {operation} again, send desired alone"
                );
                return rejected(code::RESAVED, message);
            }
            let in_history = || claim.history.as_ref()?.same_token.as_ref();
            if let Some(first) = self.same_token(claim).or_else(in_history) {
                let message = format!(
                    "clientToken: request {first} has the same token and content and came within five minutes; use another token \
                     to {operation} again"
                );
                return rejected(code::SAME_TOKEN, message);
            }
        }
        if let Some(by) = self.taken_back_by(record) {
            return Some((Status::Canceled, canceled(&format!("request {by}"))));
        }
        self.overtaking(record)
            .or_else(|| claim.history.as_ref()?.newer_write.clone())
            .map(|newer| (Status::Failed, overtaken(&newer)))
    }

    /// A later cancelRequest that came before the request that it names.
    fn taken_back_by(&self, record: &Record) -> Option<&Name> {
        let name = record.name.to_string();
        let names_it = |key: &String| *key == name || record.client_token.as_ref() == Some(key);
        let takes_it_back = |other: &&Record| {
            other.is_cancel()
                && other.status() != Status::Rejected
                && is_before(record, other)
                && other.keys.iter().any(names_it)
        };
        self.open.iter().chain(&self.ended).find(takes_it_back).map(|other| &other.name)
    }

    /// Version of the latest request before this one, where it has the same content.
    fn latest_before(&self, claim: &Claim) -> Option<u64> {
        let version = claim.name.version()?;
        if version > self.newest {
            return (self.newest_digest == claim.digest).then_some(self.newest);
        }
        let is_earlier = |record: &&Record| record.name.version().is_some_and(|other| other < version);
        let latest =
            self.open.iter().chain(&self.ended).filter(is_earlier).max_by_key(|record| record.name.version())?;
        latest.name.version().filter(|_| latest.digest.as_deref() == Some(claim.digest.as_str()))
    }

    fn same_token(&self, claim: &Claim) -> Option<&Name> {
        let token = claim.client_token.as_ref()?;
        let is_same = |record: &&Record| {
            let is_unsent_failure = record.status() == Status::Failed && !record.may_have_been_sent();
            record.client_token.as_ref() == Some(token)
                && record.digest.as_deref() == Some(claim.digest.as_str())
                && record.requested_at.abs_diff(claim.requested_at) <= SAME_TOKEN_WINDOW
                && record.status() != Status::Rejected
                && !is_unsent_failure
        };
        self.open.iter().chain(&self.ended).find(is_same).map(|record| &record.name)
    }

    /// An older write of one of its keys that is on its way to Coiote.
    pub(crate) fn older_write(&self, record: &Record) -> Option<&Name> {
        let is_on_its_way = |other: &&Record| {
            matches!(other.state, State::Held | State::Waiting)
                && is_before(other, record)
                && write_one_key(other, record)
        };
        self.open.iter().find(is_on_its_way).map(|other| &other.name)
    }

    /// A newer write of one of its keys that may have been sent.
    fn overtaking(&self, record: &Record) -> Option<Name> {
        let overtakes =
            |other: &&Record| is_before(record, other) && other.may_have_been_sent() && write_one_key(other, record);
        self.open.iter().chain(&self.ended).find(overtakes).map(|other| other.name.clone())
    }

    fn take(&mut self, take: &ClaimDue) -> Verdict {
        let Some(index) = self.open.iter().position(|record| record.name == take.name) else {
            return match self.find(&take.name) {
                // This very event was appended twice.
                Some(record) if record.updated_at == take.at => Verdict::Ended(record.status()),
                Some(record) => Verdict::Duplicate(record.status()),
                None => Verdict::Unchanged,
            };
        };
        let Some(record) = self.open.get(index) else { return Verdict::Unchanged };
        if record.state == State::Held && record.mark == take.mark {
            return Verdict::Send;
        }
        if record.state != State::Waiting || record.is_cancel() {
            return Verdict::Duplicate(record.status());
        }
        if record.expires_at <= take.at {
            return self.end_at(index, Status::TimedOut, Some(lifetime_over(record)), take.at);
        }
        if let Some(newer) = self.overtaking(record) {
            return self.end_at(index, Status::Failed, Some(overtaken(&newer)), take.at);
        }
        if self.older_write(record).is_some() {
            return Verdict::Wait;
        }
        if let Some(record) = self.open.get_mut(index) {
            hold(record, &take.mark, &take.run, take.at, take.void_at);
        }
        self.drop_candidate(&take.name);
        Verdict::Send
    }

    fn created(&mut self, created: &Created) -> Verdict {
        let Created { name, at, .. } = created;
        if let Some(index) = self.ended.iter().position(|record| record.name == *name) {
            // Ours, and it comes late.
            if !self.ended.get(index).is_some_and(Record::may_be_reopened) {
                return Verdict::Unchanged;
            }
            let mut record = self.ended.remove(index);
            record.is_filed = false;
            record.state = State::Waiting;
            self.insert(record);
        }
        let Some(index) = self.open.iter().position(|record| record.name == *name) else { return Verdict::Unchanged };
        let Some(record) = self.open.get_mut(index) else { return Verdict::Unchanged };
        if record.state == State::Scheduled {
            // Of two runs that both had it, the first one's task counts.
            let is_same = record.task_id.as_ref() == Some(&created.task_id);
            let notice = created.notice.as_ref().map(Reason::shortened);
            if !is_same || notice.is_none() || record.reason == notice {
                return Verdict::Unchanged;
            }
            record.reason = notice;
            record.updated_at = *at;
            return Verdict::Changed;
        }
        if record.state == State::Held && record.mark != created.mark {
            // Another run is handing it over now. If this word let a newer write pass, that run's could follow it.
            return Verdict::Unchanged;
        }
        record.state = State::Scheduled;
        record.task_id = Some(created.task_id.clone());
        record.handed_over_at = created.handed_over_at;
        record.may_have_reached_coiote = false;
        record.mark.clear();
        record.void_at = 0;
        record.run.clear();
        record.tries = 0;
        record.updated_at = *at;
        if created.sent_at > 0 {
            record.note_hold(created.sent_at);
        }
        let after = record.clone();
        let is_over = record.canceled_by.is_some() || record.expires_at <= *at;
        record.due_at = if is_over { *at } else { at.saturating_add(ASK_AFTER[0]).min(record.expires_at) };
        record.reason = created.notice.as_ref().map(Reason::shortened);
        if !created.is_followed && record.canceled_by.is_none() {
            let reason = record.reason.take();
            return self.end_at(index, Status::Scheduled, reason, *at);
        }
        // A result that came before this word of ours.
        let is_its = |result: &ResultEntry| {
            result.answers.is_none()
                && result.candidate.as_ref() == Some(name)
                && !came_before_hand_over(&after, result.reported_at)
        };
        if let Some(candidate) = self.results.iter().position(is_its) {
            self.attach(candidate, name.clone(), *at);
        }
        self.drop_candidate(name);
        Verdict::Changed
    }

    fn not_done(&mut self, not_done: &NotHandedOver) -> Verdict {
        let NotHandedOver { name, mark, at, .. } = not_done;
        let holds = |record: &Record| record.name == *name && record.state == State::Held && record.mark == *mark;
        let Some(index) = self.open.iter().position(holds) else { return Verdict::Unchanged };
        if !not_done.may_have_reached_coiote {
            self.drop_candidate(name);
        }
        let Some(record) = self.open.get_mut(index) else { return Verdict::Unchanged };
        record.may_have_reached_coiote |= not_done.may_have_reached_coiote;
        record.tries = record.tries.saturating_add(1);
        let unknown =
            |why: &Reason| Reason::new(code::OUTCOME_UNKNOWN, format!("it may have reached Coiote: {}", why.message));
        if record.may_have_reached_coiote && !may_run_twice(&record.operation) {
            let reason = Reason::new(
                code::OUTCOME_UNKNOWN,
                format!("it may have reached Coiote and is not sent twice: {}", not_done.reason.message),
            );
            return self.end_at(index, Status::Failed, Some(reason), *at);
        }
        if let Some(by) = record.canceled_by.clone() {
            return self.end_unsent(index, &by, *at);
        }
        let Some(retry_at) = not_done.retry_at else {
            let reason =
                if record.may_have_reached_coiote { unknown(&not_done.reason) } else { not_done.reason.clone() };
            return self.end_at(index, Status::Failed, Some(reason), *at);
        };
        if record.expires_at <= *at {
            let reason = lifetime_over(record);
            return self.end_at(index, Status::TimedOut, Some(reason), *at);
        }
        wait(record, Some(not_done.reason.clone()), retry_at, *at);
        Verdict::Wait
    }

    /// Lets go of a result that came while a request was handed over: it was not this request's, or of an earlier try.
    fn drop_candidate(&mut self, name: &Name) {
        for result in &mut self.results {
            if result.candidate.as_ref() == Some(name) {
                result.candidate = None;
                result.reported_at = 0;
            }
        }
    }

    fn result_came(&mut self, result: &ResultReceived) -> Verdict {
        if let Some(known) = self.results.iter_mut().find(|known| known.version == result.version) {
            known.is_repeated |= known.mark != result.mark;
            let name = known.answers.clone().or_else(|| known.candidate.clone());
            return if known.word.is_some() { Verdict::Duplicate(Status::Succeeded) } else { Verdict::Fold(name) };
        }
        let was_counted = self.counted.contains(&result.version);
        let is_forgotten =
            self.counted.len() >= RESULTS_COUNTED && self.counted.last().is_some_and(|oldest| result.version < *oldest);
        if was_counted {
            return Verdict::Duplicate(Status::Succeeded);
        }
        let before = self.newest_result();
        let may_stand_beside =
            before.is_some_and(|before| before.touched.iter().any(|hash| !result.touched.contains(hash)));
        let is_newest = self.counted.first().is_none_or(|newest| *newest < result.version);
        if is_newest && (may_stand_beside || (before.is_none() && !self.counted.is_empty())) {
            self.beside_earlier = result.version;
        }
        let meets = |record: &&Record| is_met(&record.keys, &result.paths, &result.failed_keys);
        let mut answers = None;
        let mut candidate = None;
        if !is_forgotten {
            let waiting = |record: &&Record| waits_for_result(record, result);
            let mut all: Vec<&Record> = self.open.iter().chain(&self.ended).filter(waiting).filter(meets).collect();
            // The earliest; but one that is open before one whose last word is there and that no result is due to.
            let has_time = |record: &Record| record.updated_at.saturating_add(RESULT_MAY_TAKE) > result.at;
            // And one whose task is taken away may wait in vain: its result is the last that anybody expects.
            let is_on_its_way_out = |record: &Record| record.canceled_by.is_some() || record.expires_at <= result.at;
            let rank = |record: &Record| match record.is_open() {
                true if is_on_its_way_out(record) => 1,
                false if !(record.proven && has_time(record)) => 2,
                _ => 0,
            };
            all.sort_by_key(|record| (rank(record), record.order()));
            // Where nobody expects it any more, it answers the one that it can be of, if there is just one: also counting what may
            // have been sent without our knowing. The reports, which are asked for before a task is removed, decide the others.
            let may_expect_it = |record: &Record| {
                record.operation == result.operation && record.task_id.is_none() && record.may_have_been_sent()
            };
            let is_doubtful = self.open.iter().chain(&self.ended).filter(meets).any(may_expect_it);
            let earliest = all.first().filter(|record| rank(record) == 0 || (all.len() == 1 && !is_doubtful));
            answers = earliest.map(|record| record.name.clone());
            if answers.is_none() {
                let may_be = |record: &&Record| {
                    record.state == State::Held
                        && has_result(&record.operation)
                        && record.operation == result.operation
                        && record.order() < result.version
                        && !came_before_hand_over(record, result.reported_at)
                };
                let is_taken = |name: &Name| self.results.iter().any(|other| other.candidate.as_ref() == Some(name));
                candidate = self
                    .open
                    .iter()
                    .filter(may_be)
                    .filter(meets)
                    .map(|record| &record.name)
                    .find(|name| !is_taken(name))
                    .cloned();
            }
        }
        let mut touched = result.touched.clone();
        let of = answers.as_ref().or(candidate.as_ref());
        if let Some(record) = of.and_then(|name| self.find(name)).filter(|record| !is_write(&record.operation)) {
            touched.extend(covered_hashes(&record.keys, &result.failed_keys));
        }
        self.counted.push(result.version);
        self.counted.sort_unstable_by(|one, other| other.cmp(one));
        self.counted.truncate(RESULTS_COUNTED);
        self.results.push(ResultEntry {
            version: result.version,
            touched,
            answers: None,
            candidate: candidate.clone(),
            mark: result.mark.clone(),
            is_repeated: false,
            wrote: None,
            word: None,
            at: result.at,
            reported_at: if candidate.is_some() { result.reported_at } else { 0 },
        });
        let index = self.results.len().saturating_sub(1);
        if let Some(name) = answers.clone() {
            self.attach(index, name, result.at);
        }
        Verdict::Fold(answers.or(candidate))
    }

    /// Lets a result answer a request.
    fn attach(&mut self, index: usize, name: Name, at: Millis) {
        let Some(result) = self.results.get_mut(index) else { return };
        result.candidate = None;
        result.reported_at = 0;
        result.answers = Some(name.clone());
        let (version, word) = (result.version, result.word.clone());
        if let Some(record) = self.open.iter_mut().chain(&mut self.ended).find(|record| record.name == name) {
            record.result_version = Some(version);
        }
        if let Some((status, reason)) = word {
            self.conclude_by_result(&name, version, status, reason, at);
        }
    }

    fn folded(&mut self, folded: &Folded) -> Verdict {
        let newest = self.results.iter().map(|result| result.version).max();
        let Some(result) = self.results.iter_mut().find(|result| result.version == folded.version) else {
            return Verdict::Unchanged;
        };
        if result.word.is_some() {
            return Verdict::Unchanged;
        }
        result.word = Some((folded.status, folded.reason.as_ref().map(Reason::shortened)));
        result.at = folded.at;
        result.wrote = Some(if result.is_repeated { DatamodelWrite::Unknown } else { folded.wrote });
        let answers = result.answers.clone();
        if folded.datamodel.is_some() {
            // Of a late result nothing is concluded: what is newer may have been written before it.
            self.datamodel = folded.datamodel.filter(|_| newest == Some(folded.version));
        }
        if let Some(name) = answers {
            self.conclude_by_result(&name, folded.version, folded.status, folded.reason.clone(), folded.at);
        }
        Verdict::Changed
    }

    fn conclude_by_result(&mut self, name: &Name, version: u64, status: Status, reason: Option<Reason>, at: Millis) {
        // A name can come again: a shadow that was deleted counts anew.
        let is_its = |record: &Record| record.name == *name && record.result_version == Some(version);
        if let Some(index) = self.open.iter().position(is_its) {
            let is_proven = self.open.get(index).is_some_and(|record| record.reported_at > 0);
            if let Some(record) = self.open.get_mut(index) {
                record.proven = is_proven;
            }
            let notice = self.open.get(index).and_then(|record| record.reason.clone());
            let reason = Reason::join(reason.into_iter().chain(notice.filter(|_| status == Status::Succeeded)));
            self.end_at(index, status, reason, at);
        } else if let Some(record) = self.ended.iter_mut().find(|record| is_its(record) && record.yields()) {
            end(record, status, reason, at);
        }
    }

    fn reported(&mut self, report: &Reported) -> Verdict {
        let is_of = |record: &Record| {
            record.task_id.as_ref() == Some(&report.task_id)
                && !record.proven
                && (record.handed_over_at == 0 || report.started_at >= record.handed_over_at)
                && !(record.state == State::Ended(Status::Succeeded) && self.is_of_later_request(record, report))
        };
        let names: Vec<Name> =
            self.open.iter().chain(&self.ended).filter(|record| is_of(record)).map(|r| r.name.clone()).collect();
        let mut verdict = Verdict::Unchanged;
        for name in names {
            if self.reported_of(&name, report) {
                verdict = Verdict::Changed;
            }
        }
        verdict
    }

    /// Whether a later request ran the task again before that run: it says nothing of a request that was answered before.
    fn is_of_later_request(&self, record: &Record, report: &Reported) -> bool {
        self.open.iter().chain(&self.ended).any(|other| {
            let may_have_run_it = other.task_id.is_none()
                && other.may_have_been_sent()
                && other.operation == record.operation
                && other.keys == record.keys;
            if may_have_run_it {
                return true;
            }
            other.name != record.name
                && other.task_id == record.task_id
                && (other.handed_over_at, other.order()) > (record.handed_over_at, record.order())
                && other.handed_over_at <= report.started_at
        })
    }

    /// Whether the report changed something.
    fn reported_of(&mut self, name: &Name, report: &Reported) -> bool {
        let at = report.at;
        let refused = || Reason::new(code::DEVICE_REFUSED, refusal(report));
        let not_stored = || {
            Reason::new(
                code::RESULT_NOT_STORED,
                "the device did it, but its result did not come into the operation shadow; AWS IoT may have refused it for its size",
            )
        };
        if let Some(index) = self.open.iter().position(|record| record.name == *name) {
            let Some(record) = self.open.get_mut(index) else { return false };
            record.properties.clone_from(&report.properties);
            match report.status {
                ReportStatus::Success if has_result(&record.operation) => {
                    if record.reported_at > 0 {
                        return false;
                    }
                    record.reported_at = at;
                    record.updated_at = at;
                }
                ReportStatus::Success => {
                    record.proven = true;
                    let reason = record.reason.clone();
                    self.end_at(index, Status::Succeeded, reason, at);
                }
                ReportStatus::Refused => {
                    record.proven = true;
                    self.end_at(index, Status::Failed, Some(refused()), at);
                }
            }
            return true;
        }
        let Some(record) = self.ended.iter_mut().find(|record| record.name == *name) else { return false };
        let rests_on_result = record.status() == Status::Succeeded;
        let word = match report.status {
            ReportStatus::Refused if rests_on_result || record.yields() => (Status::Failed, Some(refused())),
            ReportStatus::Success if record.yields() && !has_result(&record.operation) => (Status::Succeeded, None),
            ReportStatus::Success if record.yields() && record.code() != code::RESULT_NOT_STORED => {
                (Status::Failed, Some(not_stored()))
            }
            _ => return false,
        };
        record.proven = word.0 == Status::Succeeded || report.status == ReportStatus::Refused;
        record.properties.clone_from(&report.properties);
        end(record, word.0, word.1, at);
        true
    }

    fn asked(&mut self, name: &Name, at: Millis) -> Verdict {
        let Some(record) = self.open.iter_mut().find(|record| record.name == *name && record.state == State::Scheduled)
        else {
            return Verdict::Unchanged;
        };
        if record.due_at > at {
            return Verdict::Unchanged;
        }
        record.tries = record.tries.saturating_add(1);
        let passed = ASK_AFTER.get(record.tries.saturating_sub(1) as usize).copied().unwrap_or_default();
        let next = ASK_AFTER.get(record.tries as usize).map(|after| at.saturating_add(after.saturating_sub(passed)));
        record.due_at = match next {
            // What could not be removed is tried again.
            _ if record.canceled_by.is_some() || record.expires_at <= at => at.saturating_add(ASK_AFTER[0]),
            Some(next) => next.min(record.expires_at),
            None => record.expires_at,
        };
        Verdict::Changed
    }

    fn removed(&mut self, name: &Name, at: Millis) -> Verdict {
        let is_removed =
            |record: &Record| record.name == *name && record.state == State::Scheduled && record.reported_at == 0;
        let Some(index) = self.open.iter().position(is_removed) else { return Verdict::Unchanged };
        let Some(record) = self.open.get(index) else { return Verdict::Unchanged };
        match record.canceled_by.clone() {
            Some(by) => self.end_at(index, Status::Canceled, Some(canceled(&by)), at),
            None if record.expires_at <= at => self.end_at(index, Status::TimedOut, Some(lifetime_over(record)), at),
            None => Verdict::Unchanged,
        }
    }

    fn cancel(&mut self, name: &Name, by: &str, at: Millis) -> Verdict {
        let Some(index) = self.open.iter().position(|record| record.name == *name && !record.is_cancel()) else {
            let status = self.find(name).map(Record::status);
            return status.map_or(Verdict::Unchanged, Verdict::Duplicate);
        };
        let Some(record) = self.open.get_mut(index) else { return Verdict::Unchanged };
        if record.canceled_by.is_some() || record.reported_at > 0 {
            // The second cannot be taken back any more: the device did it, and its result is awaited.
            return Verdict::Unchanged;
        }
        record.canceled_by = Some(by.to_owned());
        match record.state {
            State::Waiting => self.end_unsent(index, by, at),
            _ => {
                record.due_at = at;
                Verdict::Changed
            }
        }
    }

    /// Ends a request that is taken back and is not at Coiote, as far as is known.
    fn end_unsent(&mut self, index: usize, by: &str, at: Millis) -> Verdict {
        let maybe = self.open.get(index).is_some_and(|record| record.may_have_reached_coiote);
        if maybe {
            let message = format!("taken back by {by}, but an earlier try may have reached Coiote");
            return self.end_at(index, Status::Failed, Some(Reason::new(code::OUTCOME_UNKNOWN, message)), at);
        }
        self.end_at(index, Status::Canceled, Some(canceled(by)), at)
    }

    fn claim_cancel_request(&mut self, mut record: Record, at: Millis) -> Verdict {
        let by = format!("request {}", record.name);
        let mut names = Vec::new();
        for wanted in &record.keys {
            let is_wanted = |other: &Record| {
                let is_named =
                    other.name.to_string() == *wanted || other.client_token.as_deref() == Some(wanted.as_str());
                is_named && !other.is_cancel() && other.name != record.name
            };
            let found: Vec<String> = self
                .open
                .iter()
                .chain(&self.ended)
                .filter(|other| is_wanted(other))
                .map(|other| other.name.to_string())
                .collect();
            if found.is_empty() { names.push(wanted.clone()) } else { names.extend(found) }
        }
        let mut seen = HashSet::new();
        names.retain(|name| seen.insert(name.clone()));
        record.keys = names;
        record.state = State::Waiting;
        record.due_at = record.expires_at;
        let name = record.name.clone();
        for target in record.keys.clone() {
            self.cancel(&Name::parse(&target), &by, at);
        }
        self.insert(record);
        self.settle_cancel_requests(at);
        match self.find(&name).map(Record::status) {
            Some(Status::InProgress) | None => Verdict::Changed,
            Some(status) => Verdict::Ended(status),
        }
    }

    /// Ends each cancelRequest all of whose requests have ended.
    fn settle_cancel_requests(&mut self, at: Millis) {
        while let Some((index, word)) = self.open.iter().enumerate().find_map(|(index, record)| {
            let is_settled = record.is_cancel() && record.keys.iter().all(|key| !self.is_open(&Name::parse(key)));
            is_settled.then(|| (index, self.cancel_word(record)))
        }) {
            self.end_at(index, word.0, Some(word.1), at);
        }
    }

    fn is_open(&self, name: &Name) -> bool {
        self.open.iter().any(|record| record.name == *name)
    }

    /// Which was which.
    fn cancel_word(&self, record: &Record) -> (Status, Reason) {
        let by = format!("request {}", record.name);
        let words: Vec<(bool, String)> = record
            .keys
            .iter()
            .map(|key| match self.ended.iter().find(|other| other.name.to_string() == *key) {
                Some(other) if other.canceled_by.as_ref() == Some(&by) && other.status() == Status::Canceled => {
                    (true, format!("{key}: CANCELED"))
                }
                Some(other) => (true, format!("{key}: keeps its word, {}", other.status().as_str())),
                None => (false, format!("{key}: not among this device's open requests")),
            })
            .collect();
        let message = words.iter().map(|(_, word)| word.as_str()).collect::<Vec<_>>().join("; ");
        if words.iter().any(|(is_known, _)| *is_known) {
            (Status::Succeeded, Reason::new(code::CANCEL_DONE, message))
        } else {
            (Status::Failed, Reason::new(code::NOTHING_TO_CANCEL, message))
        }
    }

    fn tick(&mut self, at: Millis) -> Verdict {
        let mut verdict = Verdict::Unchanged;
        let mut index = 0;
        while let Some(record) = self.open.get_mut(index) {
            if record.state == State::Held && record.void_at < at {
                // Its run has ended without a word.
                record.may_have_reached_coiote = true;
            }
            let Some(record) = self.open.get(index) else { break };
            let word = match record.state {
                State::Held if record.void_at < at && !may_run_twice(&record.operation) => {
                    Some((Status::Failed, interrupted()))
                }
                State::Held if record.void_at < at && record.expires_at <= at => {
                    Some((Status::TimedOut, lifetime_over(record)))
                }
                State::Waiting if record.expires_at <= at => Some((Status::TimedOut, lifetime_over(record))),
                State::Waiting => self.overtaking(record).map(|newer| (Status::Failed, overtaken(&newer))),
                State::Scheduled
                    if record.reported_at > 0
                        && ((record.result_version.is_none()
                            && record.reported_at.saturating_add(RESULT_MAY_TAKE) <= at)
                            || record.expires_at <= at) =>
                {
                    let message = "the device did it, but its result did not come into the operation shadow within a minute; AWS \
                                   IoT may have refused it for its size";
                    Some((Status::Failed, Reason::new(code::RESULT_NOT_STORED, message)))
                }
                State::Scheduled
                    if record.result_version.is_some_and(|version| {
                        // Whether or not its report has come.
                        let came = self.result(version).map_or(record.reported_at, |result| result.at);
                        came > 0 && came.max(record.reported_at).saturating_add(FOLD_MAY_TAKE) <= at
                    }) =>
                {
                    let message = "the device did it, but its result could not be folded into the datamodel shadow; its event is \
                                   in the failure queue";
                    Some((Status::Failed, Reason::new(code::RESULT_NOT_STORED, message)))
                }
                _ => None,
            };
            if let Some((status, reason)) = word {
                self.end_at(index, status, Some(reason), at);
                verdict = Verdict::Changed;
                continue;
            }
            if let Some(record) = self.open.get_mut(index)
                && record.state == State::Held
                && record.void_at < at
            {
                if let Some(by) = record.canceled_by.clone() {
                    self.end_unsent(index, &by, at);
                    verdict = Verdict::Changed;
                    continue;
                }
                let message = "the run that was handing it over ended without a word; it is handed over again";
                wait(record, Some(Reason::new(code::INTERRUPTED, message)), at, at);
                verdict = Verdict::Changed;
                continue;
            }
            index += 1;
        }
        let before = self.ended.len();
        self.forget(at);
        if self.ended.len() != before { Verdict::Changed } else { verdict }
    }

    fn end_at(&mut self, index: usize, status: Status, reason: Option<Reason>, at: Millis) -> Verdict {
        if index >= self.open.len() {
            return Verdict::Unchanged;
        }
        let mut record = self.open.remove(index);
        self.drop_candidate(&record.name);
        end(&mut record, status, reason, at);
        self.ended.push(record);
        Verdict::Ended(status)
    }

    /// Bytes of all that can be long in the records.
    fn bytes(&self) -> usize {
        let of = |record: &Record| {
            let keys: usize = record.keys.iter().map(String::len).sum();
            let reason = record.reason.as_ref().map_or(0, |reason| reason.message.len());
            RECORD_BYTES + keys + reason + record.properties.as_ref().map_or(0, String::len)
        };
        self.open.iter().chain(&self.ended).map(of).sum()
    }

    /// Lets go of what has its place elsewhere or is of no use any more.
    fn forget(&mut self, at: Millis) {
        let mut surplus = self.ended.len().saturating_sub(ENDED_KEPT);
        let mut crowd = self.ended.len().saturating_sub(ENDED_MOST);
        let open = &self.open;
        self.ended.retain(|record| {
            let has_token = record.client_token.is_some()
                && !may_run_twice(&record.operation)
                && record.status() != Status::Rejected;
            let is_told_of = |cancel: &Record| cancel.is_cancel() && cancel.keys.contains(&record.name.to_string());
            let stays = if has_token { TOKEN_STAYS } else { ENDED_STAYS };
            let is_old = record.updated_at.saturating_add(stays) <= at || (crowd > 0 && !has_token);
            let goes = surplus > 0 && is_old && record.is_filed && !open.iter().any(is_told_of);
            crowd = crowd.saturating_sub(usize::from(goes));
            surplus = surplus.saturating_sub(usize::from(goes));
            !goes
        });
        let newest = self.results.iter().map(|result| result.version).max();
        self.results.retain(|result| {
            let is_done = result.word.is_some() && result.candidate.is_none();
            !is_done || Some(result.version) == newest || result.at.saturating_add(RESULT_STAYS) > at
        });
    }
}

impl Event {
    /// When it happened.
    pub fn at(&self) -> Millis {
        match self {
            Event::Claim(claim) => claim.at,
            Event::ClaimDue(take) => take.at,
            Event::Created(created) => created.at,
            Event::NotHandedOver(not_done) => not_done.at,
            Event::Result(result) => result.at,
            Event::Folded(folded) => folded.at,
            Event::Report(report) => report.at,
            Event::Cancel(cancel) => cancel.at,
            Event::ReportRequested { at, .. } | Event::TaskRemoved { at, .. } | Event::Tick { at } => *at,
        }
    }
}

/// Whether a request can be claimed.
enum Standing {
    Decided(Verdict),
    /// It stands at this place among the open ones, held by a run that has ended without a word.
    Void(usize),
    Free {
        /// An earlier try may have reached Coiote.
        may_have_reached_coiote: bool,
    },
}

/// Whether the claim is of another request than the one of its name that was made then: a shadow that was deleted and made again
/// counts its versions anew, and so does a job that was. Where a time is not known, it is not, for nothing is sent twice.
fn is_another(requested_at: u64, claim: &Claim) -> bool {
    /// AWS IoT Jobs tells when an execution was queued to the second here and to the millisecond there, and takes longer to
    /// delete a job.
    const ROUNDED: u64 = 5;
    let are_known = requested_at != 0 && claim.requested_at != 0;
    let apart = requested_at.abs_diff(claim.requested_at);
    are_known
        && match claim.name {
            Name::Version(_) => apart > 0,
            Name::Job { .. } => apart > ROUNDED,
            Name::Invocation(_) => false,
        }
}

fn hold(record: &mut Record, mark: &str, run: &str, at: Millis, void_at: Millis) {
    record.state = State::Held;
    record.note_hold(at);
    mark.clone_into(&mut record.mark);
    run.clone_into(&mut record.run);
    record.void_at = void_at;
    record.updated_at = at;
    record.reason = None;
}

fn wait(record: &mut Record, reason: Option<Reason>, due_at: Millis, at: Millis) {
    record.state = State::Waiting;
    record.mark.clear();
    record.void_at = 0;
    record.due_at = due_at;
    record.reason = reason.as_ref().map(Reason::shortened);
    record.updated_at = at;
}

fn end(record: &mut Record, status: Status, reason: Option<Reason>, at: Millis) {
    record.state = State::Ended(status);
    record.reason = reason.as_ref().map(Reason::shortened);
    record.mark.clear();
    record.void_at = 0;
    record.due_at = 0;
    record.tries = 0;
    if !record.may_be_reopened() {
        record.expires_at = 0;
    }
    if record.task_id.is_none() {
        record.waited = 0;
    }
    record.updated_at = at;
    record.is_filed = false;
    if status != Status::Failed {
        record.run.clear();
    }
}

/// Whether a request was made before another one. What has no version comes after the one that was the newest when it came.
fn is_before(one: &Record, other: &Record) -> bool {
    let place = |record: &Record| (record.order(), record.name.version().is_none(), record.requested_at);
    place(one) < place(other)
}

fn write_one_key(one: &Record, other: &Record) -> bool {
    is_write(&one.operation)
        && is_write(&other.operation)
        && one.keys.iter().any(|key| other.keys.iter().any(|other| keys_overlap(key, other)))
}

fn overtaken(newer: &Name) -> Reason {
    Reason::new(code::OVERTAKEN, format!("request {newer} is newer, writes one of its keys, and may have been sent"))
}

fn interrupted() -> Reason {
    Reason::new(
        code::OUTCOME_UNKNOWN,
        "an earlier attempt ended without a word; it may have reached Coiote and is not sent twice",
    )
}

fn canceled(by: &str) -> Reason {
    Reason::new(code::CANCELED, format!("taken back by {by}"))
}

fn lifetime_over(record: &Record) -> Reason {
    let message = match &record.reason {
        Some(reason) => format!("its lifetime ended before a device had run it; it waited because: {}", reason.message),
        None if record.operation == CANCEL_REQUEST => "its requests have not ended within its lifetime".to_owned(),
        None => "its lifetime ended before a device had run it".to_owned(),
    };
    Reason::new(code::LIFETIME_OVER, message)
}

fn refusal(report: &Reported) -> String {
    if report.summary.is_empty() {
        "the device did not do it; Coiote gives no reason".to_owned()
    } else {
        format!("the device did not do it, or not all of it: {}", report.summary)
    }
}
