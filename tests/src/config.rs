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
}

/// A service.
#[derive(Clone, Debug)]
pub struct Service {
    /// `namespace/name`.
    pub name: String,
    /// Its addresses.
    pub vips: Vec<IpAddr>,
    /// Its port.
    pub port: u16,
    /// `srt` or `udp`.
    pub protocol: String,
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
        }
    }
}

impl Config {
    /// One SRT service on both VIPs, with every pod's address of both families.
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

    /// One SRT service on the VIP of `family`.
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
                backends: pods.iter().map(|pod| Backend::of(pod, family)).collect(),
            }],
        }
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
            let vips: Vec<_> = service
                .vips
                .iter()
                .map(|vip| format!("\"{vip}\""))
                .collect();
            writeln!(f, "  - name: {}", service.name)?;
            writeln!(f, "    vips: [{}]", vips.join(", "))?;
            writeln!(f, "    port: {}", service.port)?;
            writeln!(f, "    protocol: {}", service.protocol)?;
            writeln!(
                f,
                "    sourceRanges: [{}]",
                service.source_ranges.join(", ")
            )?;
            writeln!(
                f,
                "    backends:{}",
                if service.backends.is_empty() {
                    " []"
                } else {
                    ""
                }
            )?;
            for backend in &service.backends {
                writeln!(
                    f,
                    "      - {{ name: {}, address: \"{}\", port: {}, serving: {}, terminating: {} }}",
                    backend.name,
                    backend.address.ip(),
                    backend.address.port(),
                    backend.serving,
                    backend.terminating
                )?;
            }
        }
        Ok(())
    }
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
}
