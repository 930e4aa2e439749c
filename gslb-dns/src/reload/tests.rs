use super::*;
use crate::serve::sample::{Site, apex};
use crate::sign::{self, Algorithm, KeyTimes, Role, SigningKey, ZoneKey};
use crate::wire::{Name, Rtype};
use crate::zone::Found;

fn loaded(site: &Site, last: Option<&World>) -> World {
    load(&site.config(), last).world.expect("no mistakes")
}

fn mistakes(site: &Site) -> Vec<String> {
    load(&site.config(), None).world.expect_err("mistakes").iter().map(ToString::to_string).collect()
}

#[test]
fn mistakes_of_all_files_are_found_at_once() {
    let site = Site::new();
    site.write("topology.toml", &format!("{}\n[nonsense]\n", site.settings()));
    site.write("example.com.zone", "@ IN A 192.0.2.300\n");
    site.write("overrides.csv", "192.0.2.0/33,KR\n");
    site.write("token", "");
    let found = mistakes(&site);
    for file in ["topology.toml", "example.com.zone", "overrides.csv", "token"] {
        assert!(found.iter().any(|problem| problem.contains(file)), "{file} is not in {found:#?}");
    }
}

#[test]
fn what_does_not_go_together_is_found_beside_other_mistakes() {
    let site = Site::new();
    let settings = site.settings().replace("threads = 1", "threads = -1");
    site.write("topology.toml", &format!("{settings}ttl = -1\n[services.\"all.example.tset\"]\n"));
    let zone = fs::read_to_string(site.path("example.com.zone")).expect("there");
    site.write("example.com.zone", &format!("{zone}www A 192.0.2.1\nb A 192.0.2.300\nc TXT x\nc CNAME d\n"));
    site.write("overrides.csv", "192.0.2.0/33,KR\n");
    let found = mistakes(&site);
    let line = |text: &str| settings.lines().count() + usize::from(text != "ttl") + 1;
    for expected in [
        "server.threads: -1".to_owned(),
        format!("topology.toml:{}: services.\"api.example.com\".ttl: ", line("ttl")),
        format!("topology.toml:{}: services.\"all.example.tset\": the name lies in no zone", line("all")),
        "example.com.zone:5: services.\"www.example.com\": A records stand here".to_owned(),
        "example.com.zone:6: ".to_owned(),
        "example.com.zone:8: c.example.com.: CNAME beside TXT".to_owned(),
        "overrides.csv:1: ".to_owned(),
    ] {
        assert!(found.iter().any(|problem| problem.contains(&expected)), "{expected} is not in {found:#?}");
    }
    assert_eq!(found.len(), 7, "{found:#?}");
}

#[test]
fn what_may_only_seem_to_be_missing_is_no_mistake() {
    let site = Site::new();
    site.write("topology.toml", &site.settings().replace("name = \"example.com\"", "name = \"a..b\""));
    assert_eq!(mistakes(&site).len(), 1, "the name of the zone, and not that services lie in none");
    site.write("topology.toml", &site.settings());
    site.write(
        "example.com.zone",
        "$TTL 5\n@ SOA ns1 h 1 2 3\n@ NS ns1\nns1 A 192.0.2.300\nkid NS ns.kid 5\nns.kid A 192.0.2.1\n",
    );
    assert_eq!(mistakes(&site).len(), 3, "{:#?}", mistakes(&site));
}

#[test]
fn missing_files_are_mistakes_by_name() {
    let site = Site::new();
    for file in ["example.com.zone", "overrides.csv", "token"] {
        fs::remove_file(site.path(file)).expect("removed");
    }
    let found = mistakes(&site);
    assert_eq!(found.len(), 3, "{found:#?}");
    for (key, file) in [
        ("server.admin_token_file", "token"),
        ("geo.overrides", "overrides.csv"),
        ("zones.\"example.com\".file", "example.com.zone"),
    ] {
        let settings = site.settings();
        let line = settings.lines().position(|line| line.contains(&format!("\"{file}\""))).expect("named") + 1;
        let place = format!("topology.toml:{line}: {key}: ");
        let is_it = |problem: &&String| problem.contains(&place) && problem.contains(&format!("{file} cannot be read"));
        assert!(found.iter().any(|problem| is_it(&problem)), "{place} is not in {found:#?}");
    }
    let nowhere = load(&site.path("nowhere.toml"), None).world.expect_err("mistakes");
    assert_eq!(nowhere.len(), 1);
}

