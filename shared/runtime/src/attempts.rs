//! How often Lambda has tried an event, which it does not say itself.
//!
//! An asynchronous invocation that fails is made again twice, about one and two minutes later, under the same request id,
//! before its event goes to the failure destination (AWS Lambda developer guide, "How Lambda handles errors and retries with
//! asynchronous invocation"). Whoever wants to leave a last word has to know that it is the last.

use memory::Memory;

/// The first attempt and the two retries that the template asks for.
const MOST_ATTEMPTS: u32 = 3;

/// What this execution environment has seen, by request id.
#[derive(Default)]
pub struct Attempts(Memory<String, u32>);

/// One attempt at an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Attempt {
    /// At least so many, this one included.
    seen: u32,
}

impl Attempts {
    pub fn begin(&self, request_id: &str) -> Attempt {
        let seen = self.0.get(request_id).unwrap_or(0).saturating_add(1);
        self.0.put(request_id.to_owned(), seen);
        Attempt { seen }
    }
}

impl Attempt {
    /// `counted`: how many attempts are known from elsewhere, this one included.
    pub fn is_last(&self, counted: u32) -> bool {
        self.seen.max(counted) >= MOST_ATTEMPTS
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_third_attempt_is_the_last() {
        let attempts = Attempts::default();
        for is_last in [false, false, true, true] {
            assert_eq!(attempts.begin("a").is_last(1), is_last);
        }
        assert!(!attempts.begin("b").is_last(2));
        assert!(attempts.begin("c").is_last(3), "others have counted");
    }
}
