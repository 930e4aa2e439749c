use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpListener};
use std::thread;

use clap::Parser as _;

use super::*;
use crate::cli::{Cli, Command};
use crate::serve::Node;
use crate::serve::sample::Site;

#[test]
fn who_is_named_even_where_the_environment_names_nobody() {
    let none = |_: &str| None;
    let blank = |_: &str| Some(String::new());
    let root = Uid::from_raw(0);
    let sudo = |name: &str| Some(if name == "SUDO_USER" { "kim" } else { "root" }.to_owned());
    assert_eq!(name_of_user(sudo, || None, root), "kim");
    assert_eq!(name_of_user(|name| (name == "LOGNAME").then(|| "lee".to_owned()), || None, root), "lee");
    assert_eq!(name_of_user(blank, || Some("root".to_owned()), root), "root");
    assert_eq!(name_of_user(none, || None, root), "uid 0");
}

/// Runs `override drain` with `options`; gives what it says when it fails.
fn drain(node: &str, options: &str) -> Result<(), String> {
    let line = format!("gslb-dns override drain seoul --who kim --why maintenance --node {node} {options}");
    let cli = Cli::try_parse_from(line.split_whitespace()).expect("a command");
    let Command::Override(args) = cli.command else { panic!("another command") };
    change(&args).map_err(|failure| failure.to_string())
}

#[test]
fn missing_token_and_wrong_token_are_told_apart() {
    let site = Site::new();
    site.write("other", "0123456789abcdeX");
    site.write("short", "x");
    let node = Node::start(&site.config()).expect("started");
    let url = format!("http://{}", node.admin_address().expect("there is one"));
    let with = |file: &str| drain(&url, &format!("--token-file {}", site.path(file).display()));
    assert!(drain(&url, "").expect_err("no token").contains("expected --token-file FILE"));
    assert!(with("other").expect_err("wrong").contains("the node refused the token"));
    assert!(with("short").expect_err("none").contains("holds no token"));
    assert_eq!(with("token"), Ok(()));
    node.stop();
}

#[test]
fn what_is_no_node_is_called_so() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("bound");
    let url = format!("http://{}", listener.local_addr().expect("bound"));
    let server = thread::spawn(move || {
        for body in ["<html>", "{}"] {
            let (mut stream, _) = listener.accept().expect("asked");
            let _ = stream.read(&mut [0; 4096]);
            let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\nconnection: close\r\n\r\n", body.len());
            stream.write_all((head + body).as_bytes()).expect("answered");
            // Closing before all of the request is read would take the answer back.
            stream.shutdown(Shutdown::Write).expect("ended");
            let _ = stream.read_to_end(&mut Vec::new());
        }
    });
    for failure in [status(&url).expect_err("no node").to_string(), drain(&url, "").expect_err("no node")] {
        assert!(failure.contains("no gslb-dns node (HTTP status 200)"), "{failure}");
    }
    server.join().expect("asked twice");
}

#[test]
fn refused_connection_hints_at_where_nodes_are_found() {
    // Nobody listens there.
    let failure = status("http://127.0.0.1:1").expect_err("refused").to_string();
    assert!(failure.contains("--node URL") && failure.contains("server.admin"), "{failure}");
}
