//! etcd and kube-apiserver in the node's namespace: started, stopped, killed, and robbed of what they know.
//!
//! Any kube-apiserver that envtest takes will do: no flag here is of one build. It has a namespace to itself, so its
//! port is always the same, and a client that reconnects finds the next server where the last one was.

use std::ffi::OsString;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use nix::sys::signal::Signal;
use serde::Deserialize;
use serde_json::{Value, json};

use super::objects::NAMESPACE;
use crate::cleanup::{self, Guard};
use crate::netns::Namespace;
use crate::process::Process;

/// Where it serves, in the node's namespace.
const ADDRESS: &str = "127.0.0.1:6443";
const ADMIN_TOKEN: &str = "token-of-the-administrator";
const AGENT_TOKEN: &str = "token-of-the-agent";
/// A machine that tests other things at the same time starts it in several seconds.
const STARTING: Duration = Duration::from_secs(30);

/// A running API server with its database.
#[derive(Debug)]
pub struct ApiServer {
    server: Option<Process>,
    etcd: Process,
    node: PathBuf,
    binary: PathBuf,
    /// The agent's user.
    agent: String,
    directory: PathBuf,
    _guard: Guard,
}

/// A request that the server has answered.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Audited {
    /// `get`, `list`, `watch`, `create`, `patch`, …
    pub verb: String,
    user: User,
    object_ref: Option<ObjectRef>,
    response_status: Option<Status>,
}

#[derive(Clone, Debug, Deserialize)]
struct User {
    username: String,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct ObjectRef {
    resource: String,
    subresource: String,
    api_group: String,
}

#[derive(Clone, Debug, Deserialize)]
struct Status {
    code: u16,
}

impl Audited {
    /// The API group; the core group is empty. Absent for requests about no object.
    pub fn group(&self) -> Option<&str> {
        Some(&self.object_ref.as_ref()?.api_group)
    }

    /// `services`, or `services/status`, as a role names it. Absent for requests about no object.
    pub fn resource(&self) -> Option<String> {
        let object = self.object_ref.as_ref()?;
        Some(match object.subresource.as_str() {
            "" => object.resource.clone(),
            sub => format!("{}/{sub}", object.resource),
        })
    }

    /// The HTTP status.
    pub fn code(&self) -> u16 {
        self.response_status.as_ref().map_or(0, |s| s.code)
    }
}

impl ApiServer {
    /// Starts both in `node`. The agent's token is `agent`'s, a user's name as a ClusterRoleBinding means it.
    pub fn start(node: &Namespace, agent: &str) -> Result<Self> {
        let assets = assets()?;
        let (directory, guard) = cleanup::scratch_directory("api")?;
        let socket = directory.join("etcd.sock");
        let policy = json!({
            "apiVersion": "audit.k8s.io/v1",
            "kind": "Policy",
            "omitStages": ["RequestReceived"],
            "rules": [{"level": "Metadata"}],
        });
        write(&directory.join("audit-policy.json"), &policy.to_string())?;
        let mut command = node.command(assets.join("etcd"));
        command
            .arg(flag("--data-dir", &directory.join("etcd")))
            .args(["--unsafe-no-fsync", "--log-level=error"])
            .arg(format!("--listen-client-urls=unix://{}", socket.display()))
            .arg("--advertise-client-urls=http://127.0.0.1:1")
            .arg("--listen-peer-urls=http://127.0.0.1:0");
        let etcd = Process::spawn("etcd", command)?;
        let mut this = Self {
            server: None,
            etcd,
            node: node.path(),
            binary: assets.join("kube-apiserver"),
            agent: agent.to_owned(),
            directory,
            _guard: guard,
        };
        for (name, token) in [("admin", ADMIN_TOKEN), ("agent", AGENT_TOKEN)] {
            write(&this.kubeconfig(name), &this.kubeconfig_text(token))?;
        }
        this.let_agent_in(true)?;
        this.run()?;
        Ok(this)
    }

