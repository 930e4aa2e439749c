use proptest::prelude::*;

use super::*;

fn name(text: &str) -> OwnerName {
    OwnerName::parse(text).expect("a name")
}

fn route(service: &str) -> Route {
    Route {
        hosts: Vec::new(),
        path: PathPrefix::default(),
        methods: Vec::new(),
        fields: Vec::new(),
        action: Action::Service(name(service)),
        body_octets: None,
        request: FieldRules::default(),
        response: FieldRules::default(),
    }
}

const PLAIN: Ask<'_> =
    Ask { method: "GET", host: Some("www.example.com"), path_and_query: "/", fields: &[], is_https: false };

fn fits_path(prefix: &str, path_and_query: &str) -> bool {
    PathPrefix::parse(prefix).expect("a path").fits(path_and_query)
}

fn location(host: &str, port: u16, path_and_query: &str) -> String {
    let mut out = Vec::new();
    write_location(host, port, path_and_query, &mut out);
    String::from_utf8(out).expect("text")
}

#[test]
fn the_first_route_that_fits_counts() {
    let only_post = Route { methods: vec!["POST".into()], ..route("a.test") };
    let routes = Routes { routes: vec![only_post, route("b.test"), route("c.test")] };
    let service = |ask: &Ask<'_>| routes.find(ask).map(|route| route.action.clone());
    assert_eq!(service(&PLAIN), Some(Action::Service(name("b.test"))));
    assert_eq!(service(&Ask { method: "POST", ..PLAIN }), Some(Action::Service(name("a.test"))));
    assert_eq!(Routes::default().find(&PLAIN), None);
}

#[test]
fn a_path_fits_by_whole_segments() {
    for path in ["/api", "/api/", "/api/x", "/api?x", "/api/?x"] {
        assert!(fits_path("/api", path) && fits_path("/api/", path) && fits_path("/", path), "{path}");
    }
    for path in ["/apix", "/ap", "/", "/API", "/x/api", "*", "//api"] {
        assert!(!fits_path("/api", path), "{path}");
    }
    for no_path in ["", "api", "/a?b", "/a#b", "/a b"] {
        assert_eq!(PathPrefix::parse(no_path), None, "{no_path}");
    }
}

#[test]
fn a_host_fits_alone_or_with_all_below_it() {
    let fits =
        |pattern: HostPattern, host| Route { hosts: vec![pattern], ..route("a.test") }.fits(&Ask { host, ..PLAIN });
    let (is, is_below) = (|| HostPattern::Is(name("example.com")), || HostPattern::IsBelow(name("example.com")));
    assert!(fits(is(), Some("example.com")) && !fits(is(), Some("www.example.com")) && !fits(is(), None));
    assert!(fits(is_below(), Some("www.example.com")) && fits(is_below(), Some("a.b.example.com")));
    for host in ["example.com", ".example.com", "badexample.com", "com"] {
        assert!(!fits(is_below(), Some(host)), "{host}");
    }
}

#[test]
fn all_fields_must_be_there() {
    let pattern = |name: &str, value: Option<&str>| FieldPattern { name: name.into(), value: value.map(Into::into) };
    let both = Route { fields: vec![pattern("x-beta", Some("1")), pattern("Accept", None)], ..route("a.test") };
    let beta = Header { name: "X-Beta", value: b"1" };
    let accept = Header { name: "accept", value: b"*/*" };
    assert!(both.fits(&Ask { fields: &[beta, accept], ..PLAIN }));
    assert!(!both.fits(&Ask { fields: &[beta], ..PLAIN }));
    assert!(!both.fits(&Ask { fields: &[Header { name: "X-Beta", value: b"11" }, accept], ..PLAIN }));
}

#[test]
fn who_came_over_tls_is_not_sent_there_again() {
    let redirect = Route { action: Action::RedirectToHttps { status: 308, port: 443 }, ..route("a.test") };
    assert!(redirect.fits(&PLAIN) && !redirect.fits(&Ask { is_https: true, ..PLAIN }));
}

#[test]
fn a_redirect_leads_to_what_was_asked_for() {
    assert_eq!(location("www.example.com", 443, "/a?b=c"), "https://www.example.com/a?b=c");
    assert_eq!(location("www.example.com", 8443, "/"), "https://www.example.com:8443/");
    assert_eq!(location("[2001:db8::1]", 9, ""), "https://[2001:db8::1]:9/");
    assert_eq!(location("www.example.com", 443, "*"), "https://www.example.com/");
    assert_eq!(location("www.example.com", 443, "?q"), "https://www.example.com/?q");
}

#[test]
fn fields_go_are_set_and_come() {
    let pair = |name: &str, value: &str| (Box::from(name), Box::from(value));
    let rules = FieldRules {
        remove: vec!["server".into()],
        set: vec![pair("X-A", "new"), pair("X-B", "new")],
        add: vec![pair("X-C", "more")],
    };
    let fields =
        [("Server", "x"), ("x-a", "1"), ("X-C", "one"), ("X-A", "2"), ("SERVER", "y"), ("X_A", "3"), ("X_b", "4")];
    let fields = fields.map(|(name, value): (&str, &str)| Header { name, value: value.as_bytes() });
    let (mut edits, mut out) = (Edits::new(), Vec::new());
    rules.apply(&fields, &mut edits);
    edits.write(&fields, |_| false, &mut out);
    assert_eq!(String::from_utf8_lossy(&out), "x-a: new\r\nX-C: one\r\nX-B: new\r\nX-C: more\r\n");
}

proptest! {
    #[test]
    fn whatever_lies_below_a_path_fits_it(prefix in "(/[a-z]{1,3}){0,3}/?", rest in "(/[a-z%.]{0,3}){0,3}", query in "(\\?[a-z=]{0,4})?") {
        let prefix = if prefix.is_empty() { "/".to_owned() } else { prefix };
        let base = prefix.strip_suffix('/').unwrap_or(&prefix);
        let path = format!("{base}{rest}{query}");
        prop_assert!(fits_path(&prefix, &path));
    }

    #[test]
    fn no_text_of_a_path_leads_out_of_the_host(path in "\\PC{0,20}") {
        prop_assert!(location("www.example.com", 443, &path).starts_with("https://www.example.com/"));
    }
}
