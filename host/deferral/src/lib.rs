//! The CPM Participating Function as pure state machines. No sockets, no clock, no disk.
