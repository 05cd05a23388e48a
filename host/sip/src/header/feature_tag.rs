//! Service identifiers in feature tags and Accept-Contact: `+g.3gpp.icsi-ref="urn%3Aurn-7%3A…,…"`.

use super::{Parameters, parse_parameters, position_outside};

/// CPM standalone messaging, page mode.
pub const ICSI_MESSAGE: &str = "urn:urn-7:3gpp-service.ims.icsi.oma.cpm.msg";
/// CPM standalone messaging, large message mode.
pub const ICSI_LARGE_MESSAGE: &str = "urn:urn-7:3gpp-service.ims.icsi.oma.cpm.largemsg";
/// CPM deferred messaging.
pub const ICSI_DEFERRED: &str = "urn:urn-7:3gpp-service.ims.icsi.oma.cpm.deferred";

/// The service identifiers of `+g.3gpp.icsi-ref` in an Accept-Contact value or a list of parameters, decoded, in lower
/// case. `3gppservice`, which some clients write for `3gpp-service`, is read as that.
#[must_use]
pub fn icsi_values(value: &str) -> Vec<String> {
    let parameters = position_outside(value, b';').and_then(|at| value.get(at..)).unwrap_or("");
    parse_parameters(parameters).map(|parameters| icsi_of(&parameters)).unwrap_or_default()
}

fn icsi_of(parameters: &Parameters) -> Vec<String> {
    parameters
        .iter()
        .filter(|(name, _)| name.eq_ignore_ascii_case("+g.3gpp.icsi-ref"))
        .flat_map(|(_, value)| value.as_deref().unwrap_or("").split(','))
        .map(|element| {
            let element = element.trim().trim_start_matches('<').trim_end_matches('>');
            percent_decoded(element).to_ascii_lowercase().replace("3gppservice", "3gpp-service")
        })
        .collect()
}

/// An Accept-Contact that asks for a service (RFC 3841 §9.2), as deployed clients expect it: percent-encoded in
/// `+g.3gpp.icsi-ref`.
#[must_use]
pub fn accept_contact(icsi: &str) -> String {
    format!("*;+g.3gpp.icsi-ref=\"{}\"", icsi.replace(':', "%3A"))
}

/// `%XX` undone; what is no UTF-8 then is replaced.
#[must_use]
pub fn percent_decoded(text: &str) -> String {
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        let mut ahead = bytes.clone();
        let pair = (byte == b'%').then(|| Some((hex(ahead.next()?)?, hex(ahead.next()?)?))).flatten();
        match pair {
            Some((high, low)) => {
                out.push(high << 4 | low);
                bytes = ahead;
            }
            None => out.push(byte),
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

fn hex(byte: u8) -> Option<u8> {
    char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn services_are_found_in_a_comma_list_inside_a_quoted_tag() {
        let value = "*;+g.3gpp.icsi-ref=\"urn%3Aurn-7%3A3gppservice.ims.icsi.oma.cpm.msg,urn%3aurn-7%3A3gpp-service.ims.icsi.oma.cpm.deferred\";require";
        assert_eq!(icsi_values(value), [ICSI_MESSAGE, ICSI_DEFERRED]);
        assert!(icsi_values("*;+g.oma.sip-im").is_empty());
    }

    #[test]
    fn a_service_is_asked_for_as_deployed_clients_read_it() {
        let text = "*;+g.3gpp.icsi-ref=\"urn%3Aurn-7%3A3gpp-service.ims.icsi.oma.cpm.msg\"";
        assert_eq!(accept_contact(ICSI_MESSAGE), text);
        assert_eq!(icsi_values(text), [ICSI_MESSAGE]);
    }
}
