//! What the policy demands beside the way of a message: senders are stopped, rates counted, conversations labelled, and
//! labels looked up for it.

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use super::attempt::Attempt;
use crate::{
    domain::{ConversationLabel, Freeze, FrozenBy, Reason},
    governance::{Decoded, Duties},
    rejection::Rejection,
    state::{Labelled, StoreError},
};

const AGAIN_AFTER: Duration = Duration::from_millis(500);

impl Attempt<'_> {
    /// Of the message's conversation, if the policy reads them. Unknown is not none.
    pub(super) async fn labels(
        &self,
        decoded: &Decoded,
    ) -> Result<Option<BTreeSet<ConversationLabel>>, Rejection> {
        if !self.policy.reads_labels() {
            return Ok(None);
        }
        let (tenant, conversation) = (&decoded.key().tenant, &decoded.message().conversation_id);
        let Some(conversation) = conversation else { return Ok(Some(BTreeSet::new())) };
        let labels = Box::pin(self.lanes.labels.labels(tenant, conversation)).await;
        labels.map(Some).map_err(|error| unavailable(&error))
    }

    /// Does it, once the message is this attempt's. What is refused here has had no effect.
    pub(super) async fn oblige(&mut self, decoded: &Decoded, duties: &Duties) -> Result<(), Rejection> {
        self.refuse_the_stopped(decoded, duties)?;
        let (key, Duties { rates, labels, freeze: _ }) = (decoded.key(), duties);
        self.lanes.rates.count((&key.tenant, &key.sender), rates, Instant::now())?;
        let Some(conversation) = decoded.message().conversation_id.as_ref().filter(|_| !labels.is_empty())
        else {
            return Ok(());
        };
        let by = (&key.tenant, &key.sender);
        match Box::pin(self.lanes.labels.label(by, conversation, labels)).await {
            Ok(Labelled::Done) => Ok(()),
            Ok(Labelled::TooMany { most }) => Err(Rejection::new(
                Reason::PolicyDenied,
                format!(
                    "the policy labels the conversation of this message, which has {most} labels, the most"
                ),
            )),
            Ok(Labelled::TooManyConversations { most }) => Err(Rejection::new(
                Reason::RateLimited,
                format!("messages of this sender have labelled {most} conversations within a day, the most"),
            )
            .after(Duration::from_secs(60))),
            Err(error) => Err(unavailable(&error)),
        }
    }

    /// Refuses a message whose sender the policy stops. Which text the module has for that is for operators: of what is
    /// refused others hear as well, who has asked and who has voted.
    ///
    /// The sender is stopped by [`Self::stop_sender`], once the refusal stands. Otherwise the message, if it comes again,
    /// would be held up by its own freeze, and bring another about when an operator lets its sender go on.
    pub(super) fn refuse_the_stopped(&mut self, decoded: &Decoded, duties: &Duties) -> Result<(), Rejection> {
        let Some((module, why)) = &duties.freeze else { return Ok(()) };
        let (key, by) = (decoded.key(), FrozenBy::Policy { module: module.clone() });
        let freeze = Freeze::automatic((&key.tenant, &key.sender), by, why, (self.lanes.clock)());
        let then = match self.lanes.freezes.has_place_for(&freeze) {
            Ok(()) => "the sender of this message is stopped until an operator lets it go on",
            Err(_) => "the sender of this message would be stopped, and there is no place for it",
        };
        self.stops = Some(Box::new(freeze));
        Err(Rejection::new(Reason::PolicyDenied, format!("{module}: {then}")))
    }

    /// On all nodes, until an operator lets it go on. Where there is no place for it, its message is denied all the same.
    pub(super) fn stop_sender(&mut self) {
        let Some(freeze) = self.stops.take() else { return };
        let (scope, why) = (freeze.scope.clone(), freeze.why.clone());
        if let Err(no_place) = self.lanes.freezes.want(*freeze)
            && self.lanes.freezes.tells_of_no_place(Instant::now())
        {
            tracing::warn!(%scope, why, %no_place, "the policy would stop an agent");
        }
    }
}

fn unavailable(error: &StoreError) -> Rejection {
    tracing::warn!(%error, "the labels of a conversation are not known");
    if let StoreError::BreakerOpen { retry_after } = error {
        return Rejection::breaker_open("the store of the labels that the policy goes by", *retry_after);
    }
    let detail = "the policy goes by the labels of the conversation, which cannot be had at the moment";
    Rejection::new(Reason::PolicyUnavailable, detail).after(AGAIN_AFTER)
}
