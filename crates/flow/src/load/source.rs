//! Where the records of a topic partition come from, and whether a table may go on with them.
//!
//! A position says how far a table has come, not in what: the offsets of a topic and those of an old archive of the same
//! name are both counted from 0, and what the one has covered the other would lose. So each commit notes the source of
//! what it covers (`generation` of its ranges), and a table takes a topic partition from one source only.
//!
//! | records of | are noted as |
//! | --- | --- |
//! | the lake's own archive | the topic's generation, which the manifests say |
//! | another archive with manifests | the same |
//! | another archive, none of whose objects has one | its place, after [`ARCHIVE`] |

use pinmill_lake::archive::Archive;

use super::Loader;
use crate::{Error, Result};

/// Stands before the place of an archive that knows no generation; no generation begins like this.
const ARCHIVE: &str = "archive ";

/// Where records of a topic partition come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Source {
    /// The archive is the lake's own.
    own: bool,
    /// The topic's generation, where a manifest says it.
    generation: Option<String>,
    /// The archive's place, after [`ARCHIVE`].
    place: String,
}

impl Source {
    /// A topic partition of an archive, with the generation that its manifests say.
    pub(crate) fn new(archive: &Archive, own: bool, generation: Option<&str>) -> Self {
        let place = format!("{ARCHIVE}{}", archive.place());
        Self { own, generation: generation.map(str::to_owned), place }
    }

    /// What commits note of it.
    fn noted(&self) -> Option<&str> {
        self.generation.as_deref().or((!self.own).then_some(&*self.place))
    }

    /// Whether a table that has covered records of `found`, where that was noted, may go on with these.
    fn continues(&self, found: Option<&str>) -> bool {
        match (found, self.generation.as_deref()) {
            // It had no manifest at all when the table began with it.
            (Some(found), _) if !self.own && found == self.place => true,
            (Some(found), Some(generation)) => found == generation,
            // Own objects whose manifests are still to be written, or were lost.
            (Some(found), None) => self.own && !found.starts_with(ARCHIVE),
            // Noted by nobody: a table that was written before commits noted it.
            (None, _) => self.own,
        }
    }
}

/// A source for a person.
fn words(noted: Option<&str>, own: bool) -> String {
    match noted {
        Some(noted) if noted.starts_with(ARCHIVE) => format!("the {noted}"),
        Some(generation) => format!("the topic's generation {generation}"),
        None if own => "the lake's own archive".to_owned(),
        None => "a source that was not noted".to_owned(),
    }
}

impl Loader<'_> {
    /// Takes note of where a partition's records come from. To be called before any of them is given.
    ///
    /// # Errors
    /// [`Error::OtherSource`] where the table has covered records of another source.
    pub(crate) async fn comes_from(&mut self, index: usize, source: Source) -> Result<()> {
        let totals = self.table.totals().await?;
        let Some(partition) = self.partitions.get_mut(index) else {
            return Err(Error::Internal(format!("there is no partition number {index}")));
        };
        let key = (partition.place.topic.clone(), partition.place.partition);
        let found = totals.get(&key).and_then(|totals| totals.generation.as_deref());
        if let Some(position) = partition.after
            && !source.continues(found)
        {
            return Err(Error::OtherSource {
                table: self.table.name().to_owned(),
                topic: key.0,
                partition: key.1,
                position,
                found: words(found, false),
                given: words(source.noted(), source.own),
            });
        }
        partition.generation = found.or(source.noted()).map(str::to_owned);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The place of an archive that is not ours.
    const B: &str = "archive file:///b/topics";

    fn source(own: bool, generation: Option<&str>) -> Source {
        Source { own, generation: generation.map(str::to_owned), place: B.to_owned() }
    }

    #[test]
    fn a_table_goes_on_with_the_source_that_it_began_with() {
        let (ours, theirs) = (source(true, Some("g1")), source(false, None));
        for source in [&ours, &theirs] {
            assert!(source.continues(source.noted()));
        }
        assert!(!ours.continues(theirs.noted()));
        assert!(!theirs.continues(ours.noted()));
        assert!(!ours.continues(Some("g2")), "the topic was made anew");
        assert!(!theirs.continues(Some("archive file:///c/topics")), "another bucket");
    }

    #[test]
    fn an_object_without_a_manifest_is_its_topics_own_and_never_an_old_buckets() {
        let without = source(true, None);
        assert!(without.continues(Some("g1")));
        assert!(!without.continues(Some(B)));
    }

    #[test]
    fn an_archive_that_had_no_manifests_at_first_is_the_same_one_when_it_has() {
        let theirs = source(false, Some("g1"));
        assert!(theirs.continues(Some(B)) && theirs.continues(Some("g1")));
        assert!(!theirs.continues(Some("g2")));
    }

    #[test]
    fn tables_from_before_sources_were_noted_go_on_with_the_lakes_own_archive_alone() {
        assert!(source(true, Some("g1")).continues(None));
        assert!(source(true, None).continues(None));
        assert!(!source(false, None).continues(None));
        assert!(!source(false, Some("g1")).continues(None));
    }
}
