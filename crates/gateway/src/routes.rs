//! The routes of Kafka REST v2 that produce and describe, and those that operators ask.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use axum::Router;
use axum::body::Body;
use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{Path, Query, Request, State};
use axum::routing::get;
use http::header::{CONTENT_TYPE, HeaderValue};
use http::{HeaderMap, Response, StatusCode};
use hyper::body::Body as _;
use pinmill_broker::{EventLog, PartitionDescription};
use pinmill_http::{BodyReader, Received, Reservation, Reserved, SHORT};
use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;

use crate::config::{GatewayConfig, Limits};
use crate::error::ApiError;
use crate::media::Embedded;
use crate::metrics::{Metrics, Route};
use crate::ready::{self, Readiness};
use crate::topics::Topics;
use crate::{media, produce, store};

type Answer = Result<Response<Body>, ApiError>;
type Param<T> = Result<Path<T>, PathRejection>;

/// What the handlers share.
#[derive(Debug)]
pub(crate) struct App {
    log: Arc<dyn EventLog>,
    /// All logs that must take writes for the gateway to be ready.
    logs: Vec<Arc<dyn EventLog>>,
    topics: Topics,
    bodies: BodyReader,
    limits: Limits,
    metrics: Arc<Metrics>,
    /// Cancelled when the gateway is told to stop; from then on it is not ready.
    stop: CancellationToken,
    /// Who knows how the other parts of the process are.
    readiness: Option<Arc<dyn Readiness>>,
}

impl App {
    pub(crate) fn new(
        log: Arc<dyn EventLog>,
        others: Vec<Arc<dyn EventLog>>,
        readiness: Option<Arc<dyn Readiness>>,
        config: &GatewayConfig,
        metrics: Arc<Metrics>,
        stop: CancellationToken,
    ) -> Self {
        // What the log would refuse anyway is refused record by record.
        let record_bytes = config.limits.record_bytes.min(log.max_record_bytes());
        Self {
            topics: Topics::new(Arc::clone(&log), config),
            bodies: BodyReader::new(
                config.limits.body_bytes,
                config.limits.body_timeout,
                config.limits.body_memory.clone(),
            ),
            limits: Limits { record_bytes, ..config.limits.clone() },
            logs: std::iter::once(Arc::clone(&log)).chain(others).collect(),
            log,
            metrics,
            stop,
            readiness,
        }
    }

    /// The answer to a read. If no memory is left for it, the read is refused: nothing was changed, so it can be retried.
    async fn json<T: Serialize + Sync>(&self, media: HeaderValue, answer: &T) -> Answer {
        let failed = |error| {
            ApiError::plain(
                StatusCode::INTERNAL_SERVER_ERROR,
                format!("the answer cannot be written as JSON: {error}"),
            )
        };
        let body = serde_json::to_vec(answer).map_err(failed)?;
        let memory = self.memory_for_answer(body.len()).await?;
        Ok(respond_reserved(media, body, memory))
    }

    /// Memory for an answer of this size, where that is not charged when the answer is sent.
    async fn memory_for_answer(&self, bytes: usize) -> Result<Option<Reservation>, ApiError> {
        if bytes <= SHORT {
            return Ok(None);
        }
        match self.limits.answer_memory.reserve(bytes).await {
            Some(memory) => Ok(Some(memory)),
            None => Err(ApiError::no_memory_for_answers()),
        }
    }

    fn answered(&self, route: Route, answer: Answer) -> Response<Body> {
        let response = answer.unwrap_or_else(ApiError::into_response);
        self.metrics.answered(route, response.status());
        response
    }
}

/// All routes.
pub(crate) fn router(app: Arc<App>) -> Router {
    Router::new()
        .route(Route::Topic.path(), get(topic).post(produce_to_topic))
        .route(Route::Partition.path(), get(partition).post(produce_to_partition))
        .route(Route::Partitions.path(), get(partitions))
        .route(Route::Offsets.path(), get(offsets))
        .route(Route::Topics.path(), get(topics))
        .route(Route::Brokers.path(), get(brokers))
        .route(Route::Root.path(), get(root).post(post_root))
        .route(Route::Healthz.path(), get(healthz))
        .route(Route::Readyz.path(), get(readyz))
        .route(Route::Metrics.path(), get(metrics))
        .fallback(not_found)
        .method_not_allowed_fallback(method_not_allowed)
        .with_state(app)
}

async fn not_found(State(app): State<Arc<App>>, request: Request) -> Response<Body> {
    app.answered(Route::Other, Err(unread(&request, StatusCode::NOT_FOUND)))
}

async fn method_not_allowed(State(app): State<Arc<App>>, request: Request) -> Response<Body> {
    app.answered(Route::Other, Err(unread(&request, StatusCode::METHOD_NOT_ALLOWED)))
}

/// An error for a request whose body, where there is one, is not read.
fn unread(request: &Request, status: StatusCode) -> ApiError {
    let error = ApiError::generic(status);
    if request.body().is_end_stream() { error } else { error.closing() }
}

async fn root(State(app): State<Arc<App>>, headers: HeaderMap) -> Response<Body> {
    app.answered(Route::Root, media::acceptable(&headers).map(|media| respond(media, "{}")))
}

