//! Headless Chromium by WebDriver, to look at the page as a person would.
//!
//! Browser and driver run in the namespace of the calling thread, and every call must come from that thread.

use std::net::TcpListener;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use fantoccini::actions::{InputSource, KeyAction, KeyActions};
use fantoccini::wd::WebDriverCompatibleCommand;
use fantoccini::{Client, ClientBuilder};
use http::Method;
use hyper_util::client::legacy::connect::HttpConnector;
use serde_json::{Value, json};
use tokio::runtime::Runtime;
use url::{ParseError, Url};

use crate::process::Process;
use crate::workspace;

/// What is asked for and does not come by itself takes no longer, on a busy machine.
const LIMIT: Duration = Duration::from_secs(20);

/// A page in a browser. Both end with it.
#[derive(Debug)]
pub struct Browser {
    client: Option<Client>,
    runtime: Runtime,
    _driver: Process,
}

/// A command of Chromium's own protocol.
#[derive(Debug)]
struct DevTools {
    name: &'static str,
    parameters: Value,
}

impl WebDriverCompatibleCommand for DevTools {
    fn endpoint(&self, base: &Url, session: Option<&str>) -> Result<Url, ParseError> {
        let session = session.unwrap_or_default();
        base.join(&format!("session/{session}/goog/cdp/execute"))
    }

    fn method_and_body(&self, _: &Url) -> (Method, Option<String>) {
        let body = json!({ "cmd": self.name, "params": self.parameters });
        (Method::POST, Some(body.to_string()))
    }
}

impl Browser {
    /// Starts one.
    pub fn start() -> Result<Self> {
        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let mut command = Command::new("chromedriver");
        command.arg(format!("--port={port}"));
        let driver = Process::spawn("chromedriver", command)
            .context("chromium-driver is missing: cargo xtask setup")?;
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let options = json!({
            // Root's Chromium has no sandbox, and a container's /dev/shm is small.
            "args": ["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--hide-scrollbars"],
        });
        let capabilities = json!({
            "goog:chromeOptions": options,
            "goog:loggingPrefs": { "browser": "ALL" },
        });
        let capabilities = capabilities.as_object().cloned().unwrap_or_default();
        let address = format!("http://127.0.0.1:{port}");
        let deadline = Instant::now() + LIMIT;
        let client = loop {
            let mut builder = ClientBuilder::new(HttpConnector::new());
            builder.capabilities(capabilities.clone());
            match runtime.block_on(builder.connect(&address)) {
                Ok(client) => break client,
                Err(error) if Instant::now() > deadline => {
                    return Err(error).context("no session with Chromium");
                }
                Err(_) => std::thread::sleep(Duration::from_millis(100)),
            }
        };
        Ok(Self {
            client: Some(client),
            runtime,
            _driver: driver,
        })
    }

    fn client(&self) -> Result<&Client> {
        self.client.as_ref().context("the browser was closed")
    }

    fn dev_tools(&self, name: &'static str, parameters: Value) -> Result<Value> {
        let command = DevTools { name, parameters };
        Ok(self.runtime.block_on(self.client()?.issue_cmd(command))?)
    }

    /// Opens an address.
    pub fn open(&self, address: &str) -> Result<()> {
        Ok(self.runtime.block_on(self.client()?.goto(address))?)
    }

    /// Sets the size of the window in CSS pixels, and whether it prefers dark.
    pub fn show_as(&self, width: u32, height: u32, dark: bool) -> Result<()> {
        let size =
            json!({ "width": width, "height": height, "deviceScaleFactor": 1, "mobile": false });
        self.dev_tools("Emulation.setDeviceMetricsOverride", size)?;
        let scheme = if dark { "dark" } else { "light" };
        let features = [
            json!({ "name": "prefers-color-scheme", "value": scheme }),
            json!({ "name": "prefers-reduced-motion", "value": "reduce" }),
        ];
        self.dev_tools(
            "Emulation.setEmulatedMedia",
            json!({ "features": features }),
        )?;
        Ok(())
    }

    /// What the body of a function of JavaScript returns.
    pub fn run(&self, script: &str) -> Result<Value> {
        Ok(self
            .runtime
            .block_on(self.client()?.execute(script, Vec::new()))?)
    }

    /// Waits until `expression` is neither false nor nothing, and returns it.
    pub fn wait(&self, expression: &str) -> Result<Value> {
        let deadline = Instant::now() + LIMIT;
        loop {
            let value = self.run(&format!("return {expression}"))?;
            if !matches!(value, Value::Null | Value::Bool(false)) {
                return Ok(value);
            }
            if Instant::now() >= deadline {
                let text = self.run("return document.body.innerText")?;
                bail!("never true: {expression}; the page says:\n{text}");
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Presses keys, one after another, where the keyboard is. Special ones as in [`fantoccini::key::Key`].
    pub fn press(&self, keys: &[char]) -> Result<()> {
        let mut actions = KeyActions::new("keyboard".to_owned());
        for key in keys {
            actions = actions
                .then(KeyAction::Down { value: *key })
                .then(KeyAction::Up { value: *key });
        }
        Ok(self
            .runtime
            .block_on(self.client()?.perform_actions(actions))?)
    }

    /// A picture of what is in sight, to `target/screenshots`.
    pub fn picture(&self, name: &str) -> Result<Vec<u8>> {
        let picture = self.runtime.block_on(self.client()?.screenshot())?;
        let directory = workspace().join("target/screenshots");
        std::fs::create_dir_all(&directory)?;
        write(&directory.join(format!("{name}.png")), &picture)?;
        Ok(picture)
    }

    /// What the console had to say: errors of scripts, violations of the content security policy.
    pub fn complaints(&self) -> Result<Vec<String>> {
        #[derive(Debug)]
        struct Log;
        impl WebDriverCompatibleCommand for Log {
            fn endpoint(&self, base: &Url, session: Option<&str>) -> Result<Url, ParseError> {
                base.join(&format!("session/{}/se/log", session.unwrap_or_default()))
            }
            fn method_and_body(&self, _: &Url) -> (Method, Option<String>) {
                (Method::POST, Some(json!({ "type": "browser" }).to_string()))
            }
        }
        let log = self.runtime.block_on(self.client()?.issue_cmd(Log))?;
        let entries = log.as_array().cloned().unwrap_or_default();
        let said = |entry: Value| entry["message"].as_str().map(str::to_owned);
        Ok(entries.into_iter().filter_map(said).collect())
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        if let Some(client) = self.client.take()
            && let Err(error) = self.runtime.block_on(client.close())
        {
            eprintln!("the browser did not close: {error}");
        }
    }
}

/// Writes a file, and says which where that fails.
fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    std::fs::write(path, bytes).with_context(|| format!("cannot write {}", path.display()))
}
