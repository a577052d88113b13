//! What the API has and this service has not: channels, queues, resource policies, billing commitments. What is asked of
//! them is answered by what is true where there are none, and whoever wants to make one is refused; nothing is taken and
//! dropped.

use crate::error::ApiError;
use crate::ops::{Answer, Operation, Outcome, tags};
use crate::service::Service;
use crate::value::Value;

/// The answer to every operation on channels and queues that is no listing.
pub(crate) fn unsupported(operation: Operation) -> Outcome {
    Err(ApiError::invalid(format!(
        "{operation:?} is not supported: this service has no channels and no queues."
    )))
}

/// A listing of things of which there are none.
pub(crate) fn list(input: &Value<'_>, member: &'static str) -> Outcome {
    if input.get("NextToken").is_some() {
        return Err(ApiError::invalid("Invalid NextToken."));
    }
    Ok(Answer::Value(Value::map([(member, Value::List(Vec::new()))])))
}

/// Reading and deleting the policy of a resource.
pub(crate) fn no_policy(service: &Service, input: &Value<'_>) -> Outcome {
    tags::Resource::find(service, input)?;
    let arn = input.str("ResourceARN").unwrap_or_default();
    Err(ApiError::not_found(format!("{arn} has no resource policy.")))
}

/// A policy that nobody would enforce is not taken.
pub(crate) fn put_policy(service: &Service, input: &Value<'_>) -> Outcome {
    tags::Resource::find(service, input)?;
    Err(ApiError::invalid("Resource policies are not supported: this service would not enforce them."))
}

/// The settings of the account.
pub(crate) fn account_settings() -> Answer {
    let commitment = Value::map([("Status", Value::text("DISABLED"))]);
    Answer::Value(Value::map([("MinimumThroughputBillingCommitment", commitment)]))
}

/// There is no commitment, and there can be none.
pub(crate) fn update_account(input: &Value<'_>) -> Outcome {
    let commitment = input.get("MinimumThroughputBillingCommitment");
    if commitment.and_then(|commitment| commitment.str("Status")) == Some("DISABLED") {
        return Ok(account_settings());
    }
    Err(ApiError::invalid("MinimumThroughputBillingCommitment is not supported: this service bills nothing."))
}
