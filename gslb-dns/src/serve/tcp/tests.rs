mod aside;

use std::io::{Read as _, Write as _};
use std::iter;
use std::net::{IpAddr, Ipv4Addr, Shutdown, TcpStream as StdStream};
use std::sync::atomic::AtomicU64;
use std::thread;

use hickory_proto::rr::RecordType;
use socket2::{Domain, Socket, Type};

use super::*;
use crate::answer::Transport;
use crate::open_files;
use crate::serve::Clock;
use crate::serve::counters::CounterBook;
use crate::serve::sample::{Site, query, until};
use crate::serve::seats::TcpCounters;
use crate::serve::updates::Updates;
use crate::settings::TcpSettings;

/// Limits that nobody reaches by chance.
fn wide() -> TcpSettings {
    let (idle, message) = (Duration::from_secs(60), Duration::from_secs(60));
    TcpSettings { idle, message, ..TcpSettings::default() }
}

/// Threads with limits, that answer from a site whose regions were never probed.
struct Front {
    threads: TcpThreads,
    address: SocketAddr,
    counters: Arc<TcpCounters>,
}

/// Lanes that answer from a site whose regions were never probed.
fn lanes(book: &CounterBook) -> impl Iterator<Item = Lane> {
    lanes_of(&Site::new(), book, Updates::new(Arc::default(), tokio::sync::mpsc::channel(1).0, Arc::default()).0)
}

/// The same of `site`, that leave updates to `updates`.
fn lanes_of<'b>(site: &Site, book: &'b CounterBook, updates: Updates) -> impl Iterator<Item = Lane> + use<'b> {
    let world = Arc::new(crate::reload::load(&site.config(), None).world.expect("no mistakes"));
    let state = shared::state::State::new(Arc::clone(&world.settings.topology), Clock::start().now());
    let live = Arc::new(ArcSwap::from_pointee(Live::new(&world, &state, book)));
    let slow = Arc::new(SlowPath::new(Arc::clone(&live), book.slow(), updates));
    iter::repeat_with(move || {
        let (live, counters) = (Arc::clone(&live), book.counters(Transport::Tcp));
        Lane { transport: Transport::Tcp, live, counters, slow: Arc::clone(&slow) }
    })
}

impl Front {
    fn start(settings: &TcpSettings) -> Self {
        Self::start_with(settings, lanes(&CounterBook::default()).take(2).collect())
    }

    fn start_with(settings: &TcpSettings, lanes: Vec<Lane>) -> Self {
        open_files::raise();
        let counters = Arc::new(TcpCounters::default());
        let seats = Arc::new(Seats::new(settings, usize::MAX, Arc::clone(&counters)));
        let listener = StdListener::bind("127.0.0.1:0").expect("bound");
        listener.set_nonblocking(true).expect("set");
        let address = listener.local_addr().expect("bound");
        let threads = TcpThreads::start(vec![listener], seats, lanes).expect("started");
        Self { threads, address, counters }
    }

    fn connect(&self) -> StdStream {
        self.connect_from(Ipv4Addr::LOCALHOST)
    }

    fn connect_from(&self, client: Ipv4Addr) -> StdStream {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
        socket.bind(&SocketAddr::new(IpAddr::V4(client), 0).into()).expect("bound");
        socket.connect(&self.address.into()).expect("connected");
        let stream = StdStream::from(socket);
        stream.set_read_timeout(Some(Duration::from_secs(20))).expect("set");
        stream
    }

    fn stop(self) {
        self.threads.finish_stop(Duration::from_secs(20));
    }
}

fn count(counter: &AtomicU64) -> u64 {
    counter.load(Ordering::Relaxed)
}

fn framed(id: u16, name: &str) -> Vec<u8> {
    let query = query(id, name, RecordType::A);
    let mut framed = (query.len() as u16).to_be_bytes().to_vec();
    framed.extend_from_slice(&query);
    framed
}

fn read_answer(stream: &mut StdStream) -> io::Result<Vec<u8>> {
    let mut length = [0; 2];
    stream.read_exact(&mut length)?;
    let mut answer = vec![0; usize::from(u16::from_be_bytes(length))];
    stream.read_exact(&mut answer).map(|()| answer)
}

/// Asks and gets an answer.
fn ask(stream: &mut StdStream) {
    stream.write_all(&framed(7, "ns1.example.com")).expect("sent");
    assert_eq!(read_answer(stream).expect("answered")[..2], [0, 7]);
}

