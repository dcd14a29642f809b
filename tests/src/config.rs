//! The agent's file, as tests write it.

use std::fmt::{self, Display, Formatter};
use std::net::{IpAddr, SocketAddr};

use crate::netns::{Family, Pod, UPLINK, VIP_V4, VIP_V6};
use crate::peers::PORT;

/// The whole file.
#[derive(Clone, Debug)]
pub struct Config {
    /// Interfaces to attach to.
    pub uplinks: Vec<String>,
    /// What to steer.
    pub services: Vec<Service>,
    /// Which pool a stream goes to, by what its caller asks for.
    pub routes: Vec<Route>,
}

/// A service.
#[derive(Clone, Debug)]
pub struct Service {
    /// `namespace/name`.
    pub name: String,
    /// Its addresses; none: it is only a pool.
    pub vips: Vec<IpAddr>,
    /// Its port.
    pub port: u16,
    /// `srt` or `udp`.
    pub protocol: String,
    /// `stream` or `client`; written where the protocol is `srt`.
    pub handshake: String,
    /// What no route matches is rejected.
    pub routed_only: bool,
    /// Backends get a limit above the mean.
    pub balance: bool,
    /// From when on its streams are not well, as YAML: `minBitrate: 1000000, stalledAfter: 2s`.
    pub thresholds: String,
    /// Prefixes that may reach it; empty: everyone.
    pub source_ranges: Vec<String>,
    /// Its backends.
    pub backends: Vec<Backend>,
}

/// A backend.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Backend {
    /// `namespace/name`.
    pub name: String,
    /// Its address and port.
    pub address: SocketAddr,
    /// Whether it serves.
    pub serving: bool,
    /// Whether it is told to go: with `serving`, it drains.
    pub terminating: bool,
    /// Its share of new sessions; `None`: 1.
    pub weight: Option<u16>,
    /// Most sessions at once; `None`: no bound.
    pub limit: Option<u32>,
}

/// A route.
#[derive(Clone, Debug)]
pub struct Route {
    /// `namespace/name`.
    pub name: String,
    /// The service whose callers it is about.
    pub service: String,
    /// What it matches, each as YAML: `resource: { prefix: acme/ }, mode: publish`.
    pub matches: Vec<String>,
    /// The service whose backends take the stream; `None`: it is rejected.
    pub pool: Option<String>,
    /// What its streams may use, as YAML: `streams: 10, streamBitrate: 2000000`.
    pub quota: String,
    /// From when on a stream is not well, as YAML.
    pub thresholds: String,
}

impl Service {
    /// Only a pool, that routes name.
    pub fn pool(name: &str, backends: Vec<Backend>) -> Self {
        Self {
            name: name.to_owned(),
            vips: Vec::new(),
            port: 0,
            protocol: "srt".to_owned(),
            source_ranges: Vec::new(),
            handshake: "client".to_owned(),
            routed_only: false,
            balance: false,
            thresholds: String::new(),
            backends,
        }
    }
}

impl Backend {
    /// `live/pod-a` at the pod's address of `family`.
    pub fn of(pod: &Pod, family: Family) -> Self {
        let suffix = if family == Family::V6 { "-v6" } else { "" };
        Self {
            name: format!("live/{}{suffix}", pod.name),
            address: SocketAddr::new(pod.address(family), PORT),
            serving: true,
            terminating: false,
            weight: None,
            limit: None,
        }
    }
}

impl Config {
    /// One SRT service whose pods answer handshakes, on both VIPs, with every pod's address of both families.
    pub fn new(pods: &[Pod]) -> Self {
        let mut config = Self::of_family(pods, Family::V4);
        if let Some(service) = config.services.first_mut() {
            service.vips.push(VIP_V6.into());
            service
                .backends
                .extend(pods.iter().map(|pod| Backend::of(pod, Family::V6)));
        }
        config
    }

    /// One SRT service whose pods answer handshakes, on the VIP of `family`.
    pub fn of_family(pods: &[Pod], family: Family) -> Self {
        Self {
            uplinks: vec![UPLINK.to_owned()],
            services: vec![Service {
                name: "live/srt".to_owned(),
                vips: vec![match family {
                    Family::V4 => VIP_V4.into(),
                    Family::V6 => VIP_V6.into(),
                }],
                port: PORT,
                protocol: "srt".to_owned(),
                source_ranges: Vec::new(),
                handshake: "client".to_owned(),
                routed_only: false,
                balance: false,
                thresholds: String::new(),
                backends: pods.iter().map(|pod| Backend::of(pod, family)).collect(),
            }],
            routes: Vec::new(),
        }
    }

