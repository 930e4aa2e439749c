//! Overrides by the operator: drain, down, up, resume, and taking them back.

use std::time::Duration;

use axum::body::Bytes;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::http::HeaderMap;
use axum::response::Json;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use shared::name::{OwnerName, RegionName};
use shared::settings::{parse_duration, show_duration};
use shared::state::{Action, Event, Override, Refused};
use shared::topology::{Service, Topology};
use tokio::sync::oneshot;

use super::{AdminParts, Refusal};
use crate::explain::listed;
use crate::serve::{Clock, Command};

/// The body of `POST /overrides`.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct OverrideRequest {
    /// The region.
    pub region: String,
    /// Only this service; absent: all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub service: Option<String>,
    /// `drain`, `down`, `up` or `resume`.
    pub action: String,
    /// Who decides.
    pub who: String,
    /// Why.
    pub why: String,
    /// How long it holds, such as `1h`; absent: one hour.
    #[serde(rename = "for", skip_serializing_if = "Option::is_none")]
    pub span: Option<String>,
}

/// The query of `DELETE /overrides`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ClearRequest {
    region: Option<String>,
    service: Option<String>,
}

pub(super) async fn add(
    State(parts): State<AdminParts>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Json<Value>, Refusal> {
    parts.authorize(&headers)?;
    let request: OverrideRequest =
        serde_json::from_slice(&body).map_err(|error| Refusal::Bad { field: "body", what: error.to_string() })?;
    let order = request.order(parts.clock)?;
    let expires = parts.clock.wall(order.expires).to_string();
    parts.apply(Event::Override(order)).await?;
    Ok(Json(json!({ "done": request.action, "region": request.region, "expires": expires })))
}

pub(super) async fn clear(
    State(parts): State<AdminParts>,
    headers: HeaderMap,
    query: Result<Query<ClearRequest>, QueryRejection>,
) -> Result<Json<Value>, Refusal> {
    parts.authorize(&headers)?;
    let Query(request) = query.map_err(Refusal::query)?;
    let region = region(request.region.as_deref().unwrap_or_default())?;
    let service = service(request.service.as_deref())?;
    parts.apply(Event::Clear { region: region.clone(), service }).await?;
    Ok(Json(json!({ "done": "clear", "region": region })))
}

impl OverrideRequest {
    fn order(&self, clock: Clock) -> Result<Override, Refusal> {
        let actions = [Action::Drain, Action::Down, Action::Up, Action::Resume];
        let action = actions.into_iter().find(|action| action.as_str() == self.action);
        let action =
            action.ok_or_else(|| bad("action", format!("{:?} is not drain, down, up or resume", self.action)))?;
        let span = self.span.as_deref().map_or(Some(SPAN_DEFAULT), parse_duration);
        let span = span.filter(|span| (SPAN_MIN..=SPAN_MAX).contains(span)).ok_or_else(|| {
            let (least, most) = (show_duration(SPAN_MIN), show_duration(SPAN_MAX));
            bad("for", format!("expected a time with its unit, such as \"1h\", from {least} to {most}"))
        })?;
        Ok(Override {
            region: region(&self.region)?,
            service: service(self.service.as_deref())?,
            action,
            who: one_line("who", &self.who)?,
            why: one_line("why", &self.why)?,
            expires: clock.now() + span,
        })
    }
}

impl AdminParts {
    async fn apply(&self, event: Event) -> Result<(), Refusal> {
        let (answer, result) = oneshot::channel();
        self.commands.send(Command::Apply(event, answer)).await.map_err(|_| Refusal::Stopping)?;
        let result = result.await.map_err(|_| Refusal::Stopping)?;
        result.map_err(|refused| refusal(&refused, &self.live.load().world.settings.topology))
    }
}

fn refusal(refused: &Refused, topology: &Topology) -> Refusal {
    let what = with_expected(refused, topology);
    match refused {
        Refused::UnknownRegion { .. } => bad("region", what),
        Refused::UnknownService { .. } => bad("service", what),
        Refused::AlreadyExpired => bad("for", what),
        Refused::NothingToResume { .. } | Refused::NoOverride { .. } => Refusal::Conflict(what),
    }
}

/// `refused` in words, with the names of `topology` that would have been right where a name was wrong.
pub(crate) fn with_expected(refused: &Refused, topology: &Topology) -> String {
    match refused {
        Refused::UnknownRegion { .. } => {
            format!("{refused}: expected one of {}", listed(topology.regions.iter().map(|region| region.name.as_str())))
        }
        Refused::UnknownService { region, .. } => {
            let region = topology.find_region(region);
            let is_there =
                |service: &&Service| region.and_then(|id| topology.steering(service).find_member(id)).is_some();
            let names = topology.services.iter().filter(is_there).map(|service| service.name.as_str());
            format!("{refused}: expected one of {}", listed(names))
        }
        _ => refused.to_string(),
    }
}

fn region(text: &str) -> Result<RegionName, Refusal> {
    RegionName::parse(text).map_err(|error| bad("region", error.to_string()))
}

fn service(text: Option<&str>) -> Result<Option<OwnerName>, Refusal> {
    text.map(OwnerName::parse).transpose().map_err(|error| bad("service", error.to_string()))
}

/// What goes into logs and status must be there, short and one line.
fn one_line(field: &'static str, text: &str) -> Result<String, Refusal> {
    let text = text.trim();
    let is_valid = !text.is_empty() && text.chars().count() <= TEXT_MAX && !text.chars().any(char::is_control);
    if is_valid {
        Ok(text.to_owned())
    } else {
        Err(bad(field, format!("expected one line of 1 to {TEXT_MAX} characters")))
    }
}

fn bad(field: &'static str, what: String) -> Refusal {
    Refusal::Bad { field, what }
}

const SPAN_DEFAULT: Duration = Duration::from_secs(3600);
const SPAN_MIN: Duration = Duration::from_secs(1);
/// What should hold longer belongs into the settings.
const SPAN_MAX: Duration = Duration::from_secs(30 * 86_400);
const TEXT_MAX: usize = 200;
