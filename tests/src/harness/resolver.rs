//! Real resolvers, each at port 53 or another of a loopback address of its own, with a folder of its own and nothing of
//! the system's settings.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::dns::DnsClient;
use super::process::Process;
use super::tools::require;

/// A resolver that runs. It is killed when this is dropped.
#[derive(Debug)]
pub struct Resolver {
    process: Process,
    address: SocketAddr,
}

impl Resolver {
    /// unbound at `address` for clients in 127.0.0.0/8; `lines` are the rest of its settings, of which the first ones
    /// belong to `server:`.
    pub fn unbound(folder: &Path, address: SocketAddr, lines: &str) -> Result<Self, String> {
        let settings = format!(
            r#"server:
    interface: {ip}
    port: {port}
    outgoing-interface: {ip}
    access-control: 127.0.0.0/8 allow
    do-daemonize: no
    do-ip6: no
    username: ""
    chroot: ""
    directory: "{folder}"
    pidfile: ""
    use-syslog: no
    do-not-query-localhost: no
    num-threads: 1
    local-zone: "test." nodefault
{lines}
remote-control:
    control-enable: no
"#,
            ip = address.ip(),
            port = address.port(),
            folder = folder.display(),
        );
        let file = write(folder, "unbound.conf", &settings)?;
        let process = start("unbound", &["-d".as_ref(), "-c".as_ref(), file.as_os_str()])?;
        process.wait_for_line("start of service", 0, START)?;
        Ok(Self { process, address })
    }

    /// What runs.
    pub fn name(&self) -> &str {
        self.process.name()
    }

    /// Where it answers.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// A client of it, which waits as long as a resolver may need.
    pub fn dns(&self) -> DnsClient {
        DnsClient::new(self.address).limit(Duration::from_secs(5))
    }
}

fn start(name: &str, arguments: &[&std::ffi::OsStr]) -> Result<Process, String> {
    Process::start(name, &require(name)?, arguments).map_err(|error| format!("{name}: {error}"))
}

fn write(folder: &Path, file: &str, text: &str) -> Result<PathBuf, String> {
    let path = folder.join(file);
    std::fs::write(&path, text).map_err(|error| format!("{}: {error}", path.display()))?;
    Ok(path)
}

const START: Duration = Duration::from_secs(10);