#[test]
fn geo_files_that_did_not_change_are_not_read_again() {
    let site = Site::new();
    let first = loaded(&site, None);
    site.write(
        "example.com.zone",
        &fs::read_to_string(site.path("example.com.zone")).expect("there").replace("1 3600", "2 3600"),
    );
    let second = loaded(&site, Some(&first));
    assert!(Arc::ptr_eq(&first.geo_data, &second.geo_data) && Arc::ptr_eq(&first.geo, &second.geo));
    assert_ne!(first.hash, second.hash);
    site.write("overrides.csv", "192.0.2.0/24,US,,,,39.0,-77.0\n");
    let third = loaded(&site, Some(&second));
    assert!(!Arc::ptr_eq(&second.geo_data, &third.geo_data));
    assert_ne!(second.hash, third.hash);
}

#[test]
fn geo_file_that_gets_another_role_is_read_again() {
    let site = Site::new();
    let first = loaded(&site, None);
    site.write("topology.toml", &site.settings().replace("overrides = ", "countries = "));
    let found = load(&site.config(), Some(&first)).world.expect_err("networks are no countries");
    assert!(found.iter().all(|problem| problem.file.ends_with("overrides.csv")), "{found:?}");
}

#[test]
fn same_content_has_the_same_hash_whatever_its_folder() {
    let (one, other) = (Site::new(), Site::new());
    let settings = one.settings();
    other.write("topology.toml", &settings);
    assert_eq!(loaded(&one, None).hash, loaded(&other, None).hash);
}

#[test]
fn change_of_any_file_is_seen() {
    let site = Site::new();
    let Loaded { files, .. } = load(&site.config(), None);
    assert!(!files.have_changed());
    for file in ["token", "overrides.csv", "example.com.zone", "topology.toml"] {
        let Loaded { files, .. } = load(&site.config(), None);
        site.write(file, &fs::read_to_string(site.path(file)).expect("there"));
        assert!(files.have_changed(), "{file} was replaced");
    }
}

#[test]
fn files_of_a_failed_load_are_known_so_that_their_repair_is_seen() {
    let site = Site::new();
    site.write("example.com.zone", "nonsense");
    let Loaded { world, files } = load(&site.config(), None);
    assert!(world.is_err() && !files.have_changed());
    site.write("example.com.zone", "still nonsense");
    assert!(files.have_changed());
}

/// What is warned of in files without mistakes.
fn warnings(site: &Site, last: Option<&World>) -> Vec<String> {
    loaded(site, last).warnings.iter().map(ToString::to_string).collect()
}

/// A site that nothing is to be said about.
fn quiet_site() -> Site {
    use std::os::unix::fs::PermissionsExt as _;
    let site = Site::new();
    fs::set_permissions(site.path("token"), fs::Permissions::from_mode(0o600)).expect("set");
    site.write(
        "example.com.zone",
        "$TTL 300\n@ SOA ns1 h 1 4h 1h 2w 300\n@ NS ns1\n@ NS ns2\nns1 A 192.0.2.53\nns1 AAAA 2001:db8::53\nns2 A 192.0.2.54\n",
    );
    assert_eq!(warnings(&site, None), Vec::<String>::new());
    site
}

/// The only warning about settings with `from` in place of `to`, from its line on.
fn warning(from: &str, to: &str) -> String {
    let site = quiet_site();
    let settings = site.settings();
    assert!(settings.contains(from), "{from}");
    site.write("topology.toml", &settings.replacen(from, to, 1));
    let found = warnings(&site, None);
    assert_eq!(found.len(), 1, "{found:#?}");
    found[0].replace(&format!("{}/", site.config().parent().expect("a folder").display()), "")
}

#[test]
fn nearness_without_coordinates_is_warned_of() {
    let site = quiet_site();
    let placeless = site.settings().replace("overrides = \"overrides.csv\"\n", "");
    site.write("topology.toml", &placeless);
    assert_eq!(warnings(&site, None), Vec::<String>::new(), "services in a given order ask for no place");
    site.write("topology.toml", &format!("{placeless}[services.\"near.example.com\"]\n"));
    let found = warnings(&site, None);
    assert_eq!(found.len(), 1);
    assert!(found[0].contains("topology.toml:11: geo.database: `nearest` finds nobody near"), "{found:?}");
    site.write("topology.toml", &format!("{}[services.\"near.example.com\"]\n", site.settings()));
    assert_eq!(warnings(&site, None), Vec::<String>::new(), "the overrides say where somebody is");
}

