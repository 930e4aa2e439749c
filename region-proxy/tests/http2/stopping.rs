//! What clients of HTTP/2 are told when the proxy stops.

use nix::sys::signal::Signal;
use region_proxy::http2::frame::{self, kind};

use crate::common::{Origin, Proxy, settings, unchecked, until};
use crate::raw::{Raw, with};

#[tokio::test]
async fn requests_in_flight_are_finished_and_no_others_begin() {
    let origin = Origin::start("a").await;
    let mut proxy = Proxy::start(&settings("", &unchecked("www.gslb.test", &[("a", origin.address)]))).await;
    let mut raw = Raw::connect(proxy.listen).await;
    raw.ask(1, &with("/slow", &[])).await;
    until("it is under way", async || origin.requests() == 1).await;
    proxy.signal(Signal::SIGTERM);
    let first = raw.next_of(kind::GOAWAY).await;
    assert_eq!(frame::number(&first.payload), Some(frame::STREAM_MAX), "what is on its way is still served");
    let last = raw.next_of(kind::GOAWAY).await;
    assert_eq!((frame::number(&last.payload), frame::number(&last.payload[4..])), (Some(1), Some(0)));
    raw.ask(3, &with("/", &[])).await;
    origin.shared.release.notify_waiters();
    let answer = raw.answer(1).await;
    assert_eq!(answer.body, b"slow");
    assert!(raw.next().await.is_none(), "the connection ends");
    assert!(proxy.exit().await.success());
    assert_eq!(origin.requests(), 1);
}
