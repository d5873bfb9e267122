//! Results: the request that each answers, and the outcome of folding it.

use std::cmp::Reverse;

use crate::Millis;
use crate::device::{Device, RESULT_LIMIT, RESULT_STAYS, ResultEntry, SEEN_MAX};
use crate::event::{DatamodelWrite, Folded, ResultReceived};
use crate::matching::{
    Fit, answers_all_keys, came_before_hand_over, covered_hashes, is_earlier_than, may_be_answered_by,
};
use crate::record::{Name, Reason, Record, State, Status, has_result, is_write};
use crate::transitions::Verdict;
use crate::transitions::order::by_making;
use crate::transitions::state_change::end;

/// Requests that a result is of.
#[derive(Default)]
struct Matched {
    answers: Option<Name>,
    /// Request that is being handed over, and is answered if it turns out to have reached Coiote.
    candidate: Option<Name>,
    /// Request that is answered otherwise.
    withheld_from: Option<Name>,
}

impl Device {
    /// Registers a result that Coiote wrote into the operation shadow, with the request that it answers.
    pub(super) fn result_received(&mut self, result: &ResultReceived) -> Verdict {
        self.note_new_shadow(result.version, result.reported_at);
        if let Some(known) = self.results.iter_mut().find(|known| known.version == result.version) {
            known.is_repeated |= known.mark != result.mark;
            let name = known.answers.clone().or_else(|| known.candidate.clone());
            return if known.word.is_some() { Verdict::Duplicate(Status::Succeeded) } else { Verdict::Fold(name) };
        }
        if self.seen_results.contains(&result.version) {
            return Verdict::Duplicate(Status::Succeeded);
        }
        let is_too_old = self.seen_results.len() >= SEEN_MAX
            && self.seen_results.last().is_some_and(|oldest| result.version < *oldest);
        let Matched { answers, candidate, withheld_from } =
            if is_too_old { Matched::default() } else { self.matched(result) };
        let mut touched = result.touched.clone();
        let of = answers.as_ref().or(candidate.as_ref()).and_then(|name| self.find(name));
        let read = of.filter(|record| !is_write(&record.operation));
        if let Some(record) = read.filter(|record| !self.may_be_of_a_closer_request(record, result)) {
            touched.extend(covered_hashes(&record.keys, &result.failed_keys));
        }
        let is_doubtful = |name: &&Name| self.find(name).is_some_and(|record| result.fit(record).is_doubtful());
        let doubtful_for =
            [&answers, &candidate, &withheld_from].into_iter().flatten().filter(is_doubtful).cloned().collect();
        self.note_remains(result.version, &touched);
        self.seen_results.push(result.version);
        self.seen_results.sort_unstable_by(|one, other| other.cmp(one));
        self.seen_results.truncate(SEEN_MAX);
        self.results.push(ResultEntry {
            version: result.version,
            touched,
            answers: None,
            candidate: candidate.clone(),
            withheld_from,
            doubtful_for,
            mark: result.mark.clone(),
            is_repeated: false,
            wrote: None,
            word: None,
            at: result.at,
            reported_at: result.reported_at,
        });
        let index = self.results.len().saturating_sub(1);
        if let Some(name) = answers.clone() {
            self.attach(index, name, result.at);
        }
        Verdict::Fold(answers.or(candidate))
    }

    /// Notes whether the shadow may hold parts of an earlier result beside the new one, as an update merges.
    fn note_remains(&mut self, version: u64, touched: &[u32]) {
        let before = self.newest_result();
        let may_remain = before.is_some_and(|before| before.touched.iter().any(|hash| !touched.contains(hash)));
        match self.seen_results.first() {
            // It comes late, and stands beside the newest.
            Some(newest) if *newest > version => {
                if before.is_none_or(|newest| touched.iter().any(|hash| !newest.touched.contains(hash))) {
                    self.beside_earlier = *newest;
                }
            }
            first => {
                if may_remain || (before.is_none() && first.is_some()) {
                    self.beside_earlier = version;
                }
            }
        }
    }

    /// Whether the result may be of another request, whose keys it fits more closely. What such a result does not name may be at
    /// the device all the same.
    fn may_be_of_a_closer_request(&self, record: &Record, result: &ResultReceived) -> bool {
        let fit = result.fit(record);
        // One that was sent twice has two results.
        let may_have_another = |other: &Record| {
            other.may_have_reached_coiote
                && (other.is_open() || other.updated_at.saturating_add(RESULT_STAYS) > result.at)
        };
        self.records().any(|other| {
            other.operation == record.operation
                && other.name != record.name
                && (other.may_await_result(result.at) || may_have_another(other))
                && is_earlier_than(other, result)
                && !came_before_hand_over(other, result.reported_at)
                && fit.may_rather_be(result.fit(other))
                && answers_all_keys(&other.keys, &result.paths, &result.failed_keys)
        })
    }

