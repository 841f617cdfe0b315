//! The engine's own API over gRPC, and what both forms of it share.

use std::{path::PathBuf, sync::Arc};

use jiff::Timestamp;
use parallax_protocol::{
    api::API_BATCH_MAX,
    transport::Caller,
    wire::api::{self, Answers, ExplainRequest, Explanations, Requests, corroboration_server::Corroboration},
};
use parallax_validation::{
    record::Record,
    request::{CheckRequest, RawRequest, RequestRules},
};
use prost::Message as _;
use thiserror::Error;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

use super::{
    callers::{Callers, Known, Right},
    desk::{FrontDesk, Place, Unavailable},
    telemetry::Telemetry,
};
use crate::{
    answer::{Answer, made_up_id},
    audit::{AuditError, Item, Items},
};

/// Answers that wait for their caller to read.
const ANSWERS_QUEUED_MAX: usize = 1024;
/// Records that one explanation shows, at most.
const EXPLAINED_MAX: usize = 16;

/// Why a caller gets no answer.
#[derive(Debug, Error)]
pub enum Denied {
    /// Its certificate has no name that is known.
    #[error("no name of the certificate is a caller that is known here")]
    Unknown,
    /// It may not.
    #[error("{caller} may not {}", right.as_str())]
    Forbidden {
        /// Who.
        caller: String,
        /// What it wanted.
        right: Right,
    },
}

/// What the API is made of.
pub struct Api {
    pub(super) desk: Arc<FrontDesk>,
    pub(super) callers: Callers,
    pub(super) rules: RequestRules,
    pub(super) journal: PathBuf,
    /// One reads the journal at a time.
    pub(super) explains: Arc<Semaphore>,
    pub(super) telemetry: Arc<Telemetry>,
    /// Holds true once the engine is to stop.
    pub(super) drain: watch::Receiver<bool>,
}

impl Api {
    /// Who calls, if it may do that.
    ///
    /// # Errors
    /// It may not, which is on record.
    pub fn permit(&self, caller: Option<&Caller>, right: Right) -> Result<Arc<Known>, Denied> {
        let known = caller.and_then(|caller| self.callers.known(caller, Some(right)));
        match known {
            Some(known) if known.may(right) => Ok(Arc::clone(known)),
            _ => {
                self.telemetry.forbidden(caller.map_or(&[], |caller| &caller.names), right.as_str());
                Err(match known {
                    None => Denied::Unknown,
                    Some(known) => Denied::Forbidden { caller: known.name.clone(), right },
                })
            }
        }
    }

    /// Whether a caller is not known at all, which is on record.
    #[must_use]
    pub fn stranger(&self, caller: Option<&Caller>) -> Option<Denied> {
        if caller.is_some_and(|caller| self.callers.known(caller, None).is_some()) {
            return None;
        }
        self.telemetry.forbidden(caller.map_or(&[], |caller| &caller.names), "call");
        Some(Denied::Unknown)
    }

    /// Who wants an explanation, if it may.
    ///
    /// # Errors
    /// It may not, which is on record.
    pub fn permit_explain(&self, caller: Option<&Caller>) -> Result<Arc<Known>, Denied> {
        let all = caller.and_then(|caller| self.callers.known(caller, Some(Right::ExplainAll)));
        match all.filter(|known| known.may(Right::ExplainAll)) {
            Some(known) => Ok(Arc::clone(known)),
            None => self.permit(caller, Right::Explain),
        }
    }

    /// What a request means, or the answer to one that cannot be.
    fn parse(&self, mut raw: RawRequest, caller: &Known, dry_run: bool) -> Result<CheckRequest, Box<Answer>> {
        raw.restrictions.dry_run |= dry_run;
        let (id, identifier) = (raw.id.clone(), raw.identifier.clone());
        CheckRequest::parse(raw, &made_up_id(), &self.rules, Timestamp::now())
            .map(|request| CheckRequest { caller: Some(caller.name.clone()), ..request })
            .map_err(|error| Box::new(Answer::of_refusal(id.as_deref(), &identifier, &error)))
    }

    /// Carries one request out.
    ///
    /// # Errors
    /// There is no room, or the engine goes down.
    pub async fn answer(&self, raw: RawRequest, caller: &Known, dry_run: bool) -> Result<Answer, Unavailable> {
        match self.parse(raw, caller, dry_run) {
            Err(refused) => Ok(*refused),
            Ok(request) => {
                let place = self.desk.admit_now(&caller.places)?;
                self.desk.corroborate(request, place).await.map(|(record, _)| Answer::of_record(&record))
            }
        }
    }

