//! Writes events of the generator (seed 100) to files instead of posting them: `dump DIR EVENTS replacement|sequence`.
//!
//! DIR gets pin.jsonl, geo.jsonl and user.jsonl, one value a line as it would be posted. `replacement` draws ids among those
//! of the reference, so that rows come again and again; `sequence` takes 0, 1, 2, …

use std::error::Error;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;

use pinmill_emulate::{DateForm, Generator, REFERENCE_ROWS, Table};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [dir, events, order] = arguments.as_slice() else {
        return Err("dump DIR EVENTS replacement|sequence".into());
    };
    let events: u64 = events.parse()?;
    std::fs::create_dir_all(dir)?;
    let generator = Generator::new(100);
    for table in Table::ALL {
        let path = Path::new(dir).join(format!("{}.jsonl", table.short_name()));
        let mut file = BufWriter::with_capacity(1 << 20, File::create(path)?);
        // Begun anew for each table, so that row n of each belongs to the same event.
        let mut draws = ChaCha8Rng::seed_from_u64(100);
        for event in 0..events {
            let id = match order.as_str() {
                "replacement" => draws.next_u64() % REFERENCE_ROWS,
                "sequence" => event,
                other => return Err(format!("`{other}` is neither replacement nor sequence").into()),
            };
            writeln!(file, "{}", generator.json(table, id, DateForm::Us)?)?;
        }
        file.flush()?;
    }
    Ok(())
}
