//! Who may do what in the embedded stack: nobody is kept out, but two parties are told apart.
//!
//! The stack listens on loopback alone; its keys are no secrets. They are checked all the same (S3 verifies
//! signatures), because a client that signs wrongly should learn it here.

/// The region of everything.
pub const REGION: &str = "us-east-1";
/// The account that owns everything.
pub const ACCOUNT: &str = "000000000000";
/// The key that opens the recorded price API. Any other value of `API_KEY` is the user's own, for the real API.
pub const API_KEY: &str = "coinduit-local";

/// An access key and its secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Credentials {
    /// `AWS_ACCESS_KEY_ID`
    pub access_key: &'static str,
    /// `AWS_SECRET_ACCESS_KEY`
    pub secret_key: &'static str,
}

/// For people and programs: what the stack exports.
pub const USER: Credentials =
    Credentials { access_key: "coinduit-local", secret_key: "coinduit-local-is-no-secret" };

/// For the Lambda function, as a function on AWS has its own role.
///
/// S3 must know it: a full event queue makes writers wait, and only the function empties that queue. Were its
/// own writes (quarantined lines) to wait as well, both would wait for ever.
pub const FUNCTION: Credentials =
    Credentials { access_key: "coinduit-local-function", secret_key: "coinduit-local-is-no-secret-either" };
