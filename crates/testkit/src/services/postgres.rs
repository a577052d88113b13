//! PostgreSQL.

use std::path::{Path, PathBuf};

use super::running::Running;
use super::{as_nobody, find, give_away, run};
use crate::temp_dir;

pub(super) fn programs() -> Option<PathBuf> {
    // Debian keeps them out of the search path, a folder for each version.
    let versions = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let debian = versions.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok()).max();
    let debian = debian.map(|version| PathBuf::from(format!("/usr/lib/postgresql/{version}/bin")));
    debian
        .into_iter()
        .chain(find("initdb"))
        .find(|folder| folder.join("postgres").is_file() && folder.join("initdb").is_file())
}

pub(super) fn start(programs: &Path) -> Result<Running, String> {
    let dir = temp_dir();
    let data = dir.path().join("data");
    let password = dir.path().join("password");
    let made = std::fs::create_dir(&data).and_then(|()| std::fs::write(&password, "p%40 in:mill\n"));
    let given = made
        .and_then(|()| give_away(dir.path()))
        .and_then(|()| give_away(&data))
        .and_then(|()| give_away(&password));
    given.map_err(|e| format!("{}: {e}", dir.path().display()))?;

    let mut init = as_nobody(&programs.join("initdb"));
    init.arg("--pgdata").arg(&data).arg("--pwfile").arg(&password);
    init.args(["--username=pinmill", "--auth=scram-sha-256", "--encoding=UTF8", "--no-locale", "--no-sync"]);
    run(init.current_dir(dir.path()))?;

    let home = dir.path().to_path_buf();
    let server = |port: u16| {
        let mut server = as_nobody(&programs.join("postgres"));
        server
            .arg("-D")
            .arg(&data)
            .arg("-k")
            .arg(&home)
            .args(["-p", &port.to_string(), "-c", "listen_addresses=127.0.0.1"])
            // a server that is thrown away does not need its data safe
            .args(["-c", "fsync=off", "-c", "shared_buffers=16MB"])
            .current_dir(&home);
        server
    };
    let url = |port: u16| format!("postgres://pinmill:p%2540%20in%3Amill@127.0.0.1:{port}/postgres");
    Running::start(dir, server, url, |log, _| log.contains("ready to accept connections"))
}
