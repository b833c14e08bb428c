//! The words of the bus as types: identifiers, messages, scores, verdicts.
//!
//! Pure data. Knows nothing of bytes, NATS, Redis or time sources; everything that enters it has
//! passed a constructor that checked it.

pub mod agent;
pub mod cause;
pub mod constitution;
pub mod decision;
pub mod deliberation;
pub mod freeze;
pub mod id;
pub mod impact;
pub mod message;
pub mod scale;
pub mod tenant;
pub mod terms;
pub mod timestamp;
pub mod unseen;
pub mod value;
pub mod verb;
pub mod verdict;
pub mod weights;

pub use agent::{AgentRecord, Encoding};
pub use cause::{Cause, Conversation, Link};
pub use constitution::{Act, Amendment, Amendments, Constitution, ConstitutionHash};
pub use decision::DecisionId;
pub use deliberation::{
    Approval, Approver, Choice, Event, Judgement, Parked, Rule, RuleKind, Vote, Voter, Why,
};
pub use freeze::{Freeze, FrozenBy, NoPlace, Scope};
pub use id::{AgentId, CapabilityId, ConversationLabel, DeliberationId, IdError, MessageId, TenantId};
pub use impact::{Impact, LEVELS, Level, Parts};
pub use message::{BroadcastFilter, Message, MessageType, Priority, Recipient};
pub use scale::{Scales, scale};
pub use tenant::{
    Adaptive, AgentGrant, AtLimit, ChainLimits, Deliberation, Electors, Tenant, TenantLimits, Terms,
};
pub use terms::DeliberationError;
pub use timestamp::Timestamp;
pub use value::Value;
pub use verb::Verb;
pub use verdict::{Missed, Reach, Reason, Status, Verdict};
pub use weights::{Weights, WeightsError};
