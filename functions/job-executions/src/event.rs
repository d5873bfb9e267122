//! What invokes the function.

use ledger::{Change, RequestSummary};
use requests::{Name, Record, Status};
use serde_json::Value as Json;

/// An event, taken apart.
#[derive(Debug)]
pub(crate) enum Asked {
    /// Devices' requests have changed.
    Told {
        news: Vec<News>,
        /// Records that are of no form that is known here, a line each.
        not_understood: Vec<String>,
    },
    /// A job was canceled, with its executions.
    JobCanceled(String),
    /// To look for executions that nobody was told of.
    Look,
}

/// What is known by now of a job's request.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct News {
    pub(crate) thing: String,
    pub(crate) name: Name,
    pub(crate) word: RequestSummary,
}

impl Asked {
    pub(crate) fn read(event: &Json) -> Asked {
        if let Some(records) = event.get("Records").and_then(Json::as_array) {
            let (changes, not_understood) = ledger::changes(records);
            return Asked::Told { news: changes.iter().flat_map(news).collect(), not_understood };
        }
        let job_id = event.get("canceledJob").and_then(Json::as_str);
        job_id.map_or(Asked::Look, |job_id| Asked::JobCanceled(job_id.to_owned()))
    }
}

/// The jobs' requests whose word has changed. That of one which had ended stands: AWS takes no other.
fn news(change: &Change) -> Vec<News> {
    let Change { thing, before, after } = change;
    let is_new = |record: &&Record| match before.find(&record.name) {
        Some(known) => known.is_open() && RequestSummary::from_record(known) != RequestSummary::from_record(record),
        None => true,
    };
    let of_job = |record: &&Record| record.name.is_of_job() && record.status() != Status::Ignored;
    let records = after.open().iter().chain(after.ended()).filter(of_job).filter(is_new);
    records
        .map(|record| News {
            thing: thing.clone(),
            name: record.name.clone(),
            word: RequestSummary::from_record(record),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use requests::Device;
    use serde_json::json;

    use super::*;

    fn device(open: &[(&str, &str, &str)], ended: &[(&str, &str, &str)]) -> Device {
        let records = |list: &[(&str, &str, &str)]| -> Vec<_> {
            let record = |(name, state, task): &(&str, &str, &str)| json!({"n": name, "o": "read", "s": state, "i": task, "z": 1});
            list.iter().map(record).collect()
        };
        serde_json::from_value(json!({"o": records(open), "e": records(ended)})).unwrap()
    }

    #[test]
    fn what_changes_of_a_job_is_news_and_nothing_else() {
        let told = |before: &Device, after: &Device| -> Vec<String> {
            let change = Change { thing: "a".to_owned(), before: before.clone(), after: after.clone() };
            news(&change).into_iter().map(|news| news.name.to_string()).collect()
        };
        let before = device(&[("job:a:1", "H", ""), ("job:b:1", "S", "t"), ("x", "H", "")], &[("job:c:1", "EF", "t")]);
        assert_eq!(told(&Device::default(), &before), ["job:a:1", "job:b:1", "job:c:1"]);
        assert!(told(&before, &before).is_empty());
        let after = device(&[("job:b:1", "S", "t"), ("x", "S", "t")], &[("job:c:1", "E", "t"), ("job:a:1", "E", "t")]);
        assert_eq!(told(&before, &after), ["job:a:1"], "the word of c was told before");
    }

    #[test]
    fn events_are_told_apart() {
        assert!(matches!(Asked::read(&json!({"canceledJob": "x"})), Asked::JobCanceled(id) if id == "x"));
        assert!(matches!(Asked::read(&json!({"source": "aws.events"})), Asked::Look));
        let Asked::Told { news, not_understood } = Asked::read(&json!({"Records": [{"eventSource": "aws:dynamodb"}]}))
        else {
            panic!("no records")
        };
        assert_eq!((news.len(), not_understood.len()), (0, 1));
    }
}
