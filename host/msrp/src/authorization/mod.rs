//! AUTH as a client: what makes a relay take our sessions (RFC 4976 §5.1). Bytes out, responses in, a time to wake up.
//!
//! | state | on | goes to |
//! |---|---|---|
//! | Disconnected | [`AuthorizationClient::connected`] | Asking, with an AUTH without credentials |
//! | Asking | 401 with challenges, for the first time | Challenged: [`AuthorizationEvent::Challenged`] |
//! | Challenged | [`AuthorizationClient::answer`] with credentials | Asking, with them |
//! | Challenged | the same without: no challenge can be answered | Resting |
//! | Asking with credentials | 401 | Resting: the password is not believed |
//! | Asking | 200 with Use-Path | Granted until its Expires is over (§4.6, §5.1) |
//! | Asking | 423 with Min-Expires or Max-Expires, for the first time | Asking for that long (§6.3) |
//! | Asking | 403, 481, any other answer, 200 without Use-Path or for less than 10 s, 30 s of silence | Resting |
//! | Granted | a tenth of its time is left, or a minute | Asking; what was granted holds until it is over |
//! | Resting | its time, which doubles up to five minutes | Asking |
//! | any | [`AuthorizationClient::disconnected`] | Disconnected; nothing is granted any more |
//!
//! No failure is for good: who waits for a relay is waiting for its operator. A challenge is answered by the host, which
//! knows the password; what it computes is a header field here.
//!
//! What was granted belongs to the connection that asked for it (§6.3), so it is lost with it.

mod lasting;

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use bytes::Bytes;

use self::lasting::{Lasting, number, rest_of};
use crate::framing::{ContinuationFlag, FailureReport, Header, Method, RequestHead, Response, TransactionId, end_line};
use crate::status::Status;
use crate::transaction_ids::TransactionIds;
use crate::uri::{MAX_PATH_URIS, MsrpPath, MsrpUri};

/// Time for an answer to AUTH, as for any transaction (RFC 4975 §7.1.1).
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);
/// First rest after a failure.
const MIN_REST: Duration = Duration::from_secs(2);
/// Longest rest after failures in a row.
const MAX_REST: Duration = Duration::from_secs(300);
/// How long something lasts of which nobody says it.
const USUAL_EXPIRES_SECONDS: u32 = 600;
/// What lasts shorter is no grant: nothing could be done but ask again.
const MIN_GRANT_SECONDS: u32 = 10;
/// Challenges that are looked at.
const MAX_CHALLENGES: usize = 8;

/// What a client is made with.
#[derive(Clone, Debug)]
pub struct AuthorizationConfiguration {
    /// The relay: To-Path, and what credentials are for.
    pub relay: MsrpUri,
    /// Our own URI on the connection to it: From-Path.
    pub local: MsrpUri,
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AuthorizationEvent {
    /// Answer one of these values of WWW-Authenticate with [`AuthorizationClient::answer`].
    Challenged {
        /// As they were written.
        challenges: Vec<String>,
    },
    /// The relay takes us: [`AuthorizationClient::use_path`].
    Granted,
    /// It does not, for now.
    Refused {
        /// What it said; none: nothing in time.
        status: Option<Status>,
    },
    /// What was granted is over and was not renewed.
    Expired,
}

/// The client's side of AUTH with one relay.
#[derive(Debug)]
pub struct AuthorizationClient {
    configuration: AuthorizationConfiguration,
    transaction_ids: TransactionIds,
    state: State,
    granted: Option<Granted>,
    /// Asked for, in seconds, once the relay wants that to be said. Before, Expires is left out, which §5.1 allows: there are
    /// relays that do not survive it.
    expires_seconds: Option<u32>,
    failures: u32,
    output: VecDeque<Bytes>,
    events: VecDeque<AuthorizationEvent>,
}

#[derive(Debug)]
enum State {
    Disconnected,
    Asking {
        transaction: TransactionId,
        until: Instant,
        has_credentials: bool,
        may_change_expires: bool,
    },
    Challenged {
        may_change_expires: bool,
    },
    /// Granted; the next question is due then.
    Granted {
        renew_at: Instant,
    },
    Resting {
        until: Instant,
    },
}

#[derive(Debug)]
struct Granted {
    use_path: Vec<MsrpUri>,
    until: Instant,
}

impl AuthorizationClient {
    /// One without a connection. `random` must be fresh and unpredictable.
    #[must_use]
    pub fn new(configuration: AuthorizationConfiguration, random: [u8; 16]) -> AuthorizationClient {
        AuthorizationClient {
            transaction_ids: TransactionIds::new(random),
            state: State::Disconnected,
            granted: None,
            expires_seconds: None,
            failures: 0,
            output: VecDeque::new(),
            events: VecDeque::new(),
            configuration,
        }
    }

    /// There is a connection to the relay.
    pub fn connected(&mut self, now: Instant) {
        self.disconnected();
        self.ask(now, None, true);
    }

    /// It is gone.
    pub fn disconnected(&mut self) {
        self.state = State::Disconnected;
        self.granted = None;
        self.failures = 0;
        self.output.clear();
    }

    /// What answers the challenge, as a value of Authorization; none: nothing can.
    pub fn answer(&mut self, now: Instant, credentials: Option<&str>) {
        let State::Challenged { may_change_expires } = self.state else { return };
        match credentials {
            Some(credentials) => self.ask(now, Some(credentials), may_change_expires),
            None => self.refused(now, Some(Status::UNAUTHORIZED)),
        }
    }

