//! Author of a cancellation, for the request's reason and for AWS IoT Jobs.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::record::Name;

/// Beginnings of the texts, and the words between a job's id and what has become of its execution.
const REQUEST: &str = "request ";
const NEWER: &str = "a newer request of the same name";
const JOB: &str = "AWS IoT job ";
const EXECUTION: &str = ", whose execution is ";

/// Who takes a request back. Stored as the text that its reason quotes.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(from = "String", into = "String")]
pub enum CanceledBy {
    /// The cancelRequest of this name.
    Request(Name),
    /// A newer request of the same name: the shadow or the job was deleted and created again.
    Newer,
    /// AWS IoT Jobs, which has ended the execution.
    JobOver {
        /// Id of the job.
        job_id: String,
        /// What has become of the execution, in the word of its event: `canceled`, `timed_out`, `removed` or `deleted`.
        over: String,
    },
}

impl CanceledBy {
    /// Whether the request's execution at AWS IoT Jobs is over, so that it takes no status any more. Another execution may have
    /// its name meanwhile.
    pub fn has_ended_execution(&self) -> bool {
        matches!(self, CanceledBy::Newer | CanceledBy::JobOver { .. })
    }
}

impl fmt::Display for CanceledBy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            CanceledBy::Request(name) => write!(f, "{REQUEST}{name}"),
            CanceledBy::Newer => f.write_str(NEWER),
            CanceledBy::JobOver { job_id, over } => write!(f, "{JOB}{job_id}{EXECUTION}{over}"),
        }
    }
}

impl From<CanceledBy> for String {
    fn from(by: CanceledBy) -> String {
        by.to_string()
    }
}

impl From<String> for CanceledBy {
    fn from(text: String) -> CanceledBy {
        if text == NEWER {
            return CanceledBy::Newer;
        }
        match text.strip_prefix(JOB).and_then(|rest| rest.split_once(EXECUTION)) {
            Some((job_id, over)) => CanceledBy::JobOver { job_id: job_id.to_owned(), over: over.to_owned() },
            None => CanceledBy::Request(Name::parse(text.strip_prefix(REQUEST).unwrap_or(&text))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_author_is_read_from_its_text() {
        let job = |over: &str| CanceledBy::JobOver { job_id: "fw".to_owned(), over: over.to_owned() };
        let of_job = CanceledBy::Request(Name::Job { id: "fw".to_owned(), execution: 2 });
        for (by, text, has_ended_execution) in [
            (CanceledBy::Request(Name::Version(17)), "request 17", false),
            (of_job, "request job:fw:2", false),
            (CanceledBy::Newer, "a newer request of the same name", true),
            (job("deleted"), "AWS IoT job fw, whose execution is deleted", true),
            (job(""), "AWS IoT job fw, whose execution is ", true),
        ] {
            assert_eq!(by.to_string(), text);
            assert_eq!(CanceledBy::from(text.to_owned()), by);
            assert_eq!(by.has_ended_execution(), has_ended_execution, "{text}");
        }
    }
}
