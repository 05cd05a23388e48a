//! What survives: messages, registrations, preferences. SQLite and body files.
