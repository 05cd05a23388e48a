//! The MSRP wire (RFC 4975): framing, sessions, SDP negotiation. No sockets, no clock.