#[test]
fn addresses_of_two_regions_are_warned_of() {
    let found = warning("vips = [\"198.51.100.2\"]", "vips = [\"198.51.100.1\"]");
    assert!(
        found.starts_with("topology.toml:23: regions.virginia.vips: 198.51.100.1 of virginia is a VIP of seoul"),
        "{found}"
    );
    let own = "policy = \"ordered\"\nvips = { seoul = [\"198.51.100.2\"], virginia = [\"198.51.100.3\"] }";
    let found = warning("policy = \"ordered\"", own);
    assert!(found.starts_with("topology.toml:27: services.\"www.example.com\".vips: 198.51.100.2 of seoul"), "{found}");
}

#[test]
fn very_long_ttls_are_warned_of() {
    let found = warning("policy = \"ordered\"", "policy = \"ordered\"\nttl = 604801");
    assert!(found.starts_with("topology.toml:27: services.\"www.example.com\".ttl: 604801 seconds"), "{found}");
}

#[test]
fn state_file_in_no_folder_is_warned_of() {
    let found = warning("\"state.json\"", "\"nowhere/state.json\"");
    assert!(found.starts_with("topology.toml:6: server.state_file: there is no folder nowhere"), "{found}");
}

#[test]
fn token_that_others_can_read_is_warned_of() {
    use std::os::unix::fs::PermissionsExt as _;
    let site = quiet_site();
    fs::set_permissions(site.path("token"), fs::Permissions::from_mode(0o640)).expect("set");
    let found = warnings(&site, None);
    assert_eq!(found.len(), 1);
    assert!(
        found[0].contains("topology.toml:5: server.admin_token_file: ") && found[0].contains("mode 0640"),
        "{found:?}"
    );
}

#[test]
fn zone_that_changes_under_its_serial_is_warned_of_once() {
    let site = quiet_site();
    let first = loaded(&site, None);
    let zone = fs::read_to_string(site.path("example.com.zone")).expect("there");
    site.write("example.com.zone", &format!("{zone}; a comment\n"));
    assert_eq!(warnings(&site, Some(&first)), Vec::<String>::new());
    site.write("example.com.zone", &format!("{zone}new TXT x\n"));
    let second = loaded(&site, Some(&first));
    assert_eq!(second.warnings.len(), 1);
    assert!(second.warnings[0].what.contains("has changed, but the serial has not"));
    assert_eq!(warnings(&site, Some(&second)), Vec::<String>::new());
}

#[test]
fn sample_of_the_project_gives_no_warning() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../zones/topology.toml");
    let text = fs::read_to_string(&path).expect("there");
    let world = load(&path, None).world.expect("no mistakes");
    assert_eq!(world.warnings, []);
    let site = quiet_site();
    fs::create_dir(site.path("zones")).expect("made");
    let link = |file: &str| std::os::unix::fs::symlink(path.with_file_name(file), site.path("zones").join(file));
    link("gslb.test.zone").expect("linked");
    link("../geo").expect("linked");
    // What somebody leaves out who has not read on: half of the world is steered nowhere, and is told so.
    site.write("zones/topology.toml", &text.replace("\ncountries = ", "\n# countries = "));
    let world = load(&site.path("zones/topology.toml"), None).world.expect("no mistakes");
    let [warning] = &*world.warnings else { panic!("{:#?}", world.warnings) };
    assert_eq!(warning.key, "geo.countries");
    assert!(warning.line.is_some() && warning.what.contains("set geo.countries = \"…/countries.csv\""), "{warning}");
}

/// A site whose zone is signed by a CSK, and the key.
fn signed_site() -> (Site, ZoneKey) {
    let site = Site::new();
    let key = site.add_key(Role::Csk, KeyTimes::default());
    site.write("topology.toml", &site.signed_settings());
    (site, key)
}

/// Octets of the records that are answered for `rtype` at the apex.
fn len(world: &World, rtype: Rtype) -> usize {
    let Found::Static(tail) = world.zones.find(apex().as_wire(), rtype) else { return 0 };
    tail.len()
}

