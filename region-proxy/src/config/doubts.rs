//! What is allowed but seldom meant.

use super::{Config, L4};
use crate::routes::{Action, PathPrefix, Route};

impl Config {
    /// What an operator should look at again, each with its key.
    pub fn doubts(&self) -> Vec<(String, String)> {
        let routes = &self.routes.routes;
        let mut doubts = Vec::new();
        if let Some(first) = routes.iter().position(takes_all) {
            doubts.extend((first + 1..routes.len()).map(|index| {
                let what =
                    format!("never reached, since routes[{first}] takes all requests: expected it before that one");
                (format!("routes[{index}]"), what)
            }));
        }
        if self.tls.is_none() && self.forwarded.trusted.is_empty() {
            let redirecting =
                routes.iter().enumerate().filter(|(_, route)| matches!(route.action, Action::RedirectToHttps { .. }));
            doubts.extend(redirecting.map(|(index, _)| {
                let what = "nobody here speaks TLS, and no peer is trusted to do so: whoever comes again is redirected again; expected \
                            [tls], or `trusted` in [forwarded]";
                (format!("routes[{index}].redirect"), what.to_owned())
            }));
        }
        doubts.extend(self.l4.iter().flat_map(|l4| self.doubts_of(l4)));
        doubts
    }

    /// Servers that are checked at another port than flows come to.
    fn doubts_of(&self, l4: &L4) -> Vec<(String, String)> {
        let servers = self.services.get(&l4.service).into_iter().flat_map(|service| &service.servers);
        let others = servers.filter(|(_, server)| {
            l4.keeps_port() && !l4.ports.iter().any(|ports| ports.contains(server.address.port()))
        });
        let told = others.map(|(name, server)| {
            let what = format!(
                "flows keep their port, and {name} of {} has {}, which is none of them: expected one of `ports`, unless \
                 it is only checked there",
                l4.service,
                server.address.port()
            );
            (format!("l4.{}.ports", l4.name), what)
        });
        told.collect()
    }
}

/// Whether nothing goes on to the routes behind `route`.
fn takes_all(route: &Route) -> bool {
    let is_final = !matches!(route.action, Action::RedirectToHttps { .. });
    is_final
        && route.hosts.is_empty()
        && route.path == PathPrefix::default()
        && route.methods.is_empty()
        && route.fields.is_empty()
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn doubts(routes: &str) -> Vec<String> {
        let text = format!(
            "region = \"r\"\nproxy = \"p\"\nlisten = [\"127.0.1.1:80\"]\nstatus = \"127.0.1.2:81\"\n{routes}\n\
             [services.a]\nservers.a = \"127.0.1.3:80\"\n"
        );
        let config =
            Config::parse(Path::new("p.toml"), &text, &|_| Err("no such file".to_owned())).expect("no mistake");
        config.doubts().into_iter().map(|(key, _)| key).collect()
    }

    #[test]
    fn routes_behind_one_that_takes_all_are_doubted() {
        let (all, some) = ("[[routes]]\nservice = \"a\"\n", "[[routes]]\npath = \"/x\"\nservice = \"a\"\n");
        assert_eq!(doubts(&[some, all].concat()), [""; 0]);
        assert_eq!(doubts(&[some, all, some, all].concat()), ["routes[2]", "routes[3]"]);
    }

    #[test]
    fn servers_at_a_port_that_no_flow_comes_to_are_doubted() {
        let l4 = |mode: &str, ports: &str| {
            format!("[l4.x]\nservice = \"a\"\nvips = [\"127.0.1.9\"]\nprotocols = [\"tcp\"]\n{mode}\nports = {ports}\n")
        };
        let (nat, dsr) = ("mode = \"nat\"", "mode = \"dsr\"\ninterface = \"lo\"");
        assert_eq!(doubts(&l4(nat, "[8080]")), [""; 0], "it gets the server's port");
        assert_eq!(doubts(&l4(nat, "[8080, 8081]")), ["l4.x.ports"]);
        assert_eq!(doubts(&l4(dsr, "[8080]")), ["l4.x.ports"]);
        assert_eq!(doubts(&l4(dsr, "[8080, \"79-81\"]")), [""; 0]);
    }

    #[test]
    fn a_redirect_to_tls_that_nobody_speaks_is_doubted() {
        let redirect = "[[routes]]\nredirect = \"https\"\n";
        assert_eq!(doubts(redirect), ["routes[0].redirect"]);
        assert_eq!(doubts(&format!("forwarded.trusted = [\"192.0.2.0/24\"]\n{redirect}")), [""; 0]);
    }
}
