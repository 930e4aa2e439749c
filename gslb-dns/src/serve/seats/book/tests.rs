use std::cell::Cell;
use std::collections::HashMap;
use std::rc::Rc;

use proptest::prelude::*;

use super::*;

const LIMITS: BookLimits = BookLimits { total: 40, per_client: 6, octets: 1000, idle: 100, message: 50, patience: 10 };

#[derive(Clone, Debug)]
struct Sketch {
    client: IpAddr,
    id: Rc<Cell<Id>>,
    wait: Rc<Cell<Wait>>,
}

impl Line for Sketch {
    fn wait(&self) -> Wait {
        self.wait.get()
    }
}

impl Sketch {
    fn waiting(peer: IpAddr, awaited: Awaited, since: Tick) -> Self {
        Self { client: client_of(peer), id: Rc::default(), wait: Rc::new(Cell::new(Wait { awaited, since })) }
    }

    fn since(&self) -> Tick {
        self.wait.get().since
    }

    fn network(&self) -> IpAddr {
        network_of(self.client)
    }
}

/// A book, and beside it a plain list of what must be in it.
struct Trial {
    book: Book<Sketch>,
    listed: HashMap<Id, Sketch>,
    held: HashMap<Id, usize>,
    now: Tick,
}

impl Trial {
    fn new(limits: BookLimits) -> Self {
        Self { book: Book::new(limits), listed: HashMap::new(), held: HashMap::new(), now: 1 }
    }

    fn join(&mut self, peer: &str) -> (Id, Option<Sketch>) {
        self.join_ip(peer.parse().expect("an address"))
    }

    fn join_ip(&mut self, peer: IpAddr) -> (Id, Option<Sketch>) {
        let line = Sketch::waiting(peer, Awaited::RestOfQuery, self.now);
        let (id, victim) = self.book.join(peer, self.now, line.clone());
        line.id.set(id);
        if let Some(victim) = &victim {
            self.forget(victim);
        }
        self.listed.insert(id, line);
        (id, victim)
    }

    fn forget(&mut self, line: &Sketch) {
        assert!(self.listed.remove(&line.id.get()).is_some(), "who goes was there");
        self.held.remove(&line.id.get());
    }

    fn use_now(&mut self, id: Id, awaited: Awaited) {
        self.listed[&id].wait.set(Wait { awaited, since: self.now });
    }

    fn size(&self, network: IpAddr) -> usize {
        self.listed.values().filter(|line| line.network() == network).count()
    }

    fn heaviest(&self) -> usize {
        self.listed.values().map(|line| self.size(line.network())).max().unwrap_or_default()
    }

    fn of_client(&self, client: IpAddr) -> usize {
        self.listed.values().filter(|line| line.client == client).count()
    }

    fn some_id(&self, nth: usize) -> Option<Id> {
        let mut ids: Vec<Id> = self.listed.keys().copied().collect();
        ids.sort_unstable();
        (!ids.is_empty()).then(|| ids[nth % ids.len()])
    }
}

/// What may happen to a book.
#[derive(Clone, Debug)]
enum Step {
    Join { network: u8, host: u8 },
    Use { nth: usize, awaited: Awaited },
    Leave { nth: usize },
    Hold { nth: usize, octets: usize },
    Pass { ticks: Tick },
}

fn step() -> impl Strategy<Value = Step> {
    let awaited = prop_oneof![Just(Awaited::Query), Just(Awaited::RestOfQuery), Just(Awaited::Room)];
    prop_oneof![
        // Most of them from one network: a flood.
        4 => (prop_oneof![3 => Just(0_u8), 2 => 1..12_u8], 0..9_u8).prop_map(|(network, host)| Step::Join { network, host }),
        4 => (any::<usize>(), awaited).prop_map(|(nth, awaited)| Step::Use { nth, awaited }),
        1 => any::<usize>().prop_map(|nth| Step::Leave { nth }),
        1 => (any::<usize>(), 0..400_usize).prop_map(|(nth, octets)| Step::Hold { nth, octets }),
        2 => (1..30_u64).prop_map(|ticks| Step::Pass { ticks }),
    ]
}

/// Joins, and holds the choice of who goes against the rules.
fn join_by_the_rules(trial: &mut Trial, peer: IpAddr) -> Result<(), TestCaseError> {
    let (client, now) = (client_of(peer), trial.now);
    let (was_full, heaviest) = (trial.listed.len() == LIMITS.total, trial.heaviest());
    let client_was_full = trial.of_client(client) == LIMITS.per_client;
    let sizes: HashMap<Id, usize> = trial.listed.iter().map(|(id, line)| (*id, trial.size(line.network()))).collect();
    let before: Vec<Sketch> = trial.listed.values().cloned().collect();
    let (id, victim) = trial.join_ip(peer);
    prop_assert!(trial.listed.contains_key(&id), "a newcomer always gets in");
    prop_assert_eq!(victim.is_some(), was_full || client_was_full);
    let Some(victim) = victim else { return Ok(()) };
    let is_heaviest = |line: &Sketch| sizes[&line.id.get()] == heaviest && heaviest > LIMITS.light();
    let is_patient = |line: &Sketch| now - line.since() >= LIMITS.patience;
    let longest = |group: &dyn Fn(&Sketch) -> bool| before.iter().filter(|l| group(l)).map(Sketch::since).min();
    if client_was_full {
        prop_assert_eq!(victim.client, client);
        prop_assert_eq!(Some(victim.since()), longest(&|line| line.client == client));
    } else if is_patient(&victim) {
        let of_heaviest = longest(&|line| is_heaviest(line) && line.network() == victim.network());
        let expected = if is_heaviest(&victim) { of_heaviest } else { longest(&|_| true) };
        prop_assert!(Some(victim.since()) == expected || Some(victim.since()) == longest(&|_| true));
    } else {
        prop_assert!(!before.iter().any(is_patient), "who is busy went while another was not");
        prop_assert!(is_heaviest(&victim) || heaviest <= LIMITS.light(), "one of the few paid for the many");
    }
    Ok(())
}

