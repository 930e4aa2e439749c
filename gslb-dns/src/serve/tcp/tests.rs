use std::io::{Read as _, Write as _};
use std::net::TcpStream as StdStream;
use std::thread;

use super::*;
use crate::answer::Transport;
use crate::serve::Clock;
use crate::serve::counters::{CounterBook, Sharing};
use crate::serve::sample::{Site, query};
use hickory_proto::rr::RecordType;

fn limits() -> TcpLimits {
    TcpLimits {
        seats: SeatLimits { total: 3, per_client: 2 },
        idle: Duration::from_millis(300),
        message: Duration::from_millis(200),
    }
}

/// A front with `limits` that answers from a site whose regions were never probed.
struct Front {
    runtime: tokio::runtime::Runtime,
    address: SocketAddr,
    counters: Arc<TcpCounters>,
    stop: watch::Sender<bool>,
}

fn start(limits: TcpLimits) -> Front {
    let site = Site::new();
    let world = Arc::new(crate::reload::load(&site.config(), None).world.expect("no mistakes"));
    let clock = Clock::start();
    let state = shared::state::State::new(Arc::clone(&world.settings.topology), clock.now());
    let book = CounterBook::default();
    let live = Arc::new(ArcSwap::from_pointee(Live::new(&world, &state, &book)));
    let counters = Arc::new(TcpCounters::default());
    let front = TcpFront::new(live, book.counters(Transport::Tcp, Sharing::ManyWriters), Arc::clone(&counters), limits);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("built");
    let (stop, is_stopping) = watch::channel(false);
    let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).expect("bound");
    let address = listener.local_addr().expect("bound");
    runtime.spawn(Arc::new(front).accept(listener, is_stopping));
    Front { runtime, address, counters, stop }
}

fn connect(front: &Front) -> StdStream {
    let stream = StdStream::connect(front.address).expect("connected");
    stream.set_read_timeout(Some(Duration::from_secs(5))).expect("set");
    stream
}

fn framed(name: &str) -> Vec<u8> {
    let query = query(7, name, RecordType::A);
    let mut framed = (query.len() as u16).to_be_bytes().to_vec();
    framed.extend_from_slice(&query);
    framed
}

fn read_answer(stream: &mut StdStream) -> std::io::Result<Vec<u8>> {
    let mut length = [0; 2];
    stream.read_exact(&mut length)?;
    let mut answer = vec![0; usize::from(u16::from_be_bytes(length))];
    stream.read_exact(&mut answer).map(|()| answer)
}

/// Whether the other side closes without a word.
fn is_closed(stream: &mut StdStream) -> bool {
    matches!(stream.read(&mut [0; 16]), Ok(0) | Err(_))
}

#[test]
fn silent_and_dripping_clients_are_closed_in_time() {
    let front = start(limits());
    let mut silent = connect(&front);
    assert!(is_closed(&mut silent));
    let mut dripping = connect(&front);
    let begun = std::time::Instant::now();
    for octet in framed("www.example.com") {
        if dripping.write_all(&[octet]).is_err() || begun.elapsed() > Duration::from_secs(2) {
            break;
        }
        thread::sleep(Duration::from_millis(60));
    }
    assert!(is_closed(&mut dripping));
    assert!(begun.elapsed() < Duration::from_secs(2), "octets bought more time");
    assert_eq!(front.counters.timed_out.load(Ordering::Relaxed), 2);
}

#[test]
fn answered_client_may_stay_for_the_idle_time() {
    let front = start(limits());
    let mut stream = connect(&front);
    for _ in 0..3 {
        stream.write_all(&framed("ns1.example.com")).expect("sent");
        assert_eq!(read_answer(&mut stream).expect("answered")[..2], [0, 7]);
        thread::sleep(Duration::from_millis(150));
    }
    assert!(is_closed(&mut stream), "idle for longer");
}

#[test]
fn newcomer_is_answered_though_one_client_holds_all_its_connections_idle() {
    let front = start(TcpLimits { idle: Duration::from_secs(5), message: Duration::from_secs(5), ..limits() });
    let mut held: Vec<StdStream> = (0..2).map(|_| connect(&front)).collect();
    for stream in &mut held {
        stream.write_all(&framed("ns1.example.com")).expect("sent");
        read_answer(stream).expect("answered");
    }
    let mut newcomer = connect(&front);
    newcomer.write_all(&framed("ns1.example.com")).expect("sent");
    read_answer(&mut newcomer).expect("answered");
    assert!(is_closed(&mut held[0]), "the longest idle one makes room");
    assert_eq!(front.counters.evicted.load(Ordering::Relaxed), 1);
}

#[test]
fn client_that_has_sent_all_gets_all_its_answers() {
    let front = start(limits());
    let mut stream = connect(&front);
    stream.write_all(&framed("ns1.example.com").repeat(2000)).expect("sent");
    stream.shutdown(std::net::Shutdown::Write).expect("closed");
    for _ in 0..2000 {
        read_answer(&mut stream).expect("answered");
    }
    assert!(is_closed(&mut stream));
}

#[test]
fn queries_sent_before_the_stop_are_answered() {
    let limits = TcpLimits { seats: SeatLimits { total: 100, per_client: 100 }, ..limits() };
    // How far connections have come by then is a matter of luck.
    for _ in 0..20 {
        let front = start(limits.clone());
        let mut streams: Vec<StdStream> = (0..50).map(|_| connect(&front)).collect();
        for stream in &mut streams {
            stream.write_all(&framed("ns1.example.com")).expect("sent");
        }
        front.stop.send_replace(true);
        for mut stream in streams {
            assert_eq!(read_answer(&mut stream).expect("answered")[..2], [0, 7]);
            assert!(is_closed(&mut stream));
        }
        front.runtime.block_on(front.stop.closed());
    }
}
