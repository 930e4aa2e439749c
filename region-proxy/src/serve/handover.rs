//! One process takes another's place, with its very sockets: no connection that waits in their queues is lost.
//!
//! ```text
//! old                                       new, with one end of a socket pair as its standard input
//!  │ Part, Part, … sockets ───────────────► │ reads its settings, binds what is missing, checks all servers,
//!  │                                        │ takes clients
//!  │ ◄─────────────────────────────── Ready │
//!  │ takes no more clients, ends            │
//! ```
//! Where the new one ends before it says so, the old one serves on.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::process::Stdio;
use std::time::Duration;

use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketFlags, SocketType, recvmsg, send, sendmsg, socketpair,
};
use serde::{Deserialize, Serialize};
use tokio::process::{Child, Command};
use tokio::task::JoinHandle;

use super::inherited::Inherited;
use crate::changes::Changes;
use crate::ledger::Ledger;
use crate::takeover::Traces;

/// Some of the sockets.
#[derive(Debug, Deserialize, Serialize)]
struct Part {
    /// What the settings call their addresses.
    sockets: Vec<SocketAddr>,
    /// No more follow; what else the new process must know.
    last: Option<Carried>,
}

/// What goes over beside the sockets.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Carried {
    /// The old process.
    pub pid: u32,
    /// Whether an operator drains it.
    pub is_draining: bool,
    /// What operators changed of its servers; `None`: it is in the state file.
    #[serde(default)]
    pub servers: Option<Changes>,
    /// When these were said.
    #[serde(default)]
    pub ledger: Option<Ledger>,
}

/// The new process takes clients.
#[derive(Debug, Deserialize, Serialize)]
pub struct Ready {
    /// Addresses at which it takes none, as the settings of the old one have them.
    pub left: Vec<SocketAddr>,
    /// What its virtual routers put on the machine; `None`: it is a program that does not say.
    #[serde(default)]
    pub vrrp: Option<Traces>,
    /// Whether it goes on with L4 services.
    #[serde(default)]
    pub l4: bool,
}

/// The new process, in the old one.
#[derive(Debug)]
pub struct Successor {
    /// Its id.
    pub pid: u32,
    child: Child,
    talk: JoinHandle<io::Result<Ready>>,
    /// How the talk has ended.
    error: Option<io::Error>,
}

impl Successor {
    /// Starts the program of this process anew, as it is on the disk now, and gives it `sockets`.
    pub fn start(sockets: Vec<(SocketAddr, OwnedFd)>, carried: Carried) -> io::Result<Self> {
        let (ours, theirs) = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
        for (timeout, limit) in [(Timeout::Send, SEND_LIMIT), (Timeout::Recv, READY_LIMIT)] {
            set_socket_timeout(&ours, timeout, Some(limit))?;
        }
        let mut arguments = std::env::args_os();
        let program = arguments.next().unwrap_or_else(|| OsString::from("region-proxy"));
        let child = Command::new(program).args(arguments).env(VARIABLE, VERSION).stdin(Stdio::from(theirs)).spawn()?;
        let pid = child.id().ok_or_else(|| io::Error::other("it has ended at once"))?;
        let talk = tokio::task::spawn_blocking(move || {
            give(ours.as_fd(), &sockets, &carried)?;
            receive(ours.as_fd()).map(|(ready, _)| ready)
        });
        Ok(Self { pid, child, talk, error: None })
    }

    /// Waits until it takes clients, or says why it will not.
    pub async fn outcome(&mut self) -> Result<Ready, String> {
        let error = match &self.error {
            Some(error) => error,
            None => match (&mut self.talk).await.unwrap_or_else(|error| Err(io::Error::other(error))) {
                Ok(ready) => return Ok(ready),
                Err(error) => self.error.insert(error),
            },
        };
        // It may be hanging; where it has ended by itself, its status tells more.
        match tokio::time::timeout(EXIT_LIMIT, self.child.wait()).await {
            Ok(Ok(status)) => {
                let what =
                    "expected settings that pass `region-proxy check`; what it says is in the log of the running one";
                Err(format!("it ended before it took clients: {status}: {what}"))
            }
            _ => {
                let why = format!("it did not take clients within {READY_LIMIT:?}: {error}");
                self.stop();
                Err(why)
            }
        }
    }

