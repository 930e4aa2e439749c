//! What new settings of a thousand services, each with four servers, cost: the thread that reads them, and each thread
//! that serves.

use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;

use divan::Bencher;
use region_proxy::config::Config;
use region_proxy::live::Live;
use region_proxy::local::Local;

fn main() {
    divan::main();
}

/// How many services differ from those before.
const CHANGED: [usize; 3] = [0, 1, SERVICES];
const SERVICES: usize = 1000;

/// Settings in which the first `changed` services have another weight.
fn text(changed: usize) -> String {
    let mut text = "region = \"r\"\nproxy = \"p\"\nlisten = [\"127.0.0.1:80\"]\nstatus = \"127.0.0.1:81\"\n".to_owned();
    for service in 0..SERVICES {
        let weight = 1 + u32::from(service < changed);
        text += &format!("[services.\"s{service:04}.example.com\".servers]\n");
        for server in 1..=4 {
            text += &format!("app-{server} = {{ address = \"192.0.2.{server}:9000\", weight = {weight} }}\n");
        }
    }
    text
}

fn config(changed: usize) -> Config {
    Config::parse(Path::new("p.toml"), &text(changed), &|_| Err(String::new())).expect("right")
}

fn first() -> Arc<Live> {
    Arc::new(Live::new(config(0), 2))
}

/// Aside, while all goes on.
#[divan::bench]
fn read_the_settings(bencher: Bencher<'_, '_>) {
    let text = text(0);
    bencher.bench(|| Config::parse(Path::new("p.toml"), &text, &|_| Err(String::new())));
}

/// On the thread of checks and of the status, while clients are served.
#[divan::bench(args = CHANGED)]
fn build_what_runs(bencher: Bencher<'_, '_>, changed: usize) {
    let (before, config) = (first(), config(changed));
    bencher.with_inputs(|| config.clone()).bench_values(|config| before.successor(config));
}

/// On each thread that serves, between two requests.
#[divan::bench(args = CHANGED)]
fn take_it_over(bencher: Bencher<'_, '_>, changed: usize) {
    let before = Rc::new(Local::new(first(), 0, None));
    let live = Arc::new(before.live.successor(config(changed)));
    bencher.with_inputs(|| Arc::clone(&live)).bench_local_values(|live| Local::new(live, 0, Some(&before)));
}
