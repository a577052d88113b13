//! The gateway's own counters, in a registry of its own; the names are listed in the crate's documentation.

use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use http::StatusCode;
use metrics::{Counter, Gauge, Histogram, Key, KeyName, Label, Metadata, Recorder as _, SharedString, Unit};
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle, PrometheusRecorder};

/// Upper bounds of the latency histogram, in seconds.
const LATENCY_BOUNDS: [f64; 14] =
    [0.0005, 0.001, 0.002, 0.003, 0.005, 0.0075, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0];
/// Statuses that are counted by number; any other is counted as `other`.
const STATUSES: [u16; 19] =
    [200, 204, 400, 403, 404, 405, 406, 408, 409, 413, 414, 415, 421, 422, 429, 431, 500, 503, 0];

static METADATA: Metadata<'static> =
    Metadata::new(module_path!(), metrics::Level::INFO, Some(module_path!()));

/// What is counted.
pub(crate) struct Metrics {
    recorder: PrometheusRecorder,
    requests: [[OnceLock<Counter>; STATUSES.len()]; Route::ALL.len()],
    records_stored: Counter,
    records_refused: Counter,
    record_bytes: Counter,
    ack_seconds: Histogram,
    connections: Gauge,
    connections_accepted: Counter,
}

impl std::fmt::Debug for Metrics {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Metrics").finish_non_exhaustive()
    }
}

/// The routes, as requests are counted by them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Route {
    Root,
    Brokers,
    Topics,
    Topic,
    Partitions,
    Partition,
    Offsets,
    Healthz,
    Readyz,
    Metrics,
    /// The streams' façade.
    Streams,
    /// The native protocol of Kinesis, on any path.
    Kinesis,
    /// A preflight of a browser, for any path.
    Preflight,
    /// No route.
    Other,
}

impl Route {
    const ALL: [Self; 14] = [
        Self::Root,
        Self::Brokers,
        Self::Topics,
        Self::Topic,
        Self::Partitions,
        Self::Partition,
        Self::Offsets,
        Self::Healthz,
        Self::Readyz,
        Self::Metrics,
        Self::Streams,
        Self::Kinesis,
        Self::Preflight,
        Self::Other,
    ];

    /// The path as the router knows it, and as the label says it.
    pub(crate) fn path(self) -> &'static str {
        match self {
            Self::Root => "/",
            Self::Brokers => "/brokers",
            Self::Topics => "/topics",
            Self::Topic => "/topics/{topic}",
            Self::Partitions => "/topics/{topic}/partitions",
            Self::Partition => "/topics/{topic}/partitions/{partition}",
            Self::Offsets => "/topics/{topic}/partitions/{partition}/offsets",
            Self::Healthz => "/healthz",
            Self::Readyz => "/readyz",
            Self::Metrics => "/metrics",
            Self::Streams => "/streams",
            Self::Kinesis => "kinesis",
            Self::Preflight => "preflight",
            Self::Other => "other",
        }
    }
}

