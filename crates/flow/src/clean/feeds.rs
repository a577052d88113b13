//! What there is to be read of an archive: partitions, directories of other partitioners, and what is not read.

use std::collections::BTreeMap;

use pinmill_lake::archive::{
    Archive, ArchiveReader, Directories, Directory, FIRST_DIRECTORY, ReadOptions, Unread,
};
use pinmill_lake::lineage::SourceId;
use pinmill_lake::{Lake, TopicPartition};

use crate::{Error, Result};

// The engine ranks directories by the lineages that the lake gives them.
const _: () = assert!(FIRST_DIRECTORY == pinmill_engine::FIRST_DIRECTORY.cast_unsigned());

/// Whether directories that are new are given numbers, or only seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Look {
    /// Gives them numbers for good.
    Claim,
    /// Makes nothing.
    See,
}

/// What there is to be read.
#[derive(Debug, Default)]
pub(crate) struct Feeds {
    /// Directories of other partitioners, by the lineage that they are.
    pub(crate) directories: BTreeMap<TopicPartition, Directory>,
    /// What is not read.
    pub(crate) unread: Vec<Unread>,
    /// Why directories of a topic are left out.
    pub(crate) refused: Vec<Error>,
}

impl Feeds {
    /// Looks at an archive whose records go into tables of `lake`.
    ///
    /// # Errors
    /// What cannot be listed as a whole.
    pub(crate) async fn of(archive: &Archive, lake: &Lake, look: Look) -> Result<Self> {
        // Among objects of its own pinmill puts nothing else; an audit looks all the same.
        let whole = look == Look::See || archive.lake().url() != lake.url();
        let foreign = archive.foreign(whole).await?;
        let mut feeds = Self { unread: foreign.unread, ..Self::default() };
        let mut of_topic: BTreeMap<String, Vec<Directory>> = BTreeMap::new();
        for directory in foreign.directories {
            of_topic.entry(directory.topic.clone()).or_default().push(directory);
        }
        let numbers = Directories::new(lake);
        for (topic, directories) in of_topic {
            let paths: Vec<String> = directories.iter().map(|directory| directory.path.clone()).collect();
            let place = archive.place();
            let numbered = match look {
                Look::Claim => numbers.claim(&topic, &place, &paths).await,
                Look::See => numbers.find(&topic, &place, &paths).await,
            };
            match numbered {
                Err(error) => feeds.refused.push(error.into()),
                Ok(lineages) => {
                    let place = |(lineage, directory): (u32, Directory)| {
                        let place = TopicPartition::new(&topic, directory.partition).in_lineage(lineage);
                        (place, directory)
                    };
                    feeds.directories.extend(lineages.into_iter().zip(directories).map(place));
                }
            }
        }
        Ok(feeds)
    }

    /// What commits note of a directory's source.
    pub(crate) fn noted(&self, archive: &Archive, place: &TopicPartition) -> String {
        let directory = self.directories.get(place).map(|directory| directory.path.clone());
        SourceId::Archive { place: archive.place(), directory: Some(directory.unwrap_or_default()) }.noted()
    }

    /// Reads what lies at a place from an offset on.
    ///
    /// # Errors
    /// What cannot be listed.
    pub(crate) async fn read(
        &self,
        archive: &Archive,
        place: &TopicPartition,
        from: u64,
        options: ReadOptions,
    ) -> Result<ArchiveReader> {
        match self.directories.get(place) {
            Some(directory) => Ok(archive.read_directory(directory, from, options)),
            None => Ok(archive.read(place, from, options).await?),
        }
    }
}

/// Whether a place is a directory of another partitioner, in which offsets have gaps.
pub(crate) fn is_directory(place: &TopicPartition) -> bool {
    place.lineage >= FIRST_DIRECTORY
}
