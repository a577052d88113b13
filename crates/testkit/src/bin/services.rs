//! Servers for tests by hand: `services list`, `services install [NAME…]`, `services start NAME`.
//!
//! `start` prints the URL of a fresh server's database and keeps the server until its own input ends or it is killed.

use std::io::{self, Read, Write};
use std::process::ExitCode;

use pinmill_testkit::services::Service;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match act(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // nobody is left to be told that nobody reads stderr
            let _ = writeln!(io::stderr(), "services: {error}");
            ExitCode::FAILURE
        }
    }
}

fn act(arguments: &[String]) -> Result<(), Box<dyn std::error::Error>> {
    let mut out = io::stdout();
    let names = arguments.get(1..).unwrap_or_default().iter().map(|name| name.parse());
    let mut services: Vec<Service> = names.collect::<Result<_, _>>()?;
    match arguments.first().map(String::as_str) {
        Some("list") => {
            for service in Service::ALL {
                let place = service
                    .programs()
                    .map_or_else(|| "not installed".to_owned(), |path| path.display().to_string());
                writeln!(out, "{service}\t{}\t{place}", service.package())?;
            }
        }
        Some("install") => {
            if services.is_empty() {
                services = Service::ALL.to_vec();
            }
            for service in services {
                writeln!(out, "{service}\t{}", service.install()?.display())?;
            }
        }
        Some("start") if services.len() == 1 => {
            let running = services[0].start()?;
            writeln!(out, "{}", running.url())?;
            io::stdin().read_to_end(&mut Vec::new())?;
        }
        _ => return Err("use `services list`, `services install [NAME…]` or `services start NAME`".into()),
    }
    Ok(())
}