    /// Starts the server, on its old port and data, and waits until it serves.
    pub fn run(&mut self) -> Result<()> {
        anyhow::ensure!(self.server.is_none(), "the API server runs already");
        let mut command = std::process::Command::new("nsenter");
        let certificates = self.directory.join("certs");
        let key = certificates.join("apiserver.key");
        let within = |name: &str| self.directory.join(name);
        command
            .arg(format!("--net={}", self.node.display()))
            .arg("--")
            .arg(&self.binary)
            .arg(format!("--etcd-servers=unix://{}", self.socket().display()))
            .args(["--bind-address=127.0.0.1", "--secure-port=6443"])
            .arg(flag("--cert-dir", &certificates))
            .arg(flag("--token-auth-file", &within("tokens.csv")))
            .arg("--authorization-mode=RBAC")
            .arg(flag("--audit-policy-file", &within("audit-policy.json")))
            .arg(flag("--audit-log-path", &within("audit.log")))
            .arg("--service-cluster-ip-range=10.96.0.0/16,fd00:96::/112")
            .arg("--service-account-issuer=https://kubernetes.default.svc")
            .arg(flag("--service-account-key-file", &key))
            .arg(flag("--service-account-signing-key-file", &key))
            .arg("--shutdown-watch-termination-grace-period=1s");
        self.server = Some(Process::spawn("kube-apiserver", command)?);
        self.wait_ready()
    }

