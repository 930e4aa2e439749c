use std::os::unix::fs::PermissionsExt as _;

use rcgen::{CertificateParams, KeyPair, date_time_ymd};

use super::*;
use crate::reload::load;
use crate::serve::sample::{Site, tls_pair};

fn site() -> Site {
    let site = Site::new();
    let tls = "threads = 1\ntls = { certificate = \"cert.pem\", key = \"key.pem\", dot = [\"127.0.0.1:0\"] }\n";
    site.write("topology.toml", &site.settings().replace("threads = 1\n", tls));
    site.write_tls(&tls_pair());
    site
}

fn mistakes(site: &Site) -> Vec<String> {
    load(&site.config(), None).world.expect_err("mistakes").iter().map(ToString::to_string).collect()
}

fn of_certificate(world: &World) -> Vec<String> {
    world.warnings.iter().map(ToString::to_string).filter(|warning| warning.contains(".pem")).collect()
}

#[test]
fn certificate_that_is_right_gives_neither_mistake_nor_warning() {
    let world = load(&site().config(), None).world.expect("no mistakes");
    assert_eq!(of_certificate(&world), Vec::<String>::new());
    let certificate = world.certificate.expect("read");
    assert!(certificate.not_after() > Timestamp::now());
    assert!(!format!("{certificate:?}").contains("key"), "{certificate:?}");
}

#[test]
fn every_mistake_names_its_file_and_what_would_be_right() {
    let site = site();
    let (certificate, key) = tls_pair();
    for (file, text, expected) in [
        ("cert.pem", "", "cert.pem: no certificate in it: expected the certificate of this node"),
        (
            "cert.pem",
            "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
            "cert.pem: the first certificate",
        ),
        ("cert.pem", "-----BEGIN CERTIFICATE-----\n!\n-----END CERTIFICATE-----\n", "cert.pem: not PEM"),
        ("cert.pem", &*certificate, "key.pem: does not belong to the first certificate in "),
        ("key.pem", "nothing", "key.pem: no private key in it: expected one in PKCS#8"),
        ("key.pem", "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n", "key.pem: the key is of no kind"),
        ("key.pem", &*key, "key.pem: does not belong"),
    ] {
        site.write_tls(&tls_pair());
        site.write_secret(file, text);
        let found = mistakes(&site);
        assert!(found.len() == 1 && found[0].contains(expected), "{expected} is not {found:#?}");
    }
    fs::remove_file(site.path("cert.pem")).expect("removed");
    assert!(mistakes(&site)[0].contains("cert.pem cannot be read"));
}

#[test]
fn key_that_others_can_read_is_refused_with_the_command_to_run() {
    let site = site();
    fs::set_permissions(site.path("key.pem"), fs::Permissions::from_mode(0o640)).expect("set");
    let found = mistakes(&site);
    assert!(found[0].contains("has mode 0640") && found[0].contains(": run chmod 600 /"), "{found:?}");
}

#[test]
fn certificate_that_has_expired_is_warned_of_and_serves() {
    let site = site();
    let key = KeyPair::generate().expect("a key");
    let mut params = CertificateParams::new(vec!["ns1.example.com".to_owned()]).expect("a name");
    (params.not_before, params.not_after) = (date_time_ymd(2020, 1, 1), date_time_ymd(2020, 2, 1));
    let certificate = params.self_signed(&key).expect("signed");
    site.write_tls(&(certificate.pem(), key.serialize_pem()));
    let world = load(&site.config(), None).world.expect("no mistakes");
    let found = of_certificate(&world);
    assert!(found.len() == 1 && found[0].contains("cert.pem: expired at 2020-02-01T00:00:00Z"), "{found:?}");
}

/// What `openssl ecparam -genkey` writes.
#[test]
fn ec_key_in_sec1_behind_its_parameters_serves() {
    let site = site();
    site.write_tls(&(VERSION_3.to_owned(), EC_KEY.to_owned()));
    let world = load(&site.config(), None).world.expect("no mistakes");
    assert_eq!(of_certificate(&world), Vec::<String>::new());
}

#[test]
fn what_openssl_gives_by_default_and_cannot_serve_is_refused_with_the_command_to_run() {
    let site = site();
    let with_password = "-----BEGIN EC PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-128-CBC,6E0B\n\n\
                         2IvFM78M\n-----END EC PRIVATE KEY-----\n";
    let in_pkcs8 = "-----BEGIN ENCRYPTED PRIVATE KEY-----\nMIHs\n-----END ENCRYPTED PRIVATE KEY-----\n";
    for (certificate, key, expected, command) in [
        (VERSION_3, with_password, "key.pem: the key has a password", "openssl pkey -in /"),
        (VERSION_3, in_pkcs8, "key.pem: the key has a password", "openssl pkey -in /"),
        (VERSION_3, OTHER_CURVE, "key.pem: the key is of no kind that is known here", "openssl genpkey -algorithm EC"),
        (VERSION_1, EC_KEY, "cert.pem: the first certificate is of X.509 version 1", "openssl req -x509 -key /"),
    ] {
        site.write_tls(&(certificate.to_owned(), key.to_owned()));
        let found = mistakes(&site);
        assert!(found.len() == 1 && found[0].contains(expected) && found[0].contains(command), "{found:#?}");
    }
}

