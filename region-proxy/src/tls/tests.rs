use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;

use rcgen::{CertificateParams, KeyPair, date_time_ymd};
use tempfile::TempDir;

use super::*;
use crate::config::{CertificateFiles, ClientCertificates};

/// A folder with certificates that are valid from 2020 to the first of June of a year.
struct Site(TempDir);

impl Site {
    fn new(names: &[&str]) -> Self {
        let site = Self(TempDir::new().expect("a folder"));
        names.iter().for_each(|name| site.write_pair(name, 2040));
        site
    }

    fn write(&self, file: &str, text: &str) {
        let path = self.0.path().join(file);
        fs::write(&path, text).expect("written");
        fs::set_permissions(path, Permissions::from_mode(0o600)).expect("set");
    }

    fn write_pair(&self, name: &str, last_year: i32) {
        let key = KeyPair::generate().expect("a key");
        let mut params = CertificateParams::new(vec![name.to_owned()]).expect("a name");
        (params.not_before, params.not_after) = (date_time_ymd(2020, 1, 1), date_time_ymd(last_year, 6, 1));
        self.write(&format!("{name}.pem"), &params.self_signed(&key).expect("signed").pem());
        self.write(&format!("{name}.key"), &key.serialize_pem());
    }

    fn settings(&self, names: &[&str]) -> Tls {
        let path = |file: String| self.0.path().join(file);
        let files = |name: &&str| CertificateFiles {
            certificate: path(format!("{name}.pem")),
            key: path(format!("{name}.key")),
            ocsp: None,
        };
        let listen = vec![([127, 0, 0, 1], 443).into()];
        let certificates = names.iter().map(files).collect();
        Tls { listen, certificates, min_version: TlsVersion::V12, clients: None, is_http2: false }
    }
}

fn texts(problems: &[Problem]) -> Vec<String> {
    problems.iter().map(ToString::to_string).collect()
}

fn at(date: &str) -> Timestamp {
    format!("{date}T00:00:00Z").parse().expect("a time")
}

#[test]
fn every_mistake_names_its_file_and_what_would_be_right() {
    let site = Site::new(&["a.test", "b.test"]);
    let other_key = fs::read_to_string(site.0.path().join("b.test.key")).expect("read");
    let rough = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    let locked = "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n";
    for (file, text, expected) in [
        ("a.test.pem", "", "a.test.pem: no certificate in it: expected the certificate of this server"),
        ("a.test.pem", rough, "a.test.pem: the first certificate is not X.509"),
        ("a.test.pem", "-----BEGIN CERTIFICATE-----\n!\n-----END CERTIFICATE-----\n", "a.test.pem: not PEM"),
        ("a.test.key", "nothing", "a.test.key: no private key in it: expected one in PKCS#8"),
        ("a.test.key", locked, "a.test.key: the key has a password"),
        ("a.test.key", &other_key, "a.test.key: does not belong to the first certificate in "),
        (
            "a.test.key",
            "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n",
            "a.test.key: the key is of no kind",
        ),
    ] {
        site.write_pair("a.test", 2040);
        site.write(file, text);
        let found = texts(&Front::read(&site.settings(&["a.test"]), None).expect_err("a mistake"));
        assert!(found.len() == 1 && found[0].contains(expected), "{expected}: {found:?}");
    }
}

#[test]
fn a_key_that_others_may_read_is_refused_with_the_command_to_run() {
    let site = Site::new(&["a.test"]);
    fs::set_permissions(site.0.path().join("a.test.key"), Permissions::from_mode(0o640)).expect("set");
    let found = texts(&Front::read(&site.settings(&["a.test"]), None).expect_err("a mistake"));
    assert!(found.len() == 1 && found[0].contains("a.test.key: has mode 0640") && found[0].contains("chmod 600 "));
}

#[test]
fn what_is_broken_keeps_what_was_there_and_the_others_are_renewed() {
    let site = Site::new(&["a.test", "b.test"]);
    let settings = site.settings(&["a.test", "b.test"]);
    let before = Front::read(&settings, None).expect("right");
    site.write("a.test.pem", "");
    site.write_pair("b.test", 2041);
    let after = Front::read(&settings, Some(&before)).expect("served");
    assert_eq!(after.identities[0], before.identities[0]);
    assert_ne!(after.identities[1], before.identities[1]);
    assert!(after.broken.len() == 1 && after.broken[0].what.starts_with("no certificate in it"));
    assert!(!after.is_same(&before) && after.is_same(&Front::read(&settings, Some(&after)).expect("served")));
}

#[test]
fn a_certificate_that_was_never_there_must_be_right() {
    let site = Site::new(&["a.test"]);
    let before = Front::read(&site.settings(&["a.test"]), None).expect("right");
    let found = texts(&Front::read(&site.settings(&["a.test", "b.test"]), Some(&before)).expect_err("not there"));
    assert!(found.len() == 2 && found.iter().all(|problem| problem.contains("cannot be read")), "{found:?}");
}

#[test]
fn tickets_outlive_certificates_but_not_the_rules_for_clients() {
    let site = Site::new(&["a.test"]);
    let mut settings = site.settings(&["a.test"]);
    let before = Front::read(&settings, None).expect("right");
    site.write_pair("a.test", 2041);
    let renewed = Front::read(&settings, Some(&before)).expect("right");
    assert!(Arc::ptr_eq(&before.tickets, &renewed.tickets));
    settings.clients = Some(ClientCertificates { ca: settings.certificates[0].certificate.clone(), is_required: true });
    let strict = Front::read(&settings, Some(&renewed)).expect("right");
    assert!(!Arc::ptr_eq(&strict.tickets, &renewed.tickets));
}

#[test]
fn the_time_of_a_certificate_is_warned_of() {
    let site = Site::new(&["a.test"]);
    site.write_pair("a.test", 2030);
    let front = Front::read(&site.settings(&["a.test"]), None).expect("right");
    for (date, expected) in [
        ("2019-12-31", "not valid before 2020-01-01T00:00:00Z"),
        ("2029-12-01", "expires at 2030-06-01T00:00:00Z"),
        ("2030-06-02", "expired at 2030-06-01T00:00:00Z"),
    ] {
        let warnings = texts(&front.warnings(at(date)));
        assert!(warnings.len() == 1 && warnings[0].contains(expected), "{expected}: {warnings:?}");
    }
    assert!(front.warnings(at("2025-01-01")).is_empty());
}

#[test]
fn a_name_in_two_certificates_is_warned_of() {
    let site = Site::new(&["a.test"]);
    for kind in ["pem", "key"] {
        let path = |name: &str| site.0.path().join(format!("{name}.{kind}"));
        fs::copy(path("a.test"), path("copy")).expect("copied");
    }
    let front = Front::read(&site.settings(&["a.test", "copy"]), None).expect("right");
    let warnings = texts(&front.warnings(at("2025-01-01")));
    assert!(warnings.len() == 1 && warnings[0].contains("copy.pem: a.test is in "), "{warnings:?}");
}
