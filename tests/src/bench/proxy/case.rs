//! What is measured.

/// One kind of work.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Case {
    /// 64 connections that are kept, 1 KiB a response.
    KeepAlive1k,
    /// A connection for each request, 64 at a time.
    Close1k,
    /// A connection with a full TLS 1.3 handshake for each request, 64 at a time.
    TlsHandshake,
    /// As `KeepAlive1k` over TLS.
    TlsKeepAlive1k,
    /// HTTP/2 without TLS by prior knowledge: 16 connections with 16 streams each.
    H2c1k,
    /// The same over TLS.
    H2Tls1k,
    /// 32 connections that are kept, 64 KiB a response.
    KeepAlive64k,
    /// 16 connections that are kept, 1 MiB a response.
    KeepAlive1m,
    /// TCP as it is: 64 connections that send 1 KiB and get it back.
    TcpEcho,
    /// TCP as it is: 8 connections that download 8 MiB at a time.
    TcpBulk,
    /// 10,000 connections that have had one response each.
    Idle10k,
}

/// What a proxy must be able to do for a case.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Ability {
    /// HTTP/1.1.
    Http,
    /// HTTP/1.1 over TLS.
    Tls,
    /// HTTP/2 by prior knowledge.
    H2c,
    /// HTTP/2 over TLS, by ALPN.
    H2Tls,
    /// TCP as it is.
    Tcp,
}

/// What each connection of the generator does.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Work {
    /// Connections at one time.
    pub connections: usize,
    /// What each asks for.
    pub ask: Ask,
    /// For how many requests one is used.
    pub lifetime: Lifetime,
}

/// What is asked for, again and again.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Ask {
    /// `GET` of a path with so many octets behind it.
    Page(Page),
    /// So many octets are sent and come back.
    Echo(usize),
    /// So many octets come for eight that are sent.
    Download(u64),
}

/// A path that every origin server has.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Page {
    /// The path.
    pub path: &'static str,
    /// Octets of its body: the pattern of [`pattern`].
    pub octets: usize,
}

/// How long a connection of the generator lives.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Lifetime {
    /// For all requests.
    Kept,
    /// For one request.
    One,
}

/// Who makes the load.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Maker {
    /// The generator of this benchmark.
    Own(Work),
    /// h2load, with so many connections and streams on each.
    H2load {
        /// Connections.
        connections: usize,
        /// Streams under way on each.
        streams: usize,
    },
    /// A crowd of so many idle connections.
    Crowd(usize),
}

impl Case {
    /// All, in the order in which they are measured.
    pub const ALL: [Self; 11] = [
        Self::KeepAlive1k,
        Self::Close1k,
        Self::TlsHandshake,
        Self::TlsKeepAlive1k,
        Self::H2c1k,
        Self::H2Tls1k,
        Self::KeepAlive64k,
        Self::KeepAlive1m,
        Self::TcpEcho,
        Self::TcpBulk,
        Self::Idle10k,
    ];

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::KeepAlive1k => "ka1k",
            Self::Close1k => "close1k",
            Self::TlsHandshake => "tls-hs",
            Self::TlsKeepAlive1k => "tls-ka1k",
            Self::H2c1k => "h2c-1k",
            Self::H2Tls1k => "h2tls-1k",
            Self::KeepAlive64k => "ka64k",
            Self::KeepAlive1m => "ka1m",
            Self::TcpEcho => "tcp-echo",
            Self::TcpBulk => "tcp-bulk",
            Self::Idle10k => "idle10k",
        }
    }

    /// What a proxy must be able to do.
    pub fn needs(self) -> Ability {
        match self {
            Self::KeepAlive1k | Self::Close1k | Self::KeepAlive64k | Self::KeepAlive1m | Self::Idle10k => Ability::Http,
            Self::TlsHandshake | Self::TlsKeepAlive1k => Ability::Tls,
            Self::H2c1k => Ability::H2c,
            Self::H2Tls1k => Ability::H2Tls,
            Self::TcpEcho | Self::TcpBulk => Ability::Tcp,
        }
    }

    /// Who makes its load.
    pub fn maker(self) -> Maker {
        let own = |connections, ask, lifetime| Maker::Own(Work { connections, ask, lifetime });
        match self {
            Self::KeepAlive1k | Self::TlsKeepAlive1k => own(64, Ask::Page(PAGE_1K), Lifetime::Kept),
            Self::Close1k | Self::TlsHandshake => own(64, Ask::Page(PAGE_1K), Lifetime::One),
            Self::KeepAlive64k => own(32, Ask::Page(PAGE_64K), Lifetime::Kept),
            Self::KeepAlive1m => own(16, Ask::Page(PAGE_1M), Lifetime::Kept),
            Self::TcpEcho => own(64, Ask::Echo(1024), Lifetime::Kept),
            Self::TcpBulk => own(8, Ask::Download(8 << 20), Lifetime::Kept),
            Self::H2c1k | Self::H2Tls1k => Maker::H2load { connections: 16, streams: 16 },
            Self::Idle10k => Maker::Crowd(10_000),
        }
    }
}

/// Octet `at` of every body: what is cut, moved or lost shows.
pub fn pattern(at: usize) -> u8 {
    // 251 is a prime: a shift by a power of two shows as well.
    (at % 251) as u8
}

/// The body of most cases.
pub const PAGE_1K: Page = Page { path: "/1k", octets: 1024 };
/// A body above the buffers of most proxies.
pub const PAGE_64K: Page = Page { path: "/64k", octets: 64 << 10 };
/// The largest body.
pub const PAGE_1M: Page = Page { path: "/1m", octets: 1 << 20 };
/// All of them.
pub const PAGES: [Page; 3] = [PAGE_1K, PAGE_64K, PAGE_1M];
/// The Host of every request, and the name in the certificate.
pub const HOST: &str = "www.bench.test";
/// The name of the cookie by which clients stick to their servers.
pub const COOKIE: &str = "SRV";
/// The field in which an origin server says which one it is.
pub const WHO: &str = "X-Backend";