    /// The same with a place that was waited for. The caller's part of it comes with the answer.
    pub(super) async fn answer_in(
        &self,
        raw: RawRequest,
        caller: &Known,
        place: Place,
    ) -> Result<(Answer, OwnedSemaphorePermit), Unavailable> {
        match self.parse(raw, caller, false) {
            Err(refused) => Ok((*refused, place.of_caller())),
            Ok(request) => {
                let (record, kept) = self.desk.corroborate(request, place).await?;
                Ok((Answer::of_record(&record), kept))
            }
        }
    }

    /// Records of a request or an attempt, oldest first, and a few at most: the caller's own, unless
    /// it may see all. Reads the journal.
    ///
    /// # Errors
    /// Somebody else reads it just now, or it cannot be read.
    pub async fn explain(&self, id: String, caller: &Known) -> Result<Vec<Record>, Status> {
        let busy = |_| Status::resource_exhausted("another explanation is being looked for");
        let turn = Arc::clone(&self.explains).try_acquire_owned().map_err(busy)?;
        let directory = self.journal.clone();
        let only = (!caller.may(Right::ExplainAll)).then(|| caller.name.clone());
        let read = move || -> Result<Vec<Record>, AuditError> {
            // Who asked may go away meanwhile.
            let _turn = turn;
            let mut items = Items::open(&directory)?;
            let mut found = Vec::new();
            while let Some((_, item)) = items.next_item()? {
                let Item::Record(record) = item else { continue };
                let is_seen = only.is_none() || record.request.caller == only;
                if is_seen && (record.request.id.as_str() == id || record.attempt.to_string() == id) {
                    found.push(*record);
                    if found.len() == EXPLAINED_MAX {
                        break;
                    }
                }
            }
            Ok(found)
        };
        let read = tokio::task::spawn_blocking(read).await;
        match read {
            Ok(Ok(found)) => Ok(found),
            Ok(Err(error)) => {
                self.telemetry.failed("explain", &error);
                Err(Status::internal("the journal could not be read; the engine's log says why"))
            }
            Err(error) => {
                self.telemetry.failed("explain", &error);
                Err(Status::internal("the journal could not be read; the engine's log says why"))
            }
        }
    }
}

impl From<Denied> for Status {
    fn from(denied: Denied) -> Self {
        Self::permission_denied(denied.to_string())
    }
}

impl From<Unavailable> for Status {
    fn from(why: Unavailable) -> Self {
        match why {
            Unavailable::CallerBusy | Unavailable::Busy => Self::resource_exhausted(why.to_string()),
            Unavailable::Stopped => Self::unavailable(why.to_string()),
        }
    }
}

fn raw(request: api::Request) -> Result<RawRequest, Status> {
    RawRequest::try_from(request).map_err(|error| Status::invalid_argument(error.to_string()))
}

fn message(answer: &Answer) -> Result<api::Answer, Status> {
    let json = |value: Result<Vec<u8>, serde_json::Error>| value.map_err(|error| Status::internal(error.to_string()));
    Ok(api::Answer {
        result: json(serde_json::to_vec(&answer.line))?,
        problem: answer.problem.as_ref().map_or(Ok(Vec::new()), |problem| json(serde_json::to_vec(problem)))?,
    })
}

/// Serves it.
#[derive(Clone)]
pub struct Grpc(pub Arc<Api>);

#[tonic::async_trait]
impl Corroboration for Grpc {
    type CorroborateManyStream = ReceiverStream<Result<Answers, Status>>;

    async fn corroborate(&self, request: Request<api::Request>) -> Result<Response<api::Answer>, Status> {
        let caller = self.0.permit(request.extensions().get(), Right::Corroborate)?;
        let answer = self.0.answer(raw(request.into_inner())?, &caller, false).await?;
        message(&answer).map(Response::new)
    }

    async fn check(&self, request: Request<api::Request>) -> Result<Response<api::Answer>, Status> {
        let caller = self.0.permit(request.extensions().get(), Right::Check)?;
        let answer = self.0.answer(raw(request.into_inner())?, &caller, true).await?;
        message(&answer).map(Response::new)
    }

