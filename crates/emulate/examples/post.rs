//! Posts the generator's events to a gateway as fast as it goes: `post URL [EVENTS] [CONNECTIONS] [RECORDS A REQUEST] [TO]`,
//! where TO is topics, streams or both.

use std::io::Write;
use std::sync::Arc;

use pinmill_emulate::{Generator, Options, To, emulate};
use tokio_util::sync::CancellationToken;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let url = arguments.next().ok_or("post URL [EVENTS] [CONNECTIONS] [RECORDS A REQUEST] [TO]")?;
    let posts = arguments.next().map_or(Ok(11_154), |text| text.parse())?;
    let connections = arguments.next().map_or(Ok(16), |text| text.parse())?;
    let records_per_request = arguments.next().map_or(Ok(1), |text| text.parse())?;
    let to: To = arguments.next().map_or(Ok(To::Topics), |text| text.parse())?;
    let options = Options {
        posts: Some(posts),
        connections,
        records_per_request,
        progress: true,
        ..Options::new(to.targets(Some(&url), Some("124df56aef51"), None)?)
    };
    let summary = emulate(options, Arc::new(Generator::new(100)), &CancellationToken::new()).await?;
    writeln!(std::io::stdout(), "{summary}")?;
    if summary.is_complete() {
        Ok(())
    } else {
        Err(format!("{:?} {:?}", summary.gave_up, summary.errors).into())
    }
}