    /// Takes a response. Whether it was for a question of ours.
    pub fn response(&mut self, now: Instant, response: &Response) -> bool {
        let State::Asking { transaction, has_credentials, may_change_expires, .. } = &self.state else { return false };
        if *transaction != response.transaction_id {
            return false;
        }
        let (has_credentials, may_change_expires) = (*has_credentials, *may_change_expires);
        match response.status {
            status if status.is_success() => self.granted(now, response),
            Status::UNAUTHORIZED if !has_credentials => self.challenged(now, response, may_change_expires),
            Status::OUT_OF_BOUNDS if may_change_expires => match Lasting::offered_by(&response.other_headers) {
                Some(lasting) => {
                    self.expires_seconds = Some(lasting.nearest(USUAL_EXPIRES_SECONDS));
                    self.ask(now, None, false);
                }
                None => self.refused(now, Some(response.status)),
            },
            status => self.refused(now, Some(status)),
        }
        true
    }

    /// The URIs that stand before ours in `a=path`, outermost first; none: nothing is granted.
    #[must_use]
    pub fn use_path(&self, now: Instant) -> Option<&[MsrpUri]> {
        let granted = self.granted.as_ref().filter(|granted| granted.until > now)?;
        Some(&granted.use_path)
    }

    /// Until when that holds.
    #[must_use]
    pub fn granted_until(&self) -> Option<Instant> {
        self.granted.as_ref().map(|granted| granted.until)
    }

    /// When [`AuthorizationClient::handle_wake`] is to be called.
    #[must_use]
    pub fn next_wake(&self) -> Option<Instant> {
        let state = match self.state {
            State::Disconnected | State::Challenged { .. } => None,
            State::Asking { until, .. } | State::Resting { until } => Some(until),
            State::Granted { renew_at } => Some(renew_at),
        };
        [state, self.granted_until()].into_iter().flatten().min()
    }

    /// Does what is due.
    pub fn handle_wake(&mut self, now: Instant) {
        if self.granted_until().is_some_and(|until| until <= now) {
            self.granted = None;
            self.events.push_back(AuthorizationEvent::Expired);
        }
        match self.state {
            State::Asking { until, .. } if until <= now => self.refused(now, None),
            State::Granted { renew_at } if renew_at <= now => self.ask(now, None, true),
            State::Resting { until } if until <= now => self.ask(now, None, true),
            _ => {}
        }
    }

    /// Bytes for the relay.
    pub fn poll_transmit(&mut self) -> Option<Bytes> {
        self.output.pop_front()
    }

    /// What happened.
    pub fn poll_event(&mut self) -> Option<AuthorizationEvent> {
        self.events.pop_front()
    }

    fn ask(&mut self, now: Instant, credentials: Option<&str>, may_change_expires: bool) {
        let transaction = self.transaction_ids.next();
        let header = |name: &str, value: String| Header { name: name.to_owned(), value };
        let expires = self.expires_seconds.map(|seconds| header("Expires", seconds.to_string()));
        let authorization = credentials.map(|value| header("Authorization", value.to_owned()));
        let head = RequestHead {
            transaction_id: transaction.clone(),
            method: Method::Other("AUTH".to_owned()),
            to_path: MsrpPath::from(self.configuration.relay.clone()),
            from_path: MsrpPath::from(self.configuration.local.clone()),
            message_id: None,
            byte_range: None,
            success_report: false,
            failure_report: FailureReport::Yes,
            status: None,
            content_type: None,
            other_headers: expires.into_iter().chain(authorization).collect(),
        };
        self.output.push_back(Bytes::from(head.to_wire() + &end_line(&transaction, ContinuationFlag::Complete)));
        let until = now + ANSWER_TIMEOUT;
        self.state = State::Asking { transaction, until, has_credentials: credentials.is_some(), may_change_expires };
    }

    fn challenged(&mut self, now: Instant, response: &Response, may_change_expires: bool) {
        let of = response.other_headers.iter().filter(|it| it.name.eq_ignore_ascii_case("WWW-Authenticate"));
        let challenges: Vec<String> = of.take(MAX_CHALLENGES).map(|it| it.value.clone()).collect();
        if challenges.is_empty() {
            return self.refused(now, Some(response.status));
        }
        self.state = State::Challenged { may_change_expires };
        self.events.push_back(AuthorizationEvent::Challenged { challenges });
    }

    fn granted(&mut self, now: Instant, response: &Response) {
        let header = |name: &str| response.other_headers.iter().find(|it| it.name.eq_ignore_ascii_case(name));
        let path = header("Use-Path").and_then(|it| it.value.parse::<MsrpPath>().ok());
        // Room for ours behind it.
        let Some(path) = path.filter(|path| path.iter().count() < MAX_PATH_URIS) else {
            return self.refused(now, Some(response.status));
        };
        let expires = header("Expires").and_then(|it| number(&it.value));
        let expires = expires.or(self.expires_seconds).unwrap_or(USUAL_EXPIRES_SECONDS);
        if expires < MIN_GRANT_SECONDS {
            return self.refused(now, Some(response.status));
        }
        let lasts = Duration::from_secs(expires.into());
        // As it comes it is in the order of To-Path, nearest first; `a=path` has it reversed (§4.2, §5.1).
        let mut use_path: Vec<MsrpUri> = path.iter().cloned().collect();
        use_path.reverse();
        self.granted = Some(Granted { use_path, until: now + lasts });
        self.state = State::Granted { renew_at: now + lasts.saturating_sub(rest_of(lasts)) };
        self.failures = 0;
        self.events.push_back(AuthorizationEvent::Granted);
    }

    fn refused(&mut self, now: Instant, status: Option<Status>) {
        let rest = MIN_REST.saturating_mul(1 << self.failures.min(16)).min(MAX_REST);
        self.failures = self.failures.saturating_add(1);
        self.state = State::Resting { until: now + rest };
        self.events.push_back(AuthorizationEvent::Refused { status });
    }
}