    fn wait_ready(&mut self) -> Result<()> {
        let deadline = Instant::now() + STARTING;
        loop {
            if self.is_ready() {
                return Ok(());
            }
            let server = self
                .server
                .as_mut()
                .context("the API server was not started")?;
            if let Some(status) = server.try_wait()? {
                bail!("the API server ended ({status}):\n{}", server.said());
            }
            if Instant::now() >= deadline {
                bail!(
                    "the API server is not ready after {STARTING:?}:\n{}\netcd:\n{}",
                    server.said(),
                    self.etcd.said()
                );
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    fn is_ready(&self) -> bool {
        let mut command = std::process::Command::new("nsenter");
        command
            .arg(format!("--net={}", self.node.display()))
            .args(["--", "curl", "--silent", "--fail", "--max-time", "1"])
            .args(["--insecure", "--header"])
            .arg(format!("Authorization: Bearer {ADMIN_TOKEN}"))
            .arg(format!("https://{ADDRESS}/readyz"));
        crate::command::output(command).is_ok()
    }

    /// The kubeconfig of the administrator (`admin`) or of the agent (`agent`).
    pub fn kubeconfig(&self, who: &str) -> PathBuf {
        self.directory.join(format!("{who}.kubeconfig"))
    }

    /// Whether the next server knows the agent's token.
    pub fn let_agent_in(&self, known: bool) -> Result<()> {
        let mut tokens = vec![format!("{ADMIN_TOKEN},admin,1,\"system:masters\"")];
        if known {
            let agent = &self.agent;
            tokens.push(format!(
                "{AGENT_TOKEN},{agent},2,\"system:serviceaccounts\""
            ));
        }
        write(&self.directory.join("tokens.csv"), &tokens.join("\n"))
    }

    fn kubeconfig_text(&self, token: &str) -> String {
        json!({
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "test",
            "clusters": [{"name": "test", "cluster": {
                "server": format!("https://{ADDRESS}"),
                "certificate-authority": self.directory.join("certs/apiserver.crt"),
            }}],
            "users": [{"name": "test", "user": {"token": token}}],
            "contexts": [{"name": "test", "context": {"cluster": "test", "user": "test"}}],
        })
        .to_string()
    }

    /// What the administrator types.
    pub fn kubectl(&self, arguments: &[&str]) -> Result<String> {
        let mut command = std::process::Command::new("nsenter");
        command
            .arg(format!("--net={}", self.node.display()))
            .arg("--")
            .arg(self.binary.with_file_name("kubectl"))
            .arg(flag("--kubeconfig", &self.kubeconfig("admin")))
            // What it learns of one server is of no use for the next at the same address.
            .arg(flag("--cache-dir", &self.directory.join("kubectl")))
            .args(arguments)
            .current_dir(crate::workspace());
        let output = crate::command::output(command)?;
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// Makes the cluster know StreamRoutes, as `deploy/` does it.
    pub fn install_routes(&self) -> Result<()> {
        let definition = ["-f", "deploy/kustomize/base/streamroutes.yaml"];
        self.kubectl(&[&["apply", "--server-side"], &definition[..]].concat())?;
        let established = ["wait", "--for=condition=Established", "--timeout=20s"];
        self.kubectl(&[&established, &definition[..]].concat())?;
        Ok(())
    }

    /// Makes it know none, and forget those that are there.
    pub fn remove_routes(&self) -> Result<()> {
        let definition = "deploy/kustomize/base/streamroutes.yaml";
        self.kubectl(&["delete", "--wait", "-f", definition])
            .map(drop)
    }

    /// SIGSTOP: it hangs, with all connections open.
    pub fn hang(&self) -> Result<u64> {
        self.signal(Signal::SIGSTOP)
    }

    /// SIGCONT.
    pub fn resume(&self) -> Result<u64> {
        self.signal(Signal::SIGCONT)
    }

    fn signal(&self, signal: Signal) -> Result<u64> {
        let server = self.server.as_ref();
        server
            .context("the API server does not run")?
            .signal(signal)
    }

    /// SIGKILL. Says when.
    pub fn kill(&mut self) -> Result<u64> {
        let mut server = self.server.take().context("the API server does not run")?;
        server.kill()
    }

    /// Deletes an EndpointSlice in etcd, behind the back of a server that is down.
    pub fn forget_slice(&self, name: &str) -> Result<()> {
        // With the group or without it: servers differ.
        let mut deleted = false;
        for folder in ["endpointslices", "discovery.k8s.io/endpointslices"] {
            let key = base64(&format!("/registry/{folder}/{NAMESPACE}/{name}"));
            let answer = self.etcd("/v3/kv/deleterange", &json!({"key": key}))?;
            deleted |= answer["deleted"] == "1";
        }
        anyhow::ensure!(deleted, "no EndpointSlice {name} in etcd");
        Ok(())
    }

    /// Throws history away: what resumes from an older version is told that it is gone (410).
    pub fn compact(&self) -> Result<()> {
        let status = self.etcd("/v3/maintenance/status", &json!({}))?;
        let revision = status["header"]["revision"]
            .as_str()
            .context("etcd says no revision")?;
        let wanted = json!({"revision": revision, "physical": true});
        self.etcd("/v3/kv/compaction", &wanted).map(drop)
    }

    /// One call of etcd's JSON gateway, over its socket.
    fn etcd(&self, path: &str, body: &Value) -> Result<Value> {
        let body = body.to_string();
        let mut stream = UnixStream::connect(self.socket()).context("cannot reach etcd")?;
        stream.set_read_timeout(Some(Duration::from_secs(5)))?;
        write!(
            stream,
            "POST {path} HTTP/1.0\r\nHost: etcd\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        )?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        let (head, body) = answer.split_once("\r\n\r\n").context("no HTTP answer")?;
        anyhow::ensure!(head.contains(" 200"), "etcd: {path}: {head}: {body}");
        serde_json::from_str(body).with_context(|| format!("etcd: {path}: {body}"))
    }

    /// What it answered to `user`, in order.
    pub fn audit(&self, user: &str) -> Result<Vec<Audited>> {
        let path = self.directory.join("audit.log");
        let text = std::fs::read_to_string(&path)
            .with_context(|| format!("cannot read {}", path.display()))?;
        let all = text
            .lines()
            .filter_map(|line| serde_json::from_str::<Audited>(line).ok());
        Ok(all.filter(|entry| entry.user.username == user).collect())
    }

    fn socket(&self) -> PathBuf {
        self.directory.join("etcd.sock")
    }
}

/// The folder of etcd, kube-apiserver and kubectl.
pub fn assets() -> Result<PathBuf> {
    let folder = std::env::var_os("KUBEBUILDER_ASSETS")
        .filter(|value| !value.is_empty())
        .map_or_else(
            || PathBuf::from("/usr/local/kubebuilder/bin"),
            PathBuf::from,
        );
    anyhow::ensure!(
        folder.join("kube-apiserver").exists(),
        "no kube-apiserver in {}: run it through `cargo xtask test --tier cluster`, which says how to get one",
        folder.display()
    );
    Ok(folder)
}

fn flag(name: &str, value: &Path) -> OsString {
    let mut flag = OsString::from(name);
    flag.push("=");
    flag.push(value);
    flag
}

fn write(path: &Path, text: &str) -> Result<()> {
    std::fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))
}

/// etcd's JSON has keys in base64.
fn base64(text: &str) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut coded = String::new();
    for chunk in text.as_bytes().chunks(3) {
        let bits = (0..3).fold(0_usize, |bits, at| {
            bits << 8 | usize::from(chunk.get(at).copied().unwrap_or(0))
        });
        for digit in 0..4 {
            coded.push(if digit <= chunk.len() {
                char::from(DIGITS[bits >> (18 - 6 * digit) & 63])
            } else {
                '='
            });
        }
    }
    coded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_coded_as_etcd_wants_them() {
        assert_eq!(base64("/registry/pods"), "L3JlZ2lzdHJ5L3BvZHM=");
        assert_eq!(base64("abc"), "YWJj");
        assert_eq!(base64("ab"), "YWI=");
        assert_eq!(base64("a"), "YQ==");
    }
}
