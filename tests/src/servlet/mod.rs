//! An origin server that is like a servlet container: sessions live in its memory and die with it.
//!
//! | path | answer |
//! |---|---|
//! | `/health` | 200 |
//! | `/page` | a page that shows who answered, the cookies that scripts see, and what a WebSocket at `/socket` echoed |
//! | `/octets/N` | N octets of [`octets`], with their length; one range of them; 304 where `If-None-Match` has their tag |
//! | `/chunks/N` | the same in chunks |
//! | `/echo` | the body of the request |
//! | all else | who answered, and what it was asked, in JSON; below `/session` with a session, which is made where there is none |

mod answer;
mod request;

use std::collections::HashMap;
use std::io::{self, BufReader};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use answer::Answer;
use request::Request;

/// One server.
#[derive(Debug)]
pub struct Servlet {
    name: String,
    /// Visits of each session.
    sessions: Mutex<HashMap<String, u64>>,
}

/// The session of a request.
#[derive(Debug)]
struct Session {
    id: String,
    visits: u64,
    is_new: bool,
}

impl Servlet {
    /// A server without sessions.
    pub fn new(name: &str) -> Self {
        Self { name: name.to_owned(), sessions: Mutex::default() }
    }

    /// Serves at `address` until the process ends.
    pub fn serve(self, address: &str) -> io::Result<()> {
        let listener = TcpListener::bind(address)?;
        println!("listening on {}", listener.local_addr()?);
        let servlet = Arc::new(self);
        for stream in listener.incoming() {
            let (servlet, stream) = (Arc::clone(&servlet), stream?);
            // A client that goes away ends its own thread and nothing else.
            thread::spawn(move || servlet.answer_all(stream));
        }
        Ok(())
    }

    /// Answers the requests of one connection until it ends.
    fn answer_all(&self, stream: TcpStream) -> io::Result<()> {
        stream.set_read_timeout(Some(IDLE))?;
        stream.set_nodelay(true)?;
        let (mut reader, mut writer) = (BufReader::new(stream.try_clone()?), stream);
        while let Some(request) = Request::read(&mut reader, &mut writer)? {
            self.answer(&request).write(&mut writer, request.is_head())?;
            if request.ends_connection() {
                break;
            }
        }
        Ok(())
    }

    fn answer(&self, request: &Request) -> Answer {
        let (kind, rest) = request.path()[1..].split_once('/').unwrap_or((&request.path()[1..], ""));
        let len = rest.parse().unwrap_or(0);
        match kind {
            "health" => Answer::text("well\n"),
            "page" => Answer::html(PAGE.replace("NAME", &self.name)),
            "octets" => Answer::of_octets(len, request.field("range"), request.field("if-none-match")),
            "chunks" => Answer::chunked(octets(0, len)),
            "echo" => Answer::of_body(request.body.clone()),
            "session" => self.tell(request, self.session(request)),
            _ => self.tell(request, None),
        }
    }

    /// The session that `request` names; a new one where it is not known, as after the death of another server.
    fn session(&self, request: &Request) -> Option<Session> {
        let mut sessions = self.sessions.lock().unwrap_or_else(PoisonError::into_inner);
        let known = request.cookie("JSESSIONID").filter(|id| sessions.contains_key(id));
        let is_new = known.is_none();
        let id = known.unwrap_or_else(|| format!("{:032X}", fastrand::u128(..)));
        let visits = sessions.entry(id.clone()).or_default();
        *visits += 1;
        Some(Session { id, visits: *visits, is_new })
    }

    fn tell(&self, request: &Request, session: Option<Session>) -> Answer {
        let mut fields = HashMap::new();
        for (name, value) in &request.fields {
            fields.entry(name.to_ascii_lowercase()).or_insert_with(Vec::new).push(value);
        }
        let mut answer = Answer::json(&serde_json::json!({
            "server": self.name,
            "method": request.method,
            "target": request.target,
            "fields": fields,
            "body": { "octets": request.body.len(), "hash": hash(&request.body) },
            "session": session.as_ref().map(|session| &session.id),
            "visits": session.as_ref().map(|session| session.visits),
        }));
        if let Some(session) = session.filter(|session| session.is_new) {
            answer.set("Set-Cookie", format!("JSESSIONID={}; Path=/; HttpOnly", session.id));
        }
        answer
    }
}

/// Octets number `from` up to `from + len` of a sequence without end in which no place is like another.
pub fn octets(from: usize, len: usize) -> Vec<u8> {
    (from..from + len).map(|at| ((at as u64 ^ 0x5bd1).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40) as u8).collect()
}

/// A name for `octets`, the same in all processes (FNV-1a).
pub fn hash(octets: &[u8]) -> String {
    let start = 0xcbf2_9ce4_8422_2325_u64;
    let hash = octets.iter().fold(start, |hash, octet| (hash ^ u64::from(*octet)).wrapping_mul(0x0100_0000_01b3));
    format!("{hash:016x}")
}

const PAGE: &str = include_str!("page.html");

/// Longer than any test keeps a connection.
const IDLE: Duration = Duration::from_secs(60);
