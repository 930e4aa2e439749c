//! The proxies of any regions, as far as a node sees them: this process tells their status.

use std::collections::BTreeSet;
use std::io::{self, BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

/// The status of one proxy a region, at `/REGION`. Every proxy is well until told otherwise.
#[derive(Clone, Debug)]
pub struct Proxies {
    address: SocketAddr,
    down: Arc<Mutex<BTreeSet<String>>>,
}

impl Proxies {
    /// Tells at `address` that every proxy serves `services`, until this process ends.
    pub fn start(address: SocketAddr, services: &[&str]) -> Result<Self, String> {
        let context = |error: io::Error| format!("status of proxies at {address}: {error}");
        let listener = TcpListener::bind(address).map_err(context)?;
        let address = listener.local_addr().map_err(context)?;
        let proxies = Self { address, down: Arc::default() };
        let servers: Vec<_> =
            services.iter().map(|name| format!(r#""{name}":{{"servers_up":2,"servers_total":2}}"#)).collect();
        let (told, services) = (proxies.clone(), Arc::<str>::from(servers.join(",")));
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (told, services) = (told.clone(), Arc::clone(&services));
                // A node that goes away in the middle is nobody's concern.
                thread::spawn(move || drop(told.tell(&stream, &services)));
            }
        });
        Ok(proxies)
    }

    /// Where the proxy of `region` tells its status.
    pub fn url(&self, region: &str) -> String {
        format!("http://{}/{region}", self.address)
    }

    /// From now on the proxy of `region` closes every connection without a word.
    pub fn take_down(&self, region: &str) {
        self.down.lock().unwrap_or_else(PoisonError::into_inner).insert(region.to_owned());
    }

    /// The proxy of `region` is well again.
    pub fn bring_up(&self, region: &str) {
        self.down.lock().unwrap_or_else(PoisonError::into_inner).remove(region);
    }

    fn tell(&self, mut stream: &TcpStream, services: &str) -> io::Result<()> {
        let mut lines = BufReader::new(stream).lines();
        // A kept connection brings one request after the other; none has a body.
        while let Some(request) = lines.next().transpose()? {
            let region = request.split(' ').nth(1).unwrap_or_default().trim_start_matches('/').to_owned();
            while lines.next().transpose()?.is_some_and(|line| !line.is_empty()) {}
            if self.down.lock().unwrap_or_else(PoisonError::into_inner).contains(&region) {
                return Ok(());
            }
            let body = format!(
                r#"{{"region":"{region}","proxy":"p","holds_vip":true,"is_draining":false,"services":{{{services}}}}}"#
            );
            write!(stream, "HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len())?;
        }
        Ok(())
    }
}
