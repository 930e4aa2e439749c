//! The demo at a terminal: commands in, a table out.

use std::io::{self, BufRead};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread;
use std::time::Duration;

use super::CLIENTS;
use super::command::{Command, HELP};
use super::expect::Eyes;
use super::screen::{Cursor, Screen};
use super::stage::Stage;
use super::watch::Watches;

/// Runs until `quit` or the end of the input.
pub fn run_live() -> Result<(), String> {
    let mut stage = Stage::start(|line| println!("{line}"))?;
    let input = read_input();
    let mut screen = Screen::new(guide());
    loop {
        match input.recv_timeout(LOOK_EVERY) {
            Ok(line) => match Command::parse(&line) {
                Ok(Some(Command::Quit)) => break,
                Ok(Some(command)) => screen.say(&act(&mut stage, &command)),
                Ok(None) => screen.draw(Cursor::ToPrompt),
                Err(mistake) => screen.say(&mistake),
            },
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => break,
        }
        screen.show(stage.world.status());
    }
    drop(stage);
    println!("\nThe demo has ended: all its programs are stopped, its folder is removed.");
    Ok(())
}

fn act(stage: &mut Stage, command: &Command) -> String {
    let done = match command {
        Command::Help => Ok(guide()),
        Command::Expect(expected, _) => Eyes::new().check(&stage.world, &Watches::default(), expected),
        Command::Watch(..) => Err("watch is for scripts".to_owned()),
        other => stage.act(other),
    };
    done.unwrap_or_else(|why| format!("not done: {why}"))
}

/// What can be done: here, and by clients in five countries in another terminal. No line is wider than 80 columns.
fn guide() -> String {
    let mut text = HELP.join("\n");
    text += "\nAsk and fetch a page as a client in one of these countries, in another terminal:\n";
    for (country, client) in CLIENTS {
        text += &format!("  {country:<9}{ASK} +subnet={}\n", subnet(client));
    }
    for (country, client) in CLIENTS {
        text += &format!("  {country:<9}curl --connect-to ::$({ASK} \\\n");
        text += &format!("             +subnet={}):8080 http://www.gslb.test:8080/\n", subnet(client));
    }
    text
}

fn subnet(client: &str) -> String {
    format!("{}.0/24", client.rsplit_once('.').map_or(client, |(net, _)| net))
}

/// The lines of the input, read by a thread of its own.
fn read_input() -> Receiver<String> {
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        for line in io::stdin().lock().lines().map_while(Result::ok) {
            if sender.send(line).is_err() {
                return;
            }
        }
    });
    receiver
}

const LOOK_EVERY: Duration = Duration::from_millis(200);
const ASK: &str = "dig @127.0.0.1 -p 5300 www.gslb.test +short";
