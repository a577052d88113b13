//! One dataset's loop: find its partitions, gather a step, commit it, go on.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use pinmill_broker::TopicDescription;
use pinmill_lake::lineage::SourceId;
use pinmill_pipeline::{Dataset, Pipeline};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::claims::{Claim, LOOK_EVERY, Refused, claims, is_empty, keep_topic};
use super::feed::{Feed, Found, is_ready};
use super::meter;
use super::recent::Recent;
use super::{StreamConfig, StreamSource};
use crate::clean::DatasetReport;
use crate::load::{Loader, Shared, Step};
use crate::supervise::Part;
use crate::{Error, Result};

/// Longest pause between two looks at partitions that had nothing new.
const LONGEST_POLL: Duration = Duration::from_millis(50);

/// A dataset that is being loaded.
pub(super) struct Follow<'a> {
    pipeline: &'a Pipeline,
    sources: &'a [StreamSource],
    config: &'a StreamConfig,
    dataset: &'a Dataset,
    loader: Loader<'a>,
    feeds: Vec<Feed>,
    /// Topics that have the name of another one, and those of which the table notes another source than the registry.
    refused: &'a mut Refused,
    poll: Duration,
    /// When the log took the oldest record of the step, in microseconds since the Unix epoch.
    oldest_us: Option<i64>,
    recent: Recent,
}

/// What one round over the partitions found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Round {
    Nothing,
    Something,
    /// There is more to be read right away.
    Much,
    /// No more is wanted: a worker has failed, or the step is full.
    Enough,
}

