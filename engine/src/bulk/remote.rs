//! A bulk run against an engine elsewhere, over its API.
//!
//! The engine's journal is the truth. Results are written as they come, each with the digest of its request; with `resume`
//! those of an earlier run are kept, and only requests without one are asked. A request that has changed since is an error. A request whose answer was lost on the way is then asked again: the engine
//! has two records of it, and the file one result.

use std::{
    collections::{HashMap, HashSet},
    fs::{File, OpenOptions},
    io::{BufRead as _, BufReader},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use parallax_protocol::{
    api::API_BATCH_MAX,
    transport::{ConnectLimits, Identity, Peer, TlsFiles, connect},
    wire::api::{Request, Requests, corroboration_client::CorroborationClient},
};
use parallax_validation::request::{RawRequest, RequestRules};
use prost::Message as _;
use sha2::{Digest as _, Sha256};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

use super::{BulkError, BulkOptions, ExpectedSet, ResultLine, Results, Summary, count_lines, process_cpu};
use crate::input::{BadLine, Format, Input};

/// The longest message from the engine, octets.
const FROM_ENGINE_BYTES_MAX: usize = 32 << 20;
/// Batches of requests that wait for the stream.
const BATCHES_QUEUED_MAX: usize = 4;
/// How long a started batch waits to be full.
const BATCH_WAIT: Duration = Duration::from_millis(2);

/// Which engine, and who asks.
#[derive(Clone, Debug)]
pub struct RemoteOptions {
    /// The engine.
    pub peer: Peer,
    /// Who asks, and whom to believe.
    pub tls: TlsFiles,
}

/// Carries out a bulk run. `stop` ends it early: what was sent is still awaited.
///
/// # Errors
/// Files, or the engine does not answer.
pub fn run(options: &BulkOptions, remote: &RemoteOptions, stop: &Arc<AtomicBool>) -> Result<Summary, BulkError> {
    let expected = options.expected.as_deref().map(ExpectedSet::read).transpose()?;
    let reader: Box<dyn std::io::Read + Send> = if options.file == std::path::Path::new("-") {
        Box::new(super::StoppableInput(Arc::clone(stop)))
    } else {
        Box::new(File::open(&options.file).map_err(|error| BulkError::File { path: options.file.clone(), error })?)
    };
    let format = options.format.unwrap_or_else(|| Format::of(&options.file));
    // What requests mean is for the engine to say.
    let input = Input::new(BufReader::with_capacity(1 << 20, reader), format, RequestRules::default());
    let (mut results, done) = open_results(options, expected)?;
    let identity = Arc::new(Identity::load(&remote.tls)?);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
    let runtime = runtime.map_err(|error| BulkError::Remote(error.to_string()))?;
    let (begun, cpu_before) = (Instant::now(), process_cpu());
    let outcome = runtime.block_on(drive(options, remote, &identity, input, done, &mut results, stop));
    results.end_progress();
    // A thread that waits for standard input does not hold up the end.
    runtime.shutdown_background();
    let interrupted = outcome?;
    Ok(results.summary(None, begun.elapsed().as_secs_f64(), process_cpu() - cpu_before, interrupted))
}

/// Results of an earlier run stay, if it is resumed.
fn open_results(options: &BulkOptions, expected: Option<ExpectedSet>) -> Result<(Results, Done), BulkError> {
    let mut done = Done::default();
    let lines = count_lines(options);
    let Some(path) = options.out.as_ref().filter(|path| options.resume && path.exists()) else {
        return Ok((Results::open(options, expected, lines, 0)?, done));
    };
    let fault = |error| BulkError::File { path: path.clone(), error };
    let kept = std::fs::read(path).map_err(fault)?;
    // A kill may have cut the last line.
    let whole = kept.iter().rposition(|octet| *octet == b'\n').map_or(0, |at| at + 1);
    let file = OpenOptions::new().write(true).open(path).map_err(fault)?;
    file.set_len(whole as u64).map_err(fault)?;
    drop(file);
    let file = OpenOptions::new().append(true).open(path).map_err(fault)?;
    let mut results = Results::with(path.clone(), Box::new(file), expected, lines, options);
    for line in kept[..whole].lines() {
        let line = line.map_err(fault)?;
        let read: ResultLine = serde_json::from_str(&line)
            .map_err(|error| fault(std::io::Error::other(format!("not a file of results: {error}"))))?;
        match (&read.id, &read.request, read.line) {
            (Some(id), Some(request), _) => _ = done.answered.insert(id.clone(), request.clone()),
            (_, None, Some(line)) => _ = done.bad_lines.insert(line),
            _ => return Err(fault(std::io::Error::other("not results of a run against an engine elsewhere"))),
        }
        results.note(&read);
        results.resumed += 1;
    }
    Ok((results, done))
}

/// What an earlier run has results of.
#[derive(Default)]
struct Done {
    /// Digests of requests that were answered, by id.
    answered: HashMap<String, String>,
    /// Lines that are no requests.
    bad_lines: HashSet<u64>,
}

/// SHA-256 of a request as it is written, in hexadecimal: what a result is a result of.
fn digest(raw: &RawRequest) -> String {
    let text = serde_json::to_string(raw).unwrap_or_default();
    Sha256::digest(text.as_bytes()).iter().map(|octet| format!("{octet:02x}")).collect()
}

/// What the file's reader finds.
enum Found {
    Request(u64, String, Box<RawRequest>),
    Bad(BadLine),
}

async fn drive(
    options: &BulkOptions,
    remote: &RemoteOptions,
    identity: &Arc<Identity>,
    mut input: Input<impl std::io::BufRead + Send + 'static>,
    done: Done,
    results: &mut Results,
    stop: &Arc<AtomicBool>,
) -> Result<bool, BulkError> {
    let fault = |text: String| BulkError::Remote(format!("{}: {text}", remote.peer.address));
    let channel = connect(identity, &remote.peer, &ConnectLimits::default()).await;
    let channel = channel.map_err(|error| fault(error.to_string()))?;
    let mut client = CorroborationClient::new(channel).max_decoding_message_size(FROM_ENGINE_BYTES_MAX);

    let (found_in, mut found) = mpsc::channel::<Result<Found, BulkError>>(API_BATCH_MAX);
    let (for_reader, file) = (Arc::clone(stop), options.file.clone());
    tokio::task::spawn_blocking(move || {
        while !for_reader.load(Ordering::Relaxed) {
            let next = match input.next_raw() {
                Ok(None) => return,
                Ok(Some((line, Err(_)))) if done.bad_lines.contains(&line) => continue,
                Ok(Some((_, Err(bad)))) => Ok(Found::Bad(bad)),
                Ok(Some((line, Ok(raw)))) => {
                    let (id, digest) = (raw.id.clone().unwrap_or_default(), digest(&raw));
                    match done.answered.get(&id) {
                        Some(answered) if *answered == digest => continue,
                        Some(_) => Err(BulkError::OtherResults(id)),
                        None => Ok(Found::Request(line, digest, Box::new(raw))),
                    }
                }
                Err(error) => Err(BulkError::File { path: file.clone(), error }),
            };
            let ends = next.is_err();
            if found_in.blocking_send(next).is_err() || ends {
                return;
            }
        }
    });
    let (requests_in, requests) = mpsc::channel::<Requests>(BATCHES_QUEUED_MAX);
    let mut answers = client
        .corroborate_many(ReceiverStream::new(requests))
        .await
        .map_err(|status| fault(format!("{:?}: {}", status.code(), status.message())))?
        .into_inner();
    let mut requests_in = Some(requests_in);
    let mut batch: Vec<Vec<u8>> = Vec::with_capacity(API_BATCH_MAX);
    // Lines of requests that are not answered, by id.
    let (mut outstanding, mut reads) = (HashMap::new(), true);
    let mut file_error = None;
    loop {
        if !reads && batch.is_empty() {
            // Nothing follows; the engine ends the stream once all is answered.
            requests_in = None;
        }
        let (is_full, out) = (batch.len() >= API_BATCH_MAX, requests_in.clone());
        tokio::select! {
            // Never waits for the engine to read without reading its answers.
            next = found.recv(), if reads && !is_full => match next {
                Some(Ok(Found::Request(line, digest, raw))) => {
                    outstanding.insert(raw.id.clone().unwrap_or_default(), (line, digest));
                    batch.push(Request::from(*raw).encode_to_vec());
                }
                Some(Ok(Found::Bad(bad))) => results.bad_line(&bad)?,
                Some(Err(error)) => file_error = Some(error),
                None => reads = false,
            },
            place = reserve(out, is_full || !reads), if !batch.is_empty() => if let Some(place) = place {
                place.send(Requests { request: std::mem::take(&mut batch) });
            },
            received = answers.message() => match received {
                Ok(Some(received)) => for answer in received.answer {
                    let mut line: ResultLine = serde_json::from_slice(&answer.result)
                        .map_err(|error| fault(format!("an answer cannot be read: {error}")))?;
                    let asked = line.id.as_ref().and_then(|id| outstanding.remove(id));
                    let Some((number, digest)) = asked else {
                        return Err(fault("the engine answers what it was not asked".to_owned()));
                    };
                    if line.verdict == "refused" {
                        line.line = Some(number);
                    }
                    line.request = Some(digest);
                    results.answered(&line)?;
                },
                Ok(None) if outstanding.is_empty() && !reads => break,
                Ok(None) => {
                    return Err(fault(format!("the engine ended the stream with {} unanswered", outstanding.len())));
                }
                Err(status) => return Err(fault(format!("{:?}: {}", status.code(), status.message()))),
            },
        }
    }
    results.flush()?;
    match file_error {
        Some(error) => Err(error),
        None => Ok(stop.load(Ordering::Relaxed)),
    }
}

/// A place in the stream; a batch that may still grow waits a little.
async fn reserve(out: Option<mpsc::Sender<Requests>>, at_once: bool) -> Option<mpsc::OwnedPermit<Requests>> {
    if !at_once {
        tokio::time::sleep(BATCH_WAIT).await;
    }
    out?.reserve_owned().await.ok()
}
