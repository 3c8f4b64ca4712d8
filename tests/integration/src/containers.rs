//! Services in containers, for whoever has Docker and nothing else running.
//!
//! They use the loopback address of this machine (Docker's host network), so that the addresses and certificates of a
//! container are those of a process, and nobody else reaches them. Each is removed when its [`Container`] is dropped,
//! and at SIGINT and SIGTERM; what a killed test process leaves behind has the label `coinduit=test`.

use std::time::Duration;

use rustix::process::Signal;
use testcontainers::bollard::models::HostConfig;
use testcontainers::bollard::query_parameters::{KillContainerOptionsBuilder, RemoveContainerOptionsBuilder};
use testcontainers::core::client::docker_client_instance;
use testcontainers::runners::AsyncRunner;
use testcontainers::{ContainerAsync, ContainerRequest, GenericImage, ImageExt};
use tokio::net::TcpStream;
use uuid::Uuid;

use crate::wait::until;

/// What does not listen by then never does. It is no measurement: several start side by side on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(300);
/// What all containers of tests have, so that those which a killed process leaves behind are found.
pub(crate) const LABEL: (&str, &str) = ("coinduit", "test");
/// How often to look whether a service listens.
const PAUSE: Duration = Duration::from_millis(100);
/// So many lines of a log are shown when a service does not come up.
const LINES: usize = 30;
/// This machine's own network.
const HOST: &str = "host";
/// Docker's own.
const BRIDGE: &str = "bridge";

/// A service that can be started here.
#[derive(Debug)]
pub(crate) struct Service {
    /// What it is.
    pub(crate) what: &'static str,
    /// The public image and its tag.
    pub(crate) image: (&'static str, &'static str),
    /// What names one that runs already, and how.
    pub(crate) instead: &'static str,
}

impl Service {
    /// What its container is made from, on this machine's own network.
    pub(crate) fn on_loopback(&self) -> ContainerRequest<GenericImage> {
        self.request().with_network(HOST)
    }

    /// What its container is made from, with an address of its own that only this machine reaches.
    pub(crate) fn on_bridge(&self) -> ContainerRequest<GenericImage> {
        let closed = |config: &mut HostConfig| config.publish_all_ports = Some(false);
        self.request().with_network(BRIDGE).with_host_config_modifier(closed)
    }

    /// Whether the engine has the image, so that nothing has to be pulled.
    pub(crate) async fn is_here(&self) -> bool {
        let Ok(docker) = docker_client_instance().await else { return false };
        let (name, tag) = self.image;
        docker.inspect_image(&format!("{name}:{tag}")).await.is_ok()
    }

    fn request(&self) -> ContainerRequest<GenericImage> {
        let ((name, tag), (label, value)) = (self.image, LABEL);
        GenericImage::new(name, tag).with_label(label, value).with_startup_timeout(PATIENCE)
    }
}

/// A container. It is removed when this is dropped, whatever runs in it.
#[derive(Debug)]
pub(crate) struct Container {
    /// It is there until this is dropped.
    inner: Option<ContainerAsync<GenericImage>>,
    what: &'static str,
}

impl Container {
    /// Starts a service. An image that is not here is pulled.
    ///
    /// # Panics
    /// When that fails; the message says how to name a service that runs already.
    pub(crate) async fn start(service: &Service, request: ContainerRequest<GenericImage>) -> Self {
        let name = format!("coinduit-test-{}", Uuid::new_v4().simple());
        // A task of its own: what is dropped half-way can't block every kind of test.
        let starting = tokio::spawn(request.with_container_name(&name).start());
        match starting.await.expect("starting a container does not panic") {
            Ok(inner) => Self { inner: Some(inner), what: service.what },
            Err(error) => {
                remove(&name).await;
                let (Service { what, instead, .. }, (image, tag)) = (service, service.image);
                panic!(
                    "this test needs {what}, and no container of {image}:{tag} can be started: {error}; {instead}, or \
                     let this user reach a Docker engine on this machine that has that image or may pull it"
                )
            }
        }
    }

