//! Knot DNS with mod-geoip on the database: one worker for UDP, one for TCP.

use super::Site;
use crate::bench::regions::REGIONS;
use crate::bench::zone::{STEERED, ZONE, master_file, steered_records};
use crate::harness::tools::find;

pub(super) fn prepare(site: &Site<'_>) -> Result<Vec<String>, String> {
    site.make_folder("run")?;
    site.make_folder("db")?;
    site.write("zone", &(master_file(site.hosts) + &steered_records()))?;
    let mut places = format!("{STEERED}:\n");
    for region in &REGIONS {
        for continent in region.continents {
            places += &format!("- geo: \"{continent}\"\n  A: {}\n  AAAA: {}\n", region.vip4, region.vip6);
        }
    }
    site.write("places.conf", &places)?;
    let address = format!("127.0.0.1@{}", site.port);
    let [policy, geo_signing, zone_signing] = if site.is_signed { SIGNING } else { [""; 3] };
    let more = [
        ("@address@", address.as_str()),
        ("@policy@", policy),
        ("@geo_signing@", geo_signing),
        ("@zone_signing@", zone_signing),
    ];
    site.write("knot.conf", &site.fill(include_str!("knot.conf"), &more))?;
    if site.is_signed {
        // The module signs when it is loaded, so the key is there before.
        let keymgr = find("keymgr").ok_or("keymgr is missing: it is in the Debian package knot")?;
        let key = ["generate", "algorithm=ecdsap256sha256", "ksk=yes", "zsk=yes"];
        site.run(&keymgr, &[&["-c", &site.path("knot.conf"), ZONE], key.as_slice()].concat())?;
    }
    Ok(["-c", &site.path("knot.conf"), "-s", &site.path("run/knot.sock")].map(str::to_owned).to_vec())
}

/// What a signed zone adds to `knot.conf`: a policy, the signing of the module's answers, and that of the zone.
const SIGNING: [&str; 3] = [
    "policy:\n  - id: one\n    algorithm: ecdsap256sha256\n    single-type-signing: on\n    manual: on\n",
    "    dnssec: on\n    policy: one\n",
    "    dnssec-signing: on\n    dnssec-policy: one\n",
];
