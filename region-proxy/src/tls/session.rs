//! One connection's TLS, which holds no buffer while nothing is under way.
//!
//! Octets are read into the buffer of the caller and decrypted there; what is sent is encrypted into a buffer of the thread
//! and written from it. A connection keeps only the beginning of a record that is not whole, and what its socket does not
//! take.

use std::cell::RefCell;
use std::io::{self, IoSlice};
use std::ops::DerefMut;
use std::rc::Rc;
use std::task::{Context, Poll, Waker, ready};

use rustls::client::{ClientConnectionData, UnbufferedClientConnection};
use rustls::server::{ServerConnectionData, UnbufferedServerConnection};
use rustls::unbuffered::{
    ConnectionState, EncodeError, EncodeTlsData, EncryptError, UnbufferedConnectionCommon, UnbufferedStatus,
    WriteTraffic,
};

use crate::socket::Socket;

/// The memory that all sessions of a thread use, one after the other.
#[derive(Debug, Default)]
pub struct Scratch {
    /// What is written to the socket.
    sealed: RefCell<Vec<u8>>,
    /// The plaintext of one record, where it lies in several pieces.
    joined: RefCell<Vec<u8>>,
}

/// One end of a connection, as rustls knows it.
pub trait End: DerefMut<Target = UnbufferedConnectionCommon<Self::Data>> {
    /// What only this end has.
    type Data;

    /// How a failure of it is told to people.
    fn explain(error: &rustls::Error) -> String;

    /// Goes on with the records at the front of `tls`.
    fn process<'c, 'i>(&'c mut self, tls: &'i mut [u8]) -> UnbufferedStatus<'c, 'i, Self::Data>;
}

impl End for UnbufferedServerConnection {
    type Data = ServerConnectionData;

    fn explain(error: &rustls::Error) -> String {
        error.to_string()
    }

    fn process<'c, 'i>(&'c mut self, tls: &'i mut [u8]) -> UnbufferedStatus<'c, 'i, Self::Data> {
        self.process_tls_records(tls)
    }
}

impl End for UnbufferedClientConnection {
    type Data = ClientConnectionData;

    fn explain(error: &rustls::Error) -> String {
        super::failure::in_words(error)
    }

    fn process<'c, 'i>(&'c mut self, tls: &'i mut [u8]) -> UnbufferedStatus<'c, 'i, Self::Data> {
        self.process_tls_records(tls)
    }
}

/// The TLS of one connection, towards a client or a server.
pub struct Session<E> {
    connection: E,
    scratch: Rc<Scratch>,
    /// What was read of a record or message that is not whole.
    held: Vec<u8>,
    /// Whether `held` was not looked at yet.
    is_unread: bool,
    /// What the socket has not taken of what is sealed, from `sent` on.
    unsent: Vec<u8>,
    sent: usize,
    /// How many octets of plaintext, the next to be written, `unsent` holds already.
    claimed: usize,
    /// The peer has said that no more will come.
    is_ended: bool,
    failure: Option<rustls::Error>,
}

impl<E: End> Session<E> {
    /// A session of which `first` was read already.
    pub fn new(connection: E, scratch: Rc<Scratch>, first: Vec<u8>) -> Self {
        // With nothing read yet, a client looks what it is to say first.
        let is_unread = !first.is_empty() || connection.is_handshaking() && connection.wants_write();
        Self {
            connection,
            scratch,
            held: first,
            is_unread,
            unsent: Vec::new(),
            sent: 0,
            claimed: 0,
            is_ended: false,
            failure: None,
        }
    }

    /// What was agreed on.
    pub fn connection(&self) -> &E {
        &self.connection
    }

    /// Whether nothing that was read waits for more.
    pub fn is_settled(&self) -> bool {
        self.held.is_empty() && !self.is_ended && self.failure.is_none()
    }