fn has(world: &World, rtype: Rtype) -> bool {
    len(world, rtype) != len(world, Rtype::SRV)
}

#[test]
fn zone_that_is_to_be_signed_without_a_key_names_the_command_to_run() {
    let site = Site::new();
    site.write("topology.toml", &site.signed_settings());
    let found = mistakes(&site);
    assert_eq!(found.len(), 1);
    let command = format!("gslb-dns keys new example.com --config {}", site.config().display());
    let place = format!("{}:11: zones.\"example.com\".dnssec.keys: there is no folder ", site.config().display());
    assert!(found[0].starts_with(&place) && found[0].contains(&command), "{found:?}");
    site.add_key(Role::Ksk, KeyTimes::default());
    let found = mistakes(&site);
    assert!(found[0].contains("zone example.com: no CSK or ZSK is published and active"), "{found:?}");
    assert!(found[0].contains("`gslb-dns keys new example.com --role zsk`"), "{found:?}");
}

#[test]
fn records_of_keys_are_in_the_zone_and_nowhere_else() {
    let (site, _) = signed_site();
    let world = loaded(&site, None);
    assert!([Rtype::DNSKEY, Rtype::CDS, Rtype::CDNSKEY].into_iter().all(|rtype| has(&world, rtype)));
    assert!(world.signing_due().is_some());
    let zone = fs::read_to_string(site.path("example.com.zone")).expect("there");
    site.write("example.com.zone", &format!("{zone}@ CDS 0 0 0 00\n"));
    let found = mistakes(&site);
    assert!(found[0].contains("example.com.zone:5: example.com.: CDS records are made here"), "{found:?}");
    site.write("topology.toml", &site.settings());
    let world = loaded(&site, None);
    assert!(!has(&world, Rtype::DNSKEY) && world.signing_due().is_none() && world.kept.is_empty());
}

#[test]
fn signatures_are_used_again_over_a_reload() {
    let (site, _) = signed_site();
    let first = loaded(&site, None);
    let zone = fs::read_to_string(site.path("example.com.zone")).expect("there");
    site.write("example.com.zone", &format!("{zone}new TXT x\n"));
    let second = loaded(&site, Some(&first));
    let [first, second] = [&first, &second].map(|world| &world.signed_zones[0].signatures);
    // What changes beside the new record is who comes before it, and the apex where no names were added.
    assert!(first.same(second) + 2 >= first.len(), "{} of {}", first.same(second), first.len());
    assert!(second.len() > first.len());
    assert_eq!(warnings(&site, None).iter().filter(|warning| warning.contains("serial")).count(), 0);
}

#[test]
fn change_of_a_key_is_seen_and_its_secret_stays_out_of_the_hash() {
    use std::os::unix::fs::PermissionsExt as _;
    let (site, _) = signed_site();
    let Loaded { world, files } = load(&site.config(), None);
    let hash = world.expect("no mistakes").hash;
    assert!(!files.have_changed());
    site.add_key(Role::Zsk, KeyTimes::default());
    assert!(files.have_changed());
    let Loaded { world, files } = load(&site.config(), None);
    assert_ne!(world.expect("no mistakes").hash, hash);
    let private = files.paths().find(|path| path.extension().is_some_and(|ending| ending == "private"));
    fs::set_permissions(private.expect("read"), fs::Permissions::from_mode(0o640)).expect("changed");
    assert!(files.have_changed(), "that others may not read it any more needs no other change to be seen");
    let found = mistakes(&site);
    assert!(found[0].contains("chmod 600"), "{found:?}");
}

#[test]
fn signatures_are_renewed_whatever_became_of_the_files() {
    let (site, _) = signed_site();
    let world = loaded(&site, None);
    site.write("example.com.zone", "nonsense");
    let due = world.signing_due().expect("it is signed");
    let again = world.signed_again(due).expect("signed");
    let [before, after] = [&world, &again].map(|world| world.signed_zones[0].earliest_expiration.expect("signed"));
    assert!(after > before && again.signing_due().expect("signed") > due);
    let soon = world.signed_again(due - 86_400 * 5).expect("signed");
    let [before, after] = [&world, &soon].map(|world| &world.signed_zones[0].signatures);
    assert_eq!((before.same(after), before.len()), (after.len(), after.len()), "nothing was due");
}