    /// Ends it, for it is not wanted any more.
    pub fn stop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.start_kill();
    }
}

/// The old process, in the new one.
#[derive(Debug)]
pub struct Predecessor {
    /// What it tells beside its sockets.
    pub carried: Carried,
    channel: OwnedFd,
}

/// What this process was given by the one whose place it takes; `None`: it starts by itself.
pub fn take() -> io::Result<Option<(Inherited, Predecessor)>> {
    match std::env::var(VARIABLE) {
        Err(_) => return Ok(None),
        Ok(version) if version == VERSION => {}
        Ok(_) => return Err(io::Error::other("it hands over in a way that this program cannot read")),
    }
    let channel = io::stdin().as_fd().try_clone_to_owned()?;
    rustix::stdio::dup2_stdin(File::open("/dev/null")?)?;
    let mut inherited = Inherited::default();
    loop {
        let (part, fds) = receive::<Part>(channel.as_fd())?;
        if part.sockets.len() != fds.len() {
            return Err(io::Error::other("fewer sockets came than were sent: too few files may be open"));
        }
        for (asked, fd) in part.sockets.into_iter().zip(fds) {
            inherited.add(Some(asked), fd)?;
        }
        if let Some(carried) = part.last {
            return Ok(Some((inherited, Predecessor { carried, channel })));
        }
    }
}

impl Predecessor {
    /// Tells it that clients are taken here from now on, as it says.
    pub fn dismiss(self, ready: &Ready) -> io::Result<()> {
        let text = serde_json::to_vec(ready)?;
        send(&self.channel, &text, SendFlags::NOSIGNAL)?;
        Ok(())
    }
}

fn give(channel: BorrowedFd<'_>, sockets: &[(SocketAddr, OwnedFd)], carried: &Carried) -> io::Result<()> {
    let mut parts = sockets.chunks(SOCKETS_MAX).peekable();
    while let Some(part) = parts.next() {
        let last = parts.peek().is_none().then(|| carried.clone());
        let text = serde_json::to_vec(&Part { sockets: part.iter().map(|(asked, _)| *asked).collect(), last })?;
        if text.len() > PART_OCTETS_MAX {
            let what = "more was changed of servers than can be handed over: expected a state_file for it";
            return Err(io::Error::other(what));
        }
        let fds: Vec<_> = part.iter().map(|(_, fd)| fd.as_fd()).collect();
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(SOCKETS_MAX))];
        let mut ancillary = SendAncillaryBuffer::new(&mut space);
        ancillary.push(SendAncillaryMessage::ScmRights(&fds));
        sendmsg(channel, &[IoSlice::new(&text)], &mut ancillary, SendFlags::NOSIGNAL)?;
    }
    Ok(())
}

/// The next message, and the files that came with it; an error at the end.
fn receive<T: for<'de> Deserialize<'de>>(channel: BorrowedFd<'_>) -> io::Result<(T, Vec<OwnedFd>)> {
    let mut text = vec![0; PART_OCTETS_MAX];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(SOCKETS_MAX))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let received = recvmsg(channel, &mut [IoSliceMut::new(&mut text)], &mut ancillary, RecvFlags::CMSG_CLOEXEC)?;
    let mut fds = Vec::new();
    for message in ancillary.drain() {
        if let RecvAncillaryMessage::ScmRights(sent) = message {
            fds.extend(sent);
        }
    }
    if received.bytes == 0 || received.flags.contains(ReturnFlags::TRUNC) {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok((serde_json::from_slice(&text[..received.bytes])?, fds))
}

/// Tells the new process that it has a predecessor, and in which version of these messages that speaks.
const VARIABLE: &str = "REGION_PROXY_HANDOVER";
const VERSION: &str = "1";

/// The kernel passes no more than 253 with one message.
const SOCKETS_MAX: usize = 200;
const PART_OCTETS_MAX: usize = 64 * 1024;

/// A program that does not even read is the wrong one.
const SEND_LIMIT: Duration = Duration::from_secs(10);

/// Its first round of checks must be over by then.
const READY_LIMIT: Duration = Duration::from_secs(60);

/// Its end of the channel closes a moment before it has ended.
const EXIT_LIMIT: Duration = Duration::from_secs(1);
