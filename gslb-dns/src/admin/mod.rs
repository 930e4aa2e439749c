//! The admin listener: metrics, status and explanations for everybody who reaches it, overrides for who has the token.
//!
//! ```text
//! GET    /                                     this list
//! GET    /metrics                              Prometheus text
//! GET    /status                               JSON of everything
//! GET    /explain?name=&client=&type=&format=  JSON, or text with format=text
//! GET    /healthz                              200: the process lives; 503: nothing can change any more
//! GET    /ready                                200 once it answers queries, 503 before
//! POST   /overrides                            JSON of an override; needs the token
//! DELETE /overrides?region=&service=           takes one back; needs the token
//! ```

mod listener;
mod metrics;
mod overrides;
mod status;

#[cfg(test)]
mod tests;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use arc_swap::ArcSwap;
use axum::Router;
use axum::extract::rejection::QueryRejection;
use axum::extract::{DefaultBodyLimit, Query, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::middleware::map_response;
use axum::response::{IntoResponse, Json, Response};
use axum::routing::{get, post};
use serde::Deserialize;
use serde_json::json;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, oneshot};
use tracing::error;

use crate::explain::{Question, QuestionError, explain};
use crate::serve::{
    Clock, Command, CounterBook, JournalBook, JournalEntry, Live, Look, NotifyBook, NotifyEntry, TcpCounters,
};

use listener::FewConnections;

pub use overrides::OverrideRequest;
pub(crate) use overrides::with_expected;

/// What the admin listener shows and talks to.
#[derive(Clone)]
pub(crate) struct AdminParts {
    pub(crate) live: Arc<ArcSwap<Live>>,
    pub(crate) commands: mpsc::Sender<Command>,
    pub(crate) counters: Arc<CounterBook>,
    pub(crate) tcp_counters: Arc<TcpCounters>,
    pub(crate) notify_book: Arc<NotifyBook>,
    pub(crate) journal_book: Arc<JournalBook>,
    pub(crate) is_answering: Arc<AtomicBool>,
    pub(crate) clock: Clock,
    pub(crate) config: PathBuf,
}

/// What is known of zones beside what serves.
#[derive(Debug)]
struct ZoneBooks {
    /// How it stands with each secondary.
    secondaries: Vec<NotifyEntry>,
    /// How much is in each journal.
    journals: Vec<JournalEntry>,
}

