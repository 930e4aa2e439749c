//! What is tracked becomes a standing: with what priority a machine may hold VIPs, if at all.

use std::net::IpAddr;

use super::machine::Standing;

/// What it costs when something that is tracked fails.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Loss {
    /// So much of the priority, of which at least 1 stays.
    Priority(u8),
    /// The VIPs.
    LetGo,
}

/// The standing of a router with this priority, which would advertise from `address`, after `losses`.
pub fn standing(priority: u8, address: Option<IpAddr>, losses: impl IntoIterator<Item = Loss>) -> Standing {
    let Some(address) = address else { return Standing::Unable };
    let mut left = priority;
    for loss in losses {
        match loss {
            Loss::Priority(lost) => left = left.saturating_sub(lost),
            Loss::LetGo => return Standing::Unable,
        }
    }
    Standing::Able { address, priority: left.max(1) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OWN: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 2));

    #[test]
    fn losses_add_up_and_leave_a_priority() {
        let able = |priority| Standing::Able { address: OWN, priority };
        assert_eq!(standing(200, Some(OWN), []), able(200));
        assert_eq!(standing(200, Some(OWN), [Loss::Priority(50), Loss::Priority(30)]), able(120));
        assert_eq!(standing(200, Some(OWN), [Loss::Priority(150), Loss::Priority(150)]), able(1));
    }

    #[test]
    fn who_has_no_address_or_lost_all_cannot_hold_vips() {
        assert_eq!(standing(200, None, []), Standing::Unable);
        assert_eq!(standing(200, Some(OWN), [Loss::Priority(1), Loss::LetGo]), Standing::Unable);
    }
}
