//! Topics and streams that no dataset takes: a server tells of each, once.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use pinmill_broker::EventLog;
use pinmill_flow::Half;
use pinmill_pipeline::{Dataset, Pipeline};
use tokio_util::sync::CancellationToken;

/// Time between two looks for new names.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Looks for new topics and streams until `stop`, and tells of those whose records will be in no table. A log that fails
/// is told of by those who read it.
pub(crate) async fn tell(pipeline: Pipeline, logs: Vec<(Half, Arc<dyn EventLog>)>, stop: CancellationToken) {
    let mut looks = tokio::time::interval(LOOK_EVERY);
    let mut told = BTreeSet::new();
    while stop.run_until_cancelled(looks.tick()).await.is_some() {
        for (half, log) in &logs {
            for name in log.topics().await.unwrap_or_default() {
                if !is_taken(&pipeline, *half, &name) && told.insert((*half, name.clone())) {
                    tracing::warn!("{}", words(&pipeline, *half, &name));
                }
            }
        }
    }
}

fn is_taken(pipeline: &Pipeline, half: Half, name: &str) -> bool {
    match half {
        Half::Batch => pipeline.dataset_for_topic(name).is_some(),
        Half::Stream => pipeline.dataset_for_stream(name).is_some(),
    }
}

fn words(pipeline: &Pipeline, half: Half, name: &str) -> String {
    let (kind, kept, taken) = match half {
        Half::Batch => ("topic", "archived", patterns(pipeline, |dataset| &dataset.topics)),
        Half::Stream => ("stream", "kept", patterns(pipeline, |dataset| &dataset.streams)),
    };
    format!("no dataset takes {kind} `{name}`: its records are {kept} and in no table; datasets take {taken}")
}

fn patterns<'p>(pipeline: &'p Pipeline, of: impl Fn(&'p Dataset) -> &'p Vec<String>) -> String {
    let all: Vec<&str> = pipeline.datasets.iter().flat_map(of).map(String::as_str).collect();
    all.join(", ")
}
