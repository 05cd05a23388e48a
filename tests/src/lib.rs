//! Stories told end to end over real sockets.