impl Metrics {
    pub(crate) fn new() -> Self {
        let builder = PrometheusBuilder::new();
        // Only an empty list of bounds is an error; without bounds a summary is kept instead.
        let builder = match builder.set_buckets(&LATENCY_BOUNDS) {
            Ok(builder) => builder,
            Err(_) => PrometheusBuilder::new(),
        };
        let recorder = builder.build_recorder();
        let describe = |name: &'static str, text: &'static str, unit: Option<Unit>| {
            recorder.describe_counter(name.into(), unit, text.into());
        };
        describe("pinmill_gateway_requests_total", "Requests answered, by route and status.", None);
        describe("pinmill_gateway_records_total", "Records posted, by what became of them.", None);
        describe(
            "pinmill_gateway_record_bytes_total",
            "Bytes of the keys and values stored.",
            Some(Unit::Bytes),
        );
        describe("pinmill_gateway_connections_accepted_total", "Connections accepted.", None);
        recorder.describe_gauge("pinmill_gateway_connections".into(), None, "Connections open now.".into());
        recorder.describe_histogram(
            "pinmill_gateway_ack_seconds".into(),
            Some(Unit::Seconds),
            "From a produce request's whole body to its answer: how long the log took to make it durable."
                .into(),
        );
        let counter = |name: &'static str, labels: Vec<Label>| {
            recorder.register_counter(&Key::from_parts(name, labels), &METADATA)
        };
        let records =
            |outcome| counter("pinmill_gateway_records_total", vec![Label::new("outcome", outcome)]);
        Self {
            requests: Default::default(),
            records_stored: records("stored"),
            records_refused: records("refused"),
            record_bytes: counter("pinmill_gateway_record_bytes_total", Vec::new()),
            ack_seconds: recorder
                .register_histogram(&Key::from_name("pinmill_gateway_ack_seconds"), &METADATA),
            connections: recorder.register_gauge(&Key::from_name("pinmill_gateway_connections"), &METADATA),
            connections_accepted: counter("pinmill_gateway_connections_accepted_total", Vec::new()),
            recorder,
        }
    }

    /// Counts an answer.
    pub(crate) fn answered(&self, route: Route, status: StatusCode) {
        let index = STATUSES.iter().position(|known| *known == status.as_u16()).unwrap_or(STATUSES.len() - 1);
        let counter = self.requests[route as usize][index].get_or_init(|| {
            let status = match STATUSES[index] {
                0 => "other".to_owned(),
                known => known.to_string(),
            };
            let labels = vec![Label::new("route", route.path()), Label::new("status", status)];
            self.recorder
                .register_counter(&Key::from_parts("pinmill_gateway_requests_total", labels), &METADATA)
        });
        counter.increment(1);
    }

    /// Counts the records of one produce request, and how long the log took for them.
    pub(crate) fn produced(&self, stored: usize, refused: usize, bytes: usize, since: Instant) {
        self.records_stored.increment(stored as u64);
        self.records_refused.increment(refused as u64);
        self.record_bytes.increment(bytes as u64);
        self.ack_seconds.record(since.elapsed());
    }

    /// Counts a connection as open until the result is dropped.
    pub(crate) fn connected(&self) -> Connected {
        self.connections_accepted.increment(1);
        self.connections.increment(1);
        Connected(self.connections.clone())
    }

    /// Everything in Prometheus' text format.
    pub(crate) fn render(&self) -> String {
        self.handle().render()
    }

    /// Moves samples of the histogram to its buckets every few seconds, or they would pile up until somebody asks.
    pub(crate) async fn keep_small(handle: PrometheusHandle) {
        let mut interval = tokio::time::interval(Duration::from_secs(5));
        loop {
            interval.tick().await;
            handle.run_upkeep();
        }
    }

    pub(crate) fn handle(&self) -> PrometheusHandle {
        self.recorder.handle()
    }
}

/// Lets the rest of the process count in the gateway's registry.
pub(crate) struct SharedRecorder(Arc<Metrics>);

impl SharedRecorder {
    pub(crate) fn new(metrics: Arc<Metrics>) -> Self {
        Self(metrics)
    }
}

impl metrics::Recorder for SharedRecorder {
    fn describe_counter(&self, key: KeyName, unit: Option<Unit>, text: SharedString) {
        self.0.recorder.describe_counter(key, unit, text);
    }

    fn describe_gauge(&self, key: KeyName, unit: Option<Unit>, text: SharedString) {
        self.0.recorder.describe_gauge(key, unit, text);
    }

    fn describe_histogram(&self, key: KeyName, unit: Option<Unit>, text: SharedString) {
        self.0.recorder.describe_histogram(key, unit, text);
    }

    fn register_counter(&self, key: &Key, metadata: &Metadata<'_>) -> Counter {
        self.0.recorder.register_counter(key, metadata)
    }

    fn register_gauge(&self, key: &Key, metadata: &Metadata<'_>) -> Gauge {
        self.0.recorder.register_gauge(key, metadata)
    }

    fn register_histogram(&self, key: &Key, metadata: &Metadata<'_>) -> Histogram {
        self.0.recorder.register_histogram(key, metadata)
    }
}

/// A connection that is open.
#[derive(Debug)]
pub(crate) struct Connected(Gauge);

impl Drop for Connected {
    fn drop(&mut self) {
        self.0.decrement(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_route_has_its_own_counters_and_text() {
        for (index, route) in Route::ALL.into_iter().enumerate() {
            assert_eq!(route as usize, index);
        }
        let metrics = Metrics::new();
        metrics.answered(Route::Topic, StatusCode::OK);
        metrics.answered(Route::Topic, StatusCode::OK);
        metrics.answered(Route::Other, StatusCode::IM_A_TEAPOT);
        metrics.produced(3, 1, 600, Instant::now());
        let open = metrics.connected();
        drop(metrics.connected());
        let text = metrics.render();
        for line in [
            r#"pinmill_gateway_requests_total{route="/topics/{topic}",status="200"} 2"#,
            r#"pinmill_gateway_requests_total{route="other",status="other"} 1"#,
            r#"pinmill_gateway_records_total{outcome="stored"} 3"#,
            r#"pinmill_gateway_records_total{outcome="refused"} 1"#,
            "pinmill_gateway_record_bytes_total 600",
            "pinmill_gateway_connections_accepted_total 2",
            "pinmill_gateway_connections 1",
            r#"pinmill_gateway_ack_seconds_bucket{le="+Inf"} 1"#,
            "# TYPE pinmill_gateway_ack_seconds histogram",
        ] {
            assert!(text.lines().any(|l| l == line), "{line} in\n{text}");
        }
        drop(open);
    }
}