/// A site with a second signed zone, whose one key stops signing at `inactive`.
fn site_with_key_that_ends(inactive: u64) -> Site {
    let (site, _) = signed_site();
    let other = "[[zones]]\nname = \"example.org\"\nfile = \"example.org.zone\"\ndnssec = { keys = \"keys\" }\n[geo]";
    site.write("topology.toml", &site.signed_settings().replacen("[geo]", other, 1));
    site.write("example.org.zone", "$TTL 300\n@ SOA ns1 h 1 7200 900 1209600 300\n@ NS ns1\nns1 A 192.0.2.1\n");
    let key = Arc::new(SigningKey::generate(Algorithm::Ed25519, Role::Csk).expect("a key"));
    let (publish, activate) = (Some(1), Some(1));
    let times = KeyTimes { publish, activate, inactive: Some(inactive), ..KeyTimes::default() };
    let apex = Name::parse("example.org.", &Name::root()).expect("a name");
    let key = ZoneKey { key, role: Role::Csk, times };
    crate::keys::KeyFolder::new(site.path("keys")).create(&apex, &key, 60).expect("created");
    site
}

#[test]
fn zone_whose_keys_have_run_out_is_signed_on_and_keeps_no_other_from_it() {
    let inactive = unix_secs() + 1000;
    let site = site_with_key_that_ends(inactive);
    let world = loaded(&site, None);
    let found = warnings(&site, None).into_iter().find(|found| found.contains("no CSK or KSK"));
    let found = found.expect("what will be is warned of");
    assert!(found.contains(&crate::keys::show_time(inactive)) && found.contains("keys roll example.org"), "{found}");
    assert_eq!(world.signing_due(), Some(inactive));
    let again = world.signed_again(inactive).expect("signed");
    let held = |world: &World| world.signed_zones.iter().map(|zone| zone.held.is_some()).collect::<Vec<_>>();
    assert_eq!((held(&world), held(&again)), (vec![false, false], vec![false, true]));
    let due = again.signing_due().expect("signed");
    assert!(due > inactive);
    let much_later = due + 86_400 * 20;
    let again = again.signed_again(much_later).expect("signed");
    assert!(again.signed_zones.iter().all(|zone| zone.earliest_expiration > Some(much_later)));
    let updated = again.sign_zones(&again.kept, much_later).and_then(|built| again.with_built(built));
    assert_eq!(held(&updated.expect("updates go on")), [false, true]);
}

#[test]
fn node_starts_where_the_keys_of_a_zone_have_run_out_and_is_warned_since_when() {
    let inactive = unix_secs() - 1000;
    let site = site_with_key_that_ends(inactive);
    let since = format!("zone example.org: since {} on no CSK or KSK", crate::keys::show_time(inactive));
    let found = warnings(&site, None);
    assert!(found.iter().any(|warning| warning.contains(&since)), "{found:?}");
    let world = loaded(&site, None);
    let held = |apex: &str| {
        world.signed_zones.iter().find(|zone| zone.apex.to_string() == apex).expect("signed").held.map(|held| held.why)
    };
    assert_eq!((held("example.com."), held("example.org.")), (None, Some(sign::Unusable::NoEntryPoint)));
}

#[test]
fn zone_whose_keys_sign_only_later_is_refused() {
    let (site, later) = (Site::new(), unix_secs() + 1000);
    site.write("topology.toml", &site.signed_settings());
    site.add_key(Role::Csk, KeyTimes { activate: Some(later), ..KeyTimes::first(Role::Csk, &TIMING, later) });
    let found = mistakes(&site);
    assert!(found.iter().any(|found| found.contains("no CSK")), "{found:?}");
}

#[test]
fn keys_change_at_their_time_without_a_file_that_does() {
    let site = Site::new();
    let now = unix_secs();
    let later = now + 100;
    site.add_key(
        Role::Csk,
        KeyTimes { delete: Some(later), inactive: Some(later), ..KeyTimes::first(Role::Csk, &TIMING, 0) },
    );
    site.add_key(Role::Csk, KeyTimes::first(Role::Csk, &TIMING, now));
    site.write("topology.toml", &site.signed_settings());
    let world = loaded(&site, None);
    assert_eq!(world.signing_due(), Some(later));
    // A pointer, ten octets, and a DNSKEY of Ed25519.
    let keys = |world: &World| len(world, Rtype::DNSKEY) / (2 + 10 + 4 + 32);
    assert_eq!((keys(&world), keys(&world.signed_again(later).expect("signed"))), (2, 1));
}