/// What is posted to the root is not looked at, but for its type: curl's form data is refused as for any other route.
async fn post_root(State(app): State<Arc<App>>, request: Request) -> Response<Body> {
    if request.headers().contains_key(CONTENT_TYPE)
        && let Err(unsupported) = media::embedded(request.headers())
    {
        let is_read = request.body().is_end_stream();
        return app.answered(Route::Root, Err(if is_read { unsupported } else { unsupported.closing() }));
    }
    root(State(app), request.headers().clone()).await
}

async fn healthz(State(app): State<Arc<App>>) -> Response<Body> {
    app.answered(Route::Healthz, Ok(respond(media::JSON, r#"{"status":"ok"}"#)))
}

/// Which part `/readyz` is asked about.
#[derive(Deserialize)]
struct Asked {
    part: Option<String>,
}

async fn readyz(State(app): State<Arc<App>>, asked: Result<Query<Asked>, QueryRejection>) -> Response<Body> {
    let answer = match asked {
        Ok(Query(Asked { part })) => {
            let mut parts = vec![ready::gateway(&app.logs, app.stop.is_cancelled())];
            parts.extend(app.readiness.iter().flat_map(|readiness| readiness.parts()));
            let instance = app.readiness.as_ref().map(|readiness| readiness.instance());
            let names: Vec<String> = parts.iter().map(|part| part.part.clone()).collect();
            ready::answer(parts, part.as_deref(), instance).ok_or_else(|| {
                let known = names.join(", ");
                ApiError::plain(StatusCode::NOT_FOUND, format!("no such part; this process has: {known}"))
            })
        }
        Err(rejection) => Err(ApiError::bad_request(rejection.body_text())),
    };
    app.answered(Route::Readyz, answer)
}

async fn metrics(State(app): State<Arc<App>>) -> Response<Body> {
    let text = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
    app.answered(Route::Metrics, Ok(respond(text, app.metrics.render())))
}

async fn brokers(State(app): State<Arc<App>>, headers: HeaderMap) -> Response<Body> {
    let answer = async {
        let media = media::acceptable(&headers)?;
        let brokers = app.log.brokers().await?;
        app.json(media, &BTreeMap::from([("brokers", brokers)])).await
    };
    app.answered(Route::Brokers, answer.await)
}

async fn topics(State(app): State<Arc<App>>, headers: HeaderMap) -> Response<Body> {
    let answer = async {
        let media = media::acceptable(&headers)?;
        app.json(media, &app.log.topics().await?).await
    };
    app.answered(Route::Topics, answer.await)
}

async fn topic(State(app): State<Arc<App>>, headers: HeaderMap, name: Param<String>) -> Response<Body> {
    let answer = async {
        let media = media::acceptable(&headers)?;
        let described = app.log.describe(&name.map_err(|rejection| unreadable(&rejection))?).await?;
        let answer = TopicAnswer {
            name: &described.name,
            configs: &described.configs,
            partitions: described.partitions.iter().map(PartitionAnswer::from).collect(),
        };
        app.json(media, &answer).await
    };
    app.answered(Route::Topic, answer.await)
}

async fn partitions(State(app): State<Arc<App>>, headers: HeaderMap, name: Param<String>) -> Response<Body> {
    let answer = async {
        let media = media::acceptable(&headers)?;
        let described = app.log.describe(&name.map_err(|rejection| unreadable(&rejection))?).await?;
        let partitions: Vec<_> = described.partitions.iter().map(PartitionAnswer::from).collect();
        app.json(media, &partitions).await
    };
    app.answered(Route::Partitions, answer.await)
}

async fn partition(
    State(app): State<Arc<App>>,
    headers: HeaderMap,
    path: Param<(String, String)>,
) -> Response<Body> {
    let answer = async {
        let media = media::acceptable(&headers)?;
        let (name, partition) = topic_and_partition(path)?;
        let described = app.log.describe(&name).await?;
        let found = described.partitions.iter().find(|found| i64::from(found.partition) == partition);
        let found = found.ok_or_else(ApiError::partition_not_found)?;
        app.json(media, &PartitionAnswer::from(found)).await
    };
    app.answered(Route::Partition, answer.await)
}

async fn offsets(
    State(app): State<Arc<App>>,
    headers: HeaderMap,
    path: Param<(String, String)>,
) -> Response<Body> {
    let answer = async {
        let media = media::acceptable(&headers)?;
        let (name, partition) = topic_and_partition(path)?;
        // A topic that does not exist is to be named before its partition.
        app.log.describe(&name).await?;
        let partition = u32::try_from(partition).map_err(|_| ApiError::partition_not_found())?;
        let held = app.log.offsets(&name, partition).await?;
        app.json(media, &OffsetsAnswer { beginning_offset: held.beginning, end_offset: held.end }).await
    };
    app.answered(Route::Offsets, answer.await)
}

fn produce_to_topic(
    State(app): State<Arc<App>>,
    name: Param<String>,
    request: Request,
) -> impl Future<Output = Response<Body>> + Send {
    let target = name.map(|Path(name)| (name, None)).map_err(|rejection| unreadable(&rejection));
    let post = Post::new(target, request);
    async move { app.answered(Route::Topic, produce(&app, post).await) }
}

fn produce_to_partition(
    State(app): State<Arc<App>>,
    path: Param<(String, String)>,
    request: Request,
) -> impl Future<Output = Response<Body>> + Send {
    let target = topic_and_partition(path).map(|(name, partition)| (name, Some(partition)));
    let post = Post::new(target, request);
    async move { app.answered(Route::Partition, produce(&app, post).await) }
}

fn unreadable(rejection: &PathRejection) -> ApiError {
    ApiError::bad_request(rejection.body_text())
}

/// The parameters of a path; a partition that is no number is no route.
fn topic_and_partition(path: Param<(String, String)>) -> Result<(String, i64), ApiError> {
    let Path((name, partition)) = path.map_err(|rejection| unreadable(&rejection))?;
    let partition = partition.parse().map_err(|_| ApiError::generic(StatusCode::NOT_FOUND))?;
    Ok((name, partition))
}

/// A produce request whose head was looked at. It is kept small: it waits for the log.
struct Post {
    head: Result<PostHead, ApiError>,
    body: Body,
}

struct PostHead {
    topic: String,
    /// The partition that the path names.
    partition: Option<i64>,
    embedded: Embedded,
}

impl Post {
    fn new(target: Result<(String, Option<i64>), ApiError>, request: Request) -> Self {
        let (parts, body) = request.into_parts();
        let head = media::acceptable(&parts.headers)
            .and_then(|_| media::embedded(&parts.headers))
            .and_then(|embedded| target.map(|(topic, partition)| PostHead { topic, partition, embedded }));
        Self { head, body }
    }
}

/// Stores what a request posts. A refused record is an error in its own place of the answer; that nothing at all could be
/// stored for now is a 503. Once records are stored nothing but that is answered.
async fn produce(app: &App, Post { head, body }: Post) -> Answer {
    // The body is read before anything is refused, so that the connection can be used again.
    let Received { bytes, memory } = app.bodies.read(body).await?;
    let since = Instant::now();
    let PostHead { topic: name, partition, embedded } = head?;
    let posted = produce::parse(&bytes, embedded, &app.limits)?;
    // The connection's read buffer, most often; the records do not need it any more.
    drop(bytes);
    let topic = app.topics.for_produce(&name).await?;
    let partition = match partition.map(u32::try_from) {
        None => None,
        Some(Ok(partition)) if partition < topic.partitions => Some(partition),
        Some(_) => return Err(ApiError::partition_not_found()),
    };
    // Now, while nothing is stored yet and sending the records again does no harm.
    let memory_for_answer = app.memory_for_answer(produce::usual_size(posted.len())).await?;
    let sorted = store::sort(posted, embedded, &topic, partition, app.limits.record_bytes);
    let stored = store::append(&app.log, &name, sorted).await?;
    if stored.records < stored.outcomes.len() {
        // It may be another topic by now; the next request looks again.
        app.topics.forget(&name);
    }
    drop(memory);
    app.metrics.produced(stored.records, stored.outcomes.len() - stored.records, stored.bytes, since);
    let answer = produce::answer(&stored.outcomes).into_bytes();
    let memory_for_answer = memory_for_answer.map(|memory| memory.covering(answer.len()));
    Ok(respond_reserved(media::KAFKA_V2, answer, memory_for_answer))
}

fn respond(media: HeaderValue, body: impl Into<Body>) -> Response<Body> {
    let mut response = Response::new(body.into());
    response.headers_mut().insert(CONTENT_TYPE, media);
    response
}

/// An answer that holds this memory until it is sent.
fn respond_reserved(media: HeaderValue, body: Vec<u8>, memory: Option<Reservation>) -> Response<Body> {
    let Some(memory) = memory else { return respond(media, body) };
    let mut response = respond(media, memory.into_bytes(body));
    response.extensions_mut().insert(Reserved);
    response
}

/// `GET /topics/{topic}`, members in the proxy's order.
#[derive(Serialize)]
struct TopicAnswer<'a> {
    name: &'a str,
    configs: &'a BTreeMap<String, String>,
    partitions: Vec<PartitionAnswer>,
}

#[derive(Serialize)]
struct PartitionAnswer {
    partition: u32,
    leader: i32,
    replicas: Vec<ReplicaAnswer>,
}

#[derive(Serialize)]
struct ReplicaAnswer {
    broker: i32,
    leader: bool,
    in_sync: bool,
}

#[derive(Serialize)]
struct OffsetsAnswer {
    beginning_offset: u64,
    end_offset: u64,
}

impl From<&PartitionDescription> for PartitionAnswer {
    fn from(described: &PartitionDescription) -> Self {
        let leads = |broker| broker == described.leader;
        let replica =
            |&(broker, in_sync): &(i32, bool)| ReplicaAnswer { broker, leader: leads(broker), in_sync };
        let replicas = described.replicas.iter().map(replica).collect();
        Self { partition: described.partition, leader: described.leader, replicas }
    }
}
