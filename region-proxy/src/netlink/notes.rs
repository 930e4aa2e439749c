//! Interfaces upon others, and what is noted at them: in the kernel, so that whoever comes after a process that was killed
//! finds it.

use std::io;

use netlink_packet_core::NLM_F_DUMP;
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::link::{LinkAttribute, LinkMessage};

use super::Netlink;

/// An interface in a list of all.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Listed {
    /// Its number.
    pub index: u32,
    /// Its name.
    pub name: String,
    /// The number of that upon which it is, where there is one.
    pub parent: Option<u32>,
    /// What is noted at it: its alias.
    pub note: Option<String>,
}

impl Netlink {
    /// All interfaces.
    pub fn links(&mut self) -> io::Result<Vec<Listed>> {
        let found = self.ask(RouteNetlinkMessage::GetLink(LinkMessage::default()), NLM_F_DUMP)?;
        let read = |message| if let RouteNetlinkMessage::NewLink(link) = message { read(link) } else { None };
        Ok(found.into_iter().filter_map(read).collect())
    }

    /// Notes something at the interface numbered `index`, in place of what was noted there.
    pub fn note(&mut self, index: u32, note: &str) -> io::Result<()> {
        let mut message = LinkMessage::default();
        message.header.index = index;
        message.attributes.push(LinkAttribute::IfAlias(note.to_owned()));
        self.ask(RouteNetlinkMessage::SetLink(message), 0).map(drop)
    }
}

fn read(link: LinkMessage) -> Option<Listed> {
    let (mut name, mut parent, mut note) = (None, None, None);
    for attribute in link.attributes {
        match attribute {
            LinkAttribute::IfName(text) => name = Some(text),
            LinkAttribute::Link(index) => parent = Some(index),
            LinkAttribute::IfAlias(text) => note = Some(text),
            _ => {}
        }
    }
    Some(Listed { index: link.header.index, name: name?, parent, note })
}
