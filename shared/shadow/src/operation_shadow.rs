//! The operation shadow, which holds the copies of records that authors of requests read, and Coiote's results.

use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::{Map, Value as Json, json};

use crate::shadows::{Error, Shadows};
use crate::thing::ThingName;

const SHADOW_NAME: &str = "operation";

/// The operation shadows of all things.
#[derive(Debug, Clone)]
pub struct OperationShadows {
    shadows: Shadows,
}

/// The operation shadow of one thing, as it was read.
#[derive(Debug, Clone, Default)]
pub struct OperationShadow {
    /// Version of the shadow.
    pub version: u64,
    /// Names of the requests that have a copy there.
    pub requests: Vec<String>,
    /// The last result that Coiote reported, possibly with parts of earlier ones.
    pub result: Json,
    /// Metadata of the result: the time of each value, in seconds since 1970.
    pub result_times: Json,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Metadata {
    reported: ReportedTimes,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct ReportedTimes {
    result: Json,
}

/// An update of the copies, and of leftovers of earlier results.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct CopiesUpdate {
    /// Copies by the name of the request; `null` removes a copy.
    pub requests: Map<String, Json>,
    /// Parts of earlier results to remove, each as `null`.
    pub result: Option<Json>,
}

impl OperationShadows {
    /// Operation shadows by a client of shadows.
    pub fn new(shadows: Shadows) -> OperationShadows {
        OperationShadows { shadows }
    }

    /// Creates the operation shadow if it is missing, so that it can be edited. Returns whether it was missing.
    pub async fn ensure(&self, thing: &ThingName) -> Result<bool, Error> {
        if self.shadows.get::<IgnoredAny>(thing, SHADOW_NAME).await?.is_some() {
            return Ok(false);
        }
        self.shadows.update(thing, SHADOW_NAME, json!({}), None).await.map(|_| true)
    }

    /// Reads the shadow; `None` where there is none.
    pub async fn read(&self, thing: &ThingName) -> Result<Option<OperationShadow>, Error> {
        let Some(mut document) = self.shadows.get::<Metadata>(thing, SHADOW_NAME).await? else { return Ok(None) };
        let requests = document.state.reported.get("requests").and_then(Json::as_object);
        Ok(Some(OperationShadow {
            version: document.version,
            requests: requests.into_iter().flat_map(Map::keys).cloned().collect(),
            result: document.state.reported.get_mut("result").map(Json::take).unwrap_or_default(),
            result_times: document.metadata.reported.result,
        }))
    }

    /// Updates the copies. With a version, on the condition that the shadow still has it.
    pub async fn write(&self, thing: &ThingName, copies: CopiesUpdate, version: Option<u64>) -> Result<(), Error> {
        let mut reported = Map::new();
        reported.insert("requests".to_owned(), Json::Object(copies.requests));
        if let Some(result) = copies.result {
            reported.insert("result".to_owned(), result);
        }
        self.shadows.update(thing, SHADOW_NAME, json!({ "reported": reported }), version).await.map(drop)
    }
}