proptest! {
    #[test]
    fn limits_hold_and_newcomers_get_in_whatever_happens(steps in proptest::collection::vec(step(), 1..400)) {
        let mut trial = Trial::new(LIMITS);
        for step in steps {
            match step {
                Step::Join { network, host } => join_by_the_rules(&mut trial, [198, 51, network, host].into())?,
                Step::Use { nth, awaited } => {
                    if let Some(id) = trial.some_id(nth) {
                        trial.use_now(id, awaited);
                    }
                }
                Step::Leave { nth } => {
                    if let Some(id) = trial.some_id(nth) {
                        trial.book.leave(id);
                        trial.listed.remove(&id);
                        trial.held.remove(&id);
                    }
                }
                Step::Hold { nth, octets } => {
                    if let Some(id) = trial.some_id(nth) {
                        trial.held.insert(id, octets);
                        for gone in trial.book.hold(id, octets) {
                            let most = trial.held.values().max().copied();
                            prop_assert_eq!(trial.held.get(&gone.id.get()).copied(), most, "who holds most goes");
                            trial.forget(&gone);
                        }
                    }
                }
                Step::Pass { ticks } => {
                    trial.now += ticks;
                    let now = trial.now;
                    for (gone, awaited) in trial.book.expire(now) {
                        prop_assert!(gone.since() + LIMITS.of(awaited) <= now);
                        trial.forget(&gone);
                    }
                    let is_late = |line: &Sketch| line.since() + LIMITS.of(line.wait().awaited) <= now;
                    prop_assert!(!trial.listed.values().any(is_late), "one outstayed its time");
                }
            }
            prop_assert_eq!(trial.book.len(), trial.listed.len());
            prop_assert!(trial.book.len() <= LIMITS.total);
            prop_assert!(trial.listed.values().all(|line| trial.of_client(line.client) <= LIMITS.per_client));
            prop_assert_eq!(trial.book.held(), trial.held.values().sum::<usize>());
            prop_assert!(trial.book.held() <= LIMITS.octets);
        }
        for id in trial.listed.keys() {
            trial.book.leave(*id);
        }
        let book = &trial.book;
        prop_assert!(book.orders.is_empty() && book.networks.is_empty() && book.checks.is_empty());
        prop_assert!(book.holders.is_empty() && book.entries.is_empty() && book.held == 0);
    }
}

#[test]
fn client_at_its_limit_costs_nobody_else_a_connection() {
    let mut trial = Trial::new(LIMITS);
    trial.join("192.0.2.9");
    trial.now = 20;
    let first = trial.join("192.0.2.1").0;
    let others: Vec<Id> = (1..LIMITS.per_client).map(|_| trial.join("192.0.2.1").0).collect();
    trial.now = 30;
    trial.use_now(first, Awaited::Query);
    let victim = trial.join("192.0.2.1").1.expect("the client is at its limit");
    assert_eq!(victim.id.get(), others[0]);
}

#[test]
fn busy_flood_from_one_network_pays_with_its_own() {
    let mut trial = Trial::new(LIMITS);
    let honest: Vec<Id> = (1..=5_u8).map(|host| trial.join(&format!("203.0.113.{host}")).0).collect();
    for host in 0..=254_u8 {
        trial.now += 1;
        honest.iter().for_each(|id| trial.use_now(*id, Awaited::Query));
        trial.join(&format!("192.0.2.{host}"));
    }
    assert!(honest.iter().all(|id| trial.listed.contains_key(id)));
}

#[test]
fn among_small_networks_size_does_not_count() {
    let limits = BookLimits { total: 1024, ..LIMITS };
    let mut trial = Trial::new(limits);
    let resolver: Vec<Id> = (0..5).map(|_| trial.join("203.0.113.1").0).collect();
    for network in 0..2000_u16 {
        let [high, low] = network.to_be_bytes();
        trial.now += 1;
        resolver.iter().for_each(|id| trial.use_now(*id, Awaited::Query));
        trial.join_ip([10, high, low, 1].into());
    }
    assert!(resolver.iter().all(|id| trial.listed.contains_key(id)));
}

#[test]
fn trickling_query_is_due_when_its_first_octet_says() {
    let mut trial = Trial::new(LIMITS);
    let id = trial.join("192.0.2.1").0;
    trial.now = 40;
    trial.use_now(id, Awaited::Query);
    assert!(trial.book.expire(60).is_empty());
    trial.now = 61;
    trial.use_now(id, Awaited::RestOfQuery);
    assert!(trial.book.expire(110).is_empty());
    assert_eq!(trial.book.expire(111).len(), 1);
}

#[test]
fn ipv6_clients_count_by_what_one_customer_has() {
    let client = |text: &str| client_of(text.parse().expect("an address"));
    assert_eq!(client("2001:db8:0:1::1"), client("2001:db8:0:ff::2"));
    assert_ne!(client("2001:db8:0:1::1"), client("2001:db8:0:100::1"));
    assert_eq!(client("::ffff:192.0.2.1"), client("192.0.2.1"));
    assert_eq!(network_of(client("2001:db8:0:100::1")), network_of(client("2001:db8::1")));
}
