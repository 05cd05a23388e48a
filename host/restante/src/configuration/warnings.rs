//! What an operator should know of a configuration that can be used.

use restante_msrp::uri::Host;
use restante_sip::uri::{Uri, host_address};

use super::{AskedCertificates, Configuration, Protocol, TrustedPeer};

impl Configuration {
    /// Warnings that an operator should see at start.
    #[must_use]
    pub fn warnings(&self) -> Vec<String> {
        let open = self.sip.listen.iter().find(|listen| !listen.socket.ip().is_loopback());
        let mut warnings = Vec::new();
        if self.tenants.is_empty() {
            warnings
                .push("the configuration has no tenant: only those that were added at run time are served".to_owned());
        }
        if let Some(open) = open {
            for (name, tenant) in &self.tenants {
                if tenant.trust.iter().any(|peer| matches!(peer, TrustedPeer::Address(_))) {
                    warnings.push(format!(
                        "{open} can be reached from other machines and tenant {name} trusts peers by address alone: \
                         a forged source address over UDP sends for any user; trust them by their certificates, as \
                         \"tls:NAME\", or keep the network in between closed"
                    ));
                }
            }
        }
        let listeners = self.sip.listen.iter().chain(&self.msrp.web_socket_listen);
        let web = listeners.into_iter().find(|listen| listen.protocol.is_web_socket());
        if let Some(web) = web.filter(|_| self.sip.web_origins.is_none()) {
            warnings.push(format!(
                "{web} accepts WebSockets from any web page: list the origins that may connect in \
                 sip.web_origins"
            ));
        }
        if let Some(address) = self.admin.listen.filter(|address| !address.ip().to_canonical().is_loopback()) {
            warnings.push(format!(
                "admin.listen: {address} can be reached from other machines without encryption: whoever sees a request \
                 has the token, which allows everything; listen on loopback, or keep the network in between closed"
            ));
        }
        warnings.extend(self.one_way_encryption());
        warnings.extend(self.authorization_of_msrp());
        let asks = self.tls.client_certificates != AskedCertificates::None;
        for (name, tenant) in &self.tenants {
            let named = tenant.trust.iter().find(|peer| matches!(peer, TrustedPeer::Name(_)));
            if let Some(named) = named.filter(|_| !asks) {
                warnings.push(format!(
                    "tenant {name} trusts \"{named}\", and peers that connect are not asked for a certificate: \
                     set tls.client_certificates, or only connections that this server makes count"
                ));
            }
        }
        warnings
    }

    /// What RFC 4976 and RFC 7977 demand of AUTH and is left to the operator: TLS, and a name that its certificate has.
    fn authorization_of_msrp(&self) -> Vec<String> {
        let mut warnings = Vec::new();
        let mut web = self.msrp.web_socket_listen.iter().filter(|listen| !listen.socket.ip().is_loopback());
        if let Some(open) = web.clone().find(|listen| !listen.protocol.is_encrypted()) {
            warnings.push(format!(
                "msrp.web_socket_listen: {open} accepts clients over the network without encryption: an eavesdropper \
                 can read what they send and take over their sessions; use \"wss:\", or let a proxy in front of a \
                 loopback address encrypt"
            ));
        }
        if let Some(open) = web.next()
            && self.msrp.advertise.as_ref().is_none_or(|advertised| host_address(&advertised.host).is_some())
        {
            warnings.push(format!(
                "msrp.web_socket_listen: {open} gives its clients session URIs with an address in them, since msrp.advertise \
                 is not a name: peers cannot check the name of a certificate by them"
            ));
        }
        let relay = self.msrp.relay.iter().map(|relay| &relay.uri.0).find(|uri| !uri.secure);
        let leaves_here = |host: &Host| !matches!(host, Host::Address(address) if address.is_loopback());
        if let Some(uri) = relay.filter(|uri| leaves_here(&uri.host)) {
            warnings.push(format!(
                "msrp.relay: {uri} is used without encryption: an eavesdropper can read what goes through it and take \
                 over our sessions; use an msrps: URI"
            ));
        }
        warnings
    }

    /// Where requests go over TLS and nothing over TLS comes back.
    fn one_way_encryption(&self) -> Vec<String> {
        if self.sip.listen.iter().any(|listen| listen.protocol == Protocol::Tls) {
            return Vec::new();
        }
        let is_encrypted = |uri: &str| {
            let Ok(uri) = Uri::parse(uri) else { return false };
            let says_tls = uri.parameter("transport").is_some_and(|name| name.eq_ignore_ascii_case("tls"));
            says_tls || uri.as_sip().is_some_and(|uri| uri.secure)
        };
        let outbound = self.sip.outbound.as_ref().filter(|hop| hop.protocol.is_encrypted());
        let hand_over = self.tenants.iter().flat_map(|(name, tenant)| {
            let targets = tenant.hand_over.iter().filter(move |(_, uri)| is_encrypted(uri));
            targets.map(move |(target, _)| format!("tenants.{name}.hand_over.{target}"))
        });
        let keys = outbound.map(|_| "sip.outbound".to_owned()).into_iter().chain(hand_over);
        let warning = |key| {
            format!(
                "{key} leads over TLS and sip.listen has no \"tls:\" address: what peers send of their own, such as the end of a \
                 session, comes in the clear or not at all"
            )
        };
        keys.map(warning).collect()
    }
}
