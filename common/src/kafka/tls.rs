//! TLS: from the operator's files to rustls' configuration, and from rustls' errors to what has to be changed.
//!
//! Without a file of authorities the public ones are trusted that are compiled in (Mozilla's list): an image without a
//! file system has no others.

use std::{fmt, io, path::Path, sync::Arc};

use rustls::{
    AlertDescription, CertificateError, ClientConfig, Error, RootCertStore,
    crypto::ring,
    pki_types::{
        CertificateDer, PrivateKeyDer, ServerName,
        pem::{self, PemObject},
    },
};

use super::error::KafkaError;
use crate::config::Faults;

const CA: &str = "KAFKA_SSL_CA_FILE";
const CERT: &str = "KAFKA_SSL_CERT_FILE";
const KEY: &str = "KAFKA_SSL_KEY_FILE";

/// The names of the operator's files.
#[derive(Debug, Clone, Copy, Default)]
pub struct Files<'a> {
    /// The authorities to trust.
    pub ca: Option<&'a str>,
    /// This client's certificate, and those between it and its authority.
    pub cert: Option<&'a str>,
    /// Its key.
    pub key: Option<&'a str>,
}

/// How TLS is spoken: whom to trust, and as whom. Cheap to clone.
#[derive(Clone)]
pub struct Tls(Arc<ClientConfig>);

impl fmt::Debug for Tls {
    /// Without the key.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let certificate = self.0.client_auth_cert_resolver.has_certs();
        f.debug_struct("Tls").field("client_certificate", &certificate).finish_non_exhaustive()
    }
}

impl Tls {
    /// Reads and checks the files; `None` where one can't be used.
    #[must_use]
    pub fn read(files: Files<'_>, faults: &mut Faults) -> Option<Self> {
        let roots = match files.ca {
            None => Some(public_roots()),
            Some(path) => authorities(path, faults),
        };
        let identity = match (files.cert, files.key) {
            (None, None) => Some(None),
            (Some(cert), Some(key)) => {
                let (chain, key) = (chain(cert, faults), private_key(key, faults));
                chain.zip(key).map(Some)
            }
            (cert, _) => {
                let (set, missing) = if cert.is_some() { (CERT, KEY) } else { (KEY, CERT) };
                faults.add(missing, format!("is not set, but {set} is"), "set both, or none");
                None
            }
        };
        let (roots, identity) = roots.zip(identity)?;
        let builder = builder().with_root_certificates(roots);
        match identity {
            None => Some(Self(Arc::new(builder.with_no_client_auth()))),
            Some((chain, key)) => match builder.with_client_auth_cert(chain, key) {
                Ok(config) => Some(Self(Arc::new(config))),
                Err(Error::InconsistentKeys(_)) => {
                    faults.add(KEY, format!("does not belong to the certificate in {CERT}"), "use its key");
                    None
                }
                Err(error) => {
                    faults.add(
                        KEY,
                        format!("can't be used with {CERT} ({error})"),
                        "use an RSA, ECDSA (P-256, P-384) or Ed25519 key and its certificate",
                    );
                    None
                }
            },
        }
    }

    /// Trusts the public authorities, and shows no certificate.
    pub(super) fn public() -> Self {
        Self(Arc::new(builder().with_root_certificates(public_roots()).with_no_client_auth()))
    }

    #[cfg(test)]
    pub(super) fn of(config: ClientConfig) -> Self {
        Self(Arc::new(config))
    }

    /// For rustls.
    #[must_use]
    pub fn config(&self) -> Arc<ClientConfig> {
        Arc::clone(&self.0)
    }
}

fn builder() -> rustls::ConfigBuilder<ClientConfig, rustls::WantsVerifier> {
    ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("ring has ciphers for TLS 1.2 and 1.3")
}

fn public_roots() -> RootCertStore {
    RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() }
}

/// The bytes of the file that `setting` names.
fn content(setting: &str, path: &str, faults: &mut Faults) -> Option<Vec<u8>> {
    match std::fs::read(Path::new(path)) {
        Ok(bytes) => Some(bytes),
        Err(error) => {
            let problem = format!("can't read {path} ({error})");
            faults.add(setting, problem, "check the path and its permissions");
            None
        }
    }
}

