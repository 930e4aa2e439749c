//! How soon a failover is served: a whole node with 1,000 services and 8 regions, and one region after the other taken
//! out by an operator. Prints the time from the order to the first answer that is another:
//! `cargo bench -p gslb-dns --bench failover`.

#[path = "inputs/site.rs"]
mod site;

use std::error::Error;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::thread;
use std::time::{Duration, Instant};

use gslb_dns::serve::Node;
use site::{settings, zone_text};

const SERVICES: usize = 1000;
const REGIONS: usize = 8;
const TOKEN: &str = "a-token-for-a-benchmark";

fn main() -> Result<(), Box<dyn Error>> {
    let status = TcpListener::bind("127.0.0.1:0")?;
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("topology.toml");
    std::fs::write(folder.path().join("bench.zone"), zone_text(0))?;
    std::fs::write(folder.path().join("token"), TOKEN)?;
    let server = "[server]\nlisten = [\"127.0.0.1:0\"]\nadmin = \"127.0.0.1:0\"\nadmin_token_file = \"token\"\n";
    let zone = "[[zones]]\nname = \"bench.test\"\nfile = \"bench.zone\"\n";
    let topology = settings(SERVICES, &format!("http://{}", status.local_addr()?));
    std::fs::write(&path, [server, zone, &topology].concat())?;
    thread::spawn(move || tell_status(&status));

    let node = Node::start(&path)?;
    let (dns, admin) = (node.addresses()[0], node.admin_address().ok_or("an admin listener")?);
    let client = Client::new(dns)?;
    client.wait_for(REGIONS, Duration::from_secs(30))?;
    let mut times = Vec::new();
    for down in 1..REGIONS {
        let start = Instant::now();
        let order = thread::spawn(move || take_out(admin, down));
        client.wait_for(REGIONS - down, Duration::from_secs(10))?;
        times.push(start.elapsed());
        order.join().map_err(|_| "the order panicked")??;
        // What one failover leaves to do is no part of the next.
        thread::sleep(Duration::from_millis(200));
    }
    times.sort();
    println!("from the order to the first changed answer, {SERVICES} services, {REGIONS} regions:");
    println!("fastest {:?}, median {:?}, slowest {:?}", times[0], times[times.len() / 2], times[times.len() - 1]);
    node.stop();
    Ok(())
}

/// Asks for the name that is answered with every region that serves.
struct Client {
    socket: UdpSocket,
}

impl Client {
    fn new(server: SocketAddr) -> std::io::Result<Self> {
        let socket = UdpSocket::bind("127.0.0.1:0")?;
        socket.connect(server)?;
        socket.set_read_timeout(Some(Duration::from_secs(2)))?;
        Ok(Self { socket })
    }

    /// Asks again and again until there are `regions` addresses.
    fn wait_for(&self, regions: usize, limit: Duration) -> Result<(), Box<dyn Error>> {
        const QUERY: &[u8] = b"\x12\x34\0\0\0\x01\0\0\0\0\0\0\x03all\x05bench\x04test\0\0\x01\0\x01";
        let start = Instant::now();
        let mut answer = [0; 1232];
        while start.elapsed() < limit {
            self.socket.send(QUERY)?;
            self.socket.recv(&mut answer)?;
            if usize::from(answer[7]) == regions {
                return Ok(());
            }
        }
        Err(format!("{} answers instead of {regions} after {limit:?}", answer[7]).into())
    }
}

/// An operator's order that a region counts as down.
fn take_out(admin: SocketAddr, region: usize) -> Result<(), String> {
    let body = format!(r#"{{"region":"r{region}","action":"down","who":"bench","why":"bench","for":"1h"}}"#);
    let head = format!(
        "POST /overrides HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {TOKEN}\r\ncontent-type: application/json\r\n\
         content-length: {}\r\nconnection: close\r\n\r\n",
        body.len()
    );
    let mut answer = String::new();
    let mut exchange = || -> std::io::Result<()> {
        let mut stream = TcpStream::connect(admin)?;
        stream.write_all((head.clone() + &body).as_bytes())?;
        stream.read_to_string(&mut answer).map(drop)
    };
    exchange().map_err(|error| error.to_string())?;
    if answer.starts_with("HTTP/1.1 200") { Ok(()) } else { Err(answer) }
}

/// The status of every proxy: healthy, with every service.
fn tell_status(listener: &TcpListener) {
    for stream in listener.incoming().flatten() {
        thread::spawn(move || serve_status(&stream));
    }
}

fn serve_status(mut stream: &TcpStream) -> std::io::Result<()> {
    let names = (0..SERVICES).map(|at| match at {
        0 => "all".to_owned(),
        1 => "near".to_owned(),
        _ => format!("s{at}"),
    });
    let services: Vec<String> =
        names.map(|name| format!(r#""{name}.bench.test":{{"servers_up":2,"servers_total":2}}"#)).collect();
    let mut lines = BufReader::new(stream).lines();
    // A kept connection brings one request after the other; none has a body.
    while let Some(request) = lines.next().transpose()? {
        let region = request.split([' ', '/']).find(|word| word.starts_with('r')).unwrap_or_default().to_owned();
        while lines.next().transpose()?.is_some_and(|line| !line.is_empty()) {}
        let body = format!(
            r#"{{"region":"{region}","proxy":"p","holds_vip":true,"is_draining":false,"services":{{{}}}}}"#,
            services.join(",")
        );
        let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", body.len());
        stream.write_all((head + &body).as_bytes())?;
    }
    Ok(())
}
