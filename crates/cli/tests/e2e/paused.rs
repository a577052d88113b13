//! A server that is stopped as a whole (SIGSTOP), as a machine does that sleeps: nobody takes its place on its data while it
//! lives, and whoever does when it is dead finds everything. How a loader ends that was replaced all the same, on another
//! copy of its data, is tested in `flow`.

use std::fs::File;
use std::process::Stdio;

use pinmill_testkit::KillOnDrop;
use serde_json::json;

use crate::stream_load::{Load, assert_each_once, assert_places_differ, gather};
use crate::world::{Client, World, await_some, block_on};

const STREAMING: &[&str] = &["--batch-every", "off", "--commit-every", "50ms"];

/// A second server on the same data says that another process has it, and ends.
fn assert_refused(world: &World) {
    let words = world.path("words");
    let mut command = world.command(&[&["serve", "--listen", "127.0.0.1:0", "-q"], STREAMING].concat());
    command.stdin(Stdio::null()).stderr(File::create(&words).unwrap());
    let mut second = KillOnDrop::spawn_piped(&mut command).unwrap();
    assert_eq!(second.read_line().unwrap(), "", "a second server serves the same data");
    assert_eq!(second.wait().unwrap().code(), Some(1));
    let words = std::fs::read_to_string(words).unwrap();
    assert!(words.contains("another process") && words.contains("log"), "{words}");
}

/// Lets a server stand still under load, tries to put another one in its place, and lets it go on or kills it.
fn stands_still(killed: bool) {
    let (world, load) = (World::new(), Load::on(&["user"]));
    let server = world.serve(STREAMING);
    let client = Client::new(&server.url);
    let ((written, errors), server) = block_on(async {
        let writers = load.start(&client, &[1, 2, 3]);
        await_some("rows of the load", || {
            world.stream_table("user").filter(|table| table["rows"] != json!(0))
        });
        server.pause();
        assert_refused(&world);
        if killed {
            server.kill();
            load.stop();
            return (gather(writers).await, None);
        }
        server.go_on();
        // What was waiting when it went on is answered.
        load.stop();
        (gather(writers).await, Some(server))
    });
    if let Some(server) = server {
        server.stop();
    }
    assert!(killed || errors.is_empty(), "{errors:?}");
    assert!(!written.is_empty(), "nothing was acknowledged");
    // The next one takes its place, if it has left one.
    world.serve(STREAMING).stop();
    assert_each_once(&world, written.iter().map(|(id, _)| *id));
    assert_places_differ(&written);
    world.assert_balanced();
}

#[test]
fn a_server_that_stands_still_is_not_replaced_and_doubles_nothing_when_it_goes_on() {
    stands_still(false);
}

#[test]
fn a_server_that_stood_still_is_replaced_when_it_is_dead_and_nothing_is_lost() {
    stands_still(true);
}
