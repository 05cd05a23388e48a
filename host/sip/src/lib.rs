//! The SIP wire: grammar, transactions, dialogs and registrations. No sockets, no clock.
