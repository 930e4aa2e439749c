//! One serving thread: its own event loop, listeners, connections to servers and buffers; nothing is shared on the path
//! of a request.

use std::cell::{Cell, RefCell};
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::{Builder, LocalOptions};
use tokio::sync::{mpsc, watch};
use tokio::time::{MissedTickBehavior, interval, sleep};

use crate::access::Pen;
use crate::clock::{Deadlines, Tick};
use crate::guests::Guests;
use crate::http1::Edits;
use crate::http2::Block;
use crate::listen::{self, Gate, Listener, Phase};
use crate::live::Proxy;
use crate::local::Local;
use crate::pipe::Pipes;
use crate::tls::handshakes::Handshakes;
use crate::tls::session::Scratch;
use crate::upstream::Pools;
use crate::upstream::links::Links;

/// What the connections of one thread share.
#[derive(Debug)]
pub struct Worker {
    /// Its number among the threads, from 0.
    pub number: usize,
    /// What all threads serve.
    pub proxy: Arc<Proxy>,
    /// The time limits of its connections.
    pub deadlines: Deadlines,
    /// Its idle connections to servers.
    pub pools: Pools,
    /// Its connections to servers that speak HTTP/2.
    pub links: Links,
    /// Its buffers.
    pub buffers: Buffers,
    /// Its empty pipes.
    pub pipes: Pipes,
    /// The TLS handshakes of its connections.
    pub handshakes: Handshakes,
    /// Its lines of the access log.
    pub pen: Pen,
    /// The memory of their TLS.
    pub tls_scratch: Rc<Scratch>,
    current: RefCell<(u64, Rc<Local>)>,
    /// Its clients.
    pub guests: Guests,
    is_stopping: Cell<bool>,
    is_over: Cell<bool>,
    is_cut: Cell<bool>,
    is_overloaded: Cell<bool>,
}

/// Memory that requests use for a moment, one after the other.
#[derive(Debug)]
pub struct Buffers {
    /// What is read goes here first; borrowed only between two waits.
    pub read: RefCell<Box<[u8]>>,
    /// A head that is written at once.
    pub scratch: RefCell<Vec<u8>>,
    /// The changes of one head.
    pub edits: RefCell<Edits>,
    /// The fields of one head of HTTP/2.
    pub block: RefCell<Block>,
    spare: RefCell<Vec<Vec<u8>>>,
}

impl Buffers {
    /// An empty vector, with room if one is to spare.
    pub fn take(&self) -> Vec<u8> {
        self.spare.borrow_mut().pop().unwrap_or_default()
    }

    /// Takes back what [`Self::take`] gave.
    pub fn give_back(&self, mut bytes: Vec<u8>) {
        let mut spare = self.spare.borrow_mut();
        if (1..=SPARE_OCTETS_MAX).contains(&bytes.capacity()) && spare.len() < SPARE_MAX {
            bytes.clear();
            spare.push(bytes);
        }
    }
}

impl Default for Buffers {
    fn default() -> Self {
        Self {
            read: RefCell::new(vec![0; READ_OCTETS].into_boxed_slice()),
            scratch: RefCell::default(),
            edits: RefCell::default(),
            block: RefCell::new(Block::new(0)),
            spare: RefCell::default(),
        }
    }
}

impl Worker {
    /// The thread numbered `number` of those that serve `proxy`.
    pub fn new(number: usize, proxy: Arc<Proxy>) -> Self {
        let current = (proxy.generation(), Rc::new(Local::new(proxy.live.load_full(), number, None)));
        Self {
            number,
            deadlines: Deadlines::default(),
            pools: Pools::default(),
            links: Links::default(),
            buffers: Buffers::default(),
            pipes: Pipes::default(),
            handshakes: Handshakes::default(),
            pen: Pen::default(),
            tls_scratch: Rc::default(),
            current: RefCell::new(current),
            is_stopping: Cell::new(false),
            is_over: Cell::new(false),
            is_cut: Cell::new(false),
            is_overloaded: Cell::new(false),
            guests: Guests::default(),
            proxy,
        }
    }

    /// The present settings, for a request that begins now.
    pub fn current(&self) -> Rc<Local> {
        let generation = self.proxy.generation();
        let mut current = self.current.borrow_mut();
        if current.0 != generation {
            let live = self.proxy.live.load_full();
            if Arc::ptr_eq(&live, &current.1.live) {
                current.1.look();
            } else {
                current.1 = Rc::new(Local::new(live, self.number, Some(&current.1)));
            }
            current.0 = generation;
        }
        Rc::clone(&current.1)
    }

