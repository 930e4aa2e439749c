use std::time::Duration;

use super::*;

fn bound(address: &str) -> UdpSocket {
    let socket = UdpSocket::bind(address).expect("bound");
    socket.set_read_timeout(Some(Duration::from_millis(500))).expect("set");
    socket
}

fn echo(batch: &mut Batch, socket: &UdpSocket) -> usize {
    batch.answer_each(|datagram| {
        datagram.answer[..datagram.query.len()].copy_from_slice(datagram.query);
        Some(datagram.query.len())
    });
    batch.send(socket)
}

#[test]
fn batch_answers_each_sender_with_its_own_datagram() {
    let server = bound("127.0.0.1:0");
    let clients: Vec<UdpSocket> = (0..3).map(|_| bound("127.0.0.1:0")).collect();
    let mut batch = Batch::new();
    for round in 0..3_u8 {
        for (at, client) in clients.iter().enumerate() {
            client.send_to(&[round, at as u8], server.local_addr().expect("bound")).expect("sent");
        }
        let mut received = 0;
        while received < clients.len() {
            received += batch.receive(&server, Wait::ForOne).expect("received");
            assert_eq!(echo(&mut batch, &server), 0);
        }
        for (at, client) in clients.iter().enumerate() {
            let mut buffer = [0; 8];
            let (len, from) = client.recv_from(&mut buffer).expect("answered");
            assert_eq!((&buffer[..len], from), (&[round, at as u8][..], server.local_addr().expect("bound")));
        }
    }
}

#[test]
fn answer_leaves_from_the_address_asked() {
    for (wildcard, asked) in [("0.0.0.0:0", "127.0.0.77"), ("[::]:0", "::1")] {
        let Ok(server) = UdpSocket::bind(wildcard) else { continue };
        server.set_read_timeout(Some(Duration::from_millis(500))).expect("set");
        let asked: IpAddr = asked.parse().expect("an address");
        tell_addresses_asked(&server, asked.is_ipv6()).expect("set");
        ignore_path_mtu(&server, asked.is_ipv6()).expect("set");
        let to = (asked, server.local_addr().expect("bound").port());
        let client = bound(if asked.is_ipv6() { "[::1]:0" } else { "127.0.0.1:0" });
        client.send_to(b"x", to).expect("sent");
        let mut batch = Batch::new();
        assert_eq!(batch.receive(&server, Wait::ForOne).expect("received"), 1);
        assert_eq!(echo(&mut batch, &server), 0);
        let (_, from) = client.recv_from(&mut [0; 8]).expect("answered");
        assert_eq!(from.ip(), asked);
    }
}

#[test]
fn too_long_datagram_is_marked_and_the_next_is_whole() {
    let server = bound("127.0.0.1:0");
    let client = bound("127.0.0.1:0");
    let to = server.local_addr().expect("bound");
    let mut batch = Batch::new();
    for (len, expected) in [(QUERY_LEN_MAX + 1, true), (QUERY_LEN_MAX, false)] {
        client.send_to(&vec![7; len], to).expect("sent");
        assert_eq!(batch.receive(&server, Wait::ForOne).expect("received"), 1);
        let mut is_cut = None;
        batch.answer_each(|datagram| {
            is_cut = Some(datagram.is_cut);
            None
        });
        assert_eq!(is_cut, Some(expected));
        assert_eq!(batch.send(&server), 0);
    }
}

#[test]
fn receive_without_datagrams_gives_none() {
    let server = UdpSocket::bind("127.0.0.1:0").expect("bound");
    server.set_read_timeout(Some(Duration::from_millis(20))).expect("set");
    let mut batch = Batch::new();
    assert_eq!(batch.receive(&server, Wait::No).expect("no error"), 0);
    assert_eq!(batch.receive(&server, Wait::ForOne).expect("no error"), 0);
}

