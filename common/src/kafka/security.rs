//! Who may read along, and who this client says it is: the settings of TLS and SASL, checked.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use url::{Host, Url};

use super::{
    bootstrap::Bootstrap,
    sasl::{
        Login, Sasl, msk,
        scram::Hash,
        token::{Endpoint, Msk, Tokens},
    },
    tls::{Files, Tls},
};
use crate::{
    aws::AwsSettings,
    clock::Clock,
    config::{Faults, Secret, given, secret},
};

/// How connections are protected. Cheap to clone; clones share what they have found out. The default is TCP as it is.
#[derive(Debug, Clone, Default)]
pub struct Security {
    tls: Option<Tls>,
    sasl: Option<Sasl>,
    /// Somebody closed a connection without a word, as brokers do to those who have not logged in.
    silence: Arc<AtomicBool>,
}

impl Security {
    /// This way.
    #[must_use]
    pub fn new(tls: Option<Tls>, sasl: Option<Sasl>) -> Self {
        Self { tls, sasl, silence: Arc::default() }
    }

    /// How TLS is spoken, if it is.
    #[must_use]
    pub const fn tls(&self) -> Option<&Tls> {
        self.tls.as_ref()
    }

    /// How to log in, if that is wanted.
    #[must_use]
    pub const fn sasl(&self) -> Option<&Sasl> {
        self.sasl.as_ref()
    }

    /// Where a connection notes that it was closed without a word.
    pub(super) fn silence(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.silence)
    }

    /// Whether one has been since this was asked.
    pub(super) fn take_silence(&self) -> bool {
        self.silence.swap(false, Ordering::Relaxed)
    }
}

/// What the operator wrote.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct SecurityArgs {
    /// How to connect: PLAINTEXT, SSL, SASL_PLAINTEXT, SASL_SSL [default: PLAINTEXT]
    #[arg(long, env = "KAFKA_SECURITY_PROTOCOL", value_name = "PROTOCOL")]
    kafka_security_protocol: Option<String>,
    /// How to log in: PLAIN, SCRAM-SHA-256, SCRAM-SHA-512, OAUTHBEARER, AWS_MSK_IAM
    #[arg(long, env = "KAFKA_SASL_MECHANISM", value_name = "MECHANISM")]
    kafka_sasl_mechanism: Option<String>,
    /// As whom (PLAIN, SCRAM)
    #[arg(long, env = "KAFKA_SASL_USERNAME", value_name = "NAME")]
    kafka_sasl_username: Option<String>,
    /// The password (PLAIN, SCRAM); better in the environment, or in the file that KAFKA_SASL_PASSWORD_FILE names
    #[arg(long, env = "KAFKA_SASL_PASSWORD", value_name = "PASSWORD", hide_env_values = true, value_parser = hidden)]
    kafka_sasl_password: Option<Secret>,
    /// File with the password
    #[arg(long, env = "KAFKA_SASL_PASSWORD_FILE", value_name = "PATH")]
    kafka_sasl_password_file: Option<String>,
    /// PEM file of the authorities to trust [default: the public ones]
    #[arg(long, env = "KAFKA_SSL_CA_FILE", value_name = "PATH")]
    kafka_ssl_ca_file: Option<String>,
    /// PEM file of this client's certificate and those between it and its authority [default: none]
    #[arg(long, env = "KAFKA_SSL_CERT_FILE", value_name = "PATH")]
    kafka_ssl_cert_file: Option<String>,
    /// PEM file of the certificate's key, not encrypted
    #[arg(long, env = "KAFKA_SSL_KEY_FILE", value_name = "PATH")]
    kafka_ssl_key_file: Option<String>,
    /// Where tokens come from (OAUTHBEARER), by the client credentials grant
    #[arg(long, env = "KAFKA_SASL_OAUTHBEARER_TOKEN_ENDPOINT_URL", value_name = "URL")]
    kafka_sasl_oauthbearer_token_endpoint_url: Option<String>,
    /// As whom to ask for them
    #[arg(long, env = "KAFKA_SASL_OAUTHBEARER_CLIENT_ID", value_name = "ID")]
    kafka_sasl_oauthbearer_client_id: Option<String>,
    /// With which secret; better in the environment, or in the file that KAFKA_SASL_OAUTHBEARER_CLIENT_SECRET_FILE names
    #[arg(long, env = "KAFKA_SASL_OAUTHBEARER_CLIENT_SECRET", value_name = "SECRET", hide_env_values = true, value_parser = hidden)]
    kafka_sasl_oauthbearer_client_secret: Option<Secret>,
    /// File with the secret
    #[arg(long, env = "KAFKA_SASL_OAUTHBEARER_CLIENT_SECRET_FILE", value_name = "PATH")]
    kafka_sasl_oauthbearer_client_secret_file: Option<String>,
    /// What the tokens are to be good for [default: what the endpoint decides]
    #[arg(long, env = "KAFKA_SASL_OAUTHBEARER_SCOPE", value_name = "SCOPE")]
    kafka_sasl_oauthbearer_scope: Option<String>,
}

