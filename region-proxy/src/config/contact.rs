//! Where a running proxy is reached by its operators, which takes a few keys of its settings.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use shared::problem::{Problem, Problems};
use shared::settings::Document;
use shared::token::Token;

use super::Reader;

/// What settings say of that; a proxy may run by older ones, whatever mistakes are in these now.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Contact {
    /// Its socket.
    pub admin_socket: Option<PathBuf>,
    /// Its status listener.
    pub status: Option<SocketAddr>,
    /// What must be shown there, but by who only looks.
    pub token: Option<Token>,
}

impl Contact {
    /// Reads `text` as [`Config::parse`](super::Config::parse) does, but for all that has nothing to do with this.
    ///
    /// Fails with the mistakes in it where they leave neither way.
    pub fn parse(
        file: &Path,
        text: &str,
        read: &dyn Fn(&Path) -> Result<String, String>,
    ) -> Result<Self, Vec<Problem>> {
        let problems = Problems::new(&file.display().to_string(), text);
        let contact = {
            let document = Document::parse(text, &problems);
            let root = document.root(&problems);
            // So that none of them is unknown.
            root.entries();
            let reader = Reader { folder: file.parent().unwrap_or(Path::new("")), read };
            let admin_socket = root.value("admin_socket").and_then(|value| reader.admin_socket(&value));
            let token = root.value("admin_token_file").and_then(|value| reader.token(&value));
            let status = root.value("status").and_then(|value| super::address(&value));
            Self { admin_socket, status, token }
        };
        let is_reachable = contact.admin_socket.is_some() || contact.status.is_some() && contact.token.is_some();
        if is_reachable || problems.is_empty() { Ok(contact) } else { Err(problems.into_vec()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Contact, Vec<String>> {
        let read = |path: &Path| match path.to_str() {
            Some("conf/token") => Ok("0123456789abcdef".to_owned()),
            _ => Err("no such file".to_owned()),
        };
        let found = Contact::parse(Path::new("conf/p.toml"), text, &read);
        found.map_err(|problems| problems.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn a_proxy_is_reached_whatever_else_is_wrong_in_its_settings() {
        for wrong in ["prxy = 1", "threads = 0\n[services.a]\nservers = 1", "[[routes]\n"] {
            let socket = parse(&format!("admin_socket = \"a.sock\"\n{wrong}")).expect(wrong);
            assert_eq!(socket.admin_socket, Some(PathBuf::from("conf/a.sock")), "{wrong}");
            let status =
                parse(&format!("status = \"192.0.2.1:8081\"\nadmin_token_file = \"token\"\n{wrong}")).expect(wrong);
            assert_eq!(status.status, Some(([192, 0, 2, 1], 8081).into()), "{wrong}");
            assert_eq!(status.token.expect(wrong).reveal(), "0123456789abcdef", "{wrong}");
        }
    }

    #[test]
    fn what_leaves_no_way_to_it_is_told() {
        let found = parse("status = \"192.0.2.1\"\nadmin_token_file = \"gone\"\nprxy = 1").expect_err("no way");
        let [status, token] = &found[..] else { panic!("{found:#?}") };
        assert!(status.contains("status: \"192.0.2.1\" is not") && token.contains("conf/gone: no such file"));
    }

    #[test]
    fn who_only_looks_needs_no_token() {
        let status = Some(([192, 0, 2, 1], 8081).into());
        assert_eq!(parse("status = \"192.0.2.1:8081\""), Ok(Contact { admin_socket: None, status, token: None }));
    }
}
