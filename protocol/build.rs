//! Makes the messages and services of `proto/`; no compiler of another language is needed.

use std::error::Error;

fn main() -> Result<(), Box<dyn Error>> {
    let protos = ["link.proto", "core.proto", "va.proto", "api.proto"];
    for proto in protos {
        println!("cargo::rerun-if-changed=proto/{proto}");
    }
    let described = protox::compile(protos, ["proto"])?;
    // The form of generated code is not ours.
    tonic_prost_build::configure()
        .emit_rerun_if_changed(false)
        .server_mod_attribute(".", "#[allow(missing_docs, clippy::all, unreachable_pub, unused_qualifications)]")
        .client_mod_attribute(".", "#[allow(missing_docs, clippy::all, unreachable_pub, unused_qualifications)]")
        .compile_fds(described)?;
    Ok(())
}
