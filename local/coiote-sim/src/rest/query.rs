//! What stands behind the question mark of a call.

use axum::extract::Query;
use axum::extract::rejection::QueryRejection;

use super::error::ApiError;

pub(super) struct Pairs(Vec<(String, String)>);

impl Pairs {
    pub(super) fn of(query: Result<Query<Vec<(String, String)>>, QueryRejection>) -> Result<Self, ApiError> {
        let Query(pairs) = query.map_err(|error| ApiError::bad_request(error.body_text()))?;
        Ok(Self(pairs))
    }

    /// Absent, or there once.
    pub(super) fn one(&self, name: &str) -> Result<Option<&str>, ApiError> {
        let mut values = self.0.iter().filter(|(given, _)| given == name).map(|(_, value)| value.as_str());
        match (values.next(), values.next()) {
            (value, None) => Ok(value),
            (_, Some(_)) => Err(ApiError::bad_request(format!("{name} is given twice"))),
        }
    }

    /// `true` or `false`, also in the capitals that Python gives them.
    pub(super) fn flag(&self, name: &str) -> Result<Option<bool>, ApiError> {
        self.one(name)?
            .map(|text| match text.to_ascii_lowercase().as_str() {
                "true" => Ok(true),
                "false" => Ok(false),
                _ => Err(ApiError::bad_request(format!("{name}: {text:?} is neither true nor false"))),
            })
            .transpose()
    }
}
