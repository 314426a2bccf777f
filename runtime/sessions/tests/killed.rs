//! Kills a process that stores turns, at random moments, and looks whether an acknowledged one is lost.
//!
//! `OCELLI_KILLS` asks for another number of times than 6.

use std::env;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use agent::{Content, Origin, Part, Pictures, Role, Turn};
use sessions::{SessionId, Store};

const CHILD: &str = "OCELLI_KILLED_STORE";

fn main() {
    match env::var_os(CHILD) {
        Some(path) => store_turns(Path::new(&path)),
        None => no_acknowledged_turn_is_lost(),
    }
}

/// Says the name of a session, then the number of each turn once it is stored. Never ends by itself.
fn store_turns(path: &Path) {
    let mut store = Store::open(path).unwrap();
    let session = store.create("").unwrap();
    let mut out = std::io::stdout().lock();
    writeln!(out, "{}", session.0).unwrap();
    for n in 0_u64.. {
        let (turn, pictures) = turn(n);
        store.append(&session, &turn, &pictures).unwrap();
        // The parent may be gone.
        if writeln!(out, "{n}").and_then(|()| out.flush()).is_err() {
            return;
        }
    }
}

/// A turn with words and, now and then, a picture.
fn turn(n: u64) -> (Turn, Pictures) {
    let mut pictures = Pictures::default();
    let mut parts = vec![Part::text(Origin::User, format!("turn {n} {}", "x".repeat(n as usize % 700)))];
    if n.is_multiple_of(3) {
        let id = pictures.add(vec![n as u8; 5_000 + 97 * (n as usize % 50)]);
        parts.push(Part { origin: Origin::Picture, content: Content::Picture(id) });
    }
    (Turn::new(Role::User, parts), pictures)
}

fn no_acknowledged_turn_is_lost() {
    let n_kills: u64 = env::var("OCELLI_KILLS").map_or(6, |n| n.parse().unwrap());
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("sessions.db");
    let (mut random, mut n_acknowledged, mut n_unacknowledged) = (0x2545_f491_4f6c_dd1d_u64, 0, 0);
    for kill in 0..n_kills {
        let mut child = Command::new(env::current_exe().unwrap())
            .env(CHILD, &path)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let session = SessionId(lines.next().unwrap().unwrap());
        // After so many turns, and then a moment that no turn ends at.
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(kill + 1);
        let wait_for = (random >> 33) % 12;
        let mut acknowledged = 0;
        while acknowledged < wait_for {
            acknowledged = 1 + lines.next().unwrap().unwrap().parse::<u64>().unwrap();
        }
        std::thread::sleep(Duration::from_micros((random >> 40) % 3_000));
        child.kill().unwrap();
        child.wait().unwrap();
        // What was said before the end counts, though it is read only now.
        for line in lines.map_while(Result::ok) {
            acknowledged = 1 + line.parse::<u64>().unwrap();
        }
        let store = Store::open(&path).unwrap();
        let stored = store.turns(&session).unwrap();
        assert!(
            stored.len() as u64 >= acknowledged,
            "kill {kill}: {} stored of {acknowledged}",
            stored.len()
        );
        let pictures = store.pictures(&session).unwrap();
        for (n, entry) in (0..).zip(&stored) {
            let (expected, of_it) = turn(n);
            assert_eq!(entry.turn, expected, "kill {kill}, turn {n}");
            assert!(of_it.iter().all(|(id, bytes)| pictures.get(id) == Some(bytes)));
        }
        n_acknowledged += acknowledged;
        n_unacknowledged += stored.len() as u64 - acknowledged;
    }
    let _ = writeln!(
        std::io::stdout(),
        "{n_kills} kills: {n_acknowledged} turns acknowledged, 0 lost, {n_unacknowledged} stored beyond"
    );
}
