//! The calls of an operation.

use std::time::Duration;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use reqwest::header::HeaderValue;
use reqwest::{Method, StatusCode};
use serde_json::{Value as Json, json};

use crate::http::Http;
use crate::{Error, Identity};

/// Everything but RFC 3986's unreserved characters: a device id may hold `:` and `/`.
const RESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// More than this is no id.
const LONGEST_ID: usize = 200;

pub struct Client {
    http: Http,
}

impl Client {
    /// `url`: `https://host:port`, without a path.
    pub fn new(url: &str, identity: &Identity) -> Result<Client, Error> {
        Ok(Client { http: Http::new(url, identity.tls()?, HeaderValue::from_static("Certificate"))? })
    }

    /// The ids of the devices with this endpoint name: none, one, or (on an installation with several domains) more.
    pub async fn find_devices(&self, endpoint_name: &str, time: Duration) -> Result<Vec<String>, Error> {
        let criteria = format!("properties.endpointName eq '{endpoint_name}'");
        let path = format!("/devices?searchCriteria={}", utf8_percent_encode(&criteria, RESERVED));
        let body = self.http.call(Method::GET, &path, None, |status| status == StatusCode::OK, time).await?;
        serde_json::from_str(&body)
            .map_err(|_| Error::UnexpectedAnswer("expected an array of device ids for a search".to_owned()))
    }

    /// Creates a task for the device and returns the task's id.
    pub async fn create_task(
        &self,
        device_id: &str,
        template: &str,
        parameters: &[(&str, String)],
        time: Duration,
    ) -> Result<String, Error> {
        let parameters: Vec<Json> =
            parameters.iter().map(|(name, value)| json!({"name": name, "value": value})).collect();
        let task = json!({"templateName": template, "config": {"parameters": parameters}});
        let path = format!("/tasksFromTemplates/device/{}", utf8_percent_encode(device_id, RESERVED));
        let body =
            self.http.call(Method::POST, &path, Some(&task), |status| status == StatusCode::CREATED, time).await?;
        // Usually a JSON string.
        let id: String = serde_json::from_str(&body).unwrap_or_else(|_| body.trim().to_owned());
        if id.is_empty() || id.len() > LONGEST_ID || id.chars().any(|c| c.is_control() || c == '<') {
            return Err(Error::UnexpectedAnswer("expected the id of the task that was created".to_owned()));
        }
        Ok(id)
    }

    /// Wakes the device. One that sleeps or is deregistered runs its tasks when it next comes back.
    pub async fn start_session(&self, device_id: &str, time: Duration) -> Result<(), Error> {
        let path = format!("/sessions/{}/allow-deregistered", utf8_percent_encode(device_id, RESERVED));
        self.http.call(Method::POST, &path, None, |status| status == StatusCode::OK, time).await.map(drop)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reserved_character_of_an_id_is_encoded() {
        assert_eq!(utf8_percent_encode("urn:imei:1/2-_.~", RESERVED).to_string(), "urn%3Aimei%3A1%2F2-_.~");
    }
}