/// Waits until the other side closes without a word.
fn is_closed(stream: &mut StdStream) -> bool {
    match stream.read(&mut [0; 16]) {
        Ok(octets) => octets == 0,
        Err(error) => error.kind() != io::ErrorKind::WouldBlock,
    }
}

/// Sends until nothing more is taken: a client that never reads.
fn stuff(stream: &mut StdStream) {
    stream.set_write_timeout(Some(Duration::from_millis(200))).expect("set");
    let queries = framed(1, "www.example.com").repeat(1000);
    for _ in 0..10_000 {
        if stream.write_all(&queries).is_err() {
            return;
        }
    }
    panic!("everything was taken");
}

/// RFC 7828, section 3.3.2.
#[test]
fn who_asks_is_told_how_long_an_idle_connection_is_kept() {
    let front = Front::start(&TcpSettings { idle: Duration::from_millis(12_300), ..wide() });
    let mut stream = front.connect();
    let mut query = query(7, "ns1.example.com", RecordType::A);
    query[11] = 1;
    query.extend(b"\0\0\x29\x04\xD0\0\0\0\0\0\x04\0\x0B\0\0");
    stream.write_all(&[&(query.len() as u16).to_be_bytes()[..], &query].concat()).expect("sent");
    assert!(read_answer(&mut stream).expect("answered").ends_with(&[0, 11, 0, 2, 0, 123]));
    ask(&mut stream);
    drop(stream);
    front.stop();
}

#[test]
fn silent_clients_are_closed_in_time() {
    let front = Front::start(&TcpSettings { message: Duration::from_millis(200), ..wide() });
    assert!(is_closed(&mut front.connect()));
    assert_eq!(count(&front.counters.timed_out_query), 1);
    front.stop();
}

#[test]
fn octets_of_a_query_buy_no_more_time_for_it() {
    let front = Front::start(&TcpSettings { message: Duration::from_millis(300), ..wide() });
    let mut stream = front.connect();
    stream.set_nodelay(true).expect("set");
    stream.set_read_timeout(Some(Duration::from_millis(60))).expect("set");
    let begun = StdInstant::now();
    // The pause between two octets is the wait for the end.
    let octets = framed(7, "www.example.com");
    let taken = octets.iter().take_while(|octet| stream.write_all(&[**octet]).is_ok() && !is_closed(&mut stream));
    assert!(taken.count() < octets.len(), "octets bought more time");
    assert!(begun.elapsed() >= Duration::from_millis(300));
    assert_eq!(count(&front.counters.timed_out_query), 1);
    front.stop();
}

#[test]
fn answered_client_may_stay_for_the_idle_time() {
    let front = Front::start(&TcpSettings { idle: Duration::from_millis(400), ..wide() });
    let mut stream = front.connect();
    ask(&mut stream);
    let answered = StdInstant::now();
    assert!(is_closed(&mut stream));
    assert!(answered.elapsed() >= Duration::from_millis(390), "{:?}", answered.elapsed());
    assert_eq!(count(&front.counters.timed_out_idle), 1);
    front.stop();
}

#[test]
fn thousand_idle_connections_do_not_starve_newcomers() {
    let settings = TcpSettings { connections: 1000, ..wide() };
    let front = Front::start(&settings);
    let mut held = Vec::new();
    for client in 0..20_u8 {
        for _ in 0..50 {
            let mut stream = front.connect_from([127, 1, client, 1].into());
            ask(&mut stream);
            held.push(stream);
        }
    }
    assert_eq!((count(&front.counters.open), count(&front.counters.evicted)), (1000, 0));
    for newcomer in 1..=100_u8 {
        let mut stream = front.connect_from([127, 2, 0, newcomer].into());
        stream.set_read_timeout(Some(Duration::from_secs(1))).expect("set");
        ask(&mut stream);
    }
    let counters = &front.counters;
    until("newcomers have gone", || count(&counters.open) < 1000);
    assert!((1..=100).contains(&count(&counters.evicted)), "{}", count(&counters.evicted));
    drop(held);
    front.stop();
}

