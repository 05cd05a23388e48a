//! A small CPM client over real sockets: for the demo, the command line and the tests.
