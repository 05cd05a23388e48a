use std::fmt;

/// What a user authenticates with by Digest (RFC 7616): hashes, never the password. Whoever has a hash can authenticate in
/// its realm, so it is not shown.
#[derive(Clone, PartialEq, Eq)]
pub struct UserCredentials {
    /// The name that it was hashed with.
    pub username: String,
    /// The same.
    pub realm: String,
    /// Names of algorithms, and H(A1) by each.
    pub hashes: Vec<(String, Vec<u8>)>,
}

impl fmt::Debug for UserCredentials {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let algorithms: Vec<&String> = self.hashes.iter().map(|(algorithm, _)| algorithm).collect();
        formatter
            .debug_struct("UserCredentials")
            .field("username", &self.username)
            .field("realm", &self.realm)
            .field("algorithms", &algorithms)
            .finish_non_exhaustive()
    }
}
