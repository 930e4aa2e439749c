//! Routes: from what a request asks for to the service that serves it, or to another address.
//!
//! The first route of the settings that fits counts; where none does, the host names the service. Paths are compared as
//! they came: a route is no access control, as servers may read another path into the same octets.

use std::io::Write;

use httparse::Header;
use shared::name::OwnerName;

use crate::http1::Edits;
use crate::look_alike::reads_as;

/// All routes, in the order of the settings.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Routes {
    /// The first that fits counts.
    pub routes: Vec<Route>,
}

/// Which requests a route is for, and what becomes of them. What is empty fits all.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Route {
    /// One of these hosts.
    pub hosts: Vec<HostPattern>,
    /// Paths from this one down.
    pub path: PathPrefix,
    /// One of these methods, compared with case.
    pub methods: Vec<Box<str>>,
    /// All of these fields.
    pub fields: Vec<FieldPattern>,
    /// What becomes of the request.
    pub action: Action,
    /// The largest body, in octets; `None`: as for all.
    pub body_octets: Option<u64>,
    /// Changes to its fields.
    pub request: FieldRules,
    /// Changes to the fields of its response.
    pub response: FieldRules,
}

/// A host, or all below one.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum HostPattern {
    /// This one.
    Is(OwnerName),
    /// All whose names end with a dot and this one.
    IsBelow(OwnerName),
}

/// A path without its final slash: it and all below it.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct PathPrefix(Box<str>);

/// A field that a request must have.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct FieldPattern {
    /// Its name, compared without case.
    pub name: Box<str>,
    /// Its value, compared with case; `None`: any.
    pub value: Option<Box<str>>,
}

/// What becomes of a request.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Action {
    /// The service that its host names serves it.
    ByHost,
    /// This service serves it.
    Service(OwnerName),
    /// The client is sent to the same place over TLS; for requests that came without.
    RedirectToHttps {
        /// Of the response: 301, 302, 307 or 308.
        status: u16,
        /// Where TLS is spoken.
        port: u16,
    },
}

/// What is known of a request.
#[derive(Clone, Copy, Debug)]
pub struct Ask<'r> {
    /// Its method.
    pub method: &'r str,
    /// Its host in lower case, without port and final dot.
    pub host: Option<&'r str>,
    /// Its path and query.
    pub path_and_query: &'r str,
    /// Its fields.
    pub fields: &'r [Header<'r>],
    /// Whether the client sent it over TLS.
    pub is_https: bool,
}

impl Routes {
    /// The route of a request; `None`: its host alone counts.
    pub fn find(&self, ask: &Ask<'_>) -> Option<&Route> {
        self.routes.iter().find(|route| route.fits(ask))
    }
}

impl Route {
    fn fits(&self, ask: &Ask<'_>) -> bool {
        // A redirect that came where it leads would go round for ever.
        let is_there = ask.is_https && matches!(self.action, Action::RedirectToHttps { .. });
        !is_there
            && (self.hosts.is_empty() || ask.host.is_some_and(|host| self.hosts.iter().any(|one| one.fits(host))))
            && self.path.fits(ask.path_and_query)
            && (self.methods.is_empty() || self.methods.iter().any(|method| **method == *ask.method))
            && self.fields.iter().all(|pattern| ask.fields.iter().any(|field| pattern.fits(field)))
    }
}

impl HostPattern {
    fn fits(&self, host: &str) -> bool {
        match self {
            Self::Is(name) => name.as_str() == host,
            Self::IsBelow(name) => {
                host.strip_suffix(name.as_str()).is_some_and(|rest| rest.len() > 1 && rest.ends_with('.'))
            }
        }
    }
}

impl PathPrefix {
    /// `None` unless `path` begins with a slash and has neither query nor fragment. A final slash makes no difference.
    pub fn parse(path: &str) -> Option<Self> {
        let is_allowed = |octet: u8| octet.is_ascii_graphic() && !b"?#".contains(&octet);
        let is_path = path.starts_with('/') && path.bytes().all(is_allowed);
        is_path.then(|| Self(path.strip_suffix('/').unwrap_or(path).into()))
    }

    fn fits(&self, path_and_query: &str) -> bool {
        let rest = path_and_query.strip_prefix(&*self.0);
        rest.is_some_and(|rest| self.0.is_empty() || rest.is_empty() || rest.starts_with(['/', '?']))
    }
}

impl FieldPattern {
    fn fits(&self, field: &Header<'_>) -> bool {
        let is_value = |value: &str| field.value == value.as_bytes();
        field.name.eq_ignore_ascii_case(&self.name) && self.value.as_deref().is_none_or(is_value)
    }
}

/// Appends the `Location` of a redirect to https: of `host`, which comes without port, and what was asked for there.
pub fn write_location(host: &str, port: u16, path_and_query: &str, out: &mut Vec<u8>) {
    out.extend_from_slice(b"https://");
    out.extend_from_slice(host.as_bytes());
    if port != 443 {
        // Writing to a Vec cannot fail.
        let _ = write!(out, ":{port}");
    }
    if !path_and_query.starts_with('/') {
        out.push(b'/');
    }
    // The asterisk of OPTIONS is no place to go to.
    out.extend_from_slice(path_and_query.strip_prefix('*').unwrap_or(path_and_query).as_bytes());
}

/// Changes to the fields of a message, in this order.
///
/// What is removed or set is so under names that read the same, too ([`reads_as`]): an application may be protected by it.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct FieldRules {
    /// Fields that go.
    pub remove: Vec<Box<str>>,
    /// Fields that get one value, whatever they had.
    pub set: Vec<(Box<str>, Box<str>)>,
    /// Fields that come beside what is there.
    pub add: Vec<(Box<str>, Box<str>)>,
}

impl FieldRules {
    /// Puts the changes to `fields` into `edits`.
    pub fn apply(&self, fields: &[Header<'_>], edits: &mut Edits) {
        for name in &self.remove {
            named(fields, name).for_each(|at| edits.leave_out(at));
        }
        for (name, value) in &self.set {
            let is_exact = |at: &usize| fields[*at].name.eq_ignore_ascii_case(name);
            let first = named(fields, name).find(is_exact);
            named(fields, name).filter(|at| Some(*at) != first).for_each(|at| edits.leave_out(at));
            match first {
                Some(first) => edits.replace(first, &[value.as_bytes()]),
                None => edits.append(name, &[value.as_bytes()]),
            }
        }
        for (name, value) in &self.add {
            edits.append(name, &[value.as_bytes()]);
        }
    }
}

/// The indices of the fields whose names read as `name`.
fn named(fields: &[Header<'_>], name: &str) -> impl Iterator<Item = usize> {
    let fields = fields.iter().enumerate();
    fields.filter(move |(_, field)| reads_as(field.name, name)).map(|(at, _)| at)
}

#[cfg(test)]
mod tests;
