//! One recipient's Participating Function.

mod interface;

pub use interface::{
    Arrival, Attempt, AttemptEnd, AttemptId, AttemptTask, CommitToken, Event, Input, Invitation, Limits, LoadToken,
    Outcome, Output, PullRequest, QuestionToken, Reply, ReplyToken,
};
