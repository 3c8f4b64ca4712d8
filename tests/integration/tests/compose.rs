//! The whole pipeline as people start it: `make up`, on both kinds of Kafka, with the images and the template that ship.

#![expect(clippy::unwrap_used, reason = "these are tests, helpers included")]

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Command;

use coinduit_integration::image::{PATIENCE, docker};
use coinduit_integration::wait::within;
use serde_json::Value;

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// A project of compose. It is taken down when this is dropped.
struct Project {
    name: String,
    kafka: &'static str,
    ports: [u16; 3],
}

impl Project {
    fn new(kafka: &'static str) -> Self {
        let listeners = [(); 3].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
        let ports = listeners.each_ref().map(|listener| listener.local_addr().unwrap().port());
        Self { name: format!("coinduit-test-{kafka}-{}", std::process::id()), kafka, ports }
    }

    /// What `make` prints for these goals.
    fn make(&self, goals: &[&str]) -> String {
        let output = Command::new("make")
            .current_dir(repository())
            .args(["--no-print-directory", &format!("KAFKA={}", self.kafka)])
            .args(goals)
            .env("COMPOSE_PROJECT_NAME", &self.name)
            .env("KAFKA_PORT", self.ports[0].to_string())
            .env("AWS_PORT", self.ports[1].to_string())
            .env("CONSUMER_PORT", self.ports[2].to_string())
            .output()
            .unwrap();
        let (out, log) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success(), "make {goals:?}: {}\n{out}{log}", output.status);
        out.into_owned()
    }

    fn rows(&self) -> Value {
        let said = self.make(&["rows"]);
        serde_json::from_str(said.lines().last().unwrap_or_default()).unwrap_or_else(|_| panic!("{said}"))
    }

    /// Containers, networks or volumes that are left.
    async fn left(&self, kind: &[&str]) -> String {
        let label = format!("label=com.docker.compose.project={}", self.name);
        let output = docker(&[kind, &["--quiet", "--filter", &label]].concat()).await;
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    }

    async fn container(&self, service: &str) -> String {
        let project = format!("label=com.docker.compose.project={}", self.name);
        let service = format!("label=com.docker.compose.service={service}");
        let output = docker(&["ps", "--quiet", "--filter", &project, "--filter", &service]).await;
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }
}

impl Drop for Project {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("{}", self.make(&["ps", "logs"]));
        }
        self.make(&["down"]);
    }
}

async fn prices_become_rows_and_nothing_is_left(kafka: &'static str) {
    let project = Project::new(kafka);
    project.make(&["up"]);
    let said = project.make(&["produce"]);
    let summary: Value = serde_json::from_str(said.lines().last().unwrap()).unwrap();
    assert_eq!((&summary["status"], &summary["records"]), (&"published".into(), &50.into()));
    within(PATIENCE, "both runs are rows", async || {
        let rows = project.rows();
        (rows["prices"].as_u64(), rows["coins"].as_u64()) == (Some(100), Some(50))
    })
    .await;

    let consumer = project.container("consumer").await;
    let health = docker(&["inspect", "--format", "{{.State.Health.Status}}", &consumer]).await;
    assert_eq!(String::from_utf8(health.stdout).unwrap().trim(), "healthy");
    docker(&["stop", "--time", "40", &consumer]).await;
    let code = docker(&["inspect", "--format", "{{.State.ExitCode}}", &consumer]).await;
    assert_eq!(String::from_utf8(code.stdout).unwrap().trim(), "0");

    project.make(&["down"]);
    for kind in [&["ps", "--all"][..], &["network", "ls"], &["volume", "ls"]] {
        assert_eq!(project.left(kind).await, "", "{kind:?}");
    }
}

#[tokio::test]
async fn prices_become_rows_with_zookeeper() {
    prices_become_rows_and_nothing_is_left("zookeeper").await;
}

#[tokio::test]
async fn prices_become_rows_with_kraft() {
    prices_become_rows_and_nothing_is_left("kraft").await;
}
