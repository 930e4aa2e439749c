//! Virtual routers on the page: who holds the VIPs, and whether two do.

use std::fmt::{self, Write as _};
use std::net::IpAddr;

use jiff::Timestamp;
use shared::published::{VirtualRouterState, VirtualRouterStatus};

use super::super::html::Text;
use super::{pill, span};

/// All `routers`; nothing where there are none.
pub(super) fn write(out: &mut String, routers: &[VirtualRouterStatus], now: Timestamp) -> fmt::Result {
    if routers.is_empty() {
        return Ok(());
    }
    out.write_str("<section><div class=\"head\"><h2>Virtual routers</h2>")?;
    if has_two_actives(routers) {
        pill(out, "bad", "two hold the same VIPs")?;
    }
    out.write_str(
        "</div><table class=\"wide\"><thead><tr><th>Router</th><th>State</th><th class=\"n\">Priority</th>\
         <th>Holder</th><th>Last takeover</th><th>Failing</th></tr></thead><tbody>",
    )?;
    routers.iter().try_for_each(|router| write_router(out, router, now))?;
    out.write_str("</tbody></table></section>\n")
}

/// Whether another was heard that holds the same VIPs as one of `routers`.
pub(super) fn has_two_actives(routers: &[VirtualRouterStatus]) -> bool {
    routers.iter().any(|router| router.hears_other_active)
}

fn write_router(out: &mut String, router: &VirtualRouterStatus, now: Timestamp) -> fmt::Result {
    let vips: Vec<String> = router.vips.iter().map(IpAddr::to_string).collect();
    write!(out, "<tr><td class=\"full\"><b>{}</b><small>{}</small></td>", Text(&router.name), vips.join(", "))?;
    out.write_str("<td class=\"full\">")?;
    let (class, word) = match router.state {
        VirtualRouterState::Active => ("good", "active"),
        VirtualRouterState::Backup => ("", "backup"),
        VirtualRouterState::Initialize => ("warn", "initialize"),
    };
    pill(out, class, word)?;
    out.write_str(if router.holds_vips { "<small>the VIPs are here</small>" } else { "" })?;
    if router.hears_other_active {
        out.write_str("<small class=\"bad-text\">hears another active</small>")?;
    }
    write!(out, "</td><td class=\"n\" data-name=\"Priority\">{}</td>", router.priority)?;
    let holder = router.holder.map_or_else(|| "nobody".to_owned(), |holder| holder.to_string());
    write!(out, "<td data-name=\"Holder\">{holder}</td><td data-name=\"Last takeover\">")?;
    match router.last_takeover.and_then(|secs| Timestamp::from_second(i64::try_from(secs).ok()?).ok()) {
        Some(at) => write!(out, "{} ago<small>{}</small>", span(at, now), at.strftime("%Y-%m-%d %H:%M:%S UTC"))?,
        None => out.write_str("never")?,
    }
    if router.failing.is_empty() {
        return out.write_str("</td><td class=\"none dim\">none</td></tr>\n");
    }
    let failing = router.failing.join(", ");
    writeln!(out, "</td><td class=\"full bad-text\" data-name=\"Failing\">{}</td></tr>", Text(&failing))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn router() -> VirtualRouterStatus {
        VirtualRouterStatus {
            name: "web".to_owned(),
            vips: vec!["192.0.2.10".parse().expect("an address"), "192.0.2.13".parse().expect("an address")],
            state: VirtualRouterState::Active,
            holds_vips: true,
            holder: Some("192.0.2.11".parse().expect("an address")),
            priority: 250,
            last_takeover: Some(1_767_225_600),
            hears_other_active: false,
            failing: Vec::new(),
        }
    }

    fn page(router: VirtualRouterStatus) -> String {
        let mut out = String::new();
        write(&mut out, &[router], "2026-01-01T00:01:05Z".parse().expect("a time")).expect("written");
        out
    }

    #[test]
    fn a_router_shows_its_state_priority_vips_and_last_takeover() {
        let page = page(router());
        let parts = [
            "<b>web</b><small>192.0.2.10, 192.0.2.13</small>",
            ">active<",
            "the VIPs are here",
            ">250<",
            ">192.0.2.11<",
            "1 min 5 s ago<small>2026-01-01 00:00:00 UTC",
        ];
        for part in parts {
            assert!(page.contains(part), "{part} in {page}");
        }
        assert!(!page.contains("bad"), "{page}");
    }

    #[test]
    fn two_actives_are_an_alarm() {
        let page = page(VirtualRouterStatus { hears_other_active: true, ..router() });
        assert!(page.contains("<span class=\"pill bad\">two hold the same VIPs</span>"), "{page}");
    }

    #[test]
    fn one_that_never_held_the_vips_says_so_and_what_fails() {
        let failing = vec!["gateway 192.0.2.1".to_owned(), "service <i>".to_owned()];
        let state = VirtualRouterState::Initialize;
        let page = page(VirtualRouterStatus {
            state,
            holds_vips: false,
            holder: None,
            last_takeover: None,
            failing,
            ..router()
        });
        for part in [">initialize<", ">nobody<", ">never<", "gateway 192.0.2.1, service &lt;i&gt;"] {
            assert!(page.contains(part), "{part} in {page}");
        }
        assert!(!page.contains("the VIPs are here"), "{page}");
    }

    #[test]
    fn without_routers_there_is_nothing() {
        let mut out = String::new();
        write(&mut out, &[], Timestamp::UNIX_EPOCH).expect("written");
        assert_eq!(out, "");
    }
}
