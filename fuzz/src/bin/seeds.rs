//! Writes the seeds: `cargo run --manifest-path fuzz/Cargo.toml --bin seeds`.

use std::{fs, io, path::Path};

fn main() -> io::Result<()> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("seeds");
    for (target, name, octets) in parallax_fuzz::seeds::all() {
        fs::create_dir_all(root.join(target))?;
        fs::write(root.join(target).join(name), octets)?;
    }
    Ok(())
}
