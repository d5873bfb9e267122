//! Tasks and things whose calls always fail, although Coiote answers others.

use bounded_cache::BoundedCache;

/// Failures in a row, each after another answer of Coiote, that count as a refusal.
const ENOUGH: u32 = 3;

/// Failures in a row of one kind of call, by task or thing. Where an environment ends, they are counted anew.
#[derive(Default)]
pub(crate) struct PersistentFailures(BoundedCache<String, Failures>);

#[derive(Clone, Copy)]
struct Failures {
    number: u32,
    /// Number of Coiote's answers at the last failure.
    answers: u64,
}

impl PersistentFailures {
    /// Notes a failure after so many answers of Coiote. Returns whether Coiote fails at this one alone: it has failed at it
    /// several times, and has answered other calls since the last time.
    pub(crate) fn add(&self, id: &str, answers: u64) -> bool {
        let before = self.0.get(id);
        let has_answered = before.is_none_or(|before| answers > before.answers);
        let number = before.map_or(0, |before| before.number).saturating_add(u32::from(has_answered));
        self.0.insert(id.to_owned(), Failures { number, answers });
        has_answered && number >= ENOUGH
    }

    /// Whether Coiote has failed at it several times, with other answers in between.
    pub(crate) fn has_many(&self, id: &str) -> bool {
        self.0.get(id).is_some_and(|failures| failures.number >= ENOUGH)
    }

    /// Forgets the failures of one, after a call that succeeded.
    pub(crate) fn forget(&self, id: &str) {
        self.0.remove(id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn added(failures: &PersistentFailures, answers: &[u64]) -> Vec<bool> {
        answers.iter().map(|answers| failures.add("t", *answers)).collect()
    }

    #[test]
    fn failures_count_as_a_refusal_where_coiote_answers_other_calls_in_between() {
        let failures = PersistentFailures::default();
        assert_eq!(added(&failures, &[0, 1, 2, 5]), [false, false, true, true]);
        failures.forget("t");
        assert_eq!(added(&failures, &[6, 7, 8]), [false, false, true]);
    }

    #[test]
    fn failures_while_coiote_is_away_count_once() {
        let failures = PersistentFailures::default();
        assert_eq!(added(&failures, &[7, 7, 7, 7, 8, 8, 8]), [false; 7]);
        assert_eq!(added(&failures, &[9, 9, 10]), [true, false, true], "away once more");
    }
}