impl<'a> Follow<'a> {
    pub(super) async fn open(
        shared: &'a Shared<'a>,
        dataset: &'a Dataset,
        (pipeline, sources, config): (&'a Pipeline, &'a [StreamSource], &'a StreamConfig),
        refused: &'a mut Refused,
    ) -> Result<Self> {
        let loader = Loader::open(shared, dataset).await?;
        let poll = (config.commit_every / 20).clamp(Duration::from_millis(1), LONGEST_POLL);
        let feeds = Vec::new();
        let (oldest_us, recent) = (None, Recent::default());
        Ok(Self { pipeline, sources, config, dataset, loader, feeds, refused, poll, oldest_us, recent })
    }

    /// Loads until `stop` is cancelled and nothing is left.
    pub(super) async fn run(
        mut self,
        (part, stop): (&Part, &CancellationToken),
        report: &mut DatasetReport,
    ) -> Result<()> {
        let ended = self.load((part, stop), report).await;
        self.recent.flush(&self.dataset.name);
        ended
    }

    async fn load(
        &mut self,
        (part, stop): (&Part, &CancellationToken),
        report: &mut DatasetReport,
    ) -> Result<()> {
        report.version = self.loader.version();
        loop {
            // Asked before the look: after it streams and shards may have been made that only the next look finds.
            let stopping = stop.is_cancelled();
            self.discover().await?;
            let step = self.gather(stop).await?;
            let idle = step.records == 0;
            let loaded = self.loader.finish(step).await?;
            meter::committed(&self.dataset.name, &loaded, self.oldest_us.take());
            self.recent.note(&self.dataset.name, &loaded.warnings, Instant::now());
            report.add(loaded);
            report.version = self.loader.version();
            let ending = idle && stopping;
            for feed in &mut self.feeds {
                feed.note(self.loader.next(feed.index), ending).await?;
            }
            meter::lag(&self.dataset.name, self.lag().await);
            part.works_on();
            if ending {
                return Ok(());
            }
        }
    }

    /// Takes on partitions that are new, with what has changed of those that are known, and lets go of deleted ones.
    async fn discover(&mut self) -> Result<()> {
        let mut claims = claims(self.pipeline, self.sources, self.dataset).await?;
        // Of two of one name the one that is read already goes on, else the one that the table has records of.
        let mut names = BTreeSet::new();
        let namesakes: BTreeSet<String> = claims
            .iter()
            .filter(|claim| !names.insert(claim.topic.name.clone()))
            .map(|claim| claim.topic.name.clone())
            .collect();
        let mut known = BTreeSet::new();
        for Claim { topic, .. } in claims.iter().filter(|claim| namesakes.contains(&claim.topic.name)) {
            if self.loader.has_of(&topic.name, &SourceId::log(&topic.generation)).await? {
                known.insert(topic.generation.clone());
            }
        }
        claims.sort_by_key(|claim| (!self.reads(&claim.topic), !known.contains(&claim.topic.generation)));
        let mut topics: BTreeMap<String, String> = BTreeMap::new();
        for claim in claims {
            if self.refused.has(&claim) {
                continue;
            }
            let Entry::Vacant(name) = topics.entry(claim.topic.name.clone()) else {
                self.refuse_namesake(&claim);
                continue;
            };
            if self.take_on(&claim).await? {
                name.insert(claim.topic.generation);
            }
        }
        let is_there = |feed: &Feed| topics.get(&feed.place.topic) == Some(&feed.generation);
        let (there, gone) = std::mem::take(&mut self.feeds).into_iter().partition(is_there);
        self.feeds = there;
        let gone: Vec<Feed> = gone;
        self.loader.retire(gone.into_iter().map(|feed| feed.place));
        Ok(())
    }

    fn reads(&self, topic: &TopicDescription) -> bool {
        self.feeds.iter().any(|feed| feed.place.topic == topic.name && feed.generation == topic.generation)
    }

    /// A stream and a topic of one name: in one table their offsets could not be told apart. Anybody can make the second
    /// one, so the first goes on.
    fn refuse_namesake(&mut self, claim: &Claim<'_>) {
        let plane = claim.source.plane;
        let (what, other) = (plane.one(), plane.other().one());
        let (dataset, name) = (self.dataset.name.as_str(), claim.topic.name.as_str());
        let hint = "rename one of them, or load streams only";
        tracing::error!(
            dataset,
            name,
            hint,
            "the {what} is not loaded: a {other} of the name is, into the same table"
        );
        self.refused.add(claim);
    }

    /// False where it is refused.
    async fn take_on(&mut self, claim: &Claim<'_>) -> Result<bool> {
        let Claim { source, topic } = claim;
        if !self.reads(topic) && is_empty(claim).await? {
            keep_topic(claim).await?;
            return Ok(true);
        }
        let life = SourceId::log(&topic.generation);
        for partition in &topic.partitions {
            let number = partition.partition;
            let known = self.feeds.iter_mut().find(|feed| {
                let place = &feed.place;
                place.partition == number && place.topic == topic.name && feed.generation == topic.generation
            });
            if let Some(feed) = known {
                feed.closed_at = partition.closed_at;
                continue;
            }
            let index = match self.loader.add(&topic.name, number, &life).await {
                Ok(index) => index,
                Err(error @ Error::Lake(pinmill_lake::Error::Generation { .. })) => {
                    let (dataset, hint) = (&self.dataset.name, error.hint());
                    tracing::error!(dataset, error = %error.chain(), hint, "the stream is not loaded");
                    // All of it or nothing: the table may know only some of its shards from before.
                    self.feeds.retain(|feed| feed.place.topic != topic.name);
                    self.refused.add(claim);
                    return Ok(false);
                }
                Err(error) => return Err(error),
            };
            let at = (index, self.loader.next(index));
            let Some(place) = self.loader.place(index).cloned() else { continue };
            let name = (place, topic.generation.as_str());
            let every = self.config.note_every;
            self.feeds.push(Feed::begin(&source.log, name, partition, at, every).await?);
        }
        Ok(true)
    }

    /// Reads until a commit is due.
    async fn gather(&mut self, stop: &CancellationToken) -> Result<Step> {
        let mut step = self.loader.begin();
        match self.fill(&mut step, stop).await {
            Ok(()) => Ok(step),
            // A worker's error comes first: the reader stops because of it.
            Err(error) => Err(self.loader.abandon(step).await.unwrap_or(error)),
        }
    }

    async fn fill(&mut self, step: &mut Step, stop: &CancellationToken) -> Result<()> {
        let look = Instant::now() + LOOK_EVERY;
        let mut due: Option<Instant> = None;
        loop {
            let round = self.round(step).await?;
            let now = Instant::now();
            if step.records > 0 && due.is_none() {
                due = Some(now + self.config.commit_every);
            }
            let late = now >= due.unwrap_or(look);
            match round {
                Round::Enough => return Ok(()),
                Round::Much if late => return Ok(()),
                Round::Much => continue,
                Round::Something | Round::Nothing if late => return Ok(()),
                Round::Nothing if stop.is_cancelled() => return Ok(()),
                Round::Something if stop.is_cancelled() => continue,
                Round::Something | Round::Nothing => {}
            }
            // A pause gathers what arrives meanwhile: few large chunks cost less than many small ones.
            tokio::select! {
                () = stop.cancelled() => {}
                () = tokio::time::sleep_until((now + self.poll).min(due.unwrap_or(look))) => {}
            }
        }
    }

    /// Reads once from every partition that may be read.
    async fn round(&mut self, step: &mut Step) -> Result<Round> {
        let mut round = Round::Nothing;
        for at in 0..self.feeds.len() {
            if !self.may_read(at) {
                continue;
            }
            let Some(feed) = self.feeds.get_mut(at) else { continue };
            let index = feed.index;
            // The next look at all topics lets go of what is gone.
            let Found::Records(chunk, more) = feed.read(self.config.fetch_bytes).await? else { continue };
            let lost = std::mem::take(&mut feed.lost);
            self.loader.lose(index, lost);
            let first_us = chunk.records.first().map(|record| record.ingested_at_us);
            self.oldest_us = self.oldest_us.into_iter().chain(first_us).min();
            round = round.max(if more { Round::Much } else { Round::Something });
            if !self.loader.give(step, index, chunk).await? || self.loader.is_full(step, self.config.step) {
                return Ok(Round::Enough);
            }
        }
        Ok(round)
    }

    /// Records that the partitions hold beyond what was read.
    async fn lag(&self) -> u64 {
        let mut lag = 0;
        for feed in &self.feeds {
            // Gone meanwhile: it has nothing any more.
            let Ok(held) = feed.log.offsets(&feed.place.topic, feed.place.partition).await else { continue };
            lag += feed.closed_at.unwrap_or(held.end).saturating_sub(feed.next.max(held.beginning));
        }
        lag
    }

    fn may_read(&self, at: usize) -> bool {
        let Some(feed) = self.feeds.get(at) else { return false };
        let parent = |number: &u32| {
            let of_topic = |other: &&Feed| {
                let (other, own) = (&other.place, &feed.place);
                other.topic == own.topic && other.lineage == own.lineage && other.partition == *number
            };
            self.feeds.iter().find(of_topic)
        };
        // A parent that is not there any more has nothing to be waited for.
        let parents = feed.parents.iter().filter_map(parent);
        is_ready(parents.map(|parent| (self.loader.next(parent.index).max(parent.floor), parent.closed_at)))
    }
}
