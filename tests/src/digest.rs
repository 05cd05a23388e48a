//! Users with passwords, and Digest by hand.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use restante::configuration::{AuthenticationMethod, Tenant};
use restante_client::{ClientConfiguration, ClientCredentials};
use restante_sip::authentication::{
    Algorithm, Challenge, Credentials, HashOfA1, Protection, QualityOfProtection, Subject, Variant, response, user_hash,
};
use restante_sip::message::{Name, SipMessage};
use restante_store::UserCredentials;
use tokio::net::TcpSocket;

use crate::patience::in_time;
use crate::person::Person;
use crate::raw_sip::{RawSip, Request};
use crate::setting::Setting;
use crate::world::World;

/// An address that no tenant trusts where a setting demands passwords.
pub const OUTSIDE: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 2));

/// A challenge, and who answers it.
#[derive(Clone, Debug)]
pub struct Digest {
    /// The challenge.
    pub challenge: Challenge,
    username: String,
    password: String,
    quality: QualityOfProtection,
}

impl Setting {
    /// Everybody but 127.0.0.1 and ::1 needs a password.
    #[must_use]
    pub fn demands_passwords(self) -> Setting {
        self.tenant(|tenant| {
            tenant.trust = ["127.0.0.1", "::1"].map(|it| it.parse().expect("an address")).to_vec();
            tenant.authentication = AuthenticationMethod::Digest;
        })
    }

    /// Beside a tenant, `other` with `other.example`, that trusts whoever is outside for the tenant of the stories.
    #[must_use]
    pub fn beside_a_trusting_tenant(self) -> Setting {
        self.configure(|it| {
            let other = Tenant { domains: vec!["other.example".to_owned()], ..Tenant::example() };
            it.tenants.insert("other".to_owned(), other);
        })
    }
}

impl World {
    /// Gives a user of `example.org` a password, which is its name backwards: `bob` has `bob`, `alice` has `ecila`.
    ///
    /// # Panics
    /// It is not kept.
    pub async fn give_password(&self, name: &str) {
        let user = self.recipient(&format!("sip:{name}@example.org"));
        let hash = |algorithm: Algorithm| {
            let hash = HashOfA1::new(algorithm, name, "example.org", &password_of(name));
            (algorithm.as_str().to_owned(), hash.bytes().to_vec())
        };
        let credentials = UserCredentials {
            username: name.to_owned(),
            realm: "example.org".to_owned(),
            hashes: Algorithm::ALL.into_iter().map(hash).collect(),
        };
        let kept = in_time("credentials are kept", self.shared().change_credentials(&user, Some(credentials))).await;
        kept.expect("credentials are kept");
    }

    /// Gives a user a password, and what its client needs to use it.
    pub(crate) async fn credentials_of(&self, name: &str) -> ClientCredentials {
        self.give_password(name).await;
        ClientCredentials { username: name.to_owned(), password: password_of(name) }
    }

    /// Somebody outside who has a password.
    pub async fn outsider(&mut self, name: &str) -> Person {
        let credentials = self.credentials_of(name).await;
        self.outsider_with(name, |it| it.credentials = Some(credentials)).await
    }

    /// Somebody outside whose client is different.
    pub async fn outsider_with(&mut self, name: &str, change: impl FnOnce(&mut ClientConfiguration)) -> Person {
        self.person_with(name, |configuration| {
            configuration.bind = OUTSIDE;
            change(configuration);
        })
        .await
    }

    /// A bare UDP socket outside.
    pub async fn outside(&self) -> RawSip {
        RawSip::udp(OUTSIDE, self.sip()).await
    }

    /// A bare TCP connection from outside.
    ///
    /// # Panics
    /// The server does not take it.
    pub async fn outside_over_tcp(&self) -> RawSip {
        let connect = async {
            let socket = TcpSocket::new_v4()?;
            socket.bind(SocketAddr::new(OUTSIDE, 0))?;
            socket.connect(self.sip()).await
        };
        let stream = in_time("a TCP connection", connect).await.expect("a TCP connection");
        let local = stream.local_addr().expect("a connected socket");
        RawSip::over(Box::new(stream), "TCP", local, self.sip())
    }

    /// How often authentication came to this.
    #[must_use]
    pub fn authentications(&self, outcome: &str) -> u64 {
        self.metric("restante_authentications_total", &[&format!("outcome=\"{outcome}\"")])
    }
}

impl Digest {
    /// The first challenge of an answer, for a user with the usual password.
    ///
    /// # Panics
    /// There is none.
    #[must_use]
    pub fn of(answer: &SipMessage, name: &str) -> Digest {
        let challenge = challenges(answer).into_iter().next();
        let challenge = challenge.unwrap_or_else(|| panic!("no challenge in {:?}", answer.bytes()));
        let (username, password) = (name.to_owned(), password_of(name));
        Digest { challenge, username, password, quality: QualityOfProtection::Auth }
    }

    /// With another password.
    #[must_use]
    pub fn with_password(self, password: &str) -> Digest {
        Digest { password: password.to_owned(), ..self }
    }

    /// With another algorithm than the challenge says.
    #[must_use]
    pub fn with_algorithm(mut self, algorithm: impl Into<Variant>) -> Digest {
        self.challenge.algorithm = algorithm.into();
        self
    }

    /// With this quality of protection, offered or not.
    #[must_use]
    pub fn with_quality(self, quality: QualityOfProtection) -> Digest {
        Digest { quality, ..self }
    }

    /// With the hash of the username, asked for or not.
    #[must_use]
    pub fn with_user_hash(mut self) -> Digest {
        self.challenge.takes_user_hash = true;
        self
    }

    /// What answers the challenge for a request.
    #[must_use]
    pub fn credentials(&self, request: &Request, count: u32) -> Credentials {
        let mut line = request.line.split(' ');
        let (method, uri) = (line.next().unwrap_or_default(), line.next().unwrap_or_default());
        let protection =
            Protection { quality: self.quality, cnonce: "story".to_owned(), nonce_count: format!("{count:08x}") };
        let Challenge { realm, nonce, algorithm, takes_user_hash, .. } = &self.challenge;
        let hash = HashOfA1::new(algorithm.algorithm, &self.username, realm, &self.password);
        let subject = Subject { method, uri, nonce, is_session: algorithm.is_session, body: &request.body };
        Credentials {
            username: match takes_user_hash {
                true => user_hash(algorithm.algorithm, &self.username, realm),
                false => self.username.clone(),
            },
            is_user_hash: *takes_user_hash,
            realm: realm.clone(),
            nonce: nonce.clone(),
            uri: uri.to_owned(),
            response: response(&hash, &subject, Some(&protection)),
            algorithm: Some(algorithm.to_string()),
            opaque: None,
            protection: Some(protection),
        }
    }

    /// The request with what answers the challenge, in a new transaction.
    #[must_use]
    pub fn authorize(&self, request: &Request, count: u32) -> Request {
        let credentials = self.credentials(request, count).to_string();
        request.clone().new_transaction().set("Authorization", &credentials)
    }
}

/// The challenges of an answer, in order.
#[must_use]
pub fn challenges(answer: &SipMessage) -> Vec<Challenge> {
    let lists = answer.headers(Name::WwwAuthenticate).map(|value| Challenge::parse_list(value).expect("challenges"));
    lists.flatten().collect()
}

fn password_of(name: &str) -> String {
    name.chars().rev().collect()
}
