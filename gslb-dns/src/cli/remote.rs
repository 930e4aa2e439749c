//! Commands that ask a running node by its admin listener.

use std::fs;
use std::path::Path;
use std::time::Duration;

use nix::unistd::{Uid, User};
use reqwest::{Client, RequestBuilder, StatusCode, Url, redirect};
use serde_json::Value;
use tokio::runtime;

use super::{ExplainArgs, Failure, OverrideAction, OverrideArgs, output};
use crate::admin::{NODE_HEADER, OverrideRequest};
use crate::probe::describe;
use shared::token::Token;

/// Explains by the present state of a node.
pub(super) fn explain(node: &str, args: &ExplainArgs) -> Result<(), Failure> {
    let mut url = url_at(node, "/explain")?;
    url.query_pairs_mut()
        .append_pair("name", &args.name)
        .append_pair("client", &args.client.to_string())
        .append_pair("type", &args.qtype)
        .append_pair("format", if args.json { "json" } else { "text" });
    let text = send(client(node)?.get(url), node)?.text()?;
    if args.json {
        return print_json(&text);
    }
    output::print(&text)
}

/// Prints the state of a node.
pub(super) fn status(node: &str) -> Result<(), Failure> {
    print_json(&send(client(node)?.get(url_at(node, "/status")?), node)?.text()?)
}

/// Sets an override, or takes it back.
pub(super) fn change(args: &OverrideArgs) -> Result<(), Failure> {
    let mut url = url_at(&args.node.node, "/overrides")?;
    let action = match args.action {
        OverrideAction::Drain => "drain",
        OverrideAction::Down => "down",
        OverrideAction::Up => "up",
        OverrideAction::Resume => "resume",
        OverrideAction::Clear => "clear",
    };
    let request = if args.action == OverrideAction::Clear {
        url.query_pairs_mut().append_pair("region", args.region.as_str());
        if let Some(service) = &args.service {
            url.query_pairs_mut().append_pair("service", service.as_str());
        }
        client(&args.node.node)?.delete(url)
    } else {
        let body = OverrideRequest {
            region: args.region.to_string(),
            service: args.service.as_ref().map(ToString::to_string),
            action: action.to_owned(),
            who: args.who.clone().unwrap_or_else(user),
            why: args.why.clone().unwrap_or_default(),
            span: args.span.clone(),
        };
        let body = serde_json::to_vec(&body).map_err(|error| Failure::Impossible(error.to_string()))?;
        client(&args.node.node)?.post(url).header("content-type", "application/json").body(body)
    };
    let token_file = args.token_file.as_deref();
    let reply = send(with_token(request, token_file)?, &args.node.node)?;
    if reply.status == StatusCode::UNAUTHORIZED {
        return Err(unauthorized(token_file));
    }
    print_json(&reply.text()?)
}

fn unauthorized(token_file: Option<&Path>) -> Failure {
    Failure::Mistakes(match token_file {
        Some(path) => format!(
            "the node refused the token in {}: expected the content of the file that the node has as \
             server.admin_token_file",
            path.display()
        ),
        None => {
            "the node asks for its token: expected --token-file FILE with the content of the file that the node has \
                 as server.admin_token_file"
                .to_owned()
        }
    })
}

pub(super) fn with_token(request: RequestBuilder, token_file: Option<&Path>) -> Result<RequestBuilder, Failure> {
    let Some(path) = token_file else { return Ok(request) };
    let mistake = |what: String| Failure::Mistakes(format!("--token-file {}: {what}", path.display()));
    let text = fs::read_to_string(path).map_err(|error| mistake(format!("cannot be read: {error}")))?;
    let token = Token::parse(&text).map_err(|error| mistake(error.to_string()))?;
    Ok(request.bearer_auth(token.reveal()))
}

/// Who is logged in, by the environment, else by the account that the process runs as.
fn user() -> String {
    let uid = Uid::current();
    let account = || User::from_uid(uid).ok().flatten().map(|user| user.name);
    name_of_user(|variable| std::env::var(variable).ok(), account, uid)
}

fn name_of_user(
    variable: impl Fn(&str) -> Option<String>,
    account: impl FnOnce() -> Option<String>,
    uid: Uid,
) -> String {
    let is_given = |name: &String| !name.trim().is_empty();
    let named = ["SUDO_USER", "USER", "LOGNAME"].into_iter().find_map(|name| variable(name).filter(is_given));
    named.or_else(|| account().filter(is_given)).unwrap_or_else(|| format!("uid {uid}"))
}

fn url_at(node: &str, path: &str) -> Result<Url, Failure> {
    let is_http = |url: &Url| matches!(url.scheme(), "http" | "https");
    let base = Url::parse(node).ok().filter(is_http).ok_or_else(|| {
        Failure::Mistakes(format!(
            "--node {node:?}: expected the URL of an admin listener, such as {}",
            super::DEFAULT_NODE
        ))
    })?;
    base.join(path).map_err(|error| Failure::Mistakes(error.to_string()))
}

pub(super) fn client(node: &str) -> Result<Client, Failure> {
    let builder = Client::builder().no_proxy().redirect(redirect::Policy::none()).timeout(TIME_LIMIT);
    // Only TLS needs the certificates of the machine, which may have none.
    let builder = if node.starts_with("https:") { builder } else { builder.tls_certs_only([]) };
    builder.build().map_err(|error| Failure::Impossible(describe(&error)))
}

/// What a node answered.
struct Reply {
    status: StatusCode,
    body: String,
}

/// Asks; fails unless a node answers.
fn send(request: RequestBuilder, node: &str) -> Result<Reply, Failure> {
    let runtime = runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| Failure::Impossible(error.to_string()))?;
    runtime.block_on(async {
        let response = request.send().await.map_err(|error| unreachable(node, &error))?;
        let (status, is_node) = (response.status(), response.headers().contains_key(NODE_HEADER));
        if !is_node {
            return Err(Failure::Impossible(format!(
                "{node}: what answered is no gslb-dns node (HTTP status {}): {NODE_EXPECTED}",
                status.as_u16()
            )));
        }
        let body = response.text().await.map_err(|error| unreachable(node, &error))?;
        Ok(Reply { status, body })
    })
}

fn unreachable(node: &str, error: &reqwest::Error) -> Failure {
    let hint = if error.is_connect() { format!(": {NODE_EXPECTED}") } else { String::new() };
    Failure::Impossible(format!("{node}: {}{hint}", describe(error)))
}

impl Reply {
    /// The body, or what the node has against the request.
    fn text(self) -> Result<String, Failure> {
        if self.status.is_success() {
            return Ok(self.body);
        }
        let json: Option<Value> = serde_json::from_str(&self.body).ok();
        let part = |key: &str| json.as_ref().and_then(|json| json.get(key)?.as_str()).map(str::to_owned);
        let what = part("error").unwrap_or_else(|| format!("HTTP status {}", self.status.as_u16()));
        Err(match self.status {
            StatusCode::BAD_REQUEST => {
                Failure::Mistakes(part("field").map(|field| format!("{field}: ")).unwrap_or_default() + &what)
            }
            StatusCode::NOT_FOUND => Failure::Mistakes(what),
            _ => Failure::Impossible(what),
        })
    }
}

fn print_json(text: &str) -> Result<(), Failure> {
    let json: Value = serde_json::from_str(text).map_err(|error| Failure::Impossible(error.to_string()))?;
    output::print(&format!("{json:#}\n"))
}

/// Where nodes are found.
const NODE_EXPECTED: &str = "expected at --node URL the address that the node has as server.admin in its settings";
const TIME_LIMIT: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests;
