//! Why something could not be done.

use thiserror::Error;

/// What went wrong on this side or underneath; a refusal by the peer is no error but an answer.
#[derive(Debug, Error)]
pub enum ClientError {
    /// A socket could not be opened.
    #[error("cannot open a socket: {0}")]
    Socket(#[from] std::io::Error),
    /// The request cannot be written as it was asked for.
    #[error("cannot write the request: {0}")]
    Write(#[from] restante_sip::writer::WriteError),
    /// The transaction layer did not take the request.
    #[error("cannot send the request: {0}")]
    Send(#[from] restante_sip::transaction::SendError),
    /// No final answer came in time.
    #[error("no answer")]
    NoAnswer,
    /// The request did not leave.
    #[error("the server cannot be reached")]
    Unreachable,
    /// What was to be sent cannot be read.
    #[error("cannot read what is to be sent: {0}")]
    Source(std::io::Error),
    /// The other side's session description leads nowhere.
    #[error("the session cannot be set up: {0}")]
    Session(String),
    /// The client was stopped.
    #[error("the client is stopped")]
    Stopped,
}