/// All certificates of a PEM file; at least one.
fn certificates(setting: &str, path: &str, faults: &mut Faults) -> Option<Vec<CertificateDer<'static>>> {
    let bytes = content(setting, path, faults)?;
    let found: Result<Vec<_>, pem::Error> = CertificateDer::pem_slice_iter(&bytes).collect();
    match found {
        Ok(found) if !found.is_empty() => Some(found),
        Ok(_) => {
            faults.add(
                setting,
                format!("{path} holds no certificate"),
                "write PEM: -----BEGIN CERTIFICATE----- and so on; keystores and DER have to be converted",
            );
            None
        }
        Err(error) => {
            faults.add(setting, format!("{path} is broken ({error})"), "write the PEM file again");
            None
        }
    }
}

fn authorities(path: &str, faults: &mut Faults) -> Option<RootCertStore> {
    let mut roots = RootCertStore::empty();
    for (index, certificate) in certificates(CA, path, faults)?.into_iter().enumerate() {
        if let Err(error) = roots.add(certificate) {
            let problem = format!("certificate {} of {path} can't be used ({error})", index + 1);
            faults.add(CA, problem, "replace it, or take it out");
            return None;
        }
    }
    Some(roots)
}

fn chain(path: &str, faults: &mut Faults) -> Option<Vec<CertificateDer<'static>>> {
    certificates(CERT, path, faults)
}

/// PKCS#8, PKCS#1 or SEC1.
fn private_key(path: &str, faults: &mut Faults) -> Option<PrivateKeyDer<'static>> {
    let bytes = content(KEY, path, faults)?;
    match PrivateKeyDer::from_pem_slice(&bytes) {
        Ok(key) => Some(key),
        Err(error) => {
            let text = String::from_utf8_lossy(&bytes);
            let encrypted =
                text.contains("BEGIN ENCRYPTED PRIVATE KEY") || text.contains("Proc-Type: 4,ENCRYPTED");
            let (problem, way_out) = if encrypted {
                (
                    format!("the key in {path} is encrypted"),
                    "decrypt it (openssl pkey), and protect the file instead",
                )
            } else if matches!(error, pem::Error::NoItemsFound) {
                (format!("{path} holds no private key"), "write a PEM file of PKCS#8, PKCS#1 or SEC1")
            } else {
                // The error's text may quote a line of the file.
                (format!("{path} is broken"), "write the PEM file again")
            };
            faults.add(KEY, problem, way_out);
            None
        }
    }
}

/// The name that a broker's certificate has to hold.
///
/// # Errors
/// [`KafkaError::Tls`] where no certificate can.
pub(super) fn server_name(address: &str, host: &str) -> Result<ServerName<'static>, KafkaError> {
    ServerName::try_from(host.to_owned()).map_err(|error| KafkaError::Tls {
        address: address.to_owned(),
        problem: "no certificate can hold this host name; use another one".to_owned(),
        retryable: false,
        source: io::Error::new(io::ErrorKind::InvalidInput, error),
    })
}

/// rustls' word in an error of a stream, if it comes from there.
pub(super) fn cause(error: &io::Error) -> Option<&Error> {
    error.get_ref().and_then(|inner| inner.downcast_ref::<Error>())
}

/// What an error of rustls means, and whether it may pass by itself.
pub(super) fn explain(error: &Error) -> (&'static str, bool) {
    const CLIENT: &str = "the broker refuses this client's certificate, or wants one; check KAFKA_SSL_CERT_FILE and KAFKA_SSL_KEY_FILE, and whom the broker trusts";
    let problem = match error {
        Error::InvalidCertificate(certificate) => match certificate {
            CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
                "the broker's certificate has expired; renew it, or check this machine's clock"
            }
            CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
                "the broker's certificate is not valid yet; check this machine's clock"
            }
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
                "the broker's certificate is not for this host name; use one that it holds (KAFKA_BOOTSTRAP_SERVERS, the brokers' advertised.listeners), or add this one to it"
            }
            // An authority that was made again has the old one's name, and another key.
            CertificateError::UnknownIssuer | CertificateError::BadSignature => {
                "nobody who is trusted here has signed the broker's certificate; name its CA's certificate in KAFKA_SSL_CA_FILE"
            }
            CertificateError::Revoked => "the broker's certificate has been revoked; replace it",
            _ => "the broker's certificate can't be used",
        },
        Error::AlertReceived(alert) => match alert {
            AlertDescription::CertificateRequired | AlertDescription::NoCertificate => {
                "the broker wants a client certificate; set KAFKA_SSL_CERT_FILE and KAFKA_SSL_KEY_FILE"
            }
            AlertDescription::BadCertificate
            | AlertDescription::UnsupportedCertificate
            | AlertDescription::CertificateRevoked
            | AlertDescription::CertificateExpired
            | AlertDescription::CertificateUnknown
            | AlertDescription::UnknownCA
            | AlertDescription::AccessDenied
            | AlertDescription::DecryptError => CLIENT,
            AlertDescription::HandshakeFailure => {
                "the broker has no protocol or cipher in common with us, or wants a client certificate (KAFKA_SSL_CERT_FILE)"
            }
            AlertDescription::ProtocolVersion => "the broker speaks neither TLS 1.2 nor 1.3",
            AlertDescription::InternalError | AlertDescription::UserCanceled => {
                return ("the broker gave up", true);
            }
            _ => "the broker refuses",
        },
        Error::InvalidMessage(_) => {
            "the answer is no TLS; is the port one without it? (KAFKA_SECURITY_PROTOCOL)"
        }
        Error::PeerIncompatible(_) => "the broker has no protocol or cipher in common with us",
        _ => "the broker's part of it is wrong",
    };
    (problem, false)
}

