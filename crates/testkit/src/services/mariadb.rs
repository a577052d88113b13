//! MariaDB.

use std::path::{Path, PathBuf};

use super::running::{Running, speaks};
use super::{as_nobody, find, give_away, run};
use crate::temp_dir;

/// Run when the server starts, before it takes connections.
const INIT: &str = "CREATE DATABASE IF NOT EXISTS pinterest_data CHARACTER SET utf8mb4;\n\
    CREATE USER IF NOT EXISTS 'pinmill'@'%' IDENTIFIED BY 'p%40 in:mill';\n\
    GRANT ALL ON *.* TO 'pinmill'@'%';\n";

pub(super) fn programs() -> Option<PathBuf> {
    // the program that makes a data directory may lie elsewhere, but there is none without the other
    find("mariadbd").filter(|_| find("mariadb-install-db").is_some())
}

pub(super) fn start(programs: &Path) -> Result<Running, String> {
    let dir = temp_dir();
    let data = dir.path().join("data");
    let init = dir.path().join("init.sql");
    let written = std::fs::create_dir(&data).and_then(|()| std::fs::write(&init, INIT));
    let given = written.and_then(|()| give_away(dir.path())).and_then(|()| give_away(&data));
    given.map_err(|e| format!("{}: {e}", dir.path().display()))?;

    let Some(scripts) = find("mariadb-install-db") else {
        return Err("mariadb-install-db is gone".to_owned());
    };
    let mut install = as_nobody(&scripts.join("mariadb-install-db"));
    install.arg("--no-defaults").arg(format!("--datadir={}", data.display()));
    run(install
        .args(["--auth-root-authentication-method=normal", "--skip-test-db"])
        .current_dir(dir.path()))?;

    let home = dir.path().to_path_buf();
    let server = |port: u16| {
        let mut server = as_nobody(&programs.join("mariadbd"));
        server
            .arg("--no-defaults")
            .arg(format!("--datadir={}", data.display()))
            .arg(format!("--socket={}", home.join("sock").display()))
            .arg(format!("--pid-file={}", home.join("pid").display()))
            .arg(format!("--init-file={}", init.display()))
            .arg(format!("--port={port}"))
            // a server that is thrown away needs neither much memory nor its data safe
            .args(["--bind-address=127.0.0.1", "--skip-name-resolve", "--skip-log-bin"])
            .args(["--innodb-flush-log-at-trx-commit=0", "--innodb-buffer-pool-size=32M"])
            .current_dir(&home);
        server
    };
    let url = |port: u16| format!("mysql://pinmill:p%2540%20in%3Amill@127.0.0.1:{port}/pinterest_data");
    // That somebody speaks at the port is not enough: it may be the one who took it.
    Running::start(dir, server, url, |log, port| log.contains("ready for connections") && speaks(port))
}
