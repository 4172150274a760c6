//! Why a request fails, and the object that says so.

use serde_json::{Value, json};

use super::resources::Resource;

/// Why a request fails, as the server says it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{code} {reason}: {message}")]
pub struct ApiError {
    /// The status code.
    pub code: u16,
    /// The reason, in one word.
    pub reason: &'static str,
    /// What is wrong.
    pub message: String,
    /// The same for programs: whose fault it is, and each field's.
    pub(crate) details: Value,
}

impl ApiError {
    pub(crate) fn new(code: u16, message: impl Into<String>) -> Self {
        let reason = match code {
            400 => "BadRequest",
            401 => "Unauthorized",
            403 => "Forbidden",
            404 => "NotFound",
            409 => "Conflict",
            410 => "Expired",
            415 => "UnsupportedMediaType",
            422 => "Invalid",
            429 => "TooManyRequests",
            503 => "ServiceUnavailable",
            _ => "InternalError",
        };
        Self { code, reason, message: message.into(), details: json!({}) }
    }

    /// An object that does not fit its schema: what is wrong, as `FIELD: MESSAGE`.
    pub(crate) fn invalid(resource: &Resource, name: &str, wrong: &[String]) -> Self {
        let causes: Vec<Value> = wrong
            .iter()
            .map(|own| {
                let (field, message) = own.split_once(": ").unwrap_or(("", own));
                json!({"reason": "FieldValueInvalid", "field": field, "message": message})
            })
            .collect();
        let kind = &resource.kind;
        let message =
            format!("{kind}.{} \"{name}\" is invalid: {}", resource.group, wrong.join(", "));
        let group = &resource.group;
        let details = json!({"name": name, "group": group, "kind": kind, "causes": causes});
        Self { details, ..Self::new(422, message) }
    }

    /// The object that says so.
    pub(crate) fn status(&self, retry_after: Option<u32>) -> Value {
        let mut details = self.details.clone();
        if let Some(seconds) = retry_after {
            details["retryAfterSeconds"] = seconds.into();
        }
        json!({
            "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
            "message": self.message, "reason": self.reason, "details": details, "code": self.code,
        })
    }
}