/// Sends all `payloads` to the server before it looks, and gives what comes back, longest first.
fn asked_at_once(batch: &mut Batch, server: &UdpSocket, client: &UdpSocket, payloads: &[&[u8]]) -> Vec<Vec<u8>> {
    for payload in payloads {
        client.send_to(payload, server.local_addr().expect("bound")).expect("sent");
    }
    let mut received = 0;
    while received < payloads.len() {
        received += batch.receive(server, Wait::ForOne).expect("received");
        assert_eq!(echo(batch, server), 0);
    }
    let mut buffer = [0; 2048];
    let answers = payloads.iter().map(|_| {
        let (len, from) = client.recv_from(&mut buffer).expect("answered");
        assert_eq!(from, server.local_addr().expect("bound"));
        buffer[..len].to_vec()
    });
    let mut answers: Vec<Vec<u8>> = answers.collect();
    answers.sort_by(|a, b| b.len().cmp(&a.len()).then(a.cmp(b)));
    answers
}

#[test]
fn answers_to_one_client_leave_together_and_arrive_apart() {
    for address in ["127.0.0.1:0", "[::1]:0"] {
        let (server, client) = (bound(address), bound(address));
        let mut batch = Batch::new();
        let sent: [&[u8]; 8] = [b"ffff", b"aaa", b"bbb", b"cc", b"dd", b"e", b"g", b""];
        assert_eq!(asked_at_once(&mut batch, &server, &client, &sent), sent);
        // What fits no run: longer than the one before, or empty.
        assert!(batch.takes_runs);
        let long = [7; 1200];
        assert_eq!(asked_at_once(&mut batch, &server, &client, &[&long[..]; 60]), [long; 60]);
        assert!(batch.takes_runs);
    }
}

#[test]
fn runs_keep_the_address_asked() {
    let server = UdpSocket::bind("0.0.0.0:0").expect("bound");
    server.set_read_timeout(Some(Duration::from_millis(500))).expect("set");
    tell_addresses_asked(&server, false).expect("set");
    let port = server.local_addr().expect("bound").port();
    let client = bound("127.0.0.1:0");
    let mut batch = Batch::new();
    let asked = ["127.0.0.77", "127.0.0.77", "127.0.0.78", "127.0.0.78", "127.0.0.78", "127.0.0.77"];
    for address in asked {
        client.send_to(b"x", (address, port)).expect("sent");
    }
    let mut received = 0;
    while received < asked.len() {
        received += batch.receive(&server, Wait::ForOne).expect("received");
        assert_eq!(echo(&mut batch, &server), 0);
    }
    let from: Vec<String> =
        asked.iter().map(|_| client.recv_from(&mut [0; 8]).expect("answered").1.ip().to_string()).collect();
    assert_eq!(from, asked);
}

#[test]
fn run_that_the_kernel_cannot_cut_is_sent_answer_by_answer() {
    let (server, client) = (bound("127.0.0.1:0"), bound("127.0.0.1:0"));
    // Without checksums the kernel refuses runs.
    set_option(&server, libc::SOL_SOCKET, libc::SO_NO_CHECK, 1).expect("set");
    let mut batch = Batch::new();
    let sent: [&[u8]; 4] = [b"aaa", b"bbb", b"ccc", b"dd"];
    assert_eq!(asked_at_once(&mut batch, &server, &client, &sent), sent);
    assert!(!batch.takes_runs, "one run was tried and refused");
    assert_eq!(asked_at_once(&mut batch, &server, &client, &sent), sent);
}

#[test]
fn answers_of_two_lengths_to_one_client_are_two_messages_in_any_order() {
    let (server, client) = (bound("127.0.0.1:0"), bound("127.0.0.1:0"));
    for (sent, messages) in [("abAbaAAb", 2), ("aaaaaaaA", 2), ("AAAAAAAa", 1), ("AAAAAAAA", 1), ("AaAbAcAd", 2)] {
        let mut batch = Batch::new();
        for letter in sent.chars() {
            // Capitals are twice as long.
            let payload = if letter.is_uppercase() { [letter as u8; 2].to_vec() } else { vec![letter as u8] };
            client.send_to(&payload, server.local_addr().expect("bound")).expect("sent");
        }
        assert_eq!(batch.receive(&server, Wait::ForOne).expect("received"), sent.len());
        batch.answer_each(|datagram| {
            datagram.answer[..datagram.query.len()].copy_from_slice(datagram.query);
            Some(datagram.query.len())
        });
        batch.compose();
        assert_eq!(batch.messages, messages, "{sent}");
        assert_eq!(batch.send(&server), 0);
        for _ in 0..sent.len() {
            client.recv_from(&mut [0; 8]).expect("answered");
        }
    }
}
