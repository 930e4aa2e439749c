use serde_json::Value;

use crate::serve::Node;
use crate::serve::sample::{Site, TOKEN, ask, http, until};

const DRAIN: &str = r#"{"region":"seoul","action":"drain","who":"kim","why":"maintenance","for":"10m"}"#;

fn start(site: &Site) -> (Node, std::net::SocketAddr) {
    let node = Node::start(&site.config()).expect("started");
    let admin = node.admin_address().expect("there is one");
    (node, admin)
}

fn bearer(token: &str) -> String {
    format!("authorization: Bearer {token}\r\n")
}

#[test]
fn changes_need_the_token() {
    let site = Site::new();
    let (node, admin) = start(&site);
    for (headers, why) in [
        ("", "header Authorization is missing"),
        (&bearer("0123456789abcdeX"), "is wrong"),
        ("authorization: Basic x\r\n", "is wrong"),
    ] {
        for (method, path) in [("POST", "/overrides"), ("DELETE", "/overrides?region=seoul")] {
            let (status, body) = http(admin, method, path, headers, DRAIN);
            assert!(status == 401 && body.contains(why), "{method} {headers}: {status} {body}");
        }
    }
    assert_eq!(ask(node.addresses()[0], "www.example.com"), ["198.51.100.1"]);
    node.stop();
}

#[test]
fn without_a_token_file_changes_are_refused_and_the_way_is_told() {
    let site = Site::new();
    site.write("topology.toml", &site.settings().replace("admin_token_file", "# admin_token_file"));
    let (node, admin) = start(&site);
    let (status, body) = http(admin, "POST", "/overrides", &bearer(TOKEN), DRAIN);
    assert_eq!(status, 403);
    assert!(body.contains("server.admin_token_file"), "{body}");
    node.stop();
}

#[test]
fn override_takes_effect_and_is_taken_back() {
    let site = Site::new();
    let (node, admin) = start(&site);
    let server = node.addresses()[0];
    assert_eq!(http(admin, "POST", "/overrides", &bearer(TOKEN), DRAIN).0, 200);
    until("drain", || ask(server, "www.example.com") == ["198.51.100.2"]);
    let page: Value = serde_json::from_str(&http(admin, "GET", "/status", "", "").1).expect("JSON");
    assert_eq!(page["overrides"][0]["who"], "kim");
    let text = http(admin, "GET", "/explain?name=www.example.com&client=192.0.2.1&format=text", "", "").1;
    assert!(text.contains("drain by kim: maintenance") && text.contains("198.51.100.2"), "{text}");
    assert_eq!(http(admin, "DELETE", "/overrides?region=seoul", &bearer(TOKEN), "").0, 200);
    assert_eq!(http(admin, "DELETE", "/overrides?region=seoul", &bearer(TOKEN), "").0, 409);
    node.stop();
}

#[test]
fn bad_input_names_its_field() {
    let site = Site::new();
    let (node, admin) = start(&site);
    for (change, field) in [
        (("seoul", "mars"), "region"),
        (("seoul", "Seoul"), "region"),
        (("drain", "explode"), "action"),
        (("10m", "ten"), "for"),
        (("10m", "100000d"), "for"),
        (("maintenance", " "), "why"),
        (("who\":\"kim", "whom\":\"kim"), "body"),
        (("{", "["), "body"),
    ] {
        let body = DRAIN.replace(change.0, change.1);
        let (status, answer) = http(admin, "POST", "/overrides", &bearer(TOKEN), &body);
        let answer: Value = serde_json::from_str(&answer).expect("JSON");
        assert_eq!((status, answer["field"].as_str()), (400, Some(field)), "{body}: {answer}");
    }
    for (query, field) in [
        ("client=192.0.2.1", "name"),
        ("name=www.example.com", "client"),
        ("name=www.example.com&client=x", "client"),
        ("name=www.example.com&client=192.0.2.1&type=x", "type"),
        ("name=www.example.com&client=192.0.2.1&color=x", "query"),
    ] {
        let (status, answer) = http(admin, "GET", &format!("/explain?{query}"), "", "");
        let answer: Value = serde_json::from_str(&answer).expect("JSON");
        assert_eq!((status, answer["field"].as_str()), (400, Some(field)), "{query}: {answer}");
    }
    node.stop();
}

#[test]
fn unknown_names_are_answered_with_those_that_are_known() {
    let site = Site::new();
    let (node, admin) = start(&site);
    let other = DRAIN.replace("\"action\"", "\"service\":\"ftp.example.com\",\"action\"");
    for (body, expected) in [
        (DRAIN.replace("seoul", "mars"), "mars is not a region: expected one of seoul, virginia"),
        (other, "not a service of seoul: expected one of api.example.com, www.example.com"),
    ] {
        let (status, answer) = http(admin, "POST", "/overrides", &bearer(TOKEN), &body);
        assert!(status == 400 && answer.contains(expected), "{status} {answer}");
    }
    node.stop();
}

#[test]
fn who_asks_for_nothing_that_is_here_is_told_what_is() {
    let site = Site::new();
    let (node, admin) = start(&site);
    for (path, expected) in [("/", 200), ("/state", 404), ("/overrides/seoul", 404)] {
        let (status, body) = http(admin, "GET", path, "", "");
        assert!(status == expected && body.contains("GET    /status"), "{path}: {status} {body}");
    }
    node.stop();
}

