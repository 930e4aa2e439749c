//! Which routing table is looked at, and when.

use std::io;

use netlink_packet_core::{NLM_F_CREATE, NLM_F_DUMP, NLM_F_EXCL};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::route::RouteHeader;
use netlink_packet_route::rule::{RuleAction, RuleAttribute, RuleMessage};

use super::{Netlink, family, unless};

/// A rule that leads to a routing table.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct Rule {
    /// Rules of a lower one come first.
    pub preference: u32,
    /// Of packets with this mark alone; `None`: of all.
    pub mark: Option<u32>,
    /// The table.
    pub table: u32,
}

impl Rule {
    /// The table of this machine's own addresses.
    pub const LOCAL_TABLE: u32 = 255;
}

impl Netlink {
    /// The rules of one family that ask for nothing but a whole mark.
    pub fn rules(&mut self, is_v4: bool) -> io::Result<Vec<Rule>> {
        let mut message = RuleMessage::default();
        message.header.family = family(is_v4);
        let found = self.ask(RouteNetlinkMessage::GetRule(message), NLM_F_DUMP)?;
        Ok(found
            .into_iter()
            .filter_map(|message| if let RouteNetlinkMessage::NewRule(rule) = message { read(&rule) } else { None })
            .collect())
    }

    /// Adds `rule`; fine where it is there.
    pub fn add_rule(&mut self, is_v4: bool, rule: Rule) -> io::Result<()> {
        let added = self.ask(RouteNetlinkMessage::NewRule(write(is_v4, rule)), NLM_F_CREATE | NLM_F_EXCL);
        unless(added, nix::libc::EEXIST)
    }

    /// Takes `rule` away; fine where it is not there.
    pub fn remove_rule(&mut self, is_v4: bool, rule: Rule) -> io::Result<()> {
        let removed = self.ask(RouteNetlinkMessage::DelRule(write(is_v4, rule)), 0);
        unless(removed, nix::libc::ENOENT)
    }
}

fn write(is_v4: bool, rule: Rule) -> RuleMessage {
    let mut message = RuleMessage::default();
    message.header.family = family(is_v4);
    message.header.action = RuleAction::ToTable;
    message.header.table = u8::try_from(rule.table).unwrap_or(RouteHeader::RT_TABLE_UNSPEC);
    message.attributes = vec![RuleAttribute::Priority(rule.preference), RuleAttribute::Table(rule.table)];
    if let Some(mark) = rule.mark {
        message.attributes.extend([RuleAttribute::FwMark(mark), RuleAttribute::FwMask(u32::MAX)]);
    }
    message
}

fn read(message: &RuleMessage) -> Option<Rule> {
    let header = &message.header;
    if header.action != RuleAction::ToTable || header.dst_len != 0 || header.src_len != 0 {
        return None;
    }
    let mut rule = Rule { preference: 0, mark: None, table: header.table.into() };
    for attribute in &message.attributes {
        match attribute {
            RuleAttribute::Priority(preference) => rule.preference = *preference,
            RuleAttribute::Table(table) => rule.table = *table,
            RuleAttribute::FwMark(mark) => rule.mark = Some(*mark),
            RuleAttribute::FwMask(u32::MAX) | RuleAttribute::Protocol(_) => {}
            // "None" is told of in so many words.
            RuleAttribute::SuppressPrefixLen(u32::MAX) | RuleAttribute::SuppressIfGroup(u32::MAX) => {}
            _ => return None,
        }
    }
    Some(rule)
}
