//! What is tracked becomes a standing: with what priority a machine may hold VIPs, if at all.

use std::fmt;
use std::net::IpAddr;

use shared::name::OwnerName;

use super::machine::Standing;

/// What it costs when something that is tracked fails.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Loss {
    /// So much of the priority, of which at least 1 stays.
    Priority(u8),
    /// The VIPs.
    LetGo,
}

/// What a router's priority hangs on.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Tracked {
    /// That clients can connect.
    Listeners,
    /// That its VIPs can be put on the interface.
    Vips,
    /// That this interface has a carrier.
    Interface(String),
    /// That this neighbour on the link of the VIPs answers.
    Gateway(IpAddr),
    /// That this service has servers.
    Service(OwnerName),
    /// That this L4 service, which is reached by its VIPs, has its interface.
    L4(String),
    /// That no operator drains the proxy.
    Drain,
}

impl Tracked {
    /// Of what kind it is, in one word.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Listeners => "listeners",
            Self::Vips => "vips",
            Self::Interface(_) => "interface",
            Self::Gateway(_) => "gateway",
            Self::Service(_) => "service",
            Self::L4(_) => "l4",
            Self::Drain => "drain",
        }
    }

    /// Which one of its kind; empty where there is but one.
    pub fn name(&self) -> String {
        match self {
            Self::Interface(name) | Self::L4(name) => name.clone(),
            Self::Gateway(address) => address.to_string(),
            Self::Service(name) => name.to_string(),
            Self::Listeners | Self::Vips | Self::Drain => String::new(),
        }
    }
}

impl fmt::Display for Tracked {
    /// Kind and name.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(format!("{} {}", self.kind(), self.name()).trim_end())
    }
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

/// What fails of all members of a group, each thing once, at the highest price: a loss of one that the others do not share
/// would move nothing, since they hold their VIPs on the same machine.
pub fn shared<'a>(failures: impl IntoIterator<Item = (&'a Tracked, Loss)>) -> Vec<Loss> {
    let mut worst: Vec<(&Tracked, Loss)> = Vec::new();
    for (what, loss) in failures {
        match worst.iter_mut().find(|(known, _)| *known == what) {
            Some((_, known)) => *known = loss.max(*known),
            None => worst.push((what, loss)),
        }
    }
    worst.into_iter().map(|(_, loss)| loss).collect()
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
    fn a_group_loses_what_any_of_it_loses_and_nothing_twice() {
        let [drain, link] = [Tracked::Drain, Tracked::Interface("eth1".to_owned())];
        let failures = [(&drain, Loss::Priority(10)), (&link, Loss::Priority(5)), (&drain, Loss::Priority(20))];
        assert_eq!(shared(failures), [Loss::Priority(20), Loss::Priority(5)]);
        assert_eq!(shared([(&drain, Loss::Priority(254)), (&drain, Loss::LetGo)]), [Loss::LetGo]);
    }

    #[test]
    fn who_has_no_address_or_lost_all_cannot_hold_vips() {
        assert_eq!(standing(200, None, []), Standing::Unable);
        assert_eq!(standing(200, Some(OWN), [Loss::Priority(1), Loss::LetGo]), Standing::Unable);
    }
}
