//! The entries of a master file read as records, with the directives that stand between them.

use hickory_proto::serialize::txt::parse_ttl;
use shared::problem::Problems;

use super::FilePlace;
use super::entry::{Entries, Entry, Token};
use super::rdata::{self, parse_name, parse_type};
use crate::wire::{Name, Rtype, is_at_or_below};

/// One record of the file.
#[derive(Debug)]
pub(super) struct Record {
    pub(super) owner: Name,
    pub(super) rtype: Rtype,
    pub(super) ttl: u32,
    pub(super) rdata: Vec<u8>,
    pub(super) place: FilePlace,
}

/// Gives `take` every record, in the order of the file; mistakes go to `problems`.
pub(super) fn read(apex: &Name, text: &str, problems: &Problems, mut take: impl FnMut(Record)) {
    let mut reader =
        Reader { apex, origin: Some(apex.clone()), owner: Owner::NotStated, default_ttl: None, last_ttl: None };
    for entry in Entries::new(text, problems) {
        match reader.read(&entry) {
            Ok(record) => record.into_iter().for_each(&mut take),
            Err(mistake) => problems.add(Some(mistake.offset), "", mistake.what),
        }
    }
}

struct Reader<'a> {
    apex: &'a Name,
    /// `None` after a broken `$ORIGIN`: names that need it are passed over, since the mistake is reported already.
    origin: Option<Name>,
    owner: Owner,
    default_ttl: Option<u32>,
    last_ttl: Option<u32>,
}

enum Owner {
    NotStated,
    /// It was stated, but is no name, and that is reported.
    Broken,
    Is(Name),
}

struct Mistake {
    offset: usize,
    what: String,
}

impl Mistake {
    fn at(token: &Token<'_>, what: impl Into<String>) -> Self {
        Self { offset: token.offset, what: what.into() }
    }
}

impl Reader<'_> {
    fn read(&mut self, entry: &Entry<'_>) -> Result<Option<Record>, Mistake> {
        let [first, rest @ ..] = &*entry.tokens else { return Ok(None) };
        if first.text.starts_with('$') && !first.is_quoted && !entry.is_owner_omitted {
            return self.directive(first, rest).map(|()| None);
        }
        let fields = if entry.is_owner_omitted { &*entry.tokens } else { rest };
        if !entry.is_owner_omitted {
            self.state_owner(first)?;
        }
        let owner = match &self.owner {
            Owner::Is(owner) => Some(owner.clone()),
            Owner::Broken => None,
            Owner::NotStated => return Err(Mistake::at(first, "no owner was stated yet: start the line with a name")),
        };
        let record = self.record(entry, first, fields)?;
        let Some((rtype, ttl, rdata)) = record else { return Ok(None) };
        let place = FilePlace { line: entry.line as u32, offset: first.offset as u32 };
        Ok(owner.map(|owner| Record { owner, rtype, ttl, rdata, place }))
    }

    fn state_owner(&mut self, token: &Token<'_>) -> Result<(), Mistake> {
        self.owner = Owner::Broken;
        let Some(origin) = &self.origin else { return Ok(()) };
        let owner = parse_name(token.text, origin).map_err(|what| Mistake::at(token, what))?;
        if !is_at_or_below(owner.folded().as_wire(), self.apex.as_wire()) {
            return Err(Mistake::at(token, format!("{owner} is outside the zone {}", self.apex)));
        }
        self.owner = Owner::Is(owner);
        Ok(())
    }

    /// Reads TTL and class in any order, the type, and the data. `None` when the origin is missing.
    fn record(
        &mut self,
        entry: &Entry<'_>,
        first: &Token<'_>,
        fields: &[Token<'_>],
    ) -> Result<Option<(Rtype, u32, Vec<u8>)>, Mistake> {
        let mut fields = fields;
        let mut ttl = None;
        let (rtype, type_token) = loop {
            let Some((token, rest)) = fields.split_first() else {
                let last = entry.tokens.last().unwrap_or(first);
                return Err(Mistake::at(last, "the record ends before its type: expected [TTL] [IN] TYPE data"));
            };
            fields = rest;
            if token.text.starts_with(|digit: char| digit.is_ascii_digit()) && ttl.is_none() {
                ttl = Some(ttl_of(token)?);
            } else if ["CH", "HS", "CS"].iter().any(|class| token.text.eq_ignore_ascii_case(class)) {
                return Err(Mistake::at(token, format!("class {}: only IN is served", token.text)));
            } else if !token.text.eq_ignore_ascii_case("IN") {
                let unknown = || Mistake::at(token, format!("{:?} is not a record type", token.text));
                break (parse_type(token.text).ok_or_else(unknown)?, token);
            }
        };
        if is_meta(rtype) {
            return Err(Mistake::at(type_token, format!("{rtype} records cannot stand in a zone")));
        }
        self.last_ttl = ttl.or(self.last_ttl);
        let Some(origin) = &self.origin else { return Ok(None) };
        let rdata = rdata::parse(rtype, fields, origin).map_err(|what| Mistake::at(type_token, what))?;
        let ttl = ttl.or(self.default_ttl).or(self.last_ttl);
        let ttl = ttl.ok_or_else(|| Mistake::at(first, "no TTL is known yet: write one here, or a $TTL line above"))?;
        Ok(Some((rtype, ttl, rdata)))
    }

    fn directive(&mut self, directive: &Token<'_>, arguments: &[Token<'_>]) -> Result<(), Mistake> {
        let argument = |expected: &str| match arguments {
            [argument] => Ok(argument),
            _ => Err(Mistake::at(directive, format!("{} takes {expected}", directive.text))),
        };
        match &*directive.text.to_ascii_uppercase() {
            "$TTL" => self.default_ttl = Some(ttl_of(argument("one TTL")?)?),
            "$ORIGIN" => {
                let old = self.origin.take();
                let argument = argument("one domain name")?;
                // After a broken $ORIGIN a relative one stays unknown, and that is reported already.
                let is_known = old.is_some() || argument.text.ends_with('.');
                let name = parse_name(argument.text, &old.unwrap_or_else(Name::root));
                let name = name.map_err(|what| Mistake::at(argument, what))?;
                self.origin = is_known.then_some(name);
            }
            "$INCLUDE" => {
                return Err(Mistake::at(directive, "$INCLUDE is not supported: put the records into this file"));
            }
            "$GENERATE" => return Err(Mistake::at(directive, "$GENERATE is not supported: write the records out")),
            _ => return Err(Mistake::at(directive, format!("{}: expected $ORIGIN or $TTL", directive.text))),
        }
        Ok(())
    }
}

fn ttl_of(token: &Token<'_>) -> Result<u32, Mistake> {
    let expected = || format!("{:?} is not a TTL: expected seconds up to {TTL_MAX}, or such as 1h30m", token.text);
    parse_ttl(token.text).ok().filter(|&ttl| ttl <= TTL_MAX).ok_or_else(|| Mistake::at(token, expected()))
}

/// Types that only exist in messages (RFC 6895, section 3.1).
pub(crate) fn is_meta(rtype: Rtype) -> bool {
    matches!(rtype.0, 0 | 41 | 128..=255)
}

/// The longest TTL (RFC 2181, section 8).
pub(crate) const TTL_MAX: u32 = (1 << 31) - 1;
