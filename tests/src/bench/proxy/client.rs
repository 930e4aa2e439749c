//! One client of the generator: asks, reads the whole answer, checks it, asks again.

use std::io;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::sync::Arc;

use rustls::ClientConfig;

use super::case::{Ask, COOKIE, HOST, Lifetime, WHO, Work};
use super::channel::{Channel, Received};

/// A client and its connection.
#[derive(Debug)]
pub struct Client {
    channel: Channel,
    work: Work,
    /// Whether it keeps the cookie that it is given; every other client does.
    keeps_cookie: bool,
    /// The cookie it keeps, and the server that it came from.
    home: Option<(Vec<u8>, Vec<u8>)>,
    request: Vec<u8>,
    awaits: Awaits,
    /// The start of a head that has not come whole.
    inbox: Vec<u8>,
    /// When it asked, in nanoseconds of the generator's clock.
    pub asked_at: u64,
    answers: u64,
}

/// What is to come next.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Awaits {
    Head,
    Octets(u64),
    End,
}

/// What has become of a request.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Progress {
    /// More is to come.
    Pending,
    /// The answer is whole, and the client may ask again.
    Answered,
    /// The answer is whole, and the end of the connection is to come.
    LastAnswered,
    /// The connection has ended as it should.
    Ended,
}

impl Client {
    /// A client number `at` that is connected and has asked nothing.
    pub fn open(
        proxy: SocketAddrV4,
        source: Ipv4Addr,
        tls: Option<&Arc<ClientConfig>>,
        work: Work,
        at: usize,
    ) -> io::Result<Self> {
        let channel = Channel::open(proxy, source, tls)?;
        let request = request(work, None);
        Ok(Self {
            channel,
            work,
            keeps_cookie: at % 2 == 1,
            home: None,
            request,
            awaits: Awaits::Head,
            inbox: Vec::new(),
            asked_at: 0,
            answers: 0,
        })
    }

    /// Connects anew; a cookie is kept.
    pub fn reopen(&mut self, proxy: SocketAddrV4, source: Ipv4Addr, tls: Option<&Arc<ClientConfig>>) -> io::Result<()> {
        self.channel = Channel::open(proxy, source, tls)?;
        self.inbox.clear();
        Ok(())
    }

    /// Its connection.
    pub fn channel(&self) -> &Channel {
        &self.channel
    }

    /// Sends its request.
    pub fn ask(&mut self, now: u64) -> io::Result<()> {
        self.asked_at = now;
        self.awaits = match self.work.ask {
            Ask::Page(_) => Awaits::Head,
            Ask::Echo(octets) => Awaits::Octets(octets as u64),
            Ask::Download(octets) => Awaits::Octets(octets),
        };
        self.channel.send(&self.request)
    }

    /// Reads what has come. Fails, in words, when the answer is wrong or the connection has ended too early.
    pub fn go_on(&mut self, room: &mut [u8]) -> Result<Progress, String> {
        loop {
            let received = match self.awaits {
                Awaits::Octets(left) if left >= SKIPPED => {
                    let most = usize::try_from(left).map_or(room.len(), |left| left.min(room.len()));
                    self.channel.skip(&mut room[..most])
                }
                // No more, so that the rest of a large body can be dropped.
                _ => self.channel.receive(&mut room[..SKIPPED as usize]),
            };
            let len = match received.map_err(|error| format!("a connection was cut: {error}"))? {
                Received::Nothing => return Ok(Progress::Pending),
                Received::End if self.awaits == Awaits::End => return Ok(Progress::Ended),
                Received::End => return Err(format!("a connection was closed early: {}", self.what_is_missing())),
                Received::Some(len) => len,
            };
            if self.take(&room[..len])? {
                self.answers += 1;
                if self.work.lifetime == Lifetime::Kept {
                    return Ok(Progress::Answered);
                }
                self.awaits = Awaits::End;
                return Ok(Progress::LastAnswered);
            }
            // What comes after a short read brings an event of its own.
            let is_short = len < room.len().min(SKIPPED as usize);
            if is_short && self.awaits != Awaits::End && !self.channel.may_hold_octets() {
                return Ok(Progress::Pending);
            }
        }
    }

    /// Takes octets of the answer; gives whether it is whole.
    fn take(&mut self, octets: &[u8]) -> Result<bool, String> {
        let body = match self.awaits {
            Awaits::Octets(_) => octets.len() as u64,
            Awaits::Head if self.inbox.is_empty() => match self.read_head(octets)? {
                Some(head) => (octets.len() - head) as u64,
                None => {
                    self.inbox.extend(octets);
                    return Ok(false);
                }
            },
            Awaits::Head => {
                let mut all = std::mem::take(&mut self.inbox);
                all.extend(octets);
                match self.read_head(&all)? {
                    Some(head) => (all.len() - head) as u64,
                    None => {
                        self.inbox = all;
                        return Ok(false);
                    }
                }
            }
            Awaits::End => return Err(format!("{} octets after the answer", octets.len())),
        };
        let Awaits::Octets(left) = self.awaits else { return Ok(false) };
        let left = left.checked_sub(body).ok_or("more octets than the answer has")?;
        self.awaits = Awaits::Octets(left);
        Ok(left == 0)
    }