const TIMING: crate::sign::Timing =
    crate::sign::Timing { dnskey_ttl: 3600, max_ttl: 300, propagation: 3600, parent_ds_ttl: 86_400 };

#[test]
fn signatures_that_expire_before_their_records_are_warned_of() {
    let (site, _) = signed_site();
    site.write("topology.toml", &site.signed_settings().replace("\"keys\" }", "\"keys\", validity = \"19m\" }"));
    let found = warnings(&site, None);
    assert!(
        found.iter().any(|found| found.contains("zone example.com: validity of 19m with TTLs of up to 300")),
        "{found:?}"
    );
    site.write("topology.toml", &site.signed_settings().replace("\"keys\" }", "\"keys\", validity = \"20m\" }"));
    assert!(!warnings(&site, None).iter().any(|found| found.contains("validity")));
    // The zone's SOA expire is a day.
    let secondaries =
        "secondaries = [{ address = \"192.0.2.54:53\", key = \"none\" }]\njournal = \"journal\"\ndnssec =";
    let with_validity = |validity: &str| {
        let settings = site.signed_settings().replace("\"keys\" }", &format!("\"keys\", validity = \"{validity}\" }}"));
        site.write("topology.toml", &settings.replace("dnssec =", secondaries));
        warnings(&site, None).iter().any(|found| found.contains("validity of 95h with an SOA expire of 86400 seconds"))
    };
    assert_eq!(["95h", "96h"].map(with_validity), [true, false]);
}

/// As root; anybody else becomes nobody.
#[test]
fn files_that_the_user_of_the_server_cannot_use_are_warned_of() {
    use std::os::unix::fs::PermissionsExt as _;
    if !nix::unistd::geteuid().is_root() {
        return;
    }
    let site = Site::new();
    fs::set_permissions(site.path(""), fs::Permissions::from_mode(0o755)).expect("changed");
    fs::set_permissions(site.path("token"), fs::Permissions::from_mode(0o600)).expect("changed");
    let with_user = |user: &str| site.settings().replace("[server]", &format!("[server]\nuser = \"{user}\""));
    site.write("topology.toml", &with_user("nobody"));
    let found = warnings(&site, None);
    let of_user: Vec<_> = found.iter().filter(|found| found.contains("server.user: nobody may not ")).collect();
    assert_eq!(of_user.len(), 2, "{found:?}");
    assert!(of_user[0].contains("read") && of_user[0].contains("/token (mode 0600, owner root)"), "{of_user:?}");
    assert!(of_user[1].contains("write"), "the folder of the state file: {of_user:?}");
    site.write("topology.toml", &with_user("root"));
    assert!(!warnings(&site, None).iter().any(|found| found.contains("server.user")));
    site.write("topology.toml", &with_user("no-such-user"));
    let served = loaded(&site, None);
    assert!(warnings(&site, Some(&served)).iter().any(|found| found.contains("there is no user no-such-user")));
    assert!(!served.warnings.iter().any(|found| found.what.contains("no-such-user")), "the start refuses it");
}

fn mistakes_after(site: &Site, last: &World) -> Vec<String> {
    load(&site.config(), Some(last)).world.err().into_iter().flatten().map(|problem| problem.to_string()).collect()
}

#[test]
fn zone_whose_ds_is_at_the_parent_does_not_become_unsigned() {
    let now = unix_secs();
    let first = KeyTimes::first(Role::Csk, &TIMING, 0);
    let gone = |at| KeyTimes { sync_delete: Some(at), ..first };
    for (times, refused, warned) in [
        (KeyTimes { ds_publish: Some(7), ..first }, "the parent has the DS of key", "the parent has the DS of key"),
        (gone(now - 60), "caches may have its DS until", "caches may have its DS until"),
        (first, "the parent may have the DS of key", "the parent may have the DS of key"),
        (KeyTimes::default(), "the parent may have the DS of key", "the parent may have the DS of key"),
        (gone(now - 86_401), "", ""),
        (KeyTimes { sync_publish: Some(now + 60), ..first }, "", ""),
    ] {
        let site = Site::new();
        site.add_key(Role::Csk, times);
        site.write("topology.toml", &site.signed_settings());
        let last = loaded(&site, None);
        site.write("topology.toml", &site.settings());
        let found = mistakes_after(&site, &last);
        assert_eq!(found.len(), usize::from(!refused.is_empty()), "{found:?}");
        assert!(found.iter().all(|found| found.contains(": zone example.com: has no `dnssec`, but")), "{found:?}");
        assert!(found.iter().all(|found| found.contains(refused)), "{found:?}");
        // Who starts anew, or checks, finds the keys beside the settings.
        let found = warnings(&site, None);
        let found: Vec<_> = found.iter().filter(|found| found.contains("`dnssec`")).collect();
        assert_eq!(found.len(), usize::from(!warned.is_empty()), "{found:?}");
        assert!(found.iter().all(|found| found.contains(warned) && found.contains("/keys")), "{found:?}");
    }
}

