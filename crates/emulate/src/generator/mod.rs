//! The generator: rows like those of the reference system, made up on the spot.
//!
//! Row `id` of each table is a pure function of the seed and the id. Nothing is remembered from row to row, so ten million
//! rows need the memory of one, and any row can be had without the rows before it. The shape of the data (shares, error
//! groups, users with many posts) belongs to blocks of [`BLOCK`] rows: ids 0..[`BLOCK`] have the shape of the reference's
//! tables, and every further block has it again with other people.
//!
//! All text is composed from the word lists beside this file.

mod countries;
mod draw;
mod people;
mod pins;
mod text;
mod words;

use async_trait::async_trait;
use serde::Serialize;

use crate::source::{DateForm, Source, SourceError, Table};
use draw::Seed;
use people::{People, posted};
use pins::Accounts;

/// Rows of the reference's tables: ids 0 to 11,153.
pub const BLOCK: u64 = 11_154;

/// Rows of all three tables, made from a seed.
#[derive(Debug)]
pub struct Generator {
    seed: Seed,
    people: People,
    accounts: Accounts,
}

/// A row of `pinterest_data`, in the order of its columns.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct PinRow {
    /// The key.
    pub index: u64,
    /// A version 4 UUID.
    pub unique_id: String,
    /// At most 199 characters.
    pub title: String,
    /// At most 180 characters.
    pub description: String,
    /// With blanks at its ends now and then.
    pub poster_name: String,
    /// `"942"`, `"20k"`, `"2M"` or `"User Info Error"`.
    pub follower_count: String,
    /// Nine tags, joined by commas.
    pub tag_list: String,
    /// `image`, `video` or `multi-video(story page format)`.
    pub is_image_or_video: &'static str,
    /// A URL or `Image src error.`.
    pub image_src: String,
    /// 1, or 0 without an image.
    pub downloaded: u8,
    /// `Local save in /data/<category>`.
    pub save_location: String,
    /// One of thirteen.
    pub category: &'static str,
}

/// A row of `geolocation_data`, in the order of its columns.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct GeoRow {
    /// The key.
    pub ind: u64,
    /// When the post was made, in the form asked for.
    pub timestamp: String,
    /// -90 to 90 degrees.
    pub latitude: f64,
    /// -180 to 180 degrees.
    pub longitude: f64,
    /// One of 243; it does not lie at the coordinates.
    pub country: &'static str,
}

/// A row of `user_data`, in the order of its columns.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct UserRow {
    /// The key.
    pub ind: u64,
    /// A given name.
    pub first_name: &'static str,
    /// A family name.
    pub last_name: String,
    /// 20 to 60 years.
    pub age: u8,
    /// In the form asked for.
    pub date_joined: String,
}

impl Generator {
    /// The rows of `seed`; 100 is the reference's.
    pub fn new(seed: u64) -> Self {
        Self { seed: Seed::new(seed), people: People::new(), accounts: Accounts::new() }
    }

    /// Row `id` of `pinterest_data`.
    pub fn pin(&self, id: u64) -> PinRow {
        pins::pin(&self.seed, &self.accounts, id)
    }

    /// Row `id` of `geolocation_data`.
    pub fn geo(&self, id: u64, form: DateForm) -> GeoRow {
        let person = self.people.author(&self.seed, id, id / BLOCK);
        GeoRow {
            ind: id,
            timestamp: form.write(posted(&self.seed, id, person.joined)),
            latitude: f64::from(person.latitude) / 10_000.0,
            longitude: f64::from(person.longitude) / 10_000.0,
            country: person.country,
        }
    }

    /// Row `id` of `user_data`.
    pub fn user(&self, id: u64, form: DateForm) -> UserRow {
        let person = self.people.author(&self.seed, id, id / BLOCK);
        UserRow {
            ind: id,
            first_name: person.first_name,
            last_name: person.last_name,
            age: person.age,
            date_joined: form.write(person.joined),
        }
    }

    /// Row `id` of a table as JSON text.
    ///
    /// # Errors
    /// None that is known: all values are finite numbers and text.
    pub fn json(&self, table: Table, id: u64, form: DateForm) -> Result<String, SourceError> {
        let text = match table {
            Table::Pin => serde_json::to_string(&self.pin(id)),
            Table::Geo => serde_json::to_string(&self.geo(id, form)),
            Table::User => serde_json::to_string(&self.user(id, form)),
        };
        text.map_err(|source| SourceError::Encode { table, id, source })
    }
}

#[async_trait]
impl Source for Generator {
    async fn row(&self, table: Table, id: u64, form: DateForm) -> Result<Option<String>, SourceError> {
        self.json(table, id, form).map(Some)
    }

    fn rows(&self) -> Option<u64> {
        None
    }
}
