//! `region-proxy l4 doctor`: run on a server, says what it lacks for what an L4 service sends it, and what mends it.
//!
//! ```text
//! ip, /proc ─► facts ─► judge ─► one line each: ok, or wrong with the commands that mend it
//! ```

use std::net::IpAddr;

use clap::{Args, ValueEnum};

mod facts;
mod judge;

use facts::Facts;
use judge::{Finding, Question};

use crate::l4::Protocol;

/// What is asked.
#[derive(Args, Debug)]
pub struct Doctor {
    /// That of the L4 service.
    #[arg(long, value_enum)]
    mode: ModeWord,
    /// One of its VIPs.
    #[arg(long, value_name = "ADDRESS")]
    vip: IpAddr,
    /// Where its packets come in here; without it what all interfaces have in common counts.
    #[arg(long, value_name = "NAME")]
    interface: Option<String>,
    /// The address of the proxy on this link: what a server of mode nat has for its default gateway.
    #[arg(long, value_name = "ADDRESS")]
    gateway: Option<IpAddr>,
    /// The port at which a program is to listen: that of the VIP for dsr and tunnel, that of the server for nat and one-arm.
    #[arg(long)]
    port: Option<u16>,
    /// What the program is to take there.
    #[arg(long, value_enum, default_value_t = ProtocolWord::Tcp, requires = "port")]
    protocol: ProtocolWord,
    /// The id of the VXLAN.
    #[arg(long, value_name = "NUMBER")]
    id: Option<u32>,
    /// The UDP port of the VXLAN.
    #[arg(long, value_name = "PORT", default_value_t = 4789)]
    tunnel_port: u16,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum ModeWord {
    Nat,
    OneArm,
    Dsr,
    Tunnel,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum ProtocolWord {
    Tcp,
    Udp,
}

impl Doctor {
    /// Looks, and prints what it finds; an error where something is wrong.
    pub fn run(&self) -> Result<(), String> {
        let question = self.question();
        let facts = Facts::read(question.vip)?;
        if let Some(name) = question.interface.as_deref().filter(|name| facts.link(name).is_none()) {
            let known: Vec<&str> = facts.links.iter().map(|link| link.name.as_str()).collect();
            return Err(format!("there is no interface {name}: expected one of {}", known.join(", ")));
        }
        let findings = judge::judge(&question, &facts);
        findings.iter().for_each(|finding| print!("{finding}"));
        match findings.iter().filter(|finding| !finding.is_ok()).count() {
            0 => Ok(()),
            wrong => Err(format!("{wrong} of {} are wrong", findings.len())),
        }
    }

    fn question(&self) -> Question {
        let mode = match self.mode {
            ModeWord::Nat => crate::config::L4Mode::Nat,
            ModeWord::OneArm => crate::config::L4Mode::OneArm,
            ModeWord::Dsr => crate::config::L4Mode::Dsr,
            ModeWord::Tunnel => crate::config::L4Mode::Tunnel,
        };
        Question {
            mode,
            vip: self.vip,
            interface: self.interface.clone(),
            gateway: self.gateway,
            port: self.port,
            protocol: match self.protocol {
                ProtocolWord::Tcp => Protocol::Tcp,
                ProtocolWord::Udp => Protocol::Udp,
            },
            id: self.id,
            tunnel_port: self.tunnel_port,
        }
    }
}

impl std::fmt::Display for Finding {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.wrong {
            None => writeln!(f, "ok     {}", self.what),
            Some(wrong) => {
                writeln!(f, "WRONG  {}: {}", self.what, wrong.why)?;
                wrong.mend.iter().try_for_each(|command| writeln!(f, "         {command}"))
            }
        }
    }
}