/// Gives the one key of the site other times, as `gslb-dns keys` does.
fn rewrite(site: &Site, times: KeyTimes) {
    let folder = crate::keys::KeyFolder::new(site.path("keys"));
    let mut found = folder.read(&apex()).expect("right").remove(0);
    found.key.times = times;
    let steps = folder.rewriting(&apex(), &found, 60).expect("planned");
    steps.iter().try_for_each(crate::keys::Step::take).expect("rewritten");
}

#[test]
fn word_in_the_key_files_counts_though_dnssec_leaves_at_once() {
    let first = KeyTimes::first(Role::Csk, &TIMING, 0);
    let gone = KeyTimes { sync_delete: Some(unix_secs() - 86_401), ..first };
    let confirmed = KeyTimes { ds_publish: Some(7), ..first };
    for (before, now, refused) in [
        (gone, confirmed, Some("the parent has the DS of key")),
        (gone, first, Some("the parent may have the DS of key")),
        (confirmed, gone, None),
    ] {
        let site = Site::new();
        site.add_key(Role::Csk, before);
        site.write("topology.toml", &site.signed_settings());
        let last = loaded(&site, None);
        rewrite(&site, now);
        site.write("topology.toml", &site.settings());
        let found = mistakes_after(&site, &last);
        assert_eq!(found.len(), usize::from(refused.is_some()), "{found:?}");
        assert!(found.iter().all(|found| refused.is_some_and(|refused| found.contains(refused))), "{found:?}");
    }
}

#[test]
fn dnssec_does_not_leave_while_the_key_files_cannot_be_read_and_a_change_of_them_is_seen() {
    use std::os::unix::fs::PermissionsExt as _;
    let site = Site::new();
    site.add_key(Role::Csk, KeyTimes { sync_delete: Some(7), ..KeyTimes::first(Role::Csk, &TIMING, 0) });
    site.write("topology.toml", &site.signed_settings());
    let last = loaded(&site, None);
    let with_mode = |mode| {
        for file in fs::read_dir(site.path("keys")).expect("there").filter_map(Result::ok) {
            fs::set_permissions(file.path(), fs::Permissions::from_mode(mode)).expect("changed");
        }
    };
    site.write("topology.toml", &site.settings());
    with_mode(0o644);
    let Loaded { world, files } = load(&site.config(), Some(&last));
    let found = world.expect_err("refused");
    assert!(found[0].what.contains("cannot be read: ") && found[0].what.contains("chmod 600"), "{found:?}");
    with_mode(0o600);
    assert!(files.have_changed());
    assert!(mistakes_after(&site, &last).is_empty());
}

#[test]
fn dnssec_may_leave_where_cds_was_never_published() {
    let site = Site::new();
    site.add_key(Role::Csk, KeyTimes::first(Role::Csk, &TIMING, 0));
    site.write("topology.toml", &site.signed_settings().replace("\"keys\" }", "\"keys\", cds = \"none\" }"));
    let last = loaded(&site, None);
    site.write("topology.toml", &site.settings());
    let world = loaded(&site, Some(&last));
    assert!(world.warnings.iter().any(|found| found.what.contains("the parent may have the DS")), "it may be there");
}