#[test]
fn broken_certificate_stops_a_start_and_no_reload() {
    let site = site();
    let first = load(&site.config(), None).world.expect("no mistakes");
    site.write("cert.pem", "nothing");
    assert!(mistakes(&site)[0].contains("cert.pem: no certificate in it"));
    let second = load(&site.config(), Some(&first)).world.expect("the rest is right");
    assert!(second.certificate_problems[0].to_string().contains("cert.pem: no certificate in it"));
    let key = |world: &World| Arc::as_ptr(world.certificate.as_ref().expect("there").key());
    assert_eq!(key(&second), key(&first));
    site.write_tls(&tls_pair());
    let third = load(&site.config(), Some(&second)).world.expect("no mistakes");
    assert!(third.certificate_problems.is_empty() && key(&third) != key(&first));
}

#[test]
fn settings_without_a_certificate_leave_the_one_of_before() {
    let site = site();
    let first = load(&site.config(), None).world.expect("no mistakes");
    site.write("topology.toml", &site.settings());
    let second = load(&site.config(), Some(&first)).world.expect("no mistakes");
    let key = |world: &World| Arc::as_ptr(world.certificate.as_ref().expect("there").key());
    assert_eq!(key(&second), key(&first));
}

/// On P-256.
const EC_KEY: &str = "\
-----BEGIN EC PARAMETERS-----
BggqhkjOPQMBBw==
-----END EC PARAMETERS-----
-----BEGIN EC PRIVATE KEY-----
MHcCAQEEIHIopA2ilVsoRxsWiTRd1Xqp9OJxa4aLFcAsR6+UDv6noAoGCCqGSM49
AwEHoUQDQgAE+dTkREO9VSAHyEuVDfyHEBh8SHdF4DZlteX49z/1kz3zi10PzhTo
SZCxtsReX4mM4V1ZZ+xoopm/wBndHJxlsw==
-----END EC PRIVATE KEY-----
";
/// Of that key.
const VERSION_1: &str = "\
-----BEGIN CERTIFICATE-----
MIIBMDCB1wIUS3xk6UVLd2sAHxfv4XCtDqHjRYcwCgYIKoZIzj0EAwIwGjEYMBYG
A1UEAwwPbnMxLmV4YW1wbGUuY29tMCAXDTI2MTEyNTE0NTI1NVoYDzIxMjYxMTAx
MTQ1MjU1WjAaMRgwFgYDVQQDDA9uczEuZXhhbXBsZS5jb20wWTATBgcqhkjOPQIB
BggqhkjOPQMBBwNCAAT51OREQ71VIAfIS5UN/IcQGHxId0XgNmW15fj3P/WTPfOL
XQ/OFOhJkLG2xF5fiYzhXVln7Giimb/AGd0cnGWzMAoGCCqGSM49BAMCA0gAMEUC
IHast7FyeTZVZnvalW6dUksKveVUCEOdHTFg3ZWiJ+QFAiEAsnBisnHn2PXwD0iM
z1net211Ijz78tl/BzAIosOYDvA=
-----END CERTIFICATE-----
";
/// Of that key.
const VERSION_3: &str = "\
-----BEGIN CERTIFICATE-----
MIIBizCCATGgAwIBAgIUFzKFjIN+sDFhyALxIl1YeuOScUQwCgYIKoZIzj0EAwIw
DDEKMAgGA1UEAwwBeDAgFw0yNjExMjUxNDUyNTVaGA8yMTI2MTEwMTE0NTI1NVow
DDEKMAgGA1UEAwwBeDBZMBMGByqGSM49AgEGCCqGSM49AwEHA0IABPnU5ERDvVUg
B8hLlQ38hxAYfEh3ReA2ZbXl+Pc/9ZM984tdD84U6EmQsbbEXl+JjOFdWWfsaKKZ
v8AZ3RycZbOjbzBtMB0GA1UdDgQWBBQXrJSd8mVztB6m4uubJzafMB6OdjAfBgNV
HSMEGDAWgBQXrJSd8mVztB6m4uubJzafMB6OdjAPBgNVHRMBAf8EBTADAQH/MBoG
A1UdEQQTMBGCD25zMS5leGFtcGxlLmNvbTAKBggqhkjOPQQDAgNIADBFAiAcA4Qt
KfHySAwmoidws/L7ZOAaNtgIU0srKjAYqIqLagIhALkwlO2XCFif64T1yxwXqSh2
FS3C9Yw1Tx60RnRTPz9K
-----END CERTIFICATE-----
";
/// On secp256k1.
const OTHER_CURVE: &str = "\
-----BEGIN EC PRIVATE KEY-----
MHQCAQEEIJA39FzUw1Q5bDS+kkDBYcFK35T1q/K0K7emcQKi9V/SoAcGBSuBBAAK
oUQDQgAEokjPyKJlMRGNpCLNQzSBtSAJV+aad9cfG3YKU0ohSpGBlF5gMACmmzZG
ClGiCCqz8Im8jgjXPz0nk2nDg0GglA==
-----END EC PRIVATE KEY-----
";
