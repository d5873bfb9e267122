//! Number of requests that are handed over at once, and when to stop.

use crate::contact::Contact;

/// Failures in a row that show trouble with Coiote, and not with one device.
const IN_A_ROW: usize = 3;

/// Most hand-overs at once where the template sets no limit.
const DEFAULT_LIMIT: usize = 10;

/// Number of hand-overs that may be under way at once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Pace {
    now: usize,
    most: usize,
    /// Answers since `now` last changed.
    answers: usize,
    /// Outages in a row.
    outages: usize,
    /// Throttlings in a row at the lowest pace.
    throttled: usize,
}

/// Reason to hand over no more for now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stop {
    Outage,
    Throttling,
}

/// Most hand-overs at once: the template's number, or the default where it is 0.
pub(crate) fn limit(number: u64) -> usize {
    usize::try_from(number).ok().filter(|number| *number > 0).unwrap_or(DEFAULT_LIMIT)
}

impl Pace {
    pub(crate) fn new(most: usize) -> Pace {
        Pace { now: 1, most: most.max(1), answers: 0, outages: 0, throttled: 0 }
    }

    pub(crate) fn now(&self) -> usize {
        self.now
    }

    /// Notes a hand-over. The pace doubles after as many answers as may be under way at once, and halves at each throttling.
    pub(crate) fn note(&mut self, contact: Contact) {
        match contact {
            Contact::Answered => {
                (self.outages, self.throttled) = (0, 0);
                self.answers += 1;
                if self.answers >= self.now {
                    self.now = self.now.saturating_mul(2).min(self.most);
                    self.answers = 0;
                }
            }
            Contact::Throttled => {
                self.outages = 0;
                self.throttled = if self.now == 1 { self.throttled + 1 } else { 0 };
                self.now = (self.now / 2).max(1);
                self.answers = 0;
            }
            Contact::Away => {
                self.outages += 1;
                self.answers = 0;
            }
            Contact::NotMade => {}
        }
    }

    /// Reason to stop, if there is one.
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

#[cfg(test)]
mod tests {
    use super::*;

    fn after(most: usize, all: &[Contact]) -> Pace {
        let mut pace = Pace::new(most);
        all.iter().for_each(|contact| pace.note(*contact));
        pace
    }

    #[test]
    fn it_doubles_with_each_round_of_answers_up_to_the_limit() {
        let paces: Vec<usize> = [0, 1, 2, 3, 6, 7, 14, 15, 100]
            .into_iter()
            .map(|answers| after(10, &vec![Contact::Answered; answers]).now())
            .collect();
        assert_eq!(paces, [1, 2, 2, 4, 4, 8, 8, 10, 10]);
        assert_eq!(after(1, &[Contact::Answered; 50]).now(), 1);
        assert_eq!(after(0, &[Contact::Answered; 50]).now(), 1, "never none");
    }

    #[test]
    fn it_halves_at_each_throttling() {
        let mut pace = after(10, &[Contact::Answered; 50]);
        let mut paces = Vec::new();
        for _ in 0..4 {
            pace.note(Contact::Throttled);
            paces.push(pace.now());
        }
        assert_eq!(paces, [5, 2, 1, 1]);
        assert_eq!(pace.stops(), None);
        pace.note(Contact::Throttled);
        pace.note(Contact::Throttled);
        assert_eq!(pace.stops(), Some(Stop::Throttling));
    }

    #[test]
    fn outages_in_a_row_stop_it_and_single_ones_do_not() {
        use Contact::*;
        assert_eq!(after(10, &[Away, Away, Answered, Away, NotMade, Away]).stops(), None);
        assert_eq!(after(10, &[Away, NotMade, Away, Away]).stops(), Some(Stop::Outage));
        assert_eq!(after(10, &[Throttled, Throttled, Answered, Throttled]).stops(), None);
    }

    #[test]
    fn only_a_positive_number_limits_it() {
        assert_eq!([0, 3].map(limit), [DEFAULT_LIMIT, 3]);
    }
}
