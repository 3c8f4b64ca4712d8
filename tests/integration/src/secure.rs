//! A broker of a test's own that lets nobody in without more: TLS, certificates, passwords, tokens.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use axum::http::StatusCode;
use axum::routing::post;
use axum::{Json, Router};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use coinduit_common::clock::Clock;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, date_time_ymd};
use serde_json::json;
use tempfile::TempDir;

use crate::broker::{self, Launched, OWN, Process, Script, Settings};
use crate::services::{cluster_id, free_ports};

/// Who is let in, and with what.
pub const USER: &str = "coinduit";
/// The password of [`USER`].
pub const PASSWORD: &str = "geheim, =%\u{e4}";
/// The listeners: for everybody, the controller's, and those of [`SecureBroker`] in their order.
type Ports = [u16; 6];
/// Those of the files that the broker reads.
const BROKER_FILES: [&str; 3] = ["broker.store", "expired.store", "ca.pem"];

/// One broker with a listener of each kind. It is gone when this is dropped.
#[derive(Debug)]
pub struct SecureBroker {
    ports: Ports,
    #[expect(dead_code, reason = "it is kept")]
    launched: Launched,
    folder: Files,
}

/// What the broker and its clients read.
#[derive(Debug)]
struct Files(TempDir);

impl SecureBroker {
    /// Starts one: by the script that the environment names, or else in a container.
    ///
    /// # Panics
    /// When that fails.
    pub async fn start() -> Self {
        let first = free_ports(6);
        let ports: Ports = [0, 1, 2, 3, 4, 5].map(|step| first + step);
        let [port, controller, ..] = ports;
        let folder =
            tempfile::Builder::new().prefix("coinduit-secure-").tempdir().expect("a temporary folder");
        let folder = Files(folder);
        folder.write_certificates();
        let properties = folder.properties(ports);
        let launched = if let Some(script) = Script::find() {
            let properties = folder.write("more.properties", &properties);
            let data = folder.0.path().join("broker");
            // It is stopped though the script fails half-way.
            let process = Process::of_script(&data, "kafka");
            script.start(&data, port, ("PROPERTIES", properties.as_os_str())).await;
            Launched::Process(process)
        } else {
            let files = BROKER_FILES.map(|name| (folder.path(name), folder.read(name)));
            let settings = Settings { id: 1, port, controller, copies: 1 };
            let container =
                broker::start_container(&OWN, &cluster_id(), &settings, &properties, &files).await;
            Launched::Container(Box::new(container))
        };
        Self { ports, launched, folder }
    }

    /// The listener for everybody.
    pub fn plaintext(&self) -> String {
        format!("127.0.0.1:{}", self.ports[0])
    }

    /// TLS and a login: every mechanism. A login by SCRAM-SHA-512 lasts four seconds.
    pub fn sasl_ssl(&self) -> String {
        self.at(2)
    }

    /// TLS with a client certificate.
    pub fn mutual(&self) -> String {
        self.at(3)
    }

    /// A login without TLS: PLAIN and SCRAM-SHA-256.
    pub fn sasl_plaintext(&self) -> String {
        self.at(4)
    }

    /// TLS with a certificate that has expired.
    pub fn expired(&self) -> String {
        self.at(5)
    }

    /// The listener [`SecureBroker::sasl_ssl`] by a name that is not in the certificate.
    pub fn by_another_name(&self) -> String {
        format!("127.0.0.1:{}", self.ports[2])
    }

    fn at(&self, port: usize) -> String {
        format!("localhost:{}", self.ports[port])
    }

    /// The path of one of the files: `ca.pem`, `client.pem`, `client.key`, `stranger.pem`, `stranger.key`.
    pub fn file(&self, name: &str) -> String {
        self.folder.path(name)
    }
}

impl Files {
    fn path(&self, name: &str) -> String {
        self.0.path().join(name).to_str().expect("a path of ours is text").to_owned()
    }

    fn read(&self, name: &str) -> Vec<u8> {
        std::fs::read(self.path(name)).expect("read a file")
    }

    fn write(&self, name: &str, content: &str) -> PathBuf {
        let path = self.0.path().join(name);
        std::fs::write(&path, content).expect("write a file");
        path
    }

    fn write_certificates(&self) {
        let ours = authority("ours");
        self.write("ca.pem", &ours.pem());
        let broker = certificate("localhost", 2099, &ours);
        self.write("broker.store", &broker.join("\n"));
        self.write("expired.store", &certificate("localhost", 2024, &ours).join("\n"));
        for (name, issuer) in [("client", &ours), ("stranger", &authority("another"))] {
            let [key, certificate] = certificate(name, 2099, issuer);
            self.write(&format!("{name}.key"), &key);
            self.write(&format!("{name}.pem"), &certificate);
        }
    }

