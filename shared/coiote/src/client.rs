//! Calls of operations: devices, tasks, their reports, sessions.

use std::time::{Duration, SystemTime};

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use reqwest::header::HeaderValue;
use reqwest::{Method, StatusCode};
use serde_json::{Value as Json, json};

use crate::connection::{Connection, Response};
use crate::report::{Reports, TaskReport};
use crate::{Error, Identity};

/// All but the unreserved characters of RFC 3986: a device id may contain `:` and `/`.
const RESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// Longest id of a task, in bytes. A longer body is not an id.
const LONGEST_ID: usize = 200;

/// Most reports that one call returns.
pub const MAX_REPORTS: usize = 512;

/// Task that Coiote has accepted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CreatedTask {
    /// Id of the task. An equal task that existed before keeps its id.
    pub id: String,
    /// Time of the response, by Coiote's clock.
    pub created_at: Option<SystemTime>,
}

/// Client that makes the calls of operations, authenticated by a certificate.
pub struct Client {
    connection: Connection,
}

impl Client {
    /// Prepares a client of the installation at `url` (`https://host:port`, without a path).
    pub fn new(url: &str, identity: &Identity) -> Result<Client, Error> {
        let authorization = HeaderValue::from_static("Certificate");
        Ok(Client { connection: Connection::new(url, identity.tls()?, authorization)? })
    }

    /// Ids of the devices with this endpoint name: none, one, or (on an installation with several domains) more.
    pub async fn find_devices(&self, endpoint_name: &str, limit: Duration) -> Result<Vec<String>, Error> {
        let criteria = format!("properties.endpointName eq '{endpoint_name}'");
        let path = format!("/devices?searchCriteria={}", utf8_percent_encode(&criteria, RESERVED));
        let answer = self.connection.call(Method::GET, &path, None, |status| status == StatusCode::OK, limit).await?;
        serde_json::from_str(&answer.body)
            .map_err(|_| Error::UnexpectedAnswer("expected an array of device ids for a search".to_owned()))
    }

    /// Creates a task for the device. If the device has an equal task, Coiote runs that one again and returns its id.
    pub async fn create_task(
        &self,
        device_id: &str,
        template: &str,
        parameters: &[(&str, String)],
        limit: Duration,
    ) -> Result<CreatedTask, Error> {
        let parameters: Vec<Json> =
            parameters.iter().map(|(name, value)| json!({"name": name, "value": value})).collect();
        let task = json!({"templateName": template, "config": {"parameters": parameters}});
        let path = format!("/tasksFromTemplates/device/{}", utf8_percent_encode(device_id, RESERVED));
        let Response { body, date } = self
            .connection
            .call(Method::POST, &path, Some(&task), |status| status == StatusCode::CREATED, limit)
            .await?;
        let id = task_id(&body);
        if id.is_empty() || id.len() > LONGEST_ID || id.chars().any(|c| c.is_control() || c == '<') {
            return Err(Error::UnexpectedAnswer("expected the id of the task that was created".to_owned()));
        }
        Ok(CreatedTask { id, created_at: date })
    }

    /// Report about a task of a device; `None` until the device has run it.
    pub async fn report(&self, task_id: &str, device_id: &str, limit: Duration) -> Result<Option<TaskReport>, Error> {
        let (task, device) = (utf8_percent_encode(task_id, RESERVED), utf8_percent_encode(device_id, RESERVED));
        let path = format!("/taskReports/{task}/{device}");
        match self.connection.call(Method::GET, &path, None, |status| status == StatusCode::OK, limit).await {
            Ok(answer) => {
                let unexpected = |_| Error::UnexpectedAnswer("expected a task's report".to_owned());
                serde_json::from_str(&answer.body).map(Some).map_err(unexpected)
            }
            Err(Error::NotFound(_)) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Reports of all devices that were updated since that time (ISO 8601), at most 512. Entries that cannot be read are left
    /// out, and counted.
    pub async fn reports_since(&self, since: &str, limit: Duration) -> Result<Reports, Error> {
        let since = utf8_percent_encode(since, RESERVED);
        let path = format!("/taskReports/findSince?lastUpdateTime={since}&limit={MAX_REPORTS}");
        let answer = self.connection.call(Method::GET, &path, None, |status| status == StatusCode::OK, limit).await?;
        let entries: Vec<Json> = serde_json::from_str(&answer.body)
            .map_err(|_| Error::UnexpectedAnswer("expected an array of task reports".to_owned()))?;
        let found = entries.len();
        let reports: Vec<TaskReport> =
            entries.into_iter().filter_map(|entry| serde_json::from_value(entry).ok()).collect();
        Ok(Reports { unreadable: found.saturating_sub(reports.len()), is_full: found >= MAX_REPORTS, reports })
    }

    /// Removes a task, so that no device runs it any more. Returns whether it existed.
    pub async fn remove_task(&self, task_id: &str, limit: Duration) -> Result<bool, Error> {
        let path = format!("/tasks/{}", utf8_percent_encode(task_id, RESERVED));
        match self.connection.call(Method::DELETE, &path, None, |status| status.is_success(), limit).await {
            Ok(_) => Ok(true),
            Err(Error::NotFound(_)) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Starts a session, in which the device runs its tasks. A device that sleeps or is deregistered runs them when it returns.
    pub async fn start_session(&self, device_id: &str, limit: Duration) -> Result<(), Error> {
        let path = format!("/sessions/{}/allow-deregistered", utf8_percent_encode(device_id, RESERVED));
        self.connection.call(Method::POST, &path, None, |status| status == StatusCode::OK, limit).await.map(drop)
    }
}

/// Id in the body of a 201: usually a JSON string, on some installations plain text. It may also be the task itself, in the form
/// of `GET /tasks/{taskId}`. Empty if there is none.
fn task_id(body: &str) -> String {
    match serde_json::from_str(body) {
        Ok(Json::String(id)) => id,
        Ok(Json::Object(task)) => task.get("id").and_then(Json::as_str).unwrap_or_default().to_owned(),
        Ok(Json::Array(_) | Json::Null | Json::Bool(_)) => String::new(),
        Ok(Json::Number(_)) | Err(_) => body.trim().to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_task_id_is_a_json_string_or_plain_text() {
        for (body, id) in [
            (r#""d:1""#, "d:1"),
            ("d:1\n", "d:1"),
            ("17", "17"),
            (r#"{"id": "d:1", "config": {}}"#, "d:1"),
            (r#"{"taskId": "d:1"}"#, ""),
            (r#"["d:1"]"#, ""),
            ("null", ""),
            ("", ""),
        ] {
            assert_eq!(task_id(body), id, "{body}");
        }
    }

    #[test]
    fn every_reserved_character_of_an_id_is_encoded() {
        assert_eq!(utf8_percent_encode("urn:imei:1/2-_.~", RESERVED).to_string(), "urn%3Aimei%3A1%2F2-_.~");
    }
}