    /// Reads and checks the head of a response and gives its length; then the body is to come.
    fn read_head(&mut self, octets: &[u8]) -> Result<Option<usize>, String> {
        let Ask::Page(page) = self.work.ask else { return Ok(Some(0)) };
        let mut fields = [httparse::EMPTY_HEADER; FIELDS];
        let mut response = httparse::Response::new(&mut fields);
        let parsed = response.parse(octets);
        let parsed = parsed.map_err(|error| format!("no response ({error}): {}", octets.escape_ascii()))?;
        let httparse::Status::Complete(len) = parsed else { return Ok(None) };
        let field = |name: &str| {
            response.headers.iter().find(|field| field.name.eq_ignore_ascii_case(name)).map(|field| field.value)
        };
        let octets_told = field("content-length").and_then(|len| std::str::from_utf8(len).ok()?.parse::<usize>().ok());
        if response.code != Some(200) || octets_told != Some(page.octets) {
            return Err(format!("not the right response: {}", octets[..len].escape_ascii()));
        }
        self.awaits = Awaits::Octets(page.octets as u64);
        // The first answers say who keeps whom; then now and then one is looked at.
        if self.keeps_cookie && self.answers.is_multiple_of(CHECK_EVERY) {
            let (who, cookie) = (field(WHO).map(<[u8]>::to_vec), field("set-cookie").and_then(own_cookie));
            self.check_home(who.unwrap_or_default(), cookie)?;
        }
        Ok(Some(len))
    }

    /// Keeps the first cookie; then the server must stay the same and send none.
    fn check_home(&mut self, who: Vec<u8>, cookie: Option<Vec<u8>>) -> Result<(), String> {
        match (&self.home, cookie) {
            (None, Some(cookie)) => {
                self.request = request(self.work, Some(&cookie));
                self.home = Some((cookie, who));
            }
            (Some((_, home)), None) if *home == who => {}
            // A proxy that keeps nobody was refused before, or is measured all the same.
            (None, None) => {}
            (Some((cookie, home)), new) => {
                return Err(format!(
                    "the client with cookie {} of {} came to {}, with a new cookie: {}",
                    cookie.escape_ascii(),
                    home.escape_ascii(),
                    who.escape_ascii(),
                    new.is_some()
                ));
            }
        }
        Ok(())
    }

    fn what_is_missing(&self) -> String {
        match self.awaits {
            Awaits::Head => format!("before a whole head: {}", self.inbox.escape_ascii()),
            Awaits::Octets(left) => format!("{left} octets before the end of the answer"),
            Awaits::End => "nothing is missing".to_owned(),
        }
    }
}

/// The octets that a client sends each time.
fn request(work: Work, cookie: Option<&[u8]>) -> Vec<u8> {
    let page = match work.ask {
        Ask::Page(page) => page,
        Ask::Echo(octets) => return (0..octets).map(super::case::pattern).collect(),
        Ask::Download(octets) => return octets.to_be_bytes().to_vec(),
    };
    let mut request = format!("GET {} HTTP/1.1\r\nHost: {HOST}\r\n", page.path).into_bytes();
    for (name, value) in FIELDS_OF_BROWSERS {
        request.extend(format!("{name}: {value}\r\n").into_bytes());
    }
    request.extend(b"Cookie: session=0123456789abcdef0123456789abcdef");
    if let Some(cookie) = cookie {
        request.extend(b"; ");
        request.extend(cookie);
    }
    request.extend(b"\r\n");
    if work.lifetime == Lifetime::One {
        request.extend(b"Connection: close\r\n");
    }
    request.extend(b"\r\n");
    request
}

/// `NAME=value` of a Set-Cookie field with the name [`COOKIE`].
pub fn own_cookie(field: &[u8]) -> Option<Vec<u8>> {
    let pair = field.split(|octet| *octet == b';').next()?.trim_ascii();
    let is_own = pair.strip_prefix(COOKIE.as_bytes()).is_some_and(|rest| rest.starts_with(b"="));
    is_own.then(|| pair.to_vec())
}

/// What every request has beside Host and Cookie.
pub const FIELDS_OF_BROWSERS: [(&str, &str); 4] = [
    ("User-Agent", "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"),
    ("Accept", "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"),
    ("Accept-Language", "en-GB,en;q=0.5"),
    ("Accept-Encoding", "gzip, deflate, br, zstd"),
];

/// From so many octets on they are dropped in the kernel.
const SKIPPED: u64 = 16 << 10;
/// Of how many answers to a client that keeps its cookie one is looked at for it.
const CHECK_EVERY: u64 = 16;
/// Fields of a response.
const FIELDS: usize = 48;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_own_cookie_is_kept() {
        assert_eq!(own_cookie(b"SRV=s1; path=/; HttpOnly"), Some(b"SRV=s1".to_vec()));
        assert_eq!(own_cookie(b"SRVX=s1"), None);
        assert_eq!(own_cookie(b"session=1; SRV=s1"), None);
    }
}
