//! Messages over UDP that wait for an answer beside the line of queries.

use std::net::{IpAddr, UdpSocket};
use std::sync::Arc;

use tokio::sync::{Mutex, mpsc};
use tracing::{debug, error};

use super::{Channel, SlowPath};
use crate::answer::{Peer, Transport};
use crate::serve::mmsg::Address;
use crate::wire::OPCODE_UPDATE;

/// Takes messages from the threads that answer over UDP, and never lets them wait.
#[derive(Clone)]
pub(in crate::serve) struct Mailbox {
    letters: mpsc::Sender<Letter>,
}

/// As many wait as may.
pub(in crate::serve) struct Full;

struct Letter {
    socket: Arc<UdpSocket>,
    peer: IpAddr,
    message: Box<[u8]>,
    address: Address,
}

impl Mailbox {
    /// Starts the tasks that answer; needs a runtime.
    pub(in crate::serve) fn open(path: Arc<SlowPath>) -> Self {
        let (letters, receiver) = mpsc::channel(WAITING_MAX);
        let receiver = Arc::new(Mutex::new(receiver));
        for _ in 0..TASKS {
            tokio::spawn(answer_all(Arc::clone(&path), Arc::clone(&receiver)));
        }
        Self { letters }
    }

    /// Leaves `message` of `peer`, which came to `socket`, to be answered to `address`.
    pub(in crate::serve) fn put(
        &self,
        socket: &Arc<UdpSocket>,
        peer: IpAddr,
        message: &[u8],
        address: Address,
    ) -> Result<(), Full> {
        let letter = Letter { socket: Arc::clone(socket), peer, message: message.into(), address };
        self.letters.try_send(letter).map_err(|_| Full)
    }
}

async fn answer_all(path: Arc<SlowPath>, letters: Arc<Mutex<mpsc::Receiver<Letter>>>) {
    loop {
        let letter = letters.lock().await.recv().await;
        let Some(letter) = letter else { return };
        let is_update = letter.message.get(2).is_some_and(|flags| flags >> 3 & 0x0F == OPCODE_UPDATE);
        let answered = answer_apart(Arc::clone(&path), letter);
        // An update waits for the disk, and for a reload that is under way: in a queue of its own, which is bounded.
        if is_update {
            tokio::spawn(answered);
        } else {
            answered.await;
        }
    }
}

/// In a task of its own, so that a panic, which would be a bug, ends no more than that.
async fn answer_apart(path: Arc<SlowPath>, letter: Letter) {
    if let Err(error) = tokio::spawn(answer_one(path, letter)).await
        && error.is_panic()
    {
        error!(%error, "a message broke what answers it: a bug, please report it");
    }
}

async fn answer_one(path: Arc<SlowPath>, letter: Letter) {
    let Letter { socket, peer, message, mut address } = letter;
    let mut answers =
        path.answer(&message, Peer { address: peer, transport: Transport::Udp }, Channel::OneMessage).await;
    if let Some(answer) = answers.next()
        && let Err(error) = address.send(&socket, &answer)
    {
        debug!(%peer, %error, "cannot send over UDP");
    }
}

/// Messages that wait: what is rare comes in no greater bursts, and all of them take less than half a MiB.
const WAITING_MAX: usize = 256;
/// Messages that are answered at once, updates apart.
const TASKS: usize = 4;
