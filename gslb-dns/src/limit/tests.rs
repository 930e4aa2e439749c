use std::collections::HashMap;
use std::thread;
use std::time::Duration;

use proptest::prelude::*;

use super::*;

fn limits(rate: u32, slip: u8) -> Limits {
    let responses_per_second = NonZeroU32::new(rate).expect("a rate");
    let responses_per_second_in_all = None;
    Limits { responses_per_second, responses_per_second_in_all, slip, exempt: Vec::new(), buckets: 1 << 16 }
}

fn limiter(rate: u32, slip: u8) -> Limiter {
    Limiter::new(&limits(rate, slip), [7; Limiter::SEED_LEN])
}

fn at_ms(ms: u64) -> Moment {
    Moment::from_start(Duration::from_millis(ms))
}

fn address(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

/// Verdicts on `count` answers at once.
fn verdicts(limiter: &Limiter, ms: u64, client: &str, count: usize) -> Vec<Verdict> {
    (0..count).map(|_| limiter.at(at_ms(ms)).judge(address(client), Account(1))).collect()
}

fn passed(verdicts: &[Verdict]) -> usize {
    verdicts.iter().filter(|verdict| **verdict == Verdict::Pass).count()
}

#[test]
fn quiet_network_gets_the_answers_of_a_second_at_once_and_then_its_rate() {
    let limiter = limiter(100, 1);
    assert_eq!(passed(&verdicts(&limiter, 0, "192.0.2.1", 1000)), 100);
    assert_eq!(passed(&verdicts(&limiter, 5, "192.0.2.1", 1000)), 0);
    assert_eq!(passed(&verdicts(&limiter, 50, "192.0.2.1", 1000)), 5);
    assert_eq!(passed(&verdicts(&limiter, 3_600_000, "192.0.2.1", 1000)), 100);
}

#[test]
fn addresses_of_one_block_share_and_others_do_not() {
    let limiter = limiter(10, 1);
    for (first, same, other) in
        [("192.0.2.1", "192.0.2.254", "192.0.3.1"), ("2001:db8::1", "2001:db8:0:ff::1", "2001:db8:0:100::1")]
    {
        assert_eq!(passed(&verdicts(&limiter, 0, first, 20)), 10);
        assert_eq!(passed(&verdicts(&limiter, 0, same, 20)), 0);
        assert_eq!(passed(&verdicts(&limiter, 0, other, 20)), 10);
    }
    assert_eq!(passed(&verdicts(&limiter, 0, "::ffff:192.0.2.9", 20)), 0, "IPv4 in IPv6 form");
}

#[test]
fn accounts_are_limited_apart() {
    let limiter = limiter(1, 1);
    let gate = limiter.at(at_ms(0));
    let records = [1_u64, 2];
    for account in [Account::ERROR, Account::of(&records[0]), Account::of(&records[1])] {
        assert_eq!(gate.judge(address("192.0.2.1"), account), Verdict::Pass);
        assert_eq!(gate.judge(address("192.0.2.1"), account), Verdict::Slip);
    }
}

#[test]
fn network_gets_its_sum_however_many_accounts_it_asks_for() {
    let in_all = NonZeroU32::new(250);
    for (slip, limited) in [(1, Verdict::Slip), (0, Verdict::Drop)] {
        let limiter = Limiter::new(&Limits { responses_per_second_in_all: in_all, ..limits(100, slip) }, [7; 16]);
        let ask = |ms, client, accounts: std::ops::Range<u32>| {
            let gate = limiter.at(at_ms(ms));
            accounts.map(|account| gate.judge(address(client), Account(account))).collect::<Vec<_>>()
        };
        let found = ask(0, "192.0.2.1", 0..1000);
        assert_eq!(passed(&found), 250);
        assert!(found[250..].iter().all(|&verdict| verdict == limited));
        assert_eq!(passed(&ask(0, "198.51.100.1", 0..1000)), 250, "another network");
        assert_eq!(passed(&ask(1000, "192.0.2.1", 0..1000)), 250);
        // What one account does not get is not counted for the others.
        assert_eq!(passed(&verdicts(&limiter, 5000, "192.0.2.1", 1000)), 100);
        assert_eq!(passed(&ask(5000, "192.0.2.1", 100..1000)), 150);
    }
}

#[test]
fn every_nth_limited_answer_slips_and_the_others_are_dropped() {
    for (slip, expected) in [(0, 0), (1, 60), (2, 30), (3, 20), (10, 6)] {
        let limiter = limiter(1, slip);
        verdicts(&limiter, 0, "192.0.2.1", 1);
        let found = verdicts(&limiter, 0, "192.0.2.1", 60);
        let slipped = found.iter().filter(|verdict| **verdict == Verdict::Slip).count();
        assert_eq!((slipped, passed(&found)), (expected, 0), "slip {slip}");
    }
}

#[test]
fn slips_come_though_answers_pass_in_between() {
    let limiter = limiter(10, 3);
    verdicts(&limiter, 0, "192.0.2.1", 10);
    let found: Vec<Verdict> = (1..=100).flat_map(|turn| verdicts(&limiter, turn * 100, "192.0.2.1", 2)).collect();
    assert_eq!(passed(&found), 100);
    assert_eq!(found.iter().filter(|verdict| **verdict == Verdict::Slip).count(), 33);
}

#[test]
fn exempt_networks_pass_and_their_neighbours_do_not() {
    let exempt = ["192.0.2.128/25", "192.0.2.0/25", "198.51.100.7/32", "10.0.0.0/8", "10.1.0.0/16", "2001:db8::/32"];
    let exempt = exempt.iter().map(|net| net.parse().expect("a network")).collect();
    let limiter = Limiter::new(&Limits { exempt, ..limits(1, 0) }, [7; 16]);
    for (client, is_exempt) in [
        ("192.0.2.0", true),
        ("192.0.2.255", true),
        ("192.0.3.0", false),
        ("192.0.1.255", false),
        ("198.51.100.7", true),
        ("198.51.100.8", false),
        ("10.255.1.1", true),
        ("9.255.255.255", false),
        ("11.0.0.0", false),
        ("2001:db8:ffff::1", true),
        ("2001:db7::1", false),
        ("::ffff:10.0.0.1", true),
    ] {
        assert_eq!(passed(&verdicts(&limiter, 0, client, 9)) == 9, is_exempt, "{client}");
    }
}

#[test]
fn table_is_as_large_as_asked_and_stays_so() {
    for (asked, buckets) in [(0, 1), (1, 1), (3, 4), (65_536, 65_536), (65_537, 131_072)] {
        let limiter = Limiter::new(&Limits { buckets: asked, ..limits(1, 1) }, [7; 16]);
        (0..10_000_u32).for_each(|n| _ = limiter.at(at_ms(0)).judge(Ipv4Addr::from(n << 8).into(), Account(n)));
        assert_eq!(limiter.size(), buckets * 8);
        let both = Limits { buckets: asked, responses_per_second_in_all: NonZeroU32::new(1), ..limits(1, 1) };
        assert_eq!(Limiter::new(&both, [7; 16]).size(), (buckets + (buckets / 4).max(1)) * 8);
    }
}

#[test]
fn seed_is_not_printed() {
    let limiter = limiter(1, 0);
    assert_eq!(format!("{limiter:?}"), "Limiter { buckets: 65536, .. }");
    let gate = format!("{:?}", limiter.at(at_ms(0)));
    assert!(!gate.contains("seed") && !gate.contains("7, 7"), "{gate}");
}

#[test]
fn who_is_limited_is_known_until_it_is_told() {
    let limiter = limiter(1, 0);
    for (client, network) in [("192.0.2.9", "192.0.2.0/24"), ("2001:db8:1:2ff::9", "2001:db8:1:200::/56")] {
        verdicts(&limiter, 0, client, 1);
        assert_eq!(limiter.take_limited(), None);
        verdicts(&limiter, 0, client, 2);
        verdicts(&limiter, 0, "198.51.100.1", 2);
        assert_eq!(limiter.take_limited(), network.parse().ok());
        assert_eq!(limiter.take_limited(), None);
    }
}

#[test]
fn networks_seldom_meet_in_a_bucket() {
    let limiter = limiter(1, 0);
    let judge = |n: u32| limiter.at(at_ms(0)).judge(Ipv4Addr::from(n << 8).into(), Account(1));
    // Of 6,554 in 65,536 buckets 312 meet another by chance.
    let met = (0..6554).filter(|&n| judge(n) == Verdict::Drop).count();
    assert!((200..450).contains(&met), "{met}");
}

#[test]
fn networks_seldom_meet_in_a_bucket_of_sums() {
    let sums = Limits { responses_per_second_in_all: NonZeroU32::new(1), buckets: 1 << 18, ..limits(1000, 0) };
    let limiter = Limiter::new(&sums, [7; 16]);
    let judge = |n: u32| limiter.at(at_ms(0)).judge(Ipv4Addr::from(n << 8).into(), Account(1));
    // As above.
    let met = (0..6554).filter(|&n| judge(n) == Verdict::Drop).count();
    assert!((200..450).contains(&met), "{met}");
}

#[test]
fn threads_together_pass_no_more_than_one() {
    let limiter = limiter(1000, 1);
    let passed: usize = thread::scope(|scope| {
        let work = || {
            (0..20_000).filter(|n| Verdict::Pass == limiter.at(at_ms(n / 20)).judge(address("192.0.2.1"), Account(1)))
        };
        let threads: Vec<_> = (0..4).map(|_| scope.spawn(move || work().count())).collect();
        threads.into_iter().map(|thread| thread.join().expect("ended")).sum()
    });
    // A second's worth at once, and another in the 999 ms that pass: nothing is lost between threads either.
    assert_eq!(passed, 1999);
}

proptest! {
    #[test]
    fn every_key_gets_at_most_its_burst_and_its_rate(
        rate in 1_u32..5000,
        slip in 0_u8..4,
        buckets in 1_usize..64,
        schedule in prop::collection::vec((0_u64..400, 0_u8..6, 0_u32..3, 1_usize..200), 1..80),
    ) {
        let limiter = Limiter::new(&Limits { buckets, ..limits(rate, slip) }, [7; 16]);
        let mut now_ms = 0;
        let mut passes: HashMap<(u8, u32), Vec<u64>> = HashMap::new();
        for (wait_ms, network, account, count) in schedule {
            now_ms += wait_ms;
            let gate = limiter.at(at_ms(now_ms));
            for _ in 0..count {
                if gate.judge(IpAddr::from([192, 0, network, 1]), Account(account)) == Verdict::Pass {
                    passes.entry((network, account)).or_default().push(now_ms);
                }
            }
        }
        for times in passes.values() {
            for (at, first) in times.iter().enumerate() {
                for (count, last) in (1_u64..).zip(&times[at..]) {
                    let most = u64::from(rate) + u64::from(rate) * (last - first) / 1000;
                    prop_assert!(count <= most, "{} in {} ms at {}/s", count, last - first, rate);
                }
            }
        }
    }

    #[test]
    fn network_below_its_rate_is_never_limited(rate in 1_u32..2000, count in 1_u64..500, start in 0_u64..1_000_000_000) {
        let limiter = limiter(rate, 1);
        for n in 0..count {
            let micros = start + n * 1_000_000_u64.div_ceil(u64::from(rate)) + n;
            let gate = limiter.at(Moment::from_start(Duration::from_micros(micros)));
            prop_assert_eq!(gate.judge(address("192.0.2.1"), Account(1)), Verdict::Pass);
        }
    }
}
