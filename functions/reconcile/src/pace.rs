//! How many requests are handed over at once, and when it is better to stop.

/// So many failures in a row say that Coiote is away, and not that one device is.
const IN_A_ROW: usize = 3;

/// What an answer of operation-request says of Coiote.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Met {
    /// It answers.
    Answer,
    /// It is too busy.
    Throttling,
    /// It is away, or refuses us as a whole; or operation-request itself has not what it needs.
    Outage,
    /// Nothing: it was not asked.
    Nothing,
}

impl Met {
    /// `status`, `code`: those of the answer.
    pub(crate) fn of(status: &str, code: Option<&str>) -> Met {
        match (status, code.unwrap_or_default()) {
            ("SCHEDULED" | "SUCCEEDED", _) => Met::Answer,
            ("IN_PROGRESS", "COIOTE_THROTTLED") => Met::Throttling,
            ("IN_PROGRESS", "WAITS_FOR_OLDER_WRITE") => Met::Nothing,
            ("IN_PROGRESS", _) => Met::Outage,
            // What must not be sent twice ends when Coiote falls silent.
            ("FAILED", "OUTCOME_UNKNOWN" | "COIOTE_UNAUTHORIZED" | "COIOTE_NOT_TRUSTED" | "COIOTE_URL_INVALID") => {
                Met::Outage
            }
            ("FAILED", code) if code.starts_with("SECRET_") => Met::Outage,
            ("FAILED", "DEVICE_UNKNOWN" | "DEVICE_AMBIGUOUS" | "TEMPLATE_MISSING" | "DEVICE_REFUSED") => Met::Answer,
            ("FAILED", "COIOTE_REFUSED" | "COIOTE_UNEXPECTED_ANSWER") => Met::Answer,
            _ => Met::Nothing,
        }
    }
}

/// Number of hand-overs that may be under way at once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Pace {
    now: usize,
    most: usize,
    /// Answers since it last changed.
    answers: usize,
    outages: usize,
    /// Throttled in a row at the lowest pace.
    throttled: usize,
}

/// Why no more is handed over for now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stop {
    Outage,
    Throttling,
}

impl Pace {
    pub(crate) fn new(most: usize) -> Pace {
        Pace { now: 1, most: most.max(1), answers: 0, outages: 0, throttled: 0 }
    }

    pub(crate) fn now(&self) -> usize {
        self.now
    }

    /// Doubled after as many answers as were under way at once, halved each time that Coiote is too busy.
    pub(crate) fn met(&mut self, met: Met) {
        match met {
            Met::Answer => {
                (self.outages, self.throttled) = (0, 0);
                self.answers += 1;
                if self.answers >= self.now {
                    self.now = self.now.saturating_mul(2).min(self.most);
                    self.answers = 0;
                }
            }
            Met::Throttling => {
                self.outages = 0;
                self.throttled = if self.now == 1 { self.throttled + 1 } else { 0 };
                self.now = (self.now / 2).max(1);
                self.answers = 0;
            }
            Met::Outage => {
                self.outages += 1;
                self.answers = 0;
            }
            Met::Nothing => {}
        }
    }

    pub(crate) fn stops(&self) -> Option<Stop> {
        if self.outages >= IN_A_ROW {
            Some(Stop::Outage)
        } else if self.throttled >= IN_A_ROW {
            Some(Stop::Throttling)
        } else {
            None
        }
    }
}

/// Most hand-overs at once that the variable asks for.
pub(crate) fn concurrency(variable: Option<&str>) -> usize {
    const DEFAULT: usize = 10;
    variable.and_then(|text| text.trim().parse().ok()).filter(|number| *number > 0).unwrap_or(DEFAULT)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(most: usize, all: &[Met]) -> Pace {
        let mut pace = Pace::new(most);
        all.iter().for_each(|met| pace.met(*met));
        pace
    }

    #[test]
    fn it_doubles_with_each_round_of_answers_up_to_the_most() {
        let paces: Vec<usize> = [0, 1, 2, 3, 6, 7, 14, 15, 100]
            .into_iter()
            .map(|answers| after(10, &vec![Met::Answer; answers]).now())
            .collect();
        assert_eq!(paces, [1, 2, 2, 4, 4, 8, 8, 10, 10]);
        assert_eq!(after(1, &[Met::Answer; 50]).now(), 1);
        assert_eq!(after(0, &[Met::Answer; 50]).now(), 1, "never none");
    }

    #[test]
    fn it_is_halved_each_time_that_coiote_is_too_busy() {
        let mut pace = after(10, &[Met::Answer; 50]);
        let mut paces = Vec::new();
        for _ in 0..4 {
            pace.met(Met::Throttling);
            paces.push(pace.now());
        }
        assert_eq!(paces, [5, 2, 1, 1]);
        assert_eq!(pace.stops(), None);
        pace.met(Met::Throttling);
        pace.met(Met::Throttling);
        assert_eq!(pace.stops(), Some(Stop::Throttling));
    }

    #[test]
    fn outages_in_a_row_stop_it_and_single_ones_do_not() {
        use Met::*;
        assert_eq!(after(10, &[Outage, Outage, Answer, Outage, Nothing, Outage]).stops(), None);
        assert_eq!(after(10, &[Outage, Nothing, Outage, Outage]).stops(), Some(Stop::Outage));
        assert_eq!(after(10, &[Throttling, Throttling, Answer, Throttling]).stops(), None);
    }

    #[test]
    fn what_an_answer_says_of_coiote() {
        for (status, code, met) in [
            ("SCHEDULED", None, Met::Answer),
            ("SCHEDULED", Some("SESSION_NOT_STARTED"), Met::Answer),
            ("IN_PROGRESS", Some("COIOTE_THROTTLED"), Met::Throttling),
            ("IN_PROGRESS", Some("COIOTE_UNREACHABLE"), Met::Outage),
            ("IN_PROGRESS", Some("SECRET_UNAVAILABLE"), Met::Outage),
            ("FAILED", Some("OUTCOME_UNKNOWN"), Met::Outage),
            ("FAILED", Some("COIOTE_UNAUTHORIZED"), Met::Outage),
            ("FAILED", Some("DEVICE_UNKNOWN"), Met::Answer),
            ("FAILED", Some("OVERTAKEN"), Met::Nothing),
            ("TIMED_OUT", Some("LIFETIME_OVER"), Met::Nothing),
            ("IGNORED", Some("BODY_MISSING"), Met::Nothing),
            ("CANCELED", None, Met::Nothing),
        ] {
            assert_eq!(Met::of(status, code), met, "{status} {code:?}");
        }
    }

    #[test]
    fn what_the_variable_may_say() {
        for (variable, most) in [(None, 10), (Some("-1"), 10), (Some("0"), 10), (Some("x"), 10), (Some("3"), 3)] {
            assert_eq!(concurrency(variable), most, "{variable:?}");
        }
    }
}
