//! A lake that need not be there yet.

use std::sync::{Arc, OnceLock};

use crate::{Error, Lake, Result};

/// A place at which a lake is opened when it is first needed, so that a server can start while it is out of reach.
/// Cheap to clone; clones share what is open.
#[derive(Debug, Clone)]
pub struct LateLake(Arc<Late>);

#[derive(Debug)]
struct Late {
    location: String,
    open: OnceLock<Lake>,
}

impl LateLake {
    /// A lake at a directory or an object store URL. Nothing is opened or made yet.
    ///
    /// # Errors
    /// [`Error::Location`] where no lake of this build can ever be there.
    pub fn at(location: &str) -> Result<Self> {
        Lake::check_location(location)?;
        Ok(Self(Arc::new(Late { location: location.to_owned(), open: OnceLock::new() })))
    }

    /// What was asked for.
    pub fn location(&self) -> &str {
        &self.0.location
    }

    /// The lake. An error is not kept: the next call tries again.
    ///
    /// # Errors
    /// As [`Lake::open`].
    pub async fn open(&self) -> Result<Lake> {
        if let Some(lake) = self.0.open.get() {
            return Ok(lake.clone());
        }
        let late = Arc::clone(&self.0);
        let opening = tokio::task::spawn_blocking(move || {
            Lake::check_tables_at(&late.location)?;
            let lake = Lake::open(&late.location)?;
            Ok(late.open.get_or_init(|| lake).clone())
        });
        opening.await.map_err(|error| Error::task("open the lake", &error))?
    }
}

impl From<&Lake> for LateLake {
    fn from(lake: &Lake) -> Self {
        Self(Arc::new(Late { location: lake.url().to_string(), open: OnceLock::from(lake.clone()) }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_lake_that_is_out_of_reach_is_opened_when_it_is_there() {
        let dir = tempfile::tempdir().unwrap();
        let place = dir.path().join("lake");
        std::fs::write(&place, "in the way").unwrap();
        let late = LateLake::at(place.to_str().unwrap()).unwrap();
        assert!(late.open().await.is_err());
        std::fs::remove_file(&place).unwrap();
        let lake = late.open().await.unwrap();
        assert!(place.is_dir());
        assert_eq!(late.clone().open().await.unwrap().url(), lake.url());
    }

    #[test]
    fn a_place_that_can_never_be_a_lake_is_refused_at_once() {
        assert!(LateLake::at("ftp://host/x").is_err());
        assert!(LateLake::at("").is_err());
        assert!(LateLake::at("a%41b").is_err());
    }
}
