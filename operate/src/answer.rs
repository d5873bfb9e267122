//! Answer to a request: its fields in the operation shadow, or in the ledger.

use requests::Status;
use serde_json::{Map, Value as Json};

use crate::exit::Exit;

/// Fields of an answer; none while there is no answer.
#[derive(Debug, Default)]
pub(crate) struct AnswerFields(pub(crate) Map<String, Json>);

impl AnswerFields {
    /// Takes an entry of the operation shadow's `reported.requests`; `None` for anything but an object.
    pub(crate) fn from_entry(entry: Json) -> Option<AnswerFields> {
        match entry {
            Json::Object(fields) => Some(AnswerFields(fields)),
            _ => None,
        }
    }

    pub(crate) fn text(&self, field: &str) -> Option<&str> {
        self.0.get(field)?.as_str()
    }

    pub(crate) fn status(&self) -> Option<Status> {
        Status::parse(self.text("status")?)
    }

    /// Exit status of a command that waited for this answer.
    pub(crate) fn exit(&self) -> Exit {
        self.status().map_or(Exit::Open, Exit::from)
    }

    pub(crate) fn reason_code(&self) -> Option<&str> {
        self.0.get("reason")?.get("code")?.as_str()
    }

    /// Code and message of the reason, in one text.
    pub(crate) fn reason(&self) -> Option<String> {
        let code = self.reason_code()?;
        let message = self.0.get("reason").and_then(|reason| reason.get("message")?.as_str());
        Some(message.map_or_else(|| code.to_owned(), |message| format!("{code}: {message}")))
    }

    /// Paths of the request, joined by commas.
    pub(crate) fn paths(&self) -> Option<String> {
        let keys = self.0.get("keys")?.as_array()?;
        Some(keys.iter().filter_map(Json::as_str).collect::<Vec<_>>().join(", "))
    }

    /// Details of the device's report, by name, such as the links of a discover.
    pub(crate) fn properties(&self) -> Option<&Map<String, Json>> {
        self.0.get("properties")?.as_object()
    }
}