    /// The same, but handshakes are answered by the node.
    #[must_use]
    pub fn stream(mut self) -> Self {
        for service in &mut self.services {
            "stream".clone_into(&mut service.handshake);
        }
        self
    }

    /// With thresholds of the first service, as YAML.
    #[must_use]
    pub fn with_thresholds(mut self, thresholds: &str) -> Self {
        thresholds.clone_into(&mut self.services[0].thresholds);
        self
    }

    /// With a route of the first service; what it matches and its quota are YAML. Without `pool` it rejects.
    #[must_use]
    pub fn with_route(
        mut self,
        name: &str,
        matches: &[&str],
        pool: Option<&str>,
        quota: &str,
    ) -> Self {
        self.routes.push(Route {
            name: name.to_owned(),
            service: self.services[0].name.clone(),
            matches: matches.iter().map(|&text| text.to_owned()).collect(),
            pool: pool.map(str::to_owned),
            quota: quota.to_owned(),
            thresholds: String::new(),
        });
        self
    }

    /// The backends of pod `name` (`pod-a`), of both families.
    pub fn backends_of<'a>(&'a mut self, name: &str) -> impl Iterator<Item = &'a mut Backend> {
        let (plain, v6) = (format!("live/{name}"), format!("live/{name}-v6"));
        self.services
            .iter_mut()
            .flat_map(|service| &mut service.backends)
            .filter(move |backend| backend.name == plain || backend.name == v6)
    }

    /// Pod `name` is told to go: its backends drain.
    #[must_use]
    pub fn draining(mut self, name: &str) -> Self {
        self.backends_of(name)
            .for_each(|backend| backend.terminating = true);
        self
    }

    /// Without pod `name`.
    #[must_use]
    pub fn without(mut self, name: &str) -> Self {
        let (plain, v6) = (format!("live/{name}"), format!("live/{name}-v6"));
        for service in &mut self.services {
            service
                .backends
                .retain(|backend| backend.name != plain && backend.name != v6);
        }
        self
    }
}

impl Display for Config {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        writeln!(f, "uplink: [{}]", self.uplinks.join(", "))?;
        writeln!(f, "services:")?;
        for service in &self.services {
            service.fmt(f)?;
        }
        if self.routes.is_empty() {
            return Ok(());
        }
        writeln!(f, "routes:")?;
        self.routes.iter().try_for_each(|route| route.fmt(f))
    }
}

impl Display for Service {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        writeln!(f, "  - name: {}", self.name)?;
        if !self.vips.is_empty() {
            let vips: Vec<_> = self.vips.iter().map(|vip| format!("\"{vip}\"")).collect();
            writeln!(f, "    vips: [{}]", vips.join(", "))?;
            writeln!(f, "    port: {}", self.port)?;
            writeln!(f, "    protocol: {}", self.protocol)?;
            if self.protocol == "srt" {
                writeln!(f, "    handshake: {}", self.handshake)?;
            }
            if self.routed_only {
                writeln!(f, "    unrouted: reject")?;
            }
            writeln!(f, "    sourceRanges: [{}]", self.source_ranges.join(", "))?;
        }
        if self.balance {
            writeln!(f, "    balance: true")?;
        }
        write_thresholds(f, &self.thresholds)?;
        let none = if self.backends.is_empty() { " []" } else { "" };
        writeln!(f, "    backends:{none}")?;
        self.backends.iter().try_for_each(|backend| backend.fmt(f))
    }
}

impl Display for Backend {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "      - {{ name: {}, address: \"{}\", port: {}, serving: {}, terminating: {}",
            self.name,
            self.address.ip(),
            self.address.port(),
            self.serving,
            self.terminating
        )?;
        if let Some(weight) = self.weight {
            write!(f, ", weight: {weight}")?;
        }
        if let Some(limit) = self.limit {
            write!(f, ", limit: {limit}")?;
        }
        writeln!(f, " }}")
    }
}

