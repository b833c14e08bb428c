//! How do many messages share one write to Redis? What is asked while others are under way waits
//! for its turn together, and goes out as one pipeline.
//!
//! With little to do nothing waits and nothing is batched: the first few go straight to the client.
//! The client flushes each command that it sees alone, and at saturation those system calls were a
//! fifth of a node's time.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use fred::{
    clients::{Client, WithOptions},
    error::{Error, ErrorKind},
    interfaces::{ClientLike as _, KeysInterface as _, LuaInterface as _},
    prelude::Value,
    types::{ClusterHash, CustomCommand, Expiration, Key, SetOptions, config::Options, scripts::Script},
};
use tokio::sync::{Mutex, Semaphore, mpsc, oneshot};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::supervisor::Supervisor;

/// Asks on their way that are not batched.
const DIRECT_MAX: usize = 2;
/// Asks in one pipeline.
const PIPELINE_MAX: usize = 64;
/// Pipelines on their way.
const PIPELINES_MAX: usize = 4;
/// Asks that wait for a pipeline.
const WAITING_MAX: usize = 4096;

/// One command about one message.
pub(super) enum Ask {
    /// Sets the key unless it is there; answers nothing if it was. What was there is not asked for: it could
    /// be of any size.
    SetNew {
        key: Key,
        entry: Bytes,
        expiry: Expiration,
    },
    Script {
        script: Script,
        key: Key,
        args: Vec<Value>,
    },
}

type Answer = oneshot::Sender<Result<Value, Error>>;

pub(super) struct Batcher {
    direct: Semaphore,
    waiting: mpsc::Sender<(Ask, Answer)>,
}

impl Batcher {
    /// Starts the task that makes pipelines, over this client and within this time each.
    pub(super) fn start(
        client: Client,
        options: Options,
        limit: Duration,
        shutdown: &CancellationToken,
        tracker: &TaskTracker,
        supervisor: &Supervisor,
    ) -> Self {
        let (waiting, asked) = mpsc::channel(WAITING_MAX);
        let sender = Sender { client, options, limit, turns: Arc::new(Semaphore::new(PIPELINES_MAX)) };
        let (sender, asked, tasks) = (Arc::new(sender), Arc::new(Mutex::new(asked)), tracker.clone());
        supervisor.keep("redis pipelines", tracker, shutdown.clone(), move || {
            let (sender, asked, tasks) = (Arc::clone(&sender), Arc::clone(&asked), tasks.clone());
            async move { sender.run(&mut *asked.lock().await, tasks).await }
        });
        Self { direct: Semaphore::new(DIRECT_MAX), waiting }
    }

    pub(super) async fn ask(&self, client: &WithOptions<Client>, ask: Ask) -> Result<Value, Error> {
        if let Ok(_turn) = self.direct.try_acquire() {
            return match ask {
                Ask::SetNew { key, entry, expiry } => {
                    client.set(key, Value::Bytes(entry), Some(expiry), Some(SetOptions::NX), false).await
                }
                Ask::Script { script, key, args } => {
                    client.evalsha(script.sha1().clone(), vec![key], args).await
                }
            };
        }
        let (answer, answered) = oneshot::channel();
        let full = |_| Error::new(ErrorKind::Backpressure, "too many asks wait for redis");
        self.waiting.try_send((ask, answer)).map_err(full)?;
        answered.await.unwrap_or_else(|_| Err(Error::new(ErrorKind::Canceled, "the store stopped")))
    }
}

struct Sender {
    client: Client,
    options: Options,
    limit: Duration,
    turns: Arc<Semaphore>,
}

impl Sender {
    async fn run(&self, asked: &mut mpsc::Receiver<(Ask, Answer)>, tasks: TaskTracker) {
        let mut batch = Vec::with_capacity(PIPELINE_MAX);
        while let Ok(turn) = Arc::clone(&self.turns).acquire_owned().await {
            if asked.recv_many(&mut batch, PIPELINE_MAX).await == 0 {
                // Nobody can ask any more. What runs ends with the shutdown.
                return std::future::pending().await;
            }
            let (asks, answers): (Vec<_>, Vec<_>) = batch.drain(..).unzip();
            let (client, options, limit) = (self.client.clone(), self.options.clone(), self.limit);
            tasks.spawn(async move {
                let results = tokio::time::timeout(limit, pipeline(&client, &options, asks)).await;
                let results = results.unwrap_or_default().into_iter().map(Some);
                for (answer, result) in
                    answers.into_iter().zip(results.chain(std::iter::repeat_with(|| None)))
                {
                    let late = || Err(Error::new(ErrorKind::Timeout, "no answer to a pipeline"));
                    // One who no longer waits has passed its deadline.
                    let _ = answer.send(result.unwrap_or_else(late));
                }
                drop(turn);
            });
        }
    }
}

/// One answer for each ask, in order.
async fn pipeline(client: &Client, options: &Options, asks: Vec<Ask>) -> Vec<Result<Value, Error>> {
    let pipeline = client.pipeline().with_options(options);
    for ask in asks {
        let queued: Result<(), Error> = match ask {
            Ask::SetNew { key, entry, expiry } => {
                pipeline.set(key, Value::Bytes(entry), Some(expiry), Some(SetOptions::NX), false).await
            }
            Ask::Script { script, key, args } => {
                let mut all = Vec::with_capacity(3 + args.len());
                all.extend([Value::String(script.sha1().clone()), Value::Integer(1), key.into()]);
                all.extend(args);
                // The key stands third, after the digest and the number of keys.
                pipeline
                    .custom(CustomCommand::new_static("EVALSHA", ClusterHash::Offset(2), false), all)
                    .await
            }
        };
        if let Err(error) = queued {
            // Answers are told apart by their order, so one ask that does not fit ends the batch.
            tracing::warn!(%error, "a pipeline could not be put together");
            return Vec::new();
        }
    }
    pipeline.try_all().await
}