    fn properties(&self, ports: Ports) -> String {
        let [plain, controller, login, certificate, open, expired] = ports;
        let listeners = format!(
            "PLAINTEXT://127.0.0.1:{plain},LOGIN://localhost:{login},CERT://localhost:{certificate},OPEN://localhost:{open},EXPIRED://localhost:{expired}"
        );
        let module = "org.apache.kafka.common.security";
        let mut lines = vec![
            format!("listeners={listeners},CONTROLLER://127.0.0.1:{controller}"),
            format!("advertised.listeners={listeners}"),
            "listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT,LOGIN:SASL_SSL,CERT:SSL,OPEN:SASL_PLAINTEXT,EXPIRED:SSL".to_owned(),
            "sasl.enabled.mechanisms=PLAIN,SCRAM-SHA-256,SCRAM-SHA-512,OAUTHBEARER".to_owned(),
            "listener.name.open.sasl.enabled.mechanisms=PLAIN,SCRAM-SHA-256".to_owned(),
            "listener.name.login.scram-sha-512.connections.max.reauth.ms=4000".to_owned(),
            format!("listener.name.login.oauthbearer.sasl.jaas.config={module}.oauthbearer.OAuthBearerLoginModule required unsecuredLoginStringClaim_sub=\"{USER}\";"),
            "ssl.keystore.type=PEM".to_owned(),
            format!("ssl.keystore.location={}", self.path("broker.store")),
            "ssl.truststore.type=PEM".to_owned(),
            format!("ssl.truststore.location={}", self.path("ca.pem")),
            "listener.name.cert.ssl.client.auth=required".to_owned(),
            "listener.name.expired.ssl.keystore.type=PEM".to_owned(),
            format!("listener.name.expired.ssl.keystore.location={}", self.path("expired.store")),
        ];
        // A file of properties is Latin-1.
        let password: String = PASSWORD
            .chars()
            .map(|c| if c.is_ascii() { c.to_string() } else { format!("\\u{:04x}", u32::from(c)) })
            .collect();
        for (listener, mechanisms) in
            [("login", &["scram-sha-256", "scram-sha-512"][..]), ("open", &["scram-sha-256"])]
        {
            let name = format!("listener.name.{listener}");
            lines.push(format!("{name}.plain.sasl.jaas.config={module}.plain.PlainLoginModule required user_{USER}=\"{password}\";"));
            for mechanism in mechanisms {
                lines.push(format!(
                    "{name}.{mechanism}.sasl.jaas.config={module}.scram.ScramLoginModule required;"
                ));
            }
        }
        lines.join("\n") + "\n"
    }
}

fn authority(name: &str) -> CertifiedIssuer<'static, KeyPair> {
    let mut params = CertificateParams::new(Vec::new()).expect("no names are legal names");
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let key = KeyPair::generate().expect("a key");
    CertifiedIssuer::self_signed(params, key).expect("an authority signs itself")
}

/// A key, and its certificate for `name` up to the beginning of the year `until`.
fn certificate(name: &str, until: i32, issuer: &CertifiedIssuer<'static, KeyPair>) -> [String; 2] {
    let mut params = CertificateParams::new(vec![name.to_owned()]).expect("a legal name");
    params.distinguished_name.push(DnType::CommonName, name);
    params.not_before = date_time_ymd(2020, 1, 1);
    params.not_after = date_time_ymd(until, 1, 1);
    let key = KeyPair::generate().expect("a key");
    let certificate = params.signed_by(&key, issuer).expect("an authority signs");
    [key.serialize_pem(), certificate.pem()]
}

/// A token endpoint on loopback, and what it does.
#[derive(Debug)]
pub struct TokenEndpoint {
    url: String,
    answer: Arc<Mutex<Answer>>,
}

/// What a token endpoint does.
#[derive(Debug, Clone, Copy)]
pub enum Answer {
    /// It gives a token that the broker takes.
    Token,
    /// It gives one that has expired.
    OldToken,
    /// It does not know who asks.
    Refuse,
}

impl TokenEndpoint {
    /// Starts one.
    ///
    /// # Panics
    /// When that fails.
    pub async fn start() -> Self {
        let answer = Arc::new(Mutex::new(Answer::Token));
        let shared = Arc::clone(&answer);
        let give = move || {
            let answer = *shared.lock().unwrap_or_else(PoisonError::into_inner);
            async move {
                match answer {
                    Answer::Token => {
                        (StatusCode::OK, Json(json!({"access_token": token(3600), "expires_in": 3600})))
                    }
                    Answer::OldToken => {
                        (StatusCode::OK, Json(json!({"access_token": token(-3600), "expires_in": 3600})))
                    }
                    Answer::Refuse => (StatusCode::UNAUTHORIZED, Json(json!({"error": "invalid_client"}))),
                }
            }
        };
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let url = format!("http://{}/token", listener.local_addr().expect("a listener has an address"));
        let router = Router::new().route("/token", post(give));
        tokio::spawn(async move { axum::serve(listener, router).await.expect("serve tokens") });
        Self { url, answer }
    }

    /// Its address.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// It does this from now on.
    pub fn will(&self, answer: Answer) {
        *self.answer.lock().unwrap_or_else(PoisonError::into_inner) = answer;
    }
}

/// A token without a signature, as Kafka's validator for tests takes it, that lasts for `seconds`.
fn token(seconds: i64) -> String {
    let now = Clock::System.now().timestamp();
    let claims = json!({"sub": USER, "iat": now.min(now + seconds) - 10, "exp": now + seconds});
    let part = |json: String| URL_SAFE_NO_PAD.encode(json);
    format!("{}.{}.", part(json!({"alg": "none"}).to_string()), part(claims.to_string()))
}
