//! Putting small files together, so that a table of one-second commits stays a table of few files.
//!
//! Files are sorted into tiers by size, each [`CompactPolicy::fan_in`] times the one below. A tier that has that many
//! files is put together into one of the next tier, so every row is written again only as often as there are tiers,
//! and a table has at most `fan_in` files a tier besides its full ones.
//!
//! A merge is one commit that removes the small files and adds the large one, marked as no change of data; positions
//! and totals stay what they are. Rows that come in meanwhile are in other files and are not touched. The small files
//! stay on disk for readers of older versions, until a vacuum.
//!
//! | the process dies | then |
//! | --- | --- |
//! | before the commit | the large file is an orphan; the small ones are the table |
//! | after it | done |

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use arrow::array::{RecordBatch, new_null_array};
use arrow::datatypes::SchemaRef;
use deltalake_core::kernel::{Action, LogicalFileView};
use deltalake_core::protocol::DeltaOperation;
use object_store::path::Path;

use super::{CommitPlan, Committed, DataFile, Table, WriterOptions, WrittenFile};
use crate::{Error, Result};

/// Files smaller than this are all in the lowest tier.
const LOWEST_TIER_BYTES: u64 = 64 << 10;

/// How often one merge is tried.
const ATTEMPTS: u32 = 3;

/// When files are put together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CompactPolicy {
    /// Files of about this many bytes or more stay as they are.
    pub full_bytes: u64,
    /// How many files of a tier are put together.
    pub fan_in: usize,
}

impl Default for CompactPolicy {
    fn default() -> Self {
        Self { full_bytes: 64 << 20, fan_in: 16 }
    }
}

/// What a compaction did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Compacted {
    /// Commits made.
    pub commits: u64,
    /// Files put together.
    pub removed: u64,
    /// Files made of them.
    pub added: u64,
    /// Bytes written.
    pub bytes: u64,
}

impl CompactPolicy {
    /// Everything that is not full is put together, whatever the tiers say: for a table that has come to rest.
    #[must_use]
    pub fn thorough(self) -> Self {
        Self { fan_in: 2, ..self }
    }

    fn tier(&self, size: u64) -> u32 {
        let mut bound = LOWEST_TIER_BYTES;
        let mut tier = 0;
        while size >= bound {
            bound = bound.saturating_mul(self.fan_in.max(2) as u64);
            tier += 1;
        }
        tier
    }

    /// The next files to be put together, as indices into `sizes`; empty when none are.
    fn next_group(&self, sizes: &[u64]) -> Vec<usize> {
        let fan_in = self.fan_in.max(2);
        let mut tiers: BTreeMap<u32, Vec<usize>> = BTreeMap::new();
        for (index, &size) in sizes.iter().enumerate().filter(|(_, size)| **size < self.full_bytes) {
            tiers.entry(self.tier(size)).or_default().push(index);
        }
        for files in tiers.into_values() {
            let bytes: u64 = files.iter().map(|&index| sizes[index]).sum();
            if files.len() >= fan_in || (files.len() > 1 && bytes >= self.full_bytes) {
                return self.within_bounds(files, sizes);
            }
        }
        Vec::new()
    }

    /// As many of the files as make one full file, two at least: a merge is bounded in time and memory.
    fn within_bounds(&self, files: Vec<usize>, sizes: &[u64]) -> Vec<usize> {
        let mut bytes = 0;
        let mut taken = Vec::new();
        for index in files {
            if taken.len() >= 2 && bytes >= self.full_bytes {
                break;
            }
            bytes += sizes[index];
            taken.push(index);
        }
        taken
    }
}

