//! Prints rows of the generator as JSON lines, or how fast it makes them: `rows [pin|geo|user|speed] [FIRST] [COUNT]`.

use std::io::{self, Write};
use std::time::Instant;

use pinmill_emulate::{DateForm, Generator, Table};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let what = arguments.next().unwrap_or_else(|| "pin".to_owned());
    let first: u64 = arguments.next().map_or(Ok(0), |text| text.parse())?;
    let count: u64 = arguments.next().map_or(Ok(10), |text| text.parse())?;
    let generator = Generator::new(100);
    let mut out = io::BufWriter::new(io::stdout().lock());
    if what == "speed" {
        for table in Table::ALL {
            let (start, mut bytes) = (Instant::now(), 0);
            for id in first..first + count {
                bytes += generator.json(table, id, DateForm::Us)?.len();
            }
            let seconds = start.elapsed().as_secs_f64();
            writeln!(
                out,
                "{table}: {:.0} rows/s, {} bytes a row",
                count as f64 / seconds,
                bytes as u64 / count.max(1)
            )?;
        }
        return Ok(());
    }
    let table = Table::ALL.into_iter().find(|table| table.short_name() == what).ok_or("no such table")?;
    for id in first..first + count {
        writeln!(out, "{}", generator.json(table, id, DateForm::Sql)?)?;
    }
    Ok(())
}
