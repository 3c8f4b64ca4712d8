//! The one TLS provider of the process.
//!
//! rustls panics at its first use when two providers are compiled in and none is chosen. Only *ring* is
//! compiled in here, and [`install_ring`] says so before the first connection, in every `main`.

/// Makes *ring* the process-wide rustls provider. Calling it again changes nothing.
pub fn install_ring() {
    // An error means that a provider is installed already: ours, as no other is compiled in.
    drop(rustls::crypto::ring::default_provider().install_default());
}
