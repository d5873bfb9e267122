//! Query parameters of calls.

use axum::extract::Query;
use axum::extract::rejection::QueryRejection;

use super::error::ApiError;

/// Query parameters of a call, in their order.
pub(super) struct QueryParameters(Vec<(String, String)>);

impl QueryParameters {
    pub(super) fn from_query(query: Result<Query<Vec<(String, String)>>, QueryRejection>) -> Result<Self, ApiError> {
        let Query(pairs) = query.map_err(|error| ApiError::bad_request(error.body_text()))?;
        Ok(Self(pairs))
    }

    /// Value of a parameter that is given at most once.
    pub(super) fn at_most_one(&self, name: &str) -> Result<Option<&str>, ApiError> {
        let mut values = self.0.iter().filter(|(given, _)| given == name).map(|(_, value)| value.as_str());
        match (values.next(), values.next()) {
            (value, None) => Ok(value),
            (_, Some(_)) => Err(ApiError::bad_request(format!("{name} is given twice"))),
        }
    }

    /// Value of a boolean parameter; `True` and `False`, as Python writes them, are taken, too.
    pub(super) fn flag(&self, name: &str) -> Result<Option<bool>, ApiError> {
        self.at_most_one(name)?
            .map(|text| match text.to_ascii_lowercase().as_str() {
                "true" => Ok(true),
                "false" => Ok(false),
                _ => Err(ApiError::bad_request(format!("{name}: {text:?} is neither true nor false"))),
            })
            .transpose()
    }

    /// Value of the parameter `searchCriteria`, of which one form is understood: `<property> eq '<value>'`.
    pub(super) fn search_criterion(&self, property: &str) -> Result<Option<&str>, ApiError> {
        self.at_most_one("searchCriteria")?.map(|criteria| wanted_value(criteria, property)).transpose()
    }
}

fn wanted_value<'c>(criteria: &'c str, property: &str) -> Result<&'c str, ApiError> {
    criteria
        .strip_prefix(property)
        .and_then(|rest| rest.strip_prefix(" eq '"))
        .and_then(|rest| rest.strip_suffix('\''))
        .filter(|value| !value.contains('\''))
        .ok_or_else(|| {
            ApiError::bad_request(format!("searchCriteria {criteria:?}: {property} eq '<name>' is expected"))
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_one_criterion_only() {
        for (text, endpoint) in [
            ("properties.endpointName eq 'urn:dev:1'", Some("urn:dev:1")),
            ("properties.endpointName eq ''", Some("")),
            ("properties.endpointName eq urn", None),
            ("properties.endpointName  eq 'urn'", None),
            ("properties.endpointName eq 'a' or id eq 'b'", None),
            ("properties.endpointName eq '", None),
            ("id eq 'a'", None),
            ("", None),
        ] {
            assert_eq!(wanted_value(text, "properties.endpointName").ok(), endpoint, "{text}");
        }
    }
}