impl Display for Route {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        writeln!(f, "  - name: {}", self.name)?;
        writeln!(f, "    service: {}", self.service)?;
        let matches: Vec<_> = self.matches.iter().map(|m| format!("{{ {m} }}")).collect();
        writeln!(f, "    match: [{}]", matches.join(", "))?;
        match &self.pool {
            Some(pool) => writeln!(f, "    pool: {pool}")?,
            None => writeln!(f, "    reject: true")?,
        }
        writeln!(f, "    quota: {{ {} }}", self.quota)?;
        write_thresholds(f, &self.thresholds)
    }
}

fn write_thresholds(f: &mut Formatter<'_>, thresholds: &str) -> fmt::Result {
    if thresholds.is_empty() {
        return Ok(());
    }
    writeln!(f, "    thresholds: {{ {thresholds} }}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_agent_reads_what_is_written() {
        let backend = |name: &str, address: &str| Backend {
            name: name.to_owned(),
            address: address.parse().unwrap(),
            serving: true,
            terminating: false,
            weight: None,
            limit: None,
        };
        let mut config = Config::new(&[]);
        config.services[0]
            .source_ranges
            .push("198.51.100.0/24".to_owned());
        config.services[0].backends = vec![
            backend("live/pod-a", "10.2.1.2:9000"),
            backend("live/pod-a-v6", "[fd00:2:1::2]:9000"),
            backend("live/pod-b", "10.2.2.2:9000"),
        ];
        let read = |config: &Config| {
            let text = config.to_string();
            let path = std::path::Path::new("ingest.yaml");
            ingest_agent::source::file::parse(path, text.as_bytes()).unwrap()
        };
        let snapshot = read(&config.clone().draining("pod-a"));
        assert_eq!(snapshot.uplinks, [UPLINK]);
        let service = &snapshot.desired.services[0];
        assert_eq!(service.vips, [IpAddr::from(VIP_V4), VIP_V6.into()]);
        assert_eq!(service.source_ranges.len(), 1);
        let draining: Vec<_> = service.backends.iter().map(|b| b.draining).collect();
        assert_eq!(draining, [true, true, false]);
        assert_eq!(
            read(&config.without("pod-a")).desired.services[0]
                .backends
                .len(),
            1
        );
    }

    #[test]
    fn so_are_routes_and_pools() {
        let mut config = Config::of_family(&[], Family::V4).stream();
        config.services[0].routed_only = true;
        let mut pool = Service::pool("live/acme", Vec::new());
        pool.balance = true;
        pool.backends = vec![Backend {
            name: "live/pod-a".to_owned(),
            address: "10.2.1.2:9000".parse().unwrap(),
            serving: true,
            terminating: false,
            weight: Some(3),
            limit: Some(50),
        }];
        config.services.push(pool);
        let config = config
            .with_route(
                "live/acme",
                &[
                    "resource: { prefix: acme/ }, mode: publish",
                    "source: 10.0.0.0/8",
                ],
                Some("live/acme"),
                "streams: 10",
            )
            .with_route("live/no", &["streamId: { exact: x }"], None, "");
        let mut config = config;
        config.services[0].thresholds = "minBitrate: 5, maxLoss: off".to_owned();
        config.routes[0].thresholds = "stalledAfter: 1s".to_owned();
        let text = config.to_string();
        let path = std::path::Path::new("ingest.yaml");
        let desired = ingest_agent::source::file::parse(path, text.as_bytes())
            .unwrap()
            .desired;
        assert!(desired.services[0].routed_only);
        assert!(desired.services[1].balance && desired.services[1].vips.is_empty());
        let backend = &desired.services[1].backends[0];
        assert_eq!((backend.weight, backend.limit), (3, Some(50)));
        assert_eq!(desired.routes.len(), 2);
        assert_eq!(desired.routes[0].matches.len(), 2);
        assert_eq!(desired.routes[0].quota.streams, Some(10));
        let thresholds = desired.services[0].thresholds;
        assert_eq!((thresholds.min_bitrate, thresholds.max_loss), (5, u32::MAX));
        assert_eq!(desired.routes[0].thresholds.stalled_after_ms, 1000);
        assert_eq!(
            desired.routes[1].target,
            ingest_agent::reconcile::Target::Reject
        );
    }
}