impl Table {
    /// Puts small files together until none are left that the policy would. Others may commit meanwhile.
    ///
    /// # Errors
    /// [`Error::Store`], [`Error::Corrupt`] for a data file that cannot be read, [`Error::Delta`],
    /// [`Error::Contention`]. What was put together before the error stays so.
    pub async fn compact(&mut self, policy: &CompactPolicy) -> Result<Compacted> {
        let (mut done, mut attempts) = (Compacted::default(), 0);
        loop {
            self.refresh().await?;
            let files = self.compactable()?;
            let sizes: Vec<u64> = files.iter().map(|file| file.size).collect();
            let group = policy.next_group(&sizes);
            if group.is_empty() {
                return Ok(done);
            }
            let group: Vec<&DataFile> = group.iter().filter_map(|&index| files.get(index)).collect();
            attempts += 1;
            match self.merge(&group, policy).await {
                Ok(files) => {
                    attempts = 0;
                    done.commits += 1;
                    done.removed += group.len() as u64;
                    done.added += files.len() as u64;
                    done.bytes += files.iter().map(|file| file.size).sum::<u64>();
                }
                // Somebody else put the same files together, or replaced their rows: theirs counts.
                Err(Error::Fenced { .. }) => return Ok(done),
                // The new file waited for so long that a vacuum may have taken it.
                Err(Error::Stale { .. }) if attempts < ATTEMPTS => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// The data files whose rows are all in the table, oldest first.
    fn compactable(&self) -> Result<Vec<DataFile>> {
        let state = self.delta.snapshot().map_err(|e| self.delta_error("list the files", e))?;
        // Another program's deletion vector says that some rows of its file are gone.
        let whole = |view: &LogicalFileView| view.remove_action(false).deletion_vector.is_none();
        let mut files: Vec<(i64, DataFile)> = state
            .log_data()
            .iter()
            .filter(whole)
            .map(|view| (view.modification_time(), self.data_file(&view)))
            .collect();
        files.sort_by(|a, b| (a.0, &a.1.path).cmp(&(b.0, &b.1.path)));
        Ok(files.into_iter().map(|(_, file)| file).collect())
    }

    async fn merge(&mut self, group: &[&DataFile], policy: &CompactPolicy) -> Result<Vec<WrittenFile>> {
        let file_bytes = usize::try_from(policy.full_bytes).unwrap_or(usize::MAX);
        let mut writer = self.writer(WriterOptions { file_bytes, ..WriterOptions::default() });
        let mut rows = 0;
        for file in group {
            for batch in self.batches(file).await? {
                let batch = aligned(&batch?, self.schema()).map_err(|why| Error::corrupt(&file.path, why))?;
                rows += batch.num_rows() as u64;
                writer.write(&batch).await?;
            }
        }
        let files = writer.finish().await?;
        let written: u64 = files.iter().map(|file| file.rows).sum();
        let expected: Option<u64> = group.iter().map(|file| file.rows).sum();
        if written != rows || expected.is_some_and(|expected| expected != rows) {
            let reason = format!("{rows} rows were read, {expected:?} expected and {written} written");
            return Err(Error::TableLog { table: self.name.clone(), version: self.version(), reason });
        }
        self.replace_files(group, files, policy).await
    }

    /// One commit: these files instead of those, with the same rows.
    async fn replace_files(
        &mut self,
        old: &[&DataFile],
        new: Vec<WrittenFile>,
        policy: &CompactPolicy,
    ) -> Result<Vec<WrittenFile>> {
        let paths: BTreeSet<Path> = old.iter().map(|file| file.path.clone()).collect();
        let actions = |table: &Self| -> Result<Vec<Action>> {
            // Asked at each attempt: somebody may have replaced them meanwhile.
            let actions = table.removes(|view| paths.contains(&table.data_file(view).path), false)?;
            if actions.len() != paths.len() {
                return Err(Error::fenced(&table.name, "files that were being put together were replaced"));
            }
            Ok(actions)
        };
        fail::fail_point!("lake::table::before_compaction", |_| Err(Error::Task {
            doing: "put files together",
            reason: "failpoint".into()
        }));
        let target_size = i64::try_from(policy.full_bytes).unwrap_or(i64::MAX);
        let operation = DeltaOperation::Optimize { predicate: None, target_size };
        let plan = CommitPlan { files: new, ..CommitPlan::default() };
        let done = self.commit_actions(&plan, operation, actions).await?;
        debug_assert!(
            matches!(done, Committed::Committed { .. }),
            "a plan without ranges is never found there"
        );
        fail::fail_point!("lake::table::after_compaction", |_| Err(Error::Task {
            doing: "put files together",
            reason: "failpoint".into()
        }));
        Ok(plan.files)
    }
}

/// The rows with the table's columns; one that was added to the table later is NULL.
fn aligned(batch: &RecordBatch, schema: &SchemaRef) -> Result<RecordBatch, arrow::error::ArrowError> {
    let column = |field: &arrow::datatypes::FieldRef| match batch.column_by_name(field.name()) {
        Some(column) if column.data_type() == field.data_type() => Ok(Arc::clone(column)),
        Some(column) => arrow::compute::cast(column, field.data_type()),
        None => Ok(new_null_array(field.data_type(), batch.num_rows())),
    };
    let columns = schema.fields().iter().map(column).collect::<Result<Vec<_>, _>>()?;
    RecordBatch::try_new(Arc::clone(schema), columns)
}

#[cfg(test)]
mod tests {
    use super::*;

    const POLICY: CompactPolicy = CompactPolicy { full_bytes: 64 << 20, fan_in: 16 };

    #[test]
    fn a_tier_is_put_together_when_it_is_full_and_a_full_file_never() {
        assert_eq!(POLICY.next_group(&[1000; 15]), Vec::<usize>::new());
        assert_eq!(POLICY.next_group(&[1000; 16]).len(), 16);
        assert_eq!(POLICY.next_group(&[64 << 20; 100]), Vec::<usize>::new());
        // Files of other tiers do not count.
        let mut sizes = vec![1000; 15];
        sizes.push(1 << 20);
        assert_eq!(POLICY.next_group(&sizes), Vec::<usize>::new());
        assert_eq!(POLICY.next_group(&[40 << 20, 30 << 20]), [0, 1], "together they are a full one");
    }

    #[test]
    fn one_merge_takes_no_more_than_makes_a_full_file() {
        let group = POLICY.next_group(&[60 << 20; 10]);
        assert_eq!(group.len(), 2);
    }

    /// A day of one-second commits of any size leaves few files: every commit adds one, every sixteenth tidies up.
    #[test]
    fn a_day_of_one_second_commits_leaves_few_files() {
        for bytes in [2_000_u64, 30_000, 200_000] {
            let (mut files, mut most, mut written) = (Vec::new(), 0, 0_u64);
            for second in 0..86_400_u64 {
                files.push(bytes + second % 100);
                if second % 16 == 15 {
                    loop {
                        let group: BTreeSet<usize> = POLICY.next_group(&files).into_iter().collect();
                        if group.is_empty() {
                            break;
                        }
                        let merged: u64 = group.iter().map(|&index| files[index]).sum();
                        written += merged;
                        let mut index = 0;
                        files.retain(|_| {
                            index += 1;
                            !group.contains(&(index - 1))
                        });
                        files.push(merged);
                    }
                }
                let small = files.iter().filter(|size| **size < POLICY.full_bytes).count();
                most = most.max(small);
            }
            assert!(most < 100, "{most} small files of {bytes} bytes");
            let total = bytes * 86_400;
            assert!(written < total * 6, "{written} bytes were written for {total}");
        }
    }
}