    /// Goes through the handshake; then so many octets of plaintext that came with its end lie at the front of `buffer`.
    pub fn poll_handshake(
        &mut self,
        cx: &mut Context<'_>,
        socket: &mut Socket,
        buffer: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        loop {
            let count = ready!(self.poll_step(cx, socket, buffer))?;
            if !self.connection.is_handshaking() {
                return Poll::Ready(Ok(count));
            }
            if self.is_ended {
                return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into()));
            }
            // Blocked or not, the peer is waited for now.
            if let Poll::Ready(Err(error)) = self.poll_flush(cx, socket) {
                return Poll::Ready(Err(error));
            }
        }
    }

    /// Reads into `buffer`, of at least [`BUFFER_MIN`] octets; 0 once the peer has said that no more will come.
    pub fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        socket: &mut Socket,
        buffer: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        while !self.is_ended {
            let count = ready!(self.poll_step(cx, socket, buffer))?;
            if count > 0 {
                return Poll::Ready(Ok(count));
            }
        }
        Poll::Ready(Ok(0))
    }

    /// Writes some of `parts`; those octets that it tells were taken by the socket. When it has to wait it must be given
    /// the same octets again.
    pub fn poll_write(
        &mut self,
        cx: &mut Context<'_>,
        socket: &mut Socket,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let whole: usize = parts.iter().map(|part| part.len()).sum();
        if self.claimed > 0 {
            ready!(self.poll_flush(cx, socket))?;
            return Poll::Ready(Ok(std::mem::take(&mut self.claimed).min(whole)));
        }
        let scratch = Rc::clone(&self.scratch);
        let mut sealed = scratch.sealed.borrow_mut();
        let mut gone = 0;
        while gone < whole {
            let mut len = self.take_unsent(&mut sealed);
            let taken = self.seal(parts, gone..whole.min(gone + SEALED_MAX), &mut sealed, &mut len)?;
            if !self.put(cx, socket, &sealed[..len])? {
                self.claimed = taken;
                return if gone > 0 { Poll::Ready(Ok(gone)) } else { Poll::Pending };
            }
            gone += taken;
        }
        Poll::Ready(Ok(gone))
    }

    /// Tells the peer that no more will come; `false` when it will be told later.
    pub fn end(&mut self, socket: &mut Socket) -> bool {
        if self.failure.is_some() || self.connection.is_handshaking() {
            return true;
        }
        let mut sealed = Vec::new();
        let mut len = self.take_unsent(&mut sealed);
        let end = |traffic: &mut WriteTraffic<'_, _>, out: &mut [u8]| traffic.queue_close_notify(out);
        let is_told = self.seal_by(&mut sealed, &mut len, end).is_ok();
        is_told && self.put(&mut Context::from_waker(Waker::noop()), socket, &sealed[..len]).unwrap_or(true)
    }

    /// One read and what it leads to: so many octets of plaintext lie at the front of `buffer` then.
    fn poll_step(&mut self, cx: &mut Context<'_>, socket: &mut Socket, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        if let Some(failure) = &self.failure {
            return Poll::Ready(Err(invalid(E::explain(failure))));
        }
        let held = self.held.len();
        let Some(room) = buffer.get_mut(FRONT..).filter(|room| room.len() > held) else {
            return Poll::Ready(Err(invalid("a message is longer than any should be")));
        };
        room[..held].copy_from_slice(&self.held);
        let mut end = FRONT + held;
        if !std::mem::take(&mut self.is_unread) {
            match socket.poll_read(cx, &mut room[held..]) {
                Poll::Ready(Ok(0)) => return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into())),
                Poll::Ready(count) => end += count?,
                Poll::Pending => {
                    // What waits to be sent has waited for the next answer to go with it.
                    if let Poll::Ready(Err(error)) = self.poll_flush(cx, socket) {
                        return Poll::Ready(Err(error));
                    }
                    return Poll::Pending;
                }
            }
        }
        let taken = self.take(&mut buffer[..end]);
        if self.failure.is_some() {
            // The alert that says why; whether it can be sent changes nothing.
            let _ = self.poll_flush(cx, socket);
        }
        Poll::Ready(taken)
    }

    /// Decrypts what is in `buffer` from [`FRONT`] on; the plaintext is moved to its front.
    fn take(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let (mut at, mut filled) = (FRONT, 0);
        loop {
            let (front, rest) = buffer.split_at_mut(at);
            let status = self.connection.process(rest);
            at += status.discard;
            match status.state {
                Ok(ConnectionState::ReadTraffic(mut traffic)) => {
                    while let Some(record) = traffic.next_record() {
                        let payload = record.map_err(invalid)?.payload;
                        // A record is longer than what is in it, so the front has room.
                        let place = front.get_mut(filled..filled + payload.len());
                        place.ok_or_else(|| invalid("a record is longer than any may be"))?.copy_from_slice(payload);
                        filled += payload.len();
                    }
                }
                Ok(ConnectionState::EncodeTlsData(mut data)) => append(&mut data, &mut self.unsent)?,
                Ok(ConnectionState::TransmitTlsData(data)) => data.done(),
                Ok(ConnectionState::PeerClosed) => self.is_ended = true,
                Ok(ConnectionState::BlockedHandshake | ConnectionState::WriteTraffic(_) | ConnectionState::Closed) => {
                    break;
                }
                Ok(_) => return Err(invalid("octets before the handshake")),
                Err(error) => {
                    self.failure = Some(error.clone());
                    self.take_alert(&mut buffer[at..])?;
                    self.held = Vec::new();
                    return if filled > 0 { Ok(filled) } else { Err(invalid(E::explain(&error))) };
                }
            }
        }
        let rest = if self.is_ended { &[][..] } else { &buffer[at..] };
        // Freed when nothing is left, as it mostly is.
        self.held = rest.to_vec();
        Ok(filled)
    }

    /// What the peer is told after a failure.
    fn take_alert(&mut self, rest: &mut [u8]) -> io::Result<()> {
        // With nothing to say it would be asked to fail once more.
        while self.connection.wants_write()
            && let Ok(ConnectionState::EncodeTlsData(mut data)) = self.connection.process(rest).state
        {
            append(&mut data, &mut self.unsent)?;
        }
        Ok(())
    }

    /// Why it can go on no longer, where that is what the peer has sent.
    pub fn failure(&self) -> Option<&rustls::Error> {
        self.failure.as_ref()
    }

    /// Sends what is sealed.
    pub fn poll_flush(&mut self, cx: &mut Context<'_>, socket: &mut Socket) -> Poll<io::Result<()>> {
        while self.sent < self.unsent.len() {
            self.sent += ready!(socket.poll_write(cx, &[IoSlice::new(&self.unsent[self.sent..])]))?;
        }
        (self.unsent, self.sent) = (Vec::new(), 0);
        Poll::Ready(Ok(()))
    }

    /// Writes all of `octets`, or keeps what the socket does not take; `false` then.
    fn put(&mut self, cx: &mut Context<'_>, socket: &mut Socket, mut octets: &[u8]) -> io::Result<bool> {
        while !octets.is_empty() {
            match socket.poll_write(cx, &[IoSlice::new(octets)]) {
                Poll::Ready(count) => octets = &octets[count?..],
                Poll::Pending => {
                    (self.unsent, self.sent) = (octets.to_vec(), 0);
                    return Ok(false);
                }
            }
        }
        Ok(true)
    }

    /// Moves what is unsent to the front of `out`; its length.
    fn take_unsent(&mut self, out: &mut Vec<u8>) -> usize {
        let unsent = &self.unsent[self.sent..];
        let len = unsent.len();
        grow(out, len);
        out[..len].copy_from_slice(unsent);
        (self.unsent, self.sent) = (Vec::new(), 0);
        len
    }

    /// Encrypts the octets `range` of `parts`, as if they lay one after the other, to `out` from `len` on.
    fn seal(
        &mut self,
        parts: &[IoSlice<'_>],
        range: std::ops::Range<usize>,
        out: &mut Vec<u8>,
        len: &mut usize,
    ) -> io::Result<usize> {
        let scratch = Rc::clone(&self.scratch);
        let mut joined = scratch.joined.borrow_mut();
        let mut at = range.start;
        while at < range.end {
            let record = record(parts, at..range.end.min(at + RECORD), &mut joined);
            self.seal_by(out, len, |traffic, out| traffic.encrypt(record, out))?;
            at += record.len();
        }
        Ok(range.len())
    }

    /// Appends to `out`, from `len` on, what `seal` gives, and before it whatever else is to be sent.
    fn seal_by(
        &mut self,
        out: &mut Vec<u8>,
        len: &mut usize,
        seal: impl Fn(&mut WriteTraffic<'_, E::Data>, &mut [u8]) -> Result<usize, EncryptError>,
    ) -> io::Result<()> {
        if let Some(failure) = &self.failure {
            return Err(invalid(E::explain(failure)));
        }
        loop {
            // Nothing in it is whole: it only must be where it was.
            let status = self.connection.process(&mut self.held);
            let discard = status.discard;
            let state = status.state.map_err(|error| {
                self.failure = Some(error.clone());
                invalid(E::explain(&error))
            });
            let is_sealed = match state? {
                ConnectionState::WriteTraffic(mut traffic) => {
                    grow(out, *len + RECORD + OVERHEAD);
                    let mut sealed = seal(&mut traffic, &mut out[*len..]);
                    if let Err(EncryptError::InsufficientSize(wanted)) = &sealed {
                        grow(out, *len + wanted.required_size);
                        sealed = seal(&mut traffic, &mut out[*len..]);
                    }
                    *len += sealed.map_err(invalid)?;
                    true
                }
                ConnectionState::EncodeTlsData(mut data) => {
                    let mut encoded = Vec::new();
                    append(&mut data, &mut encoded)?;
                    grow(out, *len + encoded.len());
                    out[*len..*len + encoded.len()].copy_from_slice(&encoded);
                    *len += encoded.len();
                    false
                }
                ConnectionState::TransmitTlsData(data) => {
                    data.done();
                    false
                }
                ConnectionState::PeerClosed => {
                    self.is_ended = true;
                    false
                }
                _ => return Err(io::ErrorKind::NotConnected.into()),
            };
            self.held.drain(..discard);
            if is_sealed {
                return Ok(());
            }
        }
    }
}

impl<E> std::fmt::Debug for Session<E> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Session").field("is_ended", &self.is_ended).finish_non_exhaustive()
    }
}

