//! Which life of a topic's name records are of: see [`pinmill_lake::lineage`].
//!
//! A table notes the source of what it covers in its commits (`generation` of their ranges), and the registry in
//! `_pinmill/lineages` says which number each source has. The archiver claims a number before it puts the first object of
//! a topic, a loader before it loads the first record.
//!
//! | records of | have the source |
//! | --- | --- |
//! | a log's topic | its generation |
//! | an archive's objects of lineage *n* | what the registry of the archive's own lake says of *n* |
//! | objects of an archive without a registry (0.1's, another sink's) | the generation that a manifest says, or the archive's place |

use std::collections::BTreeSet;

use pinmill_broker::TopicDescription;
use pinmill_lake::archive::Archive;
use pinmill_lake::lineage::{Lineages, SourceId};
use pinmill_lake::table::{Table, Totals};
use pinmill_lake::{Lake, TopicPartition};

use crate::{Half, Result};

/// An archive, and the registry that its names go by.
#[derive(Debug)]
pub(crate) struct Sources<'a> {
    archive: &'a Archive,
    /// The archive is the lake's own.
    own: bool,
    named: Lineages,
}

impl<'a> Sources<'a> {
    pub(crate) fn new(archive: &'a Archive, lake: &Lake) -> Self {
        let own = archive.lake().url() == lake.url();
        Self { archive, own, named: Lineages::new(archive.lake(), Half::Batch.name()) }
    }

    /// All partitions that the archive has, of each topic in the order of its lives.
    pub(crate) async fn partitions(&self) -> Result<BTreeSet<TopicPartition>> {
        let lives = self.named.all().await?;
        let mut all = BTreeSet::new();
        for place in self.archive.partitions().await? {
            let later = lives.get(&place.topic).into_iter().flatten();
            all.extend(later.map(|&lineage| place.clone().in_lineage(lineage)));
            all.insert(place);
        }
        Ok(all)
    }

    /// Where the objects of a partition come from.
    pub(crate) async fn source(&self, place: &TopicPartition) -> Result<SourceId> {
        let here = self.here();
        match self.named.source(&place.topic, place.lineage).await? {
            Some(log @ SourceId::Log { .. }) => Ok(log),
            // Names without a number are also those of objects that came from elsewhere.
            Some(SourceId::Archive { .. }) => Ok(here),
            None => Ok(self
                .archive
                .generation(place)
                .await?
                .map_or(here, |generation| SourceId::log(&generation))),
        }
    }

    /// The archive itself as a source. The lake's own is known by its directory, so that a data folder may be moved.
    fn here(&self) -> SourceId {
        match self.own {
            true => own_archive(self.archive),
            false => SourceId::archive(&self.archive.place()),
        }
    }
}

fn own_archive(archive: &Archive) -> SourceId {
    SourceId::archive(archive.topics_dir())
}

/// The lineage under which a table has records of a source, or that it is to have them under.
pub(crate) async fn lineage_in(
    table: &mut Table,
    lineages: &Lineages,
    topic: &str,
    source: &SourceId,
) -> Result<u32> {
    match noted_as(table.totals().await?, topic, source) {
        Some(lineage) => Ok(lineage),
        None => Ok(lineages.claim(topic, source).await?),
    }
}

/// The lineage under which totals note a source.
pub(crate) fn noted_as(totals: &Totals, topic: &str, source: &SourceId) -> Option<u32> {
    let noted = source.noted();
    let of_topic =
        totals.range(TopicPartition::new(topic, 0)..).take_while(|(place, _)| place.topic == topic);
    let of_source = of_topic.filter(|(_, totals)| totals.generation.as_ref() == Some(&noted));
    of_source.map(|(place, _)| place.lineage).last()
}

