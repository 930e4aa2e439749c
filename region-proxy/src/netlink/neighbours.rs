//! Who is at which address of a link.

use std::collections::BTreeMap;
use std::io;
use std::net::IpAddr;

use netlink_packet_core::{NLM_F_CREATE, NLM_F_DUMP, NLM_F_REPLACE};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::neighbour::{
    NeighbourAddress, NeighbourAttribute, NeighbourFlags, NeighbourMessage, NeighbourState,
};

use super::{Netlink, family};
use crate::vrrp::frame::Mac;

impl Netlink {
    /// The MACs that the kernel knows on the interface numbered `index`, by address; not of those that do not answer.
    pub fn neighbours(&mut self, index: u32) -> io::Result<BTreeMap<IpAddr, Mac>> {
        let mut known = BTreeMap::new();
        for is_v4 in [true, false] {
            let mut message = NeighbourMessage::default();
            message.header.family = family(is_v4);
            let found = self.ask(RouteNetlinkMessage::GetNeighbour(message), NLM_F_DUMP)?;
            known.extend(found.into_iter().filter_map(|message| match message {
                RouteNetlinkMessage::NewNeighbour(message) if message.header.ifindex == index => usable(&message),
                _ => None,
            }));
        }
        Ok(known)
    }

    /// Has the kernel find out, or make sure of, who is at `address` on the interface numbered `index`.
    pub fn resolve(&mut self, index: u32, address: IpAddr) -> io::Result<()> {
        let mut message = neighbour(index, address);
        message.header.flags = NeighbourFlags::Use;
        self.ask(RouteNetlinkMessage::NewNeighbour(message), NLM_F_CREATE).map(drop)
    }

    /// Says who is at `address` on the interface numbered `index`, for good.
    pub fn set_neighbour(&mut self, index: u32, address: IpAddr, mac: Mac) -> io::Result<()> {
        let mut message = neighbour(index, address);
        message.header.state = NeighbourState::Permanent;
        message.attributes.push(NeighbourAttribute::LinkLayerAddress(mac.0.to_vec()));
        self.ask(RouteNetlinkMessage::NewNeighbour(message), NLM_F_CREATE | NLM_F_REPLACE).map(drop)
    }
}

fn neighbour(index: u32, address: IpAddr) -> NeighbourMessage {
    let mut message = NeighbourMessage::default();
    message.header.family = family(address.is_ipv4());
    message.header.ifindex = index;
    let address = match address {
        IpAddr::V4(address) => NeighbourAddress::Inet(address),
        IpAddr::V6(address) => NeighbourAddress::Inet6(address),
    };
    message.attributes = vec![NeighbourAttribute::Destination(address)];
    message
}

fn usable(message: &NeighbourMessage) -> Option<(IpAddr, Mac)> {
    if matches!(message.header.state, NeighbourState::Incomplete | NeighbourState::Failed | NeighbourState::None) {
        return None;
    }
    let address = message.attributes.iter().find_map(|attribute| match attribute {
        NeighbourAttribute::Destination(NeighbourAddress::Inet(address)) => Some(IpAddr::V4(*address)),
        NeighbourAttribute::Destination(NeighbourAddress::Inet6(address)) => Some(IpAddr::V6(*address)),
        _ => None,
    });
    let mac = message.attributes.iter().find_map(|attribute| match attribute {
        NeighbourAttribute::LinkLayerAddress(octets) => octets.as_slice().try_into().ok().map(Mac),
        _ => None,
    });
    address.zip(mac)
}
