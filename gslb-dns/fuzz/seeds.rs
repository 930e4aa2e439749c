//! Writes sound queries of every kind as a corpus to start from: `cargo run --bin seeds`.

use std::fs;
use std::net::IpAddr;
use std::path::Path;

use gslb_tests::reference::queries::Query;
use gslb_tests::reference::world::World;

fn main() -> std::io::Result<()> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus/answer");
    fs::create_dir_all(&folder)?;
    for seed in 0..16_u8 {
        let world = World::random(u64::from(seed));
        let mut rng = fastrand::Rng::with_seed(u64::from(seed));
        for at in 0..32 {
            let Query { peer, packet } = Query::random(&mut rng, &world);
            let address = match peer {
                IpAddr::V4(v4) => [&[0][..], &v4.octets()].concat(),
                IpAddr::V6(v6) => [&[1][..], &v6.octets()].concat(),
            };
            fs::write(folder.join(format!("seed-{seed}-{at}")), [&[seed][..], &address, &packet].concat())?;
        }
    }
    Ok(())
}