#[test]
fn name_in_no_zone_is_not_found() {
    let site = Site::new();
    let (node, admin) = start(&site);
    let (status, body) = http(admin, "GET", "/explain?name=www&client=192.0.2.1", "", "");
    assert!(status == 404 && body.contains("a name in example.com, such as www.example.com"), "{status} {body}");
    node.stop();
}

#[test]
fn who_holds_a_vip_in_turn_is_shown_and_an_alarm_when_two_do() {
    let site = Site::new();
    site.set_rival(false);
    let (node, admin) = start(&site);
    let page = || -> Value { serde_json::from_str(&http(admin, "GET", "/status", "", "").1).expect("JSON") };
    let metrics = || http(admin, "GET", "/metrics", "", "").1;
    let seoul = page()["regions"][0]["vip_holders"][0].clone();
    assert_eq!((&seoul["vip"], &seoul["holder"]), (&"198.51.100.1".into(), &"seoul-1".into()));
    assert_eq!((&seoul["last_takeover"], &seoul["two_actives"]), (&"2027-01-15T08:00:00Z".into(), &Value::Null));
    let virginia = page()["regions"][1]["vip_holders"][0].clone();
    assert_eq!((&virginia["holder"], &virginia["holders"][0]), (&Value::Null, &"virginia-1".into()));
    let holder = "gslb_vip_holder{region=\"seoul\",vip=\"198.51.100.1\",proxy=\"seoul-1\"} 1";
    let taken = "gslb_vip_last_takeover_seconds{region=\"seoul\",vip=\"198.51.100.1\"} 1800000000";
    assert!(metrics().contains(holder) && metrics().contains(taken), "{}", metrics());
    assert!(!metrics().contains("vip=\"198.51.100.2\""), "nobody holds that in turn: {}", metrics());
    site.set_rival(true);
    until("alarm", || page()["alarm"].as_str().is_some_and(|alarm| alarm.contains("seoul-1 hears another")));
    let explain = |format| {
        http(admin, "GET", &format!("/explain?name=www.example.com&client=192.0.2.1&format={format}"), "", "").1
    };
    let alarm = "ALARM   seoul: 198.51.100.1: seoul-1 hears another that holds it too\n";
    assert!(
        explain("text").starts_with(alarm) && explain("text").contains("seoul-1 holds the VIP"),
        "{}",
        explain("text")
    );
    assert!(explain("json").contains("\"vip_holders\":[\"seoul-1\"]"), "{}", explain("json"));
    let raised = "gslb_vip_two_actives{region=\"seoul\",vip=\"198.51.100.1\"} ";
    assert!(metrics().contains(&format!("{raised}1")), "{}", metrics());
    assert_eq!(ask(node.addresses()[0], "www.example.com"), ["198.51.100.1"], "the region serves");
    site.set_rival(false);
    until("no alarm", || page()["alarm"].is_null());
    assert!(metrics().contains(&format!("{raised}0")), "{}", metrics());
    node.stop();
}

#[test]
fn node_that_doubts_itself_says_so_first() {
    let site = Site::new();
    let (node, admin) = start(&site);
    let page = || -> Value { serde_json::from_str(&http(admin, "GET", "/status", "", "").1).expect("JSON") };
    assert!(page()["alarm"].is_null() && page()["regions"][0]["proxies"][0]["is_frozen"] == false);
    site.set_up("seoul", false);
    site.set_up("virginia", false);
    until("doubt", || page()["alarm"].as_str().is_some_and(|alarm| alarm.contains("doubts itself")));
    assert_eq!(page()["regions"][0]["proxies"][0]["is_frozen"], true);
    assert!(http(admin, "GET", "/status", "", "").1.starts_with("{\"alarm\":\"since "));
    let explain = |format| {
        http(admin, "GET", &format!("/explain?name=www.example.com&client=192.0.2.1&format={format}"), "", "").1
    };
    assert!(explain("text").starts_with("ALARM   this node doubts itself"), "{}", explain("text"));
    assert!(explain("json").starts_with("{\"alarm\":\"this node doubts itself"), "{}", explain("json"));
    node.stop();
}

#[test]
fn body_beyond_the_limit_is_refused() {
    let site = Site::new();
    let (node, admin) = start(&site);
    let (status, _) = http(admin, "POST", "/overrides", &bearer(TOKEN), &" ".repeat(super::BODY_MAX + 1));
    assert_eq!(status, 413);
    node.stop();
}

#[test]
fn metrics_count_what_was_answered() {
    let site = Site::new();
    let (node, admin) = start(&site);
    for _ in 0..3 {
        ask(node.addresses()[0], "www.example.com");
    }
    ask(node.addresses()[0], "nowhere.example.com");
    let text = http(admin, "GET", "/metrics", "", "").1;
    for line in [
        "gslb_queries_total{transport=\"udp\"} 4",
        "gslb_answers_total{transport=\"udp\",rcode=\"NOERROR\"} 3",
        "gslb_answers_total{transport=\"udp\",rcode=\"NXDOMAIN\"} 1",
        "gslb_steered_answers_total{region=\"seoul\"} 3",
        "gslb_proxy_up{region=\"virginia\",proxy=\"virginia-1\"} 1",
        "gslb_verdict{service=\"www.example.com\",region=\"seoul\",verdict=\"serving\"} 1",
        "gslb_generation 1",
        "# EOF",
    ] {
        assert!(text.lines().any(|found| found == line), "{line} is not in\n{text}");
    }
    assert_eq!(http(admin, "GET", "/healthz", "", "").0, 200);
    assert_eq!(http(admin, "GET", "/ready", "", "").0, 200);
    node.stop();
}