    /// Its address on Docker's own network, which only this machine reaches.
    ///
    /// # Panics
    /// When it has none.
    pub(crate) async fn bridge_address(&self, port: u16) -> String {
        let address = self.inner().get_bridge_ip_address().await;
        let address = address.unwrap_or_else(|error| panic!("the address of {}: {error}", self.what));
        format!("{address}:{port}")
    }

    /// Waits until it listens at `address`.
    ///
    /// # Panics
    /// When it ends before that, or does not listen in time; the message has the end of its log.
    pub(crate) async fn listens(&self, address: &str) {
        let listening = tokio::time::timeout(PATIENCE, async {
            while TcpStream::connect(address).await.is_err() {
                assert!(self.runs().await, "{} has ended; its log:\n{}", self.what, self.log().await);
                tokio::time::sleep(PAUSE).await;
            }
        });
        if listening.await.is_err() {
            let (what, log) = (self.what, self.log().await);
            panic!("{what} does not listen at {address} within {PATIENCE:?}; its log:\n{log}");
        }
    }

    /// Sends `signal` to its process.
    ///
    /// # Panics
    /// When it does not run.
    pub(crate) async fn signal(&self, signal: Signal) {
        let docker = docker_client_instance().await.expect("the engine that has started it");
        let options = KillContainerOptionsBuilder::new().signal(&signal.as_raw().to_string()).build();
        let sent = docker.kill_container(self.inner().id(), Some(options)).await;
        sent.unwrap_or_else(|error| panic!("send {signal:?} to {}: {error}", self.what));
    }

    /// Waits until its process has ended.
    ///
    /// # Panics
    /// When it does not in time.
    pub(crate) async fn ended(&self) {
        until(&format!("{} has ended", self.what), async || !self.runs().await).await;
    }

    /// Starts its process again, with the files that it had.
    ///
    /// # Panics
    /// When that fails.
    pub(crate) async fn start_again(&self) {
        self.inner().start().await.unwrap_or_else(|error| panic!("start {} again: {error}", self.what));
    }

    fn inner(&self) -> &ContainerAsync<GenericImage> {
        self.inner.as_ref().expect("it is taken away when this is dropped")
    }

    async fn runs(&self) -> bool {
        self.inner().is_running().await.unwrap_or_else(|error| panic!("look at {}: {error}", self.what))
    }

    /// The end of what it has said.
    async fn log(&self) -> String {
        let mut said = Vec::new();
        for stream in [self.inner().stdout_to_vec().await, self.inner().stderr_to_vec().await] {
            let text =
                stream.map_or_else(|error| error.to_string(), |text| String::from_utf8_lossy(&text).into());
            let lines: Vec<_> = text.lines().map(str::to_owned).collect();
            said.extend(lines.into_iter().rev().take(LINES).rev());
        }
        said.join("\n")
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        let Some(inner) = self.inner.take() else { return };
        let id = inner.id().to_owned();
        // A thread of its own: a test may be one that can't be blocked, or be about to end.
        let removing = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime
                .map_err(|error| error.to_string())
                .and_then(|runtime| runtime.block_on(inner.rm()).map_err(|error| error.to_string()))
        });
        match removing.join() {
            Ok(Ok(())) => {}
            Ok(Err(error)) => eprintln!("the container {id} is not removed: {error}"),
            Err(_) => eprintln!("the container {id} is not removed"),
        }
    }
}

/// Removes the container `name`, if it has come into being.
async fn remove(name: &str) {
    let Ok(docker) = docker_client_instance().await else { return };
    let options = RemoveContainerOptionsBuilder::new().force(true).v(true).build();
    // There is none, mostly; what is said of that is no news.
    drop(docker.remove_container(name, Some(options)).await);
}
