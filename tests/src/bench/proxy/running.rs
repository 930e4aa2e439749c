//! A proxy under test: started on its core, and ended.

use std::net::{SocketAddrV4, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::{Duration, Instant};

use super::case::Ability;
use super::origins::Origins;
use super::peers::{Ports, Proxy, local};
use super::tls::Certificate;
use super::verify;
use crate::bench::Stop;
use crate::bench::rounds::start_on_server_core;
use crate::harness::process::{Folder, Process};

/// A proxy that runs; it is ended when this is dropped.
#[derive(Debug)]
pub struct Running {
    process: Process,
    /// Where it listens.
    pub ports: Ports,
    // After the process: its folder goes when it has ended.
    _folder: Folder,
}

impl Running {
    /// Starts `proxy` and waits until it does what `ability` says, with both servers where that is HTTP. `program` runs
    /// instead of the usual one.
    pub fn start(
        proxy: &Proxy,
        ability: Ability,
        program: Option<&Path>,
        origins: &Origins,
        certificate: &Certificate,
        stop: &Stop,
    ) -> Result<Self, String> {
        let folder = Folder::new(&format!("gslb-bench-{}-", proxy.name))?;
        // Some read their files as another user.
        let open = std::fs::set_permissions(folder.path(), PermissionsExt::from_mode(0o755));
        open.map_err(|error| format!("{}: {error}", folder.path().display()))?;
        let ports = Ports::find()?;
        let program = program.map_or_else(|| proxy.executable(), |program| Ok(program.to_path_buf()))?;
        let arguments = proxy.prepare(folder.path(), ports, origins, certificate)?;
        let process = start_on_server_core(proxy.name, &program, &arguments)?;
        let mut running = Self { process, ports, _folder: folder };
        running.wait_until_it_serves(ability, stop)?;
        Ok(running)
    }

    /// Its process.
    pub fn id(&self) -> u32 {
        self.process.id()
    }

    /// Where it does what `ability` says.
    pub fn address(&self, ability: Ability) -> SocketAddrV4 {
        local(self.ports.of(ability))
    }

    fn wait_until_it_serves(&mut self, ability: Ability, stop: &Stop) -> Result<(), String> {
        let end = Instant::now() + START;
        let mut why = String::new();
        while Instant::now() < end {
            stop.check()?;
            if let Some(status) = self.process.ended() {
                return Err(format!("it has ended ({status}):\n{}", self.process.log_tail()));
            }
            let address = self.address(ability);
            let served = match TcpStream::connect_timeout(&address.into(), Duration::from_millis(100)) {
                Err(error) => Err(format!("{address}: {error}")),
                Ok(_) if ability == Ability::Tcp => Ok(()),
                Ok(_) => verify::comes_to_both_servers(address, ability),
            };
            match served {
                Ok(()) => return Ok(()),
                Err(error) => why = error,
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        Err(format!("it does not serve within {START:?}: {why}\n{}", self.process.log_tail()))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It may wait for its clients to go; it is measured no more.
        self.process.kill();
    }
}

const START: Duration = Duration::from_secs(15);