/// Why a request is not done.
#[derive(Debug)]
enum Refusal {
    /// The request is wrong: which field, and what would be right.
    Bad { field: &'static str, what: String },
    /// There is no token, so that nobody may.
    NoToken,
    /// The token is missing or wrong: which.
    Unauthorized(&'static str),
    /// There is no such thing here.
    Absent { field: &'static str, what: String },
    /// It cannot be done now.
    Conflict(String),
    /// The node is about to end.
    Stopping,
}

/// Serves requests until the process ends.
pub(crate) async fn serve(listener: TcpListener, parts: AdminParts) {
    if let Err(error) = axum::serve(FewConnections::new(listener), router(parts)).await {
        error!(%error, "admin listener ended");
    }
}

fn router(parts: AdminParts) -> Router {
    Router::new()
        .route("/", get(async || INDEX))
        .route("/metrics", get(show_metrics))
        .route("/status", get(show_status))
        .route("/explain", get(show_explanation))
        .route("/healthz", get(show_health))
        .route("/ready", get(show_readiness))
        .route("/overrides", post(overrides::add).delete(overrides::clear))
        .fallback(async || (StatusCode::NOT_FOUND, format!("nothing is here: expected one of\n\n{INDEX}")))
        .layer(DefaultBodyLimit::max(BODY_MAX))
        .layer(map_response(sign))
        .with_state(parts)
}

/// Says what answers, so that the command line knows a node from anything else.
async fn sign(mut response: Response) -> Response {
    response.headers_mut().insert(NODE_HEADER, HeaderValue::from_static(env!("CARGO_PKG_VERSION")));
    response
}

async fn show_metrics(State(parts): State<AdminParts>) -> Result<Response, Refusal> {
    let look = parts.look().await?;
    let totals = parts.counters.totals();
    let zones = parts.books();
    let text = metrics::encode(look, totals, &parts.tcp_counters, zones, parts.clock);
    Ok(([(header::CONTENT_TYPE, metrics::CONTENT_TYPE)], text).into_response())
}

async fn show_status(State(parts): State<AdminParts>) -> Result<Response, Refusal> {
    let look = parts.look().await?;
    Ok(Json(status::page(&look, &parts.books(), parts.clock, &parts.config)).into_response())
}

/// Without its writer a node answers for ever as it does now, whatever fails: that is no life.
async fn show_health(State(parts): State<AdminParts>) -> (StatusCode, &'static str) {
    match parts.commands.is_closed() {
        false => (StatusCode::OK, "ok\n"),
        true => {
            (StatusCode::SERVICE_UNAVAILABLE, "the verdicts are frozen: the node is stopping, or must be restarted\n")
        }
    }
}

async fn show_readiness(State(parts): State<AdminParts>) -> (StatusCode, &'static str) {
    match parts.is_answering.load(Ordering::Acquire) {
        true => (StatusCode::OK, "ready\n"),
        false => (StatusCode::SERVICE_UNAVAILABLE, "the first probe round is not over\n"),
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ExplainRequest {
    name: Option<String>,
    client: Option<String>,
    #[serde(rename = "type")]
    qtype: Option<String>,
    format: Option<String>,
}

async fn show_explanation(
    State(parts): State<AdminParts>,
    headers: HeaderMap,
    query: Result<Query<ExplainRequest>, QueryRejection>,
) -> Result<Response, Refusal> {
    let Query(request) = query.map_err(Refusal::query)?;
    let name = request.name.ok_or_else(|| Refusal::missing("name", "www.example.com"))?;
    let client = request.client.ok_or_else(|| Refusal::missing("client", "192.0.2.1"))?;
    let question = Question::parse(&name, &client, request.qtype.as_deref().unwrap_or("A"))?;
    let wants_text = match request.format.as_deref() {
        Some("text") => true,
        Some("json") => false,
        None => headers.get(header::ACCEPT).is_some_and(|accept| accept.as_bytes().starts_with(b"text/plain")),
        Some(_) => return Err(Refusal::Bad { field: "format", what: "expected json or text".to_owned() }),
    };
    let live = parts.live.load_full();
    let explained = explain(&live.snapshot, &live.world.geo_data, &question)
        .map_err(|error| Refusal::Absent { field: "name", what: error.to_string() })?;
    Ok(if wants_text { explained.to_string().into_response() } else { Json(explained).into_response() })
}

impl AdminParts {
    fn books(&self) -> ZoneBooks {
        ZoneBooks { secondaries: self.notify_book.standings(), journals: self.journal_book.extents() }
    }

    /// Everything as it stands now.
    async fn look(&self) -> Result<Look, Refusal> {
        let (answer, look) = oneshot::channel();
        self.commands.send(Command::Look(answer)).await.map_err(|_| Refusal::Stopping)?;
        look.await.map_err(|_| Refusal::Stopping)
    }

    /// Fails unless `headers` carry the token.
    fn authorize(&self, headers: &HeaderMap) -> Result<(), Refusal> {
        let live = self.live.load();
        let token = live.world.token.as_ref().ok_or(Refusal::NoToken)?;
        match headers.get(header::AUTHORIZATION) {
            Some(value) if token.is_in(value.as_bytes()) => Ok(()),
            Some(_) => Err(Refusal::Unauthorized(TOKEN_WRONG)),
            None => Err(Refusal::Unauthorized(TOKEN_MISSING)),
        }
    }
}

impl Refusal {
    fn missing(field: &'static str, example: &str) -> Self {
        Self::Bad { field, what: format!("missing: expected one such as {example}") }
    }

    fn query(rejection: QueryRejection) -> Self {
        Self::Bad { field: "query", what: rejection.body_text() }
    }
}

impl From<QuestionError> for Refusal {
    fn from(error: QuestionError) -> Self {
        let field = match error {
            QuestionError::Name(_) => "name",
            QuestionError::Client(_) => "client",
            QuestionError::Type(_) => "type",
        };
        Self::Bad { field, what: error.to_string() }
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let (status, field, what) = match self {
            Self::Bad { field, what } => (StatusCode::BAD_REQUEST, Some(field), what),
            Self::NoToken => (StatusCode::FORBIDDEN, None, NO_TOKEN.to_owned()),
            Self::Absent { field, what } => (StatusCode::NOT_FOUND, Some(field), what),
            Self::Unauthorized(what) => {
                let body = Json(json!({ "error": what }));
                return (StatusCode::UNAUTHORIZED, [(header::WWW_AUTHENTICATE, "Bearer")], body).into_response();
            }
            Self::Conflict(what) => (StatusCode::CONFLICT, None, what),
            Self::Stopping => (StatusCode::SERVICE_UNAVAILABLE, None, "the node is stopping".to_owned()),
        };
        (status, Json(json!({ "error": what, "field": field }))).into_response()
    }
}

const NO_TOKEN: &str = "changes are refused: set server.admin_token_file in the settings to a file with a token, \
                        such as `openssl rand -hex 32` prints, and restart";
const TOKEN_MISSING: &str = "the header Authorization is missing: expected Authorization: Bearer TOKEN with the content \
                             of server.admin_token_file";
const TOKEN_WRONG: &str = "the token in the header Authorization is wrong: expected Authorization: Bearer TOKEN with the \
                           content of server.admin_token_file";
/// Stands in every answer, with the version.
pub(crate) const NODE_HEADER: &str = "gslb-dns";
const INDEX: &str = "\
gslb-dns, the admin listener of a node

GET    /metrics                              Prometheus text
GET    /status                               JSON of everything
GET    /explain?name=&client=&type=&format=  who a client is answered with, and why: JSON, or text with format=text
GET    /healthz                              200: the process lives; 503: nothing can change any more
GET    /ready                                200 once it answers queries, 503 before
POST   /overrides                            JSON of an override; needs the token
DELETE /overrides?region=&service=           takes one back; needs the token
";
/// An override is a few hundred octets.
const BODY_MAX: usize = 16 << 10;