    /// Whether clients are to be told that their connection ends with this response.
    pub fn is_stopping(&self) -> bool {
        self.is_stopping.get()
    }

    /// Whether no further request is waited for.
    pub fn is_over(&self) -> bool {
        self.is_over.get()
    }

    /// Whether what is under way is to end at once.
    pub fn is_cut(&self) -> bool {
        self.is_cut.get()
    }

    /// Whether it is so late with all that it does that new requests are better refused at once.
    pub fn is_overloaded(&self) -> bool {
        self.is_overloaded.get()
    }

    /// Notes how late it is; `was_late` is whether it was the last time.
    ///
    /// Late once is a pause of the machine; late twice in a row is more work than there is time for.
    fn note_lag(&self, lag: Duration, was_late: &mut bool) {
        let limit = self.current().live.config.limits.lag;
        let is_late = !limit.is_zero() && lag > limit;
        let is_overloaded = is_late && (*was_late || self.is_overloaded());
        *was_late = is_late;
        if self.is_overloaded.replace(is_overloaded) != is_overloaded {
            tracing::warn!(thread = self.number, is_overloaded, ?lag, "load");
        }
    }

    /// Looks after time limits and idle connections until `stop`, and then for as long as the process lives.
    async fn keep(&self, gate: &Gate, mut stop: watch::Receiver<Phase>) {
        let mut ticks = interval(Deadlines::TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let (mut swept, mut was_late) = (Tick::now(), false);
        loop {
            tokio::select! {
                due = ticks.tick() => self.note_lag(due.elapsed(), &mut was_late),
                () = listen::stopped(&mut stop), if !self.is_stopping() => {
                    self.is_stopping.set(true);
                    self.deadlines.wake_all();
                }
            }
            let now = Tick::now();
            // Requests that wait for a server hear of one that came up.
            drop(self.current());
            self.deadlines.sweep(now);
            self.pen.flush(&self.proxy.access);
            if gate.is_wanted() {
                self.deadlines.dismiss_one();
            }
            if now.since(swept) >= Duration::from_secs(1) {
                swept = now;
                let current = self.current();
                self.pools.sweep(current.live.config.limits.upstream_idle, &self.buffers.read);
                for server in current.live.services().flat_map(|service| &service.servers) {
                    server.tally.set_idle(self.number, self.pools.idle(server.number));
                }
            }
        }
    }

    /// Waits for the word to stop and a moment more, in which a request that was sent before is read and answered, and
    /// closes the connections that wait for a request; the others when their time is over.
    async fn close(&self, mut stop: watch::Receiver<Phase>) {
        listen::over(&mut stop).await;
        sleep(LAST_WORDS).await;
        self.is_over.set(true);
        self.deadlines.dismiss_all();
        self.deadlines.wake_all();
        listen::cut(&mut stop).await;
        self.is_cut.set(true);
        self.deadlines.wake_all();
    }
}

/// Serves the listeners that come on a thread of its own; `ended` is dropped once none takes connections any more and
/// no more come, and `alive` when the thread takes no more of them.
pub fn start(
    number: usize,
    proxy: Arc<Proxy>,
    mut listeners: mpsc::UnboundedReceiver<Listener>,
    gate: Gate,
    ended: mpsc::Sender<()>,
    alive: Arc<()>,
) -> io::Result<()> {
    let runtime = move || {
        let runtime = match Builder::new_current_thread().enable_all().build_local(LocalOptions::default()) {
            Ok(runtime) => runtime,
            Err(error) => return tracing::error!(%error, thread = number, "a serving thread cannot start"),
        };
        runtime.block_on(async move {
            let worker = Rc::new(Worker::new(number, proxy));
            let stop = gate.stop();
            let listening = async {
                while let Some(listener) = listeners.recv().await {
                    let (worker, gate, ended) = (Rc::clone(&worker), gate.clone(), ended.clone());
                    tokio::task::spawn_local(listen::serve(worker, listener, gate, ended));
                }
                drop((ended, alive));
            };
            tokio::join!(listening, worker.keep(&gate, stop.clone()), worker.close(stop));
        });
    };
    std::thread::Builder::new().name(format!("serve-{number}")).spawn(runtime).map(drop)
}

/// What one read takes at most: large bodies go through in few system calls.
const READ_OCTETS: usize = 128 * 1024;

/// Larger vectors are freed, as are those beyond so many.
const SPARE_OCTETS_MAX: usize = 16 * 1024;
const SPARE_MAX: usize = 256;

/// Longer than the kernel takes to hand over what a client has sent already.
const LAST_WORDS: Duration = Duration::from_millis(50);
