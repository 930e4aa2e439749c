use std::path::Path;
use std::sync::Arc;

use super::*;
use crate::config::Config;

/// One service with servers `a` and `b`; `weight` is what a reload changes.
fn config(weight: u16, rest: &str) -> Config {
    let text = format!(
        "region = \"r\"\nproxy = \"p\"\nlisten = [\"127.0.0.1:80\"]\nstatus = \"127.0.0.1:81\"\n[services.s]\n\
         balance = \"least_connections\"\n[services.s.servers]\n\
         a = {{ address = \"192.0.2.1:80\", weight = {weight}{rest} }}\n\
         b = {{ address = \"192.0.2.2:80\", weight = {weight}{rest} }}\n"
    );
    Config::parse(Path::new("p.toml"), &text, &|_| Err(String::new())).expect("right")
}

fn first(config: Config) -> Rc<Local> {
    Rc::new(Local::new(Arc::new(Live::new(config, 1)), 0, None))
}

fn next(before: &Local, config: Config) -> Rc<Local> {
    Rc::new(Local::new(Arc::new(before.live.successor(config)), 0, Some(before)))
}

fn flight(local: &Rc<Local>) -> Flight {
    Flight::new(Rc::clone(local), 0).expect("a service")
}

/// The server that the next request is given.
fn chosen(flight: &mut Flight) -> usize {
    match flight.choose(Sticky::Nothing, None, &[]) {
        Choice::Server(server) => server,
        other => panic!("{other:?}"),
    }
}

fn is_called(flight: &mut Flight) -> bool {
    flight.poll_call(Waker::noop()).is_ready()
}

#[test]
fn requests_count_at_servers_that_stay_whatever_settings_they_began_with() {
    let old = first(config(1, ""));
    let mut before = [flight(&old), flight(&old), flight(&old)];
    let taken = before.each_mut().map(chosen);
    assert_eq!(taken, [0, 1, 0]);
    let new = next(&old, config(2, ""));
    assert!(!Rc::ptr_eq(&old.pools[0], &new.pools[0]));
    assert_eq!(chosen(&mut flight(&new)), 1, "two are under way at the other");
    drop(before);
    let mut after = [flight(&new), flight(&new)];
    let mut shares = after.each_mut().map(chosen);
    shares.sort_unstable();
    assert_eq!(shares, [0, 1], "what began by the old settings has ended by the new ones too");
    assert_eq!([0, 1].map(|server| new.pools[0].balancer.borrow().in_flight(server)), [1, 1]);
}

#[test]
fn a_service_whose_settings_stay_keeps_all_that_is_known_of_it() {
    let old = first(config(1, ""));
    let mut other = config(1, "");
    other.retries += 1;
    assert!(Rc::ptr_eq(&old.pools[0], &next(&old, other).pools[0]));
}

#[test]
fn a_place_is_passed_on_to_who_waits_by_other_settings() {
    let old = first(config(1, ", connections = 1"));
    let mut before = [flight(&old), flight(&old), flight(&old)];
    let [one, two, waiting] = before.each_mut();
    assert_eq!([chosen(one), chosen(two)], [0, 1]);
    assert!(waiting.choose(Sticky::Nothing, None, &[]) == Choice::Wait(None) && waiting.wait(None, &[]));
    let new = next(&old, config(2, ", connections = 1"));
    let mut newcomer = flight(&new);
    assert!(newcomer.choose(Sticky::Nothing, None, &[]) == Choice::Wait(None) && newcomer.wait(None, &[]));
    let [one, two, mut waiting] = before;
    drop(one);
    assert!(is_called(&mut waiting) && !is_called(&mut newcomer), "who came first is first");
    drop(two);
    assert!(is_called(&mut newcomer));
    let mut last = flight(&old);
    assert!(last.choose(Sticky::Nothing, None, &[]) == Choice::Wait(None) && last.wait(None, &[]));
    drop(newcomer);
    assert!(is_called(&mut last), "a place that a request of the new settings leaves is one for the old ones");
}
