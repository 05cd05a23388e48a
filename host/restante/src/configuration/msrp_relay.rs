//! `[msrp.relay]`: the relay that our sessions go through.

use std::path::PathBuf;
use std::str::FromStr;

use restante_msrp::uri::MsrpUri;
use serde::Deserialize;

/// `[msrp.relay]` (RFC 4976).
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
pub struct MsrpRelay {
    /// Where it is: `msrps://relay.example.org:2855;tcp`.
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