#[test]
fn client_at_its_limit_loses_its_own_longest_idle_connection() {
    let front = Front::start(&TcpSettings { connections_per_client: 2, ..wide() });
    let mut other = front.connect_from([127, 0, 0, 9].into());
    ask(&mut other);
    let mut held: Vec<StdStream> = (0..2).map(|_| front.connect()).collect();
    held.iter_mut().for_each(ask);
    ask(&mut front.connect());
    assert!(is_closed(&mut held[0]));
    ask(&mut held[1]);
    ask(&mut other);
    assert_eq!((count(&front.counters.evicted), count(&front.counters.timed_out_idle)), (1, 0));
    front.stop();
}

#[test]
fn client_that_never_reads_is_cut_and_its_octets_are_given_back() {
    let front = Front::start(&TcpSettings { message: Duration::from_millis(500), ..wide() });
    let mut stream = front.connect();
    stuff(&mut stream);
    let counters = &front.counters;
    until("cut", || count(&counters.timed_out_answer) == 1);
    until("given back", || count(&counters.open) == 0 && count(&counters.bytes_in_flight) == 0);
    ask(&mut front.connect());
    front.stop();
}

/// Whether the kernel still knows the server's end of the connection whose other end is `client`.
fn is_known(front: &Front, client: SocketAddr) -> bool {
    let table = std::fs::read_to_string("/proc/net/tcp").expect("a table");
    let (server, client) = (format!(":{:04X}", front.address.port()), format!(":{:04X}", client.port()));
    let ends = |line: &str| line.split_whitespace().skip(1).take(2).map(str::to_owned).collect::<Vec<_>>();
    table.lines().map(ends).any(|ends| ends.len() == 2 && ends[0].ends_with(&server) && ends[1].ends_with(&client))
}

#[test]
fn kernel_does_not_keep_for_long_what_a_client_does_not_take() {
    let front = Front::start(&TcpSettings { message: Duration::from_millis(500), ..wide() });
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
    socket.set_recv_buffer_size(4 << 10).expect("set");
    socket.connect(&front.address.into()).expect("connected");
    let mut stream = StdStream::from(socket);
    // More than the client has room for, and less than the server's kernel takes.
    stream.write_all(&framed(7, "www.example.com").repeat(1500)).expect("sent");
    stream.shutdown(Shutdown::Write).expect("closed");
    let counters = &front.counters;
    until("closed by the server", || count(&counters.accepted) == 1 && count(&counters.open) == 0);
    assert_eq!(count(&counters.timed_out_answer), 0);
    let client = stream.local_addr().expect("bound");
    assert!(is_known(&front, client), "nothing was left to be taken");
    until("forgotten", || !is_known(&front, client));
    front.stop();
}

#[test]
fn messages_without_an_answer_buy_no_time_and_then_the_end() {
    let front = Front::start(&TcpSettings { message: Duration::from_millis(400), ..wide() });
    let mut response = framed(7, "ns1.example.com");
    response[4] |= 0x80;
    for message in [response, vec![0, 3, 1, 2, 3]] {
        let mut stream = front.connect();
        ask(&mut stream);
        stream.write_all(&message.repeat(4)).expect("sent");
        ask(&mut stream);
        stream.write_all(&message.repeat(5)).expect("sent");
        assert!(is_closed(&mut stream));
    }
    let counters = &front.counters;
    assert_eq!((count(&counters.timed_out_idle), count(&counters.timed_out_query)), (0, 0));
    front.stop();
}

#[test]
fn busy_client_leaves_others_on_its_thread_their_turn() {
    let longest = longest_turn(framed(7, "ns1.example.com").repeat(1000), 40);
    // A query and its answer take 35 and 51 octets, so that 256 KiB are 3,049 of them at most.
    assert!((1..=3049).contains(&longest), "{longest} at one turn");
}

/// The most messages that are answered on a thread before others on it have their turn, of who sends `messages` so many
/// `times`.
fn longest_turn(messages: Vec<u8>, times: usize) -> u64 {
    let book = CounterBook::default();
    let lane = Arc::new(lanes(&book).next().expect("a lane"));
    let seats = Arc::new(Seats::new(&wide(), usize::MAX, Arc::default()));
    let listener = StdListener::bind("127.0.0.1:0").expect("bound");
    let address = listener.local_addr().expect("bound");
    let client = thread::spawn(move || {
        let mut sender = StdStream::connect(address).expect("connected");
        let mut reader = sender.try_clone().expect("cloned");
        let reading = thread::spawn(move || io::copy(&mut reader, &mut io::sink()));
        (0..times).for_each(|_| sender.write_all(&messages).expect("sent"));
        sender.shutdown(Shutdown::Write).expect("closed");
        reading.join().expect("ended").expect("read")
    });
    let (stream, peer) = listener.accept().expect("a connection");
    stream.set_nonblocking(true).expect("set");
    let runtime = runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let longest = runtime.block_on(async {
        let (socket, writer) = TcpStream::from_std(stream).expect("a socket").into_split();
        let seat = seats.take(peer.ip(), writer);
        let mut running = tokio::spawn(Connection::new(lane, seat, Socket(socket), peer.ip()).run());
        let (mut before, mut longest) = (0, 0);
        while !running.is_finished() {
            tokio::task::yield_now().await;
            let answered = book.totals().queries[Transport::Tcp as usize];
            (longest, before) = (longest.max(answered - before), answered);
        }
        (&mut running).await.expect("ended").expect("not broken");
        longest
    });
    assert!(client.join().expect("ended") > 1 << 18);
    longest
}

