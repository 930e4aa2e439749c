//! Frames as octets (RFC 9113, section 4).

/// The first octets of a frame.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Head {
    /// Octets behind it.
    pub len: usize,
    /// Its type, of those in [`kind`] or another.
    pub kind: u8,
    /// Its flags, of those in [`flag`].
    pub flags: u8,
    /// The stream that it belongs to; 0: the connection.
    pub stream: u32,
}

/// Types of frames.
pub mod kind {
    #![allow(missing_docs, reason = "names of RFC 9113, section 6")]
    pub const DATA: u8 = 0;
    pub const HEADERS: u8 = 1;
    pub const PRIORITY: u8 = 2;
    pub const RST_STREAM: u8 = 3;
    pub const SETTINGS: u8 = 4;
    pub const PUSH_PROMISE: u8 = 5;
    pub const PING: u8 = 6;
    pub const GOAWAY: u8 = 7;
    pub const WINDOW_UPDATE: u8 = 8;
    pub const CONTINUATION: u8 = 9;
}

/// Flags of frames.
pub mod flag {
    #![allow(missing_docs, reason = "names of RFC 9113, section 6")]
    pub const ACK: u8 = 0x1;
    pub const END_STREAM: u8 = 0x1;
    pub const END_HEADERS: u8 = 0x4;
    pub const PADDED: u8 = 0x8;
    pub const PRIORITY: u8 = 0x20;
}

/// Keys of SETTINGS.
pub mod setting {
    #![allow(missing_docs, reason = "names of RFC 9113, section 6.5.2, and RFC 8441")]
    pub const ENABLE_PUSH: u16 = 2;
    pub const MAX_CONCURRENT_STREAMS: u16 = 3;
    pub const INITIAL_WINDOW_SIZE: u16 = 4;
    pub const MAX_FRAME_SIZE: u16 = 5;
    pub const MAX_HEADER_LIST_SIZE: u16 = 6;
    pub const ENABLE_CONNECT_PROTOCOL: u16 = 8;
}

/// Why a stream or a connection ends (RFC 9113, section 7).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[repr(u32)]
#[allow(missing_docs, reason = "names of RFC 9113, section 7")]
pub enum Code {
    NoError = 0,
    ProtocolError = 1,
    InternalError = 2,
    FlowControlError = 3,
    StreamClosed = 5,
    FrameSizeError = 6,
    RefusedStream = 7,
    Cancel = 8,
    CompressionError = 9,
    EnhanceYourCalm = 11,
}

impl Head {
    /// Octets of it.
    pub const LEN: usize = 9;

    /// Reads the first octets of `bytes`; `None` while they are too few.
    pub fn read(bytes: &[u8]) -> Option<Self> {
        let [l2, l1, l0, kind, flags, s3, s2, s1, s0] = *bytes.first_chunk()?;
        let len = u32::from_be_bytes([0, l2, l1, l0]) as usize;
        Some(Self { len, kind, flags, stream: u32::from_be_bytes([s3, s2, s1, s0]) & STREAM_MAX })
    }

    /// Appends it to `out`.
    pub fn put(self, out: &mut Vec<u8>) {
        let [_, l2, l1, l0] = (self.len as u32).to_be_bytes();
        let [s3, s2, s1, s0] = self.stream.to_be_bytes();
        out.extend_from_slice(&[l2, l1, l0, self.kind, self.flags, s3, s2, s1, s0]);
    }

    /// Whether it has `flag`.
    pub fn has(self, flag: u8) -> bool {
        self.flags & flag != 0
    }
}

/// Appends a frame whose payload is `payload`.
pub fn put(out: &mut Vec<u8>, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
    Head { len: payload.len(), kind, flags, stream }.put(out);
    out.extend_from_slice(payload);
}

/// Appends RST_STREAM.
pub fn put_reset(out: &mut Vec<u8>, stream: u32, code: Code) {
    put(out, kind::RST_STREAM, 0, stream, &(code as u32).to_be_bytes());
}

/// Appends WINDOW_UPDATE.
pub fn put_window_update(out: &mut Vec<u8>, stream: u32, increment: u32) {
    put(out, kind::WINDOW_UPDATE, 0, stream, &increment.to_be_bytes());
}

/// Appends GOAWAY.
pub fn put_goaway(out: &mut Vec<u8>, last: u32, code: Code) {
    let mut payload = [0; 8];
    payload[..4].copy_from_slice(&last.to_be_bytes());
    payload[4..].copy_from_slice(&(code as u32).to_be_bytes());
    put(out, kind::GOAWAY, 0, 0, &payload);
}

/// Appends SETTINGS of `settings`.
pub fn put_settings(out: &mut Vec<u8>, settings: &[(u16, u32)]) {
    Head { len: settings.len() * 6, kind: kind::SETTINGS, flags: 0, stream: 0 }.put(out);
    for (key, value) in settings {
        out.extend_from_slice(&key.to_be_bytes());
        out.extend_from_slice(&value.to_be_bytes());
    }
}

/// The number in the first four octets of `payload`.
pub fn number(payload: &[u8]) -> Option<u32> {
    payload.first_chunk().copied().map(u32::from_be_bytes)
}

/// The payload of a frame without its padding; `None` when the padding is longer than it is.
///
/// Source: RFC 9113, section 6.1.
pub fn unpadded(head: Head, payload: &[u8]) -> Option<&[u8]> {
    if !head.has(flag::PADDED) {
        return Some(payload);
    }
    let (&padding, rest) = payload.split_first()?;
    rest.len().checked_sub(padding.into()).map(|len| &rest[..len])
}

/// The largest number of a stream.
pub const STREAM_MAX: u32 = (1 << 31) - 1;

/// The largest window.
pub const WINDOW_MAX: i64 = (1 << 31) - 1;

/// The payload that everybody must take, and no more is sent or taken.
pub const PAYLOAD_MAX: usize = 1 << 14;