/// A value that nothing prints, from the command line on.
#[expect(clippy::unnecessary_wraps, reason = "what clap calls may fail")]
fn hidden(text: &str) -> Result<Secret, std::convert::Infallible> {
    Ok(Secret::new(text))
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Protocol {
    name: &'static str,
    tls: bool,
    sasl: bool,
}

const PLAINTEXT: Protocol = Protocol { name: "PLAINTEXT", tls: false, sasl: false };

fn protocol(text: &str) -> Result<Protocol, String> {
    let known = [
        PLAINTEXT,
        Protocol { name: "SSL", tls: true, sasl: false },
        Protocol { name: "SASL_PLAINTEXT", tls: false, sasl: true },
        Protocol { name: "SASL_SSL", tls: true, sasl: true },
    ];
    known
        .into_iter()
        .find(|known| known.name == text)
        .ok_or_else(|| "write PLAINTEXT, SSL, SASL_PLAINTEXT or SASL_SSL".to_owned())
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mechanism {
    Plain,
    Scram(Hash),
    OauthBearer,
    MskIam,
}

fn mechanism(text: &str) -> Result<Option<Mechanism>, String> {
    Ok(Some(match text {
        "PLAIN" => Mechanism::Plain,
        "SCRAM-SHA-256" => Mechanism::Scram(Hash::Sha256),
        "SCRAM-SHA-512" => Mechanism::Scram(Hash::Sha512),
        "OAUTHBEARER" => Mechanism::OauthBearer,
        "AWS_MSK_IAM" => Mechanism::MskIam,
        _ => {
            return Err("write PLAIN, SCRAM-SHA-256, SCRAM-SHA-512, OAUTHBEARER or AWS_MSK_IAM".to_owned());
        }
    }))
}

const MECHANISM: &str = "KAFKA_SASL_MECHANISM";
const USERNAME: &str = "KAFKA_SASL_USERNAME";
const PASSWORD: &str = "KAFKA_SASL_PASSWORD";
const ENDPOINT: &str = "KAFKA_SASL_OAUTHBEARER_TOKEN_ENDPOINT_URL";
const CLIENT_ID: &str = "KAFKA_SASL_OAUTHBEARER_CLIENT_ID";
const CLIENT_SECRET: &str = "KAFKA_SASL_OAUTHBEARER_CLIENT_SECRET";
const SCOPE: &str = "KAFKA_SASL_OAUTHBEARER_SCOPE";

impl SecurityArgs {
    /// Checks each value and each pair of values. What is no fault, but should be known, goes to `warnings`.
    #[must_use]
    pub fn read(
        &self,
        bootstrap: &Bootstrap,
        aws: &AwsSettings,
        warnings: &mut Vec<String>,
        faults: &mut Faults,
    ) -> Security {
        let written = given(self.kafka_security_protocol.as_deref());
        let known = faults.read("KAFKA_SECURITY_PROTOCOL", written, PLAINTEXT, protocol);
        // Whoever has misspelt it gets no list of what does not go with the default.
        let misspelt = written.is_some_and(|text| protocol(text).is_err());
        let tls = if known.tls || misspelt {
            Tls::read(self.files(), faults)
        } else {
            let settings = [
                ("KAFKA_SSL_CA_FILE", &self.kafka_ssl_ca_file),
                ("KAFKA_SSL_CERT_FILE", &self.kafka_ssl_cert_file),
                ("KAFKA_SSL_KEY_FILE", &self.kafka_ssl_key_file),
            ];
            for (name, value) in settings {
                if given(value.as_deref()).is_some() {
                    let other = if known.sasl { "SASL_SSL" } else { "SSL" };
                    faults.add(
                        name,
                        format!("is set, but KAFKA_SECURITY_PROTOCOL is {}", known.name),
                        format!("set KAFKA_SECURITY_PROTOCOL={other}, or leave it out"),
                    );
                }
            }
            None
        };
        let sasl = if known.sasl || misspelt {
            self.sasl(known, misspelt, bootstrap, aws, warnings, faults)
        } else {
            let mut settings = vec![(MECHANISM, given(self.kafka_sasl_mechanism.as_deref()).is_some())];
            settings.extend(self.of_passwords());
            settings.extend(self.of_tokens());
            for (name, _) in settings.into_iter().filter(|(_, set)| *set) {
                let other = if known.tls { "SASL_SSL" } else { "SASL_SSL or SASL_PLAINTEXT" };
                faults.add(
                    name,
                    format!("is set, but KAFKA_SECURITY_PROTOCOL is {}", known.name),
                    format!("set KAFKA_SECURITY_PROTOCOL={other}, or leave it out"),
                );
            }
            None
        };
        Security::new(tls, sasl)
    }

    fn files(&self) -> Files<'_> {
        Files {
            ca: given(self.kafka_ssl_ca_file.as_deref()),
            cert: given(self.kafka_ssl_cert_file.as_deref()),
            key: given(self.kafka_ssl_key_file.as_deref()),
        }
    }

    fn of_passwords(&self) -> [(&'static str, bool); 2] {
        let password = is_set(self.kafka_sasl_password.as_ref(), self.kafka_sasl_password_file.as_deref());
        [(USERNAME, given(self.kafka_sasl_username.as_deref()).is_some()), (PASSWORD, password)]
    }

    fn of_tokens(&self) -> [(&'static str, bool); 4] {
        let secret = is_set(
            self.kafka_sasl_oauthbearer_client_secret.as_ref(),
            self.kafka_sasl_oauthbearer_client_secret_file.as_deref(),
        );
        [
            (ENDPOINT, given(self.kafka_sasl_oauthbearer_token_endpoint_url.as_deref()).is_some()),
            (CLIENT_ID, given(self.kafka_sasl_oauthbearer_client_id.as_deref()).is_some()),
            (CLIENT_SECRET, secret),
            (SCOPE, given(self.kafka_sasl_oauthbearer_scope.as_deref()).is_some()),
        ]
    }

    fn sasl(
        &self,
        protocol: Protocol,
        misspelt: bool,
        bootstrap: &Bootstrap,
        aws: &AwsSettings,
        warnings: &mut Vec<String>,
        faults: &mut Faults,
    ) -> Option<Sasl> {
        let written = given(self.kafka_sasl_mechanism.as_deref());
        let Some(found) = faults.read(MECHANISM, written, None, mechanism) else {
            if written.is_none() && !misspelt {
                faults.add(
                    MECHANISM,
                    format!("is not set, but KAFKA_SECURITY_PROTOCOL is {}", protocol.name),
                    "set PLAIN, SCRAM-SHA-256, SCRAM-SHA-512, OAUTHBEARER or AWS_MSK_IAM",
                );
            }
            return None;
        };
        let mechanism = written.unwrap_or_default();
        let mut unused: Vec<(&str, bool)> = Vec::new();
        if !matches!(found, Mechanism::Plain | Mechanism::Scram(_)) {
            unused.extend(self.of_passwords());
        }
        if found != Mechanism::OauthBearer {
            unused.extend(self.of_tokens());
        }
        for (name, _) in unused.into_iter().filter(|(_, set)| *set) {
            faults.add(
                name,
                format!("is set, but KAFKA_SASL_MECHANISM is {mechanism}, which has no use for it"),
                "leave it out, or set the mechanism that it is for",
            );
        }
        let readable = !protocol.tls && !misspelt;
        match found {
            Mechanism::Plain => {
                if readable {
                    warnings.push(
                        "KAFKA_SASL_MECHANISM=PLAIN over SASL_PLAINTEXT shows the password to everybody on the way; use SASL_SSL, or SCRAM"
                            .to_owned(),
                    );
                }
                self.login(mechanism, faults).map(Sasl::Plain)
            }
            Mechanism::Scram(hash) => self.login(mechanism, faults).map(|login| Sasl::Scram(hash, login)),
            Mechanism::OauthBearer => {
                if readable {
                    warnings.push(
                        "KAFKA_SASL_MECHANISM=OAUTHBEARER over SASL_PLAINTEXT shows the token to everybody on the way; use SASL_SSL"
                            .to_owned(),
                    );
                }
                self.endpoint(faults).map(|endpoint| Sasl::Bearer(Tokens::Endpoint(Arc::new(endpoint))))
            }
            Mechanism::MskIam => {
                if readable {
                    faults.add(
                        MECHANISM,
                        "is AWS_MSK_IAM, but KAFKA_SECURITY_PROTOCOL is SASL_PLAINTEXT",
                        "set KAFKA_SECURITY_PROTOCOL=SASL_SSL: Amazon MSK takes it over TLS only",
                    );
                }
                // The brokers' own region is meant, wherever everything else is.
                let named = bootstrap.addresses().iter().find_map(|address| msk::region_of(address.host()));
                let Some(region) = named.or(aws.region()) else {
                    faults.add(
                        "AWS_REGION",
                        "is not set, and the brokers' names do not tell the region",
                        "set it to the region of the MSK cluster",
                    );
                    return None;
                };
                let msk = Msk::new(aws.clone(), region.to_owned(), Clock::System);
                Some(Sasl::Bearer(Tokens::Msk(Arc::new(msk))))
            }
        }
    }

    fn login(&self, mechanism: &str, faults: &mut Faults) -> Option<Login> {
        let username = required(USERNAME, self.kafka_sasl_username.as_deref(), mechanism, faults);
        let password = required_secret(
            PASSWORD,
            self.kafka_sasl_password.as_ref(),
            self.kafka_sasl_password_file.as_deref(),
            mechanism,
            faults,
        );
        let (username, password) = (username?, password?);
        let before = faults.count();
        for (name, value) in [(USERNAME, username.as_str()), (PASSWORD, password.reveal())] {
            if value.contains('\0') {
                faults.add(name, "holds a zero byte", "take it out");
            } else if !stringprep::saslprep(value).is_ok_and(|prepared| prepared == value) {
                // RFC 5802 wants SASLprep; Kafka's own clients and tools leave it out. Where it changes nothing, all
                // agree.
                faults.add(
                    name,
                    "holds characters of which clients and brokers make different bytes (SASLprep, RFC 4013)",
                    "choose one without control characters, ligatures, width variants and the like",
                );
            }
        }
        (faults.count() == before).then_some(Login { username, password })
    }

    fn endpoint(&self, faults: &mut Faults) -> Option<Endpoint> {
        const FOR: &str = "OAUTHBEARER";
        let url = required(ENDPOINT, self.kafka_sasl_oauthbearer_token_endpoint_url.as_deref(), FOR, faults);
        let id = required(CLIENT_ID, self.kafka_sasl_oauthbearer_client_id.as_deref(), FOR, faults);
        let secret = required_secret(
            CLIENT_SECRET,
            self.kafka_sasl_oauthbearer_client_secret.as_ref(),
            self.kafka_sasl_oauthbearer_client_secret_file.as_deref(),
            FOR,
            faults,
        );
        let scope = faults.read(SCOPE, self.kafka_sasl_oauthbearer_scope.as_deref(), None, scope);
        let url = url.and_then(|text| {
            let url = token_url(&text);
            if let Err(way_out) = &url {
                // It may hold a password, so it is not repeated.
                faults.add(ENDPOINT, "is no address of a token endpoint", *way_out);
            }
            url.ok()
        });
        Some(Endpoint::new(url?, id?, secret?, scope))
    }
}

fn is_set(value: Option<&Secret>, file: Option<&str>) -> bool {
    value.is_some_and(|value| given(Some(value.reveal())).is_some()) || given(file).is_some()
}

fn required(name: &str, value: Option<&str>, mechanism: &str, faults: &mut Faults) -> Option<String> {
    let value = given(value);
    if value.is_none() {
        faults.add(name, format!("is not set, but KAFKA_SASL_MECHANISM is {mechanism}"), "set it");
    }
    value.map(ToOwned::to_owned)
}

fn required_secret(
    name: &str,
    value: Option<&Secret>,
    file: Option<&str>,
    mechanism: &str,
    faults: &mut Faults,
) -> Option<Secret> {
    if !is_set(value, file) {
        let problem = format!("is not set, but KAFKA_SASL_MECHANISM is {mechanism}");
        faults.add(name, problem, format!("set it, or {name}_FILE"));
        return None;
    }
    let found = secret(name, value.map(Secret::reveal), file, faults)?;
    // A password may begin or end with a space.
    Some(value.filter(|value| given(Some(value.reveal())).is_some()).cloned().unwrap_or(found))
}

fn scope(text: &str) -> Result<Option<String>, String> {
    let legal = text.bytes().all(|byte| (b' '..=b'~').contains(&byte) && byte != b'"' && byte != b'\\');
    if legal { Ok(Some(text.to_owned())) } else { Err("write names parted by spaces".to_owned()) }
}

fn token_url(text: &str) -> Result<Url, &'static str> {
    let url = Url::parse(text).map_err(|_| "write https://host/path")?;
    let loopback = match url.host() {
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        Some(Host::Domain(name)) => name == "localhost",
        None => false,
    };
    if !url.username().is_empty() || url.password().is_some() {
        return Err("write it without a user; who asks stands in KAFKA_SASL_OAUTHBEARER_CLIENT_ID");
    }
    match url.scheme() {
        "https" if url.has_host() => Ok(url),
        "http" if loopback => Ok(url),
        "http" => Err("write https: the secret would be readable on the way"),
        _ => Err("write https://host/path"),
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::config::Env;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        args: SecurityArgs,
    }

    /// Reads `flags`, each without `--kafka-`.
    fn read(flags: &[&str]) -> (Security, Vec<String>, String) {
        read_at("broker:9092", flags)
    }

    fn read_at(brokers: &str, flags: &[&str]) -> (Security, Vec<String>, String) {
        let flags = flags.iter().map(|flag| format!("--kafka-{flag}"));
        let line = Line::parse_from(std::iter::once("test".to_owned()).chain(flags));
        assert!(!format!("{line:?}").contains("geheim"));
        let (mut warnings, mut faults) = (Vec::new(), Faults::default());
        let aws = AwsSettings::from_env(&Env::default(), &mut faults);
        let brokers = Bootstrap::parse(brokers).unwrap();
        let security = line.args.read(&brokers, &aws, &mut warnings, &mut faults);
        assert!(!format!("{security:?} {faults}").contains("geheim"));
        let text = if faults.is_empty() { String::new() } else { faults.to_string() };
        (security, warnings, text)
    }

    const SASL_SSL: &str = "security-protocol=SASL_SSL";

    #[test]
    fn each_protocol_and_mechanism_can_be_chosen() {
        let (plain, _, faults) = read(&[]);
        assert!(plain.tls().is_none() && plain.sasl().is_none() && faults.is_empty());
        let (tls, _, faults) = read(&["security-protocol=SSL"]);
        assert!(tls.tls().is_some() && tls.sasl().is_none() && faults.is_empty(), "{faults}");
        let user = ["sasl-username=me", "sasl-password= geheim "];
        for mechanism in ["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] {
            let choice = format!("sasl-mechanism={mechanism}");
            let (both, warnings, faults) = read(&[&[SASL_SSL, choice.as_str()], &user[..]].concat());
            assert!(faults.is_empty() && warnings.is_empty(), "{faults}");
            let sasl = both.sasl().unwrap();
            assert_eq!(sasl.mechanism(), mechanism);
            let (Sasl::Plain(login) | Sasl::Scram(_, login)) = sasl else { panic!("{sasl:?}") };
            assert_eq!(login.password.reveal(), " geheim ");
            assert!(both.tls().is_some());
        }
        let (token, _, faults) = read(&[
            SASL_SSL,
            "sasl-mechanism=OAUTHBEARER",
            "sasl-oauthbearer-token-endpoint-url=https://id.example/token",
            "sasl-oauthbearer-client-id=me",
            "sasl-oauthbearer-client-secret=geheim",
        ]);
        assert!(faults.is_empty(), "{faults}");
        assert_eq!(token.sasl().unwrap().mechanism(), "OAUTHBEARER");
        let msk = "b-1.demo.abc.c2.kafka.eu-west-1.amazonaws.com:9098";
        let (iam, _, faults) = read_at(msk, &[SASL_SSL, "sasl-mechanism=AWS_MSK_IAM"]);
        assert!(faults.is_empty(), "{faults}");
        assert!(format!("{iam:?}").contains("eu-west-1"), "{iam:?}");
    }

    #[test]
    fn a_password_that_everybody_can_read_is_warned_of() {
        let flags = [
            "security-protocol=SASL_PLAINTEXT",
            "sasl-mechanism=PLAIN",
            "sasl-username=me",
            "sasl-password=geheim",
        ];
        let (_, warnings, faults) = read(&flags);
        assert!(faults.is_empty() && warnings[0].contains("shows the password"), "{faults}{warnings:?}");
    }

    #[test]
    fn every_pair_that_does_not_fit_is_named() {
        for (flags, words) in [
            (&["security-protocol=TLS"][..], &["KAFKA_SECURITY_PROTOCOL: \"TLS\"", "1 setting"][..]),
            (&[SASL_SSL], &["KAFKA_SASL_MECHANISM: is not set"]),
            (&[SASL_SSL, "sasl-mechanism=GSSAPI"], &["KAFKA_SASL_MECHANISM: \"GSSAPI\"", "1 setting"]),
            (
                &[SASL_SSL, "sasl-mechanism=PLAIN"],
                &["KAFKA_SASL_USERNAME: is not set", "KAFKA_SASL_PASSWORD: is not set"],
            ),
            (
                &["sasl-password=geheim", "sasl-mechanism=PLAIN", "ssl-ca-file=/x"],
                &[
                    "KAFKA_SASL_PASSWORD: is set, but KAFKA_SECURITY_PROTOCOL is PLAINTEXT",
                    "KAFKA_SASL_MECHANISM: is set",
                    "KAFKA_SSL_CA_FILE: is set",
                ],
            ),
            (
                &[SASL_SSL, "sasl-mechanism=OAUTHBEARER", "sasl-password=geheim"],
                &[
                    "TOKEN_ENDPOINT_URL: is not set",
                    "CLIENT_ID: is not set",
                    "CLIENT_SECRET: is not set",
                    "KAFKA_SASL_PASSWORD: is set, but KAFKA_SASL_MECHANISM is OAUTHBEARER",
                ],
            ),
            (&[SASL_SSL, "sasl-mechanism=AWS_MSK_IAM"], &["AWS_REGION: is not set"]),
            (
                &[SASL_SSL, "sasl-mechanism=PLAIN", "sasl-username=me", "sasl-password=geheim\u{fb01}"],
                &["KAFKA_SASL_PASSWORD: holds characters"],
            ),
            (
                &["security-protocol=SASL_PLAINTEXT", "sasl-mechanism=AWS_MSK_IAM"],
                &["over TLS only", "AWS_REGION"],
            ),
        ] {
            let (_, _, faults) = read(flags);
            for word in words {
                assert!(faults.contains(word), "{flags:?}: {word} is missing in {faults}");
            }
        }
    }

    #[test]
    fn a_token_endpoint_needs_tls_unless_it_is_this_machine() {
        for (url, good) in [
            ("https://id.example/token", true),
            ("http://127.0.0.1:8080/token", true),
            ("http://localhost/token", true),
            ("http://[::1]/token", true),
            ("http://id.example/token", false),
            ("http://127.0.0.1.example/token", false),
            ("https://me:geheim@id.example/token", false),
            ("ftp://id.example", false),
            ("id.example", false),
        ] {
            assert_eq!(token_url(url).is_ok(), good, "{url}");
        }
    }
}
