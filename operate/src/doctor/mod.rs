//! Looks whether everything is as it should be, and says of what is not what to do.

mod certificates;
mod coiote_side;
mod deployed;
mod policy;
mod stuck;

use serde_json::{Value as Json, json};

use crate::connection::Aws;
use crate::exit::{Exit, Failure};
use crate::output;

/// What a look at one thing showed.
#[derive(Debug)]
struct Finding {
    /// What was looked at.
    subject: String,
    state: State,
    /// How it is.
    told: String,
    /// What to do about it; empty where there is nothing to do.
    advice: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Ok,
    /// It may be on its way, or is not known.
    Unsure,
    Wrong,
}

impl State {
    fn as_str(self) -> &'static str {
        match self {
            State::Ok => "ok",
            State::Unsure => "unsure",
            State::Wrong => "WRONG",
        }
    }
}

impl Finding {
    fn new(state: State, subject: impl Into<String>, told: impl Into<String>, advice: impl Into<String>) -> Finding {
        Finding { subject: subject.into(), state, told: told.into(), advice: advice.into() }
    }

    fn ok(subject: impl Into<String>, told: impl Into<String>) -> Finding {
        Finding::new(State::Ok, subject, told, "")
    }

    fn wrong(subject: impl Into<String>, told: impl Into<String>, advice: impl Into<String>) -> Finding {
        Finding::new(State::Wrong, subject, told, advice)
    }

    fn unsure(subject: impl Into<String>, told: impl Into<String>, advice: impl Into<String>) -> Finding {
        Finding::new(State::Unsure, subject, told, advice)
    }

    /// Of a look that AWS did not allow, or that failed.
    fn not_seen(subject: impl Into<String>, why: impl std::fmt::Display) -> Finding {
        Finding::unsure(subject, why.to_string(), "a profile that may look at it shows more")
    }
}

/// All findings, told as they come.
struct Findings {
    json: bool,
    all: Vec<Finding>,
}

impl Findings {
    fn add(&mut self, finding: Finding) {
        if !self.json {
            let Finding { subject, state, told, advice } = &finding;
            output::line(&format!("{:<6}  {subject}: {told}", state.as_str()));
            if !advice.is_empty() {
                output::line(&format!("        → {advice}"));
            }
        }
        self.all.push(finding);
    }
}

pub(crate) async fn run(aws: &Aws) -> Result<Exit, Failure> {
    let stack = aws.stack().await?;
    let mut findings = Findings { json: aws.json, all: Vec::new() };
    deployed::look(aws, &stack, &mut findings).await?;
    coiote_side::look(aws, &stack, &mut findings).await?;
    certificates::look(aws, &stack, &mut findings).await?;
    stuck::look(aws, &stack, &mut findings).await?;

    let wrong = findings.all.iter().filter(|finding| finding.state == State::Wrong).count();
    if aws.json {
        let as_json = |finding: &Finding| {
            json!({
                "subject": finding.subject,
                "state": finding.state.as_str().to_lowercase(),
                "told": finding.told,
                "advice": finding.advice,
            })
        };
        output::json(&Json::Array(findings.all.iter().map(as_json).collect()));
    } else if wrong == 0 {
        output::line("Nothing is wrong.");
    } else {
        output::line(&format!("Wrong: {wrong} of {}.", findings.all.len()));
    }
    Ok(if wrong == 0 { Exit::Done } else { Exit::Failed })
}
