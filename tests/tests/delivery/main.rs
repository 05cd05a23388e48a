//! Stories of deferred messages, told end to end over real sockets with a real policy and a real disk.

mod push;
