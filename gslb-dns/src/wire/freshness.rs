//! How long an answer may be kept by who does not read it: a cache of HTTP.

use super::Rtype;
use super::records::{Section, records};

/// Seconds for which `answer` is fresh (RFC 8484, section 5.1): the least TTL of the records asked for; without any, that
/// of the SOA record and no more than its MINIMUM (RFC 2308, section 5); 0 where there is neither.
pub fn freshness_secs(answer: &[u8]) -> u32 {
    let (mut of_answer, mut of_denial) = (None, None);
    for (section, _, record) in records(answer) {
        let ttl = u32::from_be_bytes(record.ttl);
        let minimum = record.rdata.last_chunk().map_or(0, |minimum| u32::from_be_bytes(*minimum));
        match section {
            Section::Answer => _ = of_answer.replace(of_answer.map_or(ttl, |least: u32| least.min(ttl))),
            Section::Authority if record.rtype == Rtype::SOA => of_denial = Some(ttl.min(minimum)),
            Section::Authority | Section::Additional => {}
        }
    }
    of_answer.or(of_denial).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use hickory_proto::op::Message;
    use hickory_proto::rr::rdata::{A, SOA};
    use hickory_proto::rr::{Name, RData, Record};
    use proptest::prelude::*;

    use super::*;

    fn address(ttl: u32) -> Record {
        Record::from_rdata(Name::root(), ttl, RData::A(A::new(192, 0, 2, 1)))
    }

    fn soa(ttl: u32, minimum: u32) -> Record {
        Record::from_rdata(Name::root(), ttl, RData::SOA(SOA::new(Name::root(), Name::root(), 1, 2, 3, 4, minimum)))
    }

    fn freshness(answers: Vec<Record>, authorities: Vec<Record>) -> u32 {
        let mut message = Message::query();
        message.add_answers(answers);
        message.add_authorities(authorities);
        message.add_additional(address(1));
        freshness_secs(&message.to_vec().expect("encoded"))
    }

    #[test]
    fn answer_is_fresh_for_its_least_ttl() {
        assert_eq!(freshness(vec![address(300), address(20)], vec![soa(10, 10)]), 20);
    }

    #[test]
    fn denial_is_fresh_for_the_ttl_of_its_soa_and_no_longer_than_its_minimum() {
        assert_eq!(freshness(vec![], vec![soa(300, 60)]), 60);
        assert_eq!(freshness(vec![], vec![soa(30, 60)]), 30);
    }

    #[test]
    fn answer_without_records_is_not_fresh_at_all() {
        assert_eq!(freshness(vec![], vec![]), 0);
    }

    proptest! {
        #[test]
        fn any_octets_have_a_freshness(octets: Vec<u8>) {
            freshness_secs(&octets);
        }
    }
}