#[cfg(test)]
pub(super) mod tests {
    use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};

    use super::*;

    /// An authority.
    pub(in crate::kafka) fn authority() -> CertifiedIssuer<'static, KeyPair> {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
    }

    /// Files that go away with the test.
    struct Folder(std::path::PathBuf);

    impl Folder {
        fn new(name: &str) -> Self {
            let path = std::env::temp_dir().join(format!("coinduit-tls-{}-{name}", std::process::id()));
            std::fs::create_dir_all(&path).unwrap();
            Self(path)
        }

        fn file(&self, name: &str, content: &str) -> String {
            let path = self.0.join(name);
            std::fs::write(&path, content).unwrap();
            path.to_str().unwrap().to_owned()
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            drop(std::fs::remove_dir_all(&self.0));
        }
    }

    fn faults_of(files: Files<'_>) -> String {
        let mut faults = Faults::default();
        assert!(Tls::read(files, &mut faults).is_none());
        faults.to_string()
    }

    #[test]
    fn good_files_make_a_configuration_that_does_not_print_the_key() {
        let folder = Folder::new("good");
        let authority = authority();
        let key = KeyPair::generate().unwrap();
        let cert = CertificateParams::new(vec!["client".to_owned()]).unwrap().signed_by(&key, &authority);
        let (ca, cert, key) = (
            folder.file("ca", &authority.pem()),
            folder.file("cert", &cert.unwrap().pem()),
            folder.file("key", &key.serialize_pem()),
        );
        let mut faults = Faults::default();
        let files = Files { ca: Some(&ca), cert: Some(&cert), key: Some(&key) };
        let tls = Tls::read(files, &mut faults).unwrap();
        assert_eq!(format!("{tls:?}"), "Tls { client_certificate: true, .. }");
        assert!(Tls::read(Files::default(), &mut faults).is_some() && faults.is_empty());
    }

    #[test]
    fn every_bad_file_is_named_with_a_way_out() {
        let folder = Folder::new("bad");
        let authority = authority();
        let ca = folder.file("ca", &authority.pem());
        let other = folder.file("other", &KeyPair::generate().unwrap().serialize_pem());
        let text = folder.file("text", "hello");
        let broken = folder.file("broken", "-----BEGIN CERTIFICATE-----\nMIIB!\n-----END CERTIFICATE-----\n");
        let empty = folder.file("der", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n");
        let locked = folder.file(
            "locked",
            "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n",
        );
        let ca_is = |path: &str| faults_of(Files { ca: Some(path), ..Files::default() });
        assert!(ca_is("/nowhere").contains("KAFKA_SSL_CA_FILE: can't read /nowhere"));
        assert!(ca_is(&text).contains("holds no certificate"));
        assert!(ca_is(&broken).contains("is broken"));
        assert!(ca_is(&empty).contains("certificate 1 of"));
        let key_is = |path: &str| faults_of(Files { ca: None, cert: Some(&ca), key: Some(path) });
        assert!(key_is(&other).contains("does not belong to the certificate"), "{}", key_is(&other));
        assert!(key_is(&text).contains("holds no private key"));
        assert!(key_is(&locked).contains("is encrypted"), "{}", key_is(&locked));
        let half = faults_of(Files { cert: Some(&ca), ..Files::default() });
        assert!(half.contains("KAFKA_SSL_KEY_FILE: is not set"), "{half}");
    }
}
