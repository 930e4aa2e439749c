//! Writes the table of cases as a corpus to start from: `cargo run --bin seeds`.

use std::fs;
use std::path::Path;

#[path = "../tests/http1/table.rs"]
#[allow(dead_code)]
mod table;

fn main() -> std::io::Result<()> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus/http1");
    fs::create_dir_all(&folder)?;
    for (index, case) in table::cases().iter().enumerate() {
        let kind = match case.section {
            "requests" => 0,
            "chunked bodies" => 2,
            _ => 1,
        };
        fs::write(folder.join(format!("case-{index}")), [&[kind][..], &case.octets].concat())?;
    }
    Ok(())
}