#[test]
fn octets_held_are_bounded_and_who_holds_few_is_served() {
    let front = Front::start(&TcpSettings { bytes_in_flight: 1 << 20, ..wide() });
    let mut honest = front.connect_from([127, 3, 0, 1].into());
    honest.write_all(&framed(7, "ns1.example.com")[..5]).expect("sent");
    let mut greedy = Vec::new();
    let counters = &front.counters;
    while count(&counters.evicted_bytes) == 0 {
        assert!(greedy.len() < 40, "{} octets are held", count(&counters.bytes_in_flight));
        let mut stream = front.connect();
        stuff(&mut stream);
        greedy.push(stream);
    }
    assert!(count(&counters.bytes_in_flight) <= 1 << 20);
    honest.write_all(&framed(7, "ns1.example.com")[5..]).expect("sent");
    assert_eq!(read_answer(&mut honest).expect("answered")[..2], [0, 7]);
    drop(greedy);
    drop(honest);
    until("given back", || count(&counters.open) == 0 && count(&counters.bytes_in_flight) == 0);
    front.stop();
}

#[test]
fn thousand_queries_at_once_are_answered_in_their_order() {
    let front = Front::start(&wide());
    let mut stream = front.connect();
    let queries: Vec<u8> = (0..1000).flat_map(|id| framed(id, "ns1.example.com")).collect();
    stream.write_all(&queries).expect("sent");
    for id in 0..1000_u16 {
        assert_eq!(read_answer(&mut stream).expect("answered")[..2], id.to_be_bytes());
    }
    front.stop();
}

#[test]
fn client_that_reads_late_gets_all_its_answers_in_their_order() {
    let front = Front::start(&wide());
    let mut stream = front.connect();
    // Otherwise the kernel would hold them all.
    SockRef::from(&stream).set_recv_buffer_size(64 << 10).expect("set");
    let mut sender = stream.try_clone().expect("cloned");
    let sending = thread::spawn(move || {
        let queries: Vec<u8> = (0..20_000).flat_map(|id| framed(id, "www.example.com")).collect();
        sender.write_all(&queries).expect("sent");
        sender.shutdown(Shutdown::Write).expect("closed");
    });
    let counters = &front.counters;
    until("answers wait", || count(&counters.bytes_in_flight) > 0);
    for id in 0..20_000_u16 {
        assert_eq!(read_answer(&mut stream).expect("answered")[..2], id.to_be_bytes());
    }
    assert!(is_closed(&mut stream));
    sending.join().expect("sent");
    front.stop();
}

#[test]
fn client_that_has_sent_all_gets_all_its_answers() {
    let front = Front::start(&wide());
    let mut stream = front.connect();
    stream.write_all(&framed(7, "ns1.example.com").repeat(2000)).expect("sent");
    stream.shutdown(Shutdown::Write).expect("closed");
    for _ in 0..2000 {
        read_answer(&mut stream).expect("answered");
    }
    assert!(is_closed(&mut stream));
    front.stop();
}

#[test]
fn queries_sent_before_the_stop_are_answered() {
    // How far connections have come by then is a matter of luck.
    for _ in 0..20 {
        let front = Front::start(&wide());
        let mut streams: Vec<StdStream> = (0..50).map(|_| front.connect()).collect();
        for stream in &mut streams {
            stream.write_all(&framed(7, "ns1.example.com")).expect("sent");
        }
        front.stop();
        for mut stream in streams {
            assert_eq!(read_answer(&mut stream).expect("answered")[..2], [0, 7]);
            assert!(is_closed(&mut stream));
        }
    }
}