    async fn corroborate_many(
        &self,
        request: Request<Streaming<Requests>>,
    ) -> Result<Response<Self::CorroborateManyStream>, Status> {
        let caller = self.0.permit(request.extensions().get(), Right::Corroborate)?;
        let (out, stream) = mpsc::channel(ANSWERS_QUEUED_MAX / API_BATCH_MAX);
        tokio::spawn(many(Arc::clone(&self.0), caller, request.into_inner(), out));
        Ok(Response::new(ReceiverStream::new(stream)))
    }

    async fn explain(&self, request: Request<ExplainRequest>) -> Result<Response<Explanations>, Status> {
        let caller = self.0.permit_explain(request.extensions().get())?;
        let found = self.0.explain(request.into_inner().id, &caller).await?;
        if found.is_empty() {
            return Err(Status::not_found("no record of that id"));
        }
        let record = found.iter().map(serde_json::to_vec).collect::<Result<_, _>>();
        let record = record.map_err(|error| Status::internal(error.to_string()))?;
        Ok(Response::new(Explanations { record }))
    }
}

/// A stream of requests. While there is no place for the next one nothing more is read: the caller is held back. Once the
/// engine is to stop nothing more is read either, and the stream ends when all that was read is answered.
async fn many(
    api: Arc<Api>,
    caller: Arc<Known>,
    mut incoming: Streaming<Requests>,
    out: mpsc::Sender<Result<Answers, Status>>,
) {
    let (answers_in, answers) = mpsc::channel(ANSWERS_QUEUED_MAX);
    let writer = tokio::spawn(write(answers, out.clone()));
    let mut drain = api.drain.clone();
    let outcome = 'stream: loop {
        let received = tokio::select! {
            received = incoming.message() => received,
            () = drained(&mut drain) => break Err(Status::unavailable(Unavailable::Stopped.to_string())),
        };
        let requests = match received {
            Ok(Some(requests)) if requests.request.len() <= API_BATCH_MAX => requests.request,
            Ok(Some(requests)) => {
                let text = format!("{} requests in one message; at most {API_BATCH_MAX}", requests.request.len());
                break Err(Status::invalid_argument(text));
            }
            Ok(None) => break Ok(()),
            // It went away: what it asked is carried out all the same.
            Err(_) => break Ok(()),
        };
        for octets in requests {
            let request = match api::Request::decode(octets.as_slice()) {
                Ok(request) => raw(request),
                Err(error) => Err(Status::invalid_argument(format!("a request: {error}"))),
            };
            let request = match request {
                Ok(request) => request,
                Err(status) => break 'stream Err(status),
            };
            let place = tokio::select! {
                place = api.desk.admit(&caller.places) => place,
                () = drained(&mut drain) => Err(Unavailable::Stopped),
            };
            let place = match place {
                Ok(place) => place,
                Err(why) => break 'stream Err(why.into()),
            };
            let (api, caller, answers) = (Arc::clone(&api), Arc::clone(&caller), answers_in.clone());
            tokio::spawn(async move {
                match api.answer_in(request, &caller, place).await {
                    // Its place is free once its answer is on its way: who does not read is held back too.
                    Ok((answer, _kept)) => _ = answers.send(Ok(answer)).await,
                    Err(why) => _ = answers.send(Err(why.into())).await,
                }
            });
        }
    };
    drop(answers_in);
    let _ = writer.await;
    if let Err(status) = outcome {
        let _ = out.send(Err(status)).await;
    }
}

/// Returns once the engine is to stop.
pub(super) async fn drained(drain: &mut watch::Receiver<bool>) {
    // An error says that the sender is gone, and with it the program's reason to serve.
    let _ = drain.wait_for(|drain| *drain).await;
}

/// In batches, as they are ready. Answers that are there go out before the first error ends the stream.
async fn write(mut answers: mpsc::Receiver<Result<Answer, Status>>, out: mpsc::Sender<Result<Answers, Status>>) {
    let mut batch = Vec::with_capacity(API_BATCH_MAX);
    while answers.recv_many(&mut batch, API_BATCH_MAX).await > 0 {
        let (mut answer, mut error) = (Vec::with_capacity(batch.len()), None);
        for one in batch.drain(..) {
            match one.and_then(|one| message(&one)) {
                Ok(message) => answer.push(message),
                Err(status) => error = Some(status),
            }
        }
        if !answer.is_empty() && out.send(Ok(Answers { answer })).await.is_err() {
            return;
        }
        if let Some(status) = error {
            let _ = out.send(Err(status)).await;
            return;
        }
    }
}
