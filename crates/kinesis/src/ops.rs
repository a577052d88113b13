//! The operations: one function each, from a checked request to an answer.

mod consumers;
mod get;
pub(crate) mod put;
mod shards;
pub(crate) mod streams;
pub(crate) mod subscribe;
mod tags;

use std::sync::Arc;

use axum::body::Body;

use crate::error::ApiError;
use crate::schema::operations as fields;
use crate::schema::{Field, types::check_types, validate::validate};
use crate::service::Service;
use crate::value::Value;

/// What an operation answers.
#[derive(Debug)]
pub(crate) enum Answer {
    /// Nothing: status 200 and an empty body.
    Empty,
    /// A value in the request's encoding.
    Value(Value<'static>),
    /// An event stream.
    Events(Body),
}

pub(crate) type Outcome = Result<Answer, ApiError>;

macro_rules! operations {
    ($($name:ident: $fields:ident),* $(,)?) => {
        /// An operation of the API.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub(crate) enum Operation { $(#[doc = concat!("`", stringify!($name), "`.")] $name),* }

        impl Operation {
            /// The operation of this name.
            pub(crate) fn parse(name: &str) -> Option<Self> {
                match name { $(stringify!($name) => Some(Self::$name),)* _ => None }
            }

            /// The members of its request.
            pub(crate) fn fields(self) -> &'static [Field] {
                match self { $(Self::$name => fields::$fields),* }
            }
        }
    };
}

operations! {
    AddTagsToStream: ADD_TAGS,
    CreateStream: CREATE_STREAM,
    DecreaseStreamRetentionPeriod: CHANGE_RETENTION,
    DeleteStream: DELETE_STREAM,
    DeregisterStreamConsumer: CONSUMER,
    DescribeLimits: NOTHING,
    DescribeStream: DESCRIBE_STREAM,
    DescribeStreamConsumer: CONSUMER,
    DescribeStreamSummary: STREAM_ONLY,
    GetRecords: GET_RECORDS,
    GetShardIterator: GET_SHARD_ITERATOR,
    IncreaseStreamRetentionPeriod: CHANGE_RETENTION,
    ListShards: LIST_SHARDS,
    ListStreamConsumers: LIST_CONSUMERS,
    ListStreams: LIST_STREAMS,
    ListTagsForStream: LIST_TAGS,
    MergeShards: MERGE_SHARDS,
    PutRecord: PUT_RECORD,
    PutRecords: PUT_RECORDS,
    RegisterStreamConsumer: REGISTER_CONSUMER,
    RemoveTagsFromStream: REMOVE_TAGS,
    SplitShard: SPLIT_SHARD,
    SubscribeToShard: SUBSCRIBE,
    UpdateMaxRecordSize: UPDATE_MAX_RECORD_SIZE,
    UpdateShardCount: UPDATE_SHARD_COUNT,
    UpdateStreamMode: UPDATE_MODE,
}

/// Checks a request's types and limits, and carries it out.
pub(crate) async fn call(service: &Arc<Service>, operation: Operation, request: Value<'_>) -> Outcome {
    let input = check_types(request, operation.fields())?;
    run(service, operation, input).await
}

/// Checks the limits of a request whose types are right, and carries it out.
pub(crate) async fn run(service: &Arc<Service>, operation: Operation, input: Value<'_>) -> Outcome {
    validate(&input, operation.fields())?;
    if input.is_true("DryRun") {
        let message = "Request would have succeeded, but the DryRun flag is set.";
        return Err(ApiError::client("DryRunOperationException", message));
    }
    match operation {
        Operation::AddTagsToStream => tags::add(service, &input).await,
        Operation::CreateStream => streams::create_stream(service, &input).await,
        Operation::DecreaseStreamRetentionPeriod => streams::decrease_retention(service, &input).await,
        Operation::DeleteStream => streams::delete(service, &input).await,
        Operation::DeregisterStreamConsumer => consumers::deregister(service, &input).await,
        Operation::DescribeLimits => Ok(streams::limits(service)),
        Operation::DescribeStream => streams::describe(service, &input),
        Operation::DescribeStreamConsumer => consumers::describe(service, &input),
        Operation::DescribeStreamSummary => streams::summarize(service, &input),
        Operation::GetRecords => get::records(service, &input).await,
        Operation::GetShardIterator => get::iterator(service, &input).await,
        Operation::IncreaseStreamRetentionPeriod => streams::increase_retention(service, &input).await,
        Operation::ListShards => shards::list(service, &input),
        Operation::ListStreamConsumers => consumers::list(service, &input),
        Operation::ListStreams => streams::list(service, &input),
        Operation::ListTagsForStream => tags::list(service, &input),
        Operation::MergeShards => shards::merge(service, &input).await,
        Operation::PutRecord => put::one(service, input).await,
        Operation::PutRecords => put::many(service, input).await,
        Operation::RegisterStreamConsumer => consumers::register(service, &input).await,
        Operation::RemoveTagsFromStream => tags::remove(service, &input).await,
        Operation::SplitShard => shards::split(service, &input).await,
        Operation::SubscribeToShard => subscribe::subscribe(service, &input).await,
        Operation::UpdateMaxRecordSize => streams::update_max_record_size(service, &input).await,
        Operation::UpdateShardCount => shards::update_count(service, &input).await,
        Operation::UpdateStreamMode => streams::update_mode(service, &input).await,
    }
}