/// Brings what the tables of a half note of their sources into the registry: 0.1 has noted it nowhere else.
///
/// # Errors
/// [`crate::Error::Lake`]. It may be called again.
pub(crate) async fn adopt(lake: &Lake, half: Half, lineages: &Lineages) -> Result<()> {
    if lineages.is_adopted().await? {
        return Ok(());
    }
    for name in tables(lake, half).await? {
        let Some(mut table) = Table::open(lake, &name).await? else { continue };
        for (place, totals) in table.totals().await? {
            // Where 0.1 noted nothing, the lake's own archive had objects without a manifest.
            let unknown = || SourceId::archive("topics");
            let source = totals.generation.as_deref().map_or_else(unknown, SourceId::from_noted);
            lineages.adopt(&place.topic, place.lineage, &source).await?;
        }
    }
    Ok(lineages.all_adopted().await?)
}

/// All tables of rows that there are, whether or not the pipeline still has their datasets.
async fn tables(lake: &Lake, half: Half) -> Result<Vec<String>> {
    let dir = lake.path(half.name());
    let listed = match lake.store().list_with_delimiter(Some(&dir)).await {
        Ok(listed) => listed.common_prefixes,
        Err(object_store::Error::NotFound { .. }) => Vec::new(),
        Err(source) => {
            let path = half.name().to_owned();
            return Err(pinmill_lake::Error::Store { doing: "list", path, source }.into());
        }
    };
    let names = listed.iter().filter_map(|path| Some(format!("{}/{}", half.name(), path.filename()?)));
    Ok(names.filter(|name| *name != half.quarantine()).collect())
}

/// The lineage that a log's topic is archived under, claimed where it is the first time. `is_new` says that the
/// archiver has never seen the topic.
pub(crate) async fn of_archived(
    archive: &Archive,
    lineages: &Lineages,
    topic: &TopicDescription,
    is_new: bool,
) -> Result<u32> {
    adopt(archive.lake(), Half::Batch, lineages).await?;
    let source = SourceId::log(&topic.generation);
    if let Some(lineage) = lineages.find(&topic.name, &source).await? {
        return Ok(lineage);
    }
    if lineages.numbers(&topic.name).await?.is_empty()
        && let Some(before) = archived_before(archive, topic, is_new).await?
    {
        lineages.adopt(&topic.name, 0, &before).await?;
    }
    Ok(lineages.claim(&topic.name, &source).await?)
}

/// What 0.1 or another sink has left in the archive under a topic's name.
async fn archived_before(
    archive: &Archive,
    topic: &TopicDescription,
    is_new: bool,
) -> Result<Option<SourceId>> {
    let mut source = None;
    for place in archive.partitions().await?.into_iter().filter(|place| place.topic == topic.name) {
        if let Some(generation) = archive.generation(&place).await? {
            return Ok(Some(SourceId::log(&generation)));
        }
        // Of a topic that the archiver knows, it is its own object, whose manifest is still to be written.
        if is_new && !archive.objects(&place, 0).await?.is_empty() {
            source = Some(own_archive(archive));
        }
    }
    Ok(source)
}

#[cfg(test)]
mod tests {
    use pinmill_lake::RangeSum;
    use pinmill_lake::table::PartitionTotals;

    use super::*;

    #[test]
    fn a_table_goes_on_under_the_lineage_that_it_notes() {
        let totals: Totals =
            [("t", 0, Some("g1")), ("t", 1, Some("archive file:///b/topics")), ("u", 0, None)]
                .into_iter()
                .map(|(topic, lineage, generation)| {
                    let place = TopicPartition::new(topic, 3).in_lineage(lineage);
                    let sum = RangeSum::default();
                    let generation = generation.map(str::to_owned);
                    let of = PartitionTotals {
                        generation,
                        sum,
                        latest: sum,
                        ..PartitionTotals::new(place.clone())
                    };
                    (place, of)
                })
                .collect();
        assert_eq!(noted_as(&totals, "t", &SourceId::log("g1")), Some(0));
        assert_eq!(noted_as(&totals, "t", &SourceId::archive("file:///b/topics")), Some(1));
        assert_eq!(noted_as(&totals, "t", &SourceId::log("g2")), None, "it was made again");
        assert_eq!(noted_as(&totals, "t", &SourceId::archive("file:///c/topics")), None, "another bucket");
        assert_eq!(noted_as(&totals, "u", &SourceId::log("g1")), None);
    }
}
