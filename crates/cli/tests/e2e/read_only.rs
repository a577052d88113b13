//! A data folder on a mount without writes, as backups and images are looked at: what only reads works there.

use std::path::Path;
use std::process::{Command, Output, Stdio};

use crate::data::user;
use crate::world::{Client, World, block_on};

/// Runs a command while nothing in `folder` can be changed, in a mount namespace of its own.
fn without_writes(folder: &Path, command: &Command) -> Output {
    let script = r#"mount --bind "$0" "$0" && mount -o remount,ro,bind "$0" && exec "$@""#;
    Command::new("unshare")
        .args(["--map-root-user", "--mount", "sh", "-c", script])
        .arg(folder)
        .arg(command.get_program())
        .args(command.get_args())
        .stdin(Stdio::null())
        .output()
        .unwrap()
}

#[test]
fn a_log_on_a_mount_without_writes_is_verified_and_looked_at() {
    let world = World::new();
    let server = world.serve(&[]);
    block_on(Client::new(&server.url).post("a.user", &[user(1), user(2)])).unwrap();
    server.stop();
    let mut touch = Command::new("touch");
    touch.arg(world.data().join("log/LOCK"));
    let refused = without_writes(&world.data(), &touch);
    if !String::from_utf8_lossy(&refused.stderr).contains("Read-only file system") {
        pinmill_testkit::left_out("nothing may be mounted here, not even in a namespace of its own");
        return;
    }
    for args in [&["log", "verify"][..], &["log", "--streams", "verify"], &["tail", "a.user"], &["status"]] {
        let output = without_writes(&world.data(), &world.command(args));
        let (said, words) =
            (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success(), "{args:?}: {said}{words}");
        assert!(!said.is_empty(), "{args:?}");
    }
}
