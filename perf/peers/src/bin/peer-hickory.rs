//! `peer-hickory`: TXT lookups by hickory-resolver, without its cache.

use std::{process::ExitCode, rc::Rc, time::Duration};

use clap::Parser;
use hickory_resolver::{
    Resolver,
    config::{ConnectionConfig, NameServerConfig, ResolverConfig},
    net::runtime::TokioRuntimeProvider,
    proto::rr::RData,
};
use parallax_peers::{Load, run};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// TXT lookups by hickory-resolver on one tokio thread, cache off.
#[derive(Parser)]
struct Arguments {
    #[command(flatten)]
    load: Load,
    /// The text that every name must have.
    #[arg(long)]
    text: String,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let mut connection = ConnectionConfig::udp();
    connection.port = arguments.load.peer.port();
    let server = NameServerConfig::new(arguments.load.peer.ip(), true, vec![connection]);
    let config = ResolverConfig::from_name_servers(vec![server]);
    let mut builder = Resolver::builder_with_config(config, TokioRuntimeProvider::default());
    let options = builder.options_mut();
    options.cache_size = 0;
    options.timeout = Duration::from_secs(1);
    options.attempts = 3;
    // It refuses more than 32 at a time otherwise.
    options.max_active_requests = usize::MAX;
    let resolver = match builder.build() {
        Ok(resolver) => Rc::new(resolver),
        Err(error) => {
            eprintln!("peer-hickory: {error}");
            return ExitCode::FAILURE;
        }
    };
    let text: Rc<str> = arguments.text.into();
    run("hickory-resolver 0.26", &arguments.load, move |number| {
        let (resolver, text) = (Rc::clone(&resolver), Rc::clone(&text));
        async move {
            let name = format!("_acme-challenge.c{number}.customer.example.");
            let found = resolver.txt_lookup(name).await.map_err(|error| error.to_string())?;
            let is_text = |record: &RData| match record {
                RData::TXT(txt) => txt.txt_data.concat() == text.as_bytes(),
                _ => false,
            };
            if found.answers().iter().any(|record| is_text(&record.data)) {
                Ok(())
            } else {
                Err("another text".to_owned())
            }
        }
    })
}