/// The octets `range` of `parts`, put together in `joined` where they do not lie in one of them.
fn record<'p>(parts: &'p [IoSlice<'_>], range: std::ops::Range<usize>, joined: &'p mut Vec<u8>) -> &'p [u8] {
    joined.clear();
    let mut start = 0;
    for part in parts {
        let end = start + part.len();
        let (from, to) = (range.start.max(start), range.end.min(end));
        if from < to {
            let piece = &part[from - start..to - start];
            if piece.len() == range.len() {
                return piece;
            }
            joined.extend_from_slice(piece);
        }
        start = end;
    }
    joined
}

fn append<Data>(data: &mut EncodeTlsData<'_, Data>, out: &mut Vec<u8>) -> io::Result<()> {
    let at = out.len();
    match data.encode(&mut []) {
        Err(EncodeError::InsufficientSize(wanted)) => {
            out.resize(at + wanted.required_size, 0);
            data.encode(&mut out[at..]).map(drop).map_err(invalid)
        }
        encoded => encoded.map(drop).map_err(invalid),
    }
}

fn grow(out: &mut Vec<u8>, len: usize) {
    if out.len() < len {
        out.resize(len, 0);
    }
}

fn invalid(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}

/// The plaintext of a record at most (RFC 8446, section 5.1).
const RECORD: usize = 1 << 14;

/// What a record needs besides, at most.
const OVERHEAD: usize = 256;

/// Where in a buffer octets are read to: each record that is decrypted then has room before it.
const FRONT: usize = RECORD + OVERHEAD;

/// The least buffer to read into: a handshake message may take 64 KiB.
pub const BUFFER_MIN: usize = FRONT + 5 * RECORD;

/// What is encrypted before the first of it is written, at most.
const SEALED_MAX: usize = 4 * RECORD;
