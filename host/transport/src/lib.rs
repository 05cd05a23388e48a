//! Sockets: UDP and TCP listeners, connections, bounded queues.
