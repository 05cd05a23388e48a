//! `[msrp.relay]`: the relay that our sessions go through, or `[[msrp.relay]]`: several, the first that takes us.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use restante_msrp::uri::MsrpUri;
use serde::de::value::{MapAccessDeserializer, SeqAccessDeserializer};
use serde::de::{Error, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};

/// Relays that may be named.
const MAX_RELAYS: usize = 8;

/// `[msrp.relay]` (RFC 4976).
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
pub struct MsrpRelay {
    /// Where it is: `msrps://relay.example.org;tcp`. Without a port it is found by the service of its domain (RFC 4976 §8).
    pub uri: RelayUri,
    /// Who we are there.
    pub username: String,
    /// File with the password, on one line.
    pub password_file: PathBuf,
}

/// The URI of a relay: a host, perhaps a port, no session.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
#[serde(try_from = "String")]
pub struct RelayUri(pub MsrpUri);

impl TryFrom<String> for RelayUri {
    type Error = String;

    fn try_from(text: String) -> Result<RelayUri, String> {
        let uri = MsrpUri::from_str(&text).ok();
        let is_relay = |uri: &MsrpUri| uri.session_id.is_none() && uri.transport.eq_ignore_ascii_case("tcp");
        uri.filter(is_relay).map(RelayUri).ok_or_else(|| {
            format!("{text:?}: expected the URI of a relay, such as \"msrps://relay.example.org:2855;tcp\"")
        })
    }
}

/// A table is one relay, an array of tables is several, in the order in which they are tried. All of them are encrypted, or
/// none: what descriptions offer does not depend on which one takes us.
pub(super) fn one_or_several<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<MsrpRelay>, D::Error> {
    let relays = deserializer.deserialize_any(OneOrSeveral)?;
    if relays.len() > MAX_RELAYS {
        return Err(D::Error::custom(format!("expected at most {MAX_RELAYS} relays")));
    }
    let is_secure = |relay: &MsrpRelay| relay.uri.0.secure;
    if relays.iter().any(is_secure) && !relays.iter().all(is_secure) {
        return Err(D::Error::custom("expected msrps: of all relays or of none"));
    }
    Ok(relays)
}

struct OneOrSeveral;

impl<'de> Visitor<'de> for OneOrSeveral {
    type Value = Vec<MsrpRelay>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a table, [msrp.relay], or several, [[msrp.relay]]")
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
        Ok(vec![MsrpRelay::deserialize(MapAccessDeserializer::new(map))?])
    }

    fn visit_seq<A: SeqAccess<'de>>(self, sequence: A) -> Result<Self::Value, A::Error> {
        Vec::deserialize(SeqAccessDeserializer::new(sequence))
    }
}