#[test]
fn zone_whose_keys_tell_nothing_of_its_ds_does_not_become_unsigned_once_they_are_old() {
    let site = Site::new();
    let now = unix_secs();
    let times = |since: u64| KeyTimes { publish: Some(since), activate: Some(since), ..KeyTimes::default() };
    site.write("topology.toml", &site.signed_settings());
    let key = site.add_key(Role::Csk, times(now - 86_400 * 90));
    let last = loaded(&site, None);
    site.write("topology.toml", &site.settings());
    let expected = format!("the parent may have the DS of key {}, which signs since", key.tag());
    let found = mistakes_after(&site, &last);
    assert!(found[0].contains(&expected) && found[0].contains("keys withdraw example.com"), "{found:?}");
    assert!(warnings(&site, None).iter().any(|warning| warning.contains(&expected)), "at a start");
    assert_eq!(sign::parent_ds(&[ZoneKey { times: times(now), ..key }], 86_400, now + 5), sign::ParentDs::Absent);
}

#[test]
fn key_whose_ds_is_at_the_parent_does_not_leave_with_its_files() {
    let site = Site::new();
    let times = KeyTimes { ds_publish: Some(7), ..KeyTimes::first(Role::Csk, &TIMING, 0) };
    let key = site.add_key(Role::Csk, times);
    site.write("topology.toml", &site.signed_settings());
    let last = loaded(&site, None);
    fs::remove_dir_all(site.path("keys")).expect("removed");
    site.add_key(Role::Csk, KeyTimes::default());
    let found = mistakes_after(&site, &last);
    assert!(found[0].contains(&format!("key {}, whose DS is at the parent", key.tag())), "{found:?}");
}

#[test]
fn zone_that_begins_to_be_signed_long_after_its_keys_say_is_refused_with_the_command_to_run() {
    let site = Site::new();
    let last = loaded(&site, None);
    let begun = |secs_ago: u64| KeyTimes::first(Role::Csk, &TIMING, unix_secs() - secs_ago);
    for (times, is_late) in [(begun(60), false), (begun(3700), true), (KeyTimes::default(), false)] {
        let _ = fs::remove_dir_all(site.path("keys"));
        site.add_key(Role::Csk, times);
        site.write("topology.toml", &site.signed_settings());
        let found = mistakes_after(&site, &last);
        assert_eq!(found.len(), usize::from(is_late), "{found:?}");
        assert!(found.iter().all(|found| found.contains("run `gslb-dns keys start example.com`")), "{found:?}");
        // A start does not know what was served before.
        let found = warnings(&site, None);
        let told = found.iter().any(|found| found.contains("that refuses this") && found.contains("keys start"));
        assert_eq!(told, is_late, "{found:?}");
    }
}

#[test]
fn csync_has_the_serial_of_the_zone_and_stands_in_no_file_beside() {
    let (site, _) = signed_site();
    assert!(!has(&loaded(&site, None), Rtype::CSYNC));
    let zone = fs::read_to_string(site.path("example.com.zone")).expect("there");
    site.write("example.com.zone", &format!("{zone}@ CSYNC 7 3 NS\n"));
    assert!(has(&loaded(&site, None), Rtype::CSYNC), "what is in the file is served");
    site.write("topology.toml", &site.signed_settings().replace("\"keys\" }", "\"keys\", csync = [\"NS\", \"A\"] }"));
    let found = mistakes(&site);
    assert!(found.len() == 1 && found[0].contains("CSYNC records are made here"), "{found:?}");
    site.write("example.com.zone", &zone);
    let world = loaded(&site, None);
    // A pointer, ten octets, and the data of one byte of bits.
    assert_eq!(len(&world, Rtype::CSYNC), 2 + 10 + 9);
    assert_eq!(warnings(&site, Some(&world)).iter().filter(|warning| warning.contains("serial")).count(), 0);
}

#[test]
fn answers_that_nobody_may_keep_are_pointed_at() {
    let site = Site::new();
    site.write("topology.toml", &format!("{}ttl = 0\n", site.settings()));
    let world = loaded(&site, None);
    let told: Vec<_> = world.warnings.iter().filter(|warning| warning.what.starts_with("0 seconds")).collect();
    assert!(told.len() == 1 && told[0].key == "services.\"api.example.com\".ttl", "{told:?}");
}

#[test]
fn folder_that_zones_share_is_one_of_the_files_once() {
    let site = Site::new();
    let other = "[[zones]]\nname = \"example.net\"\nfile = \"example.com.zone\"\ndnssec = { keys = \"keys\" }\n[geo]";
    site.write("topology.toml", &site.signed_settings().replacen("[geo]", other, 1));
    let Loaded { files, .. } = load(&site.config(), None);
    assert_eq!(files.paths().filter(|path| path.ends_with("keys")).count(), 1);
}