    /// The requests that a result answers, or may answer.
    fn matched(&self, result: &ResultReceived) -> Matched {
        let earliest = self.request_answered_by(result);
        let candidate = self.candidate_for(result);
        // A request that is being handed over and that it fits more closely is more likely to have it.
        match (earliest, candidate) {
            (Some(earliest), Some(candidate)) if result.fit(candidate) > result.fit(earliest) => Matched {
                answers: None,
                candidate: Some(candidate.name.clone()),
                withheld_from: Some(earliest.name.clone()),
            },
            (Some(earliest), _) => Matched { answers: Some(earliest.name.clone()), ..Matched::default() },
            (None, candidate) => {
                Matched { candidate: candidate.map(|candidate| candidate.name.clone()), ..Matched::default() }
            }
        }
    }

    /// The request that a result answers: of those that may be answered by it and that it fits most closely, the earliest.
    fn request_answered_by(&self, result: &ResultReceived) -> Option<&Record> {
        let matches = |record: &&Record| answers_all_keys(&record.keys, &result.paths, &result.failed_keys);
        let may_be_answered = |record: &&Record| may_be_answered_by(record, result);
        let all: Vec<&Record> = self.records().filter(may_be_answered).filter(matches).collect();
        let is_in_time = |record: &Record| record.updated_at.saturating_add(RESULT_LIMIT) > result.at;
        let is_ending = |record: &Record| record.canceled_by.is_some() || record.expires_at <= result.at;
        // Open requests come before those that have ended, unless a report was first and the result is due. A request that is
        // ending comes after those: its task is removed, so its result may never come.
        let rank = |record: &Record| match record.is_open() {
            true if is_ending(record) => 1,
            false if !(record.proven && is_in_time(record)) => 2,
            _ => 0,
        };
        let order = |record: &Record| (rank(record), Reverse(result.fit(record)));
        let first =
            all.iter().min_by(|one, other| order(one).cmp(&order(other)).then_with(|| by_making(one, other))).copied();
        // A result that no request awaits answers the only one that it can be of, also counting requests that may have been
        // sent without our knowledge. Between several, the reports decide, which are requested before a task is removed.
        let may_expect_it = |record: &Record| {
            record.operation == result.operation && record.task_id.is_none() && record.may_have_been_sent()
        };
        let is_doubtful = self.records().filter(matches).any(may_expect_it);
        first.filter(|record| rank(record) == 0 || (all.len() == 1 && !is_doubtful))
    }

    /// A request that is being handed over and that a result answers if it turns out to have reached Coiote.
    fn candidate_for(&self, result: &ResultReceived) -> Option<&Record> {
        let may_be = |record: &&Record| {
            record.state == State::Held
                && has_result(&record.operation)
                && record.operation == result.operation
                && is_earlier_than(record, result)
                && !came_before_hand_over(record, result.reported_at)
        };
        let matches = |record: &&Record| answers_all_keys(&record.keys, &result.paths, &result.failed_keys);
        let is_taken = |name: &Name| self.results.iter().any(|other| other.candidate.as_ref() == Some(name));
        let all = self.open.iter().filter(may_be).filter(matches).filter(|record| !is_taken(&record.name));
        all.min_by_key(|record| Reverse(result.fit(record)))
    }

    /// Makes a result answer a request.
    pub(super) fn attach(&mut self, index: usize, name: Name, at: Millis) {
        let Some(result) = self.results.get_mut(index) else { return };
        result.candidate = None;
        result.withheld_from = None;
        result.answers = Some(name.clone());
        let (version, word) = (result.version, result.word.clone());
        let is_doubtful = result.doubtful_for.contains(&name);
        if let Some(record) = self.open.iter_mut().chain(&mut self.ended).find(|record| record.name == name) {
            record.result_version = Some(version);
            record.has_doubtful_result = is_doubtful;
        }
        if let Some((status, reason)) = word {
            self.conclude_by_result(&name, version, status, reason, at);
        }
    }

    /// Records the outcome of a fold, which concludes the request that the result answers.
    pub(super) fn folded(&mut self, folded: &Folded) -> Verdict {
        let newest = self.newest_result().map(|result| result.version);
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
            // Unknown after a late result: a newer one may have been written before it.
            self.datamodel = folded.datamodel.filter(|_| newest == Some(folded.version));
        }
        if let Some(name) = answers {
            self.conclude_by_result(&name, folded.version, folded.status, folded.reason.clone(), folded.at);
        }
        Verdict::Changed
    }

    /// Ends a request by its result, or replaces its final status.
    fn conclude_by_result(&mut self, name: &Name, version: u64, status: Status, reason: Option<Reason>, at: Millis) {
        // A name may occur again, as the versions of a deleted shadow begin anew.
        let is_its = |record: &Record| record.name == *name && record.result_version == Some(version);
        if let Some(index) = self.open.iter().position(is_its)
            && let Some(record) = self.open.get_mut(index)
        {
            record.proven = record.reported_at > 0;
            let notice = record.notice_about_operation().filter(|_| status == Status::Succeeded);
            let reason = Reason::join(reason.into_iter().chain(notice));
            self.end_at(index, status, reason, at);
        } else if let Some(record) = self.ended.iter_mut().find(|record| is_its(record) && record.yields()) {
            end(record, status, reason, at);
        }
    }
}

impl ResultReceived {
    /// How closely it fits the request's keys.
    fn fit(&self, record: &Record) -> Fit {
        Fit::of(&self.paths, &self.failed_keys, &record.keys)
    }
}
