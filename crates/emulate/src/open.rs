//! Opening a source: the only place that knows all of them.

use std::sync::Arc;

use crate::generator::Generator;
#[cfg(any(feature = "sqlite", feature = "mysql", feature = "postgres"))]
use crate::source;
use crate::source::{Jsonl, Source, SourceError, SourceSpec};

/// Opens a source; `seed` is the generator's.
///
/// # Errors
/// When files or a database cannot be opened, or the build has no client for the database.
pub async fn open(spec: &SourceSpec, seed: u64) -> Result<Arc<dyn Source>, SourceError> {
    match spec {
        SourceSpec::Generator => Ok(Arc::new(Generator::new(seed))),
        SourceSpec::Jsonl(dir) => Ok(Arc::new(Jsonl::open(dir)?)),
        #[cfg(feature = "sqlite")]
        SourceSpec::Sqlite(path) => Ok(Arc::new(source::sqlite::Sqlite::open(path).await?)),
        #[cfg(feature = "mysql")]
        SourceSpec::MySql(url) => Ok(Arc::new(source::server::Server::<sqlx::MySql>::open(url).await?)),
        #[cfg(feature = "postgres")]
        SourceSpec::Postgres(url) => Ok(Arc::new(source::server::Server::<sqlx::Postgres>::open(url).await?)),
        #[cfg(not(feature = "sqlite"))]
        SourceSpec::Sqlite(_) => Err(SourceError::NotBuilt { what: "sqlite" }),
        #[cfg(not(feature = "mysql"))]
        SourceSpec::MySql(_) => Err(SourceError::NotBuilt { what: "mysql" }),
        #[cfg(not(feature = "postgres"))]
        SourceSpec::Postgres(_) => Err(SourceError::NotBuilt { what: "postgres" }),
    }
}
