//! Backends: of a service, of the node, and against the VIPs.

use std::{collections::HashMap, net::IpAddr};

use ingest_common::abi;
use serde_saphyr::Spanned;

use super::{Checker, family};
use crate::{
    reconcile,
    source::file::{error::Problem, schema::Backend},
};

impl Checker {
    pub(super) fn service_backends(
        &mut self,
        backends: &[Spanned<Backend>],
        vips: &[IpAddr],
        service: &str,
    ) -> Vec<reconcile::Backend> {
        let mut own: HashMap<(IpAddr, u16), u64> = HashMap::new();
        let mut pools = [0_usize; 2];
        let mut listed = Vec::new();
        for backend in backends {
            let b = &backend.value;
            let line = b.address.referenced.line();
            let name = self.name(&b.name, "backend");
            let port = self.port(&b.port, "backend", &name);
            let Some(address) = self.unicast(&b.address, "backend address") else {
                continue;
            };
            if port == 0 {
                continue;
            }
            if !vips.is_empty() && !vips.iter().any(|v| v.is_ipv4() == address.is_ipv4()) {
                self.problem(
                    line,
                    format!(
                        "backend {name} ({address}) is {}, and no VIP of service {service} is; packets are not \
                         translated between families: add such a VIP or remove the backend",
                        family(address)
                    ),
                );
            }
            if let Some(first) = own.insert((address, port), line) {
                self.problem(
                    line,
                    format!(
                        "backend {address} port {port} is listed twice in service {service} \
                         (first at line {first}); list it once"
                    ),
                );
            }
            if !b.serving {
                continue;
            }
            self.node_backend(address, port, line, &name);
            let pool = &mut pools[usize::from(address.is_ipv6())];
            *pool += 1;
            let count = *pool;
            self.limit(
                line,
                count,
                abi::MAX_POOL_BACKENDS,
                &format!("{} backends in service {service}", family(address)),
                "split the service",
            );
            listed.push(reconcile::Backend {
                name,
                address,
                port,
                draining: b.terminating,
                weight: 1,
                limit: None,
                tenant: abi::Tenant::default(),
            });
        }
        listed
    }

    /// Counts a backend once a node: one address:port may serve several services.
    fn node_backend(&mut self, address: IpAddr, port: u16, line: u64, name: &str) {
        match self.backends.get(&(address, port)) {
            Some((_, other)) if other == name => {}
            Some((first, other)) => {
                let reason = format!(
                    "backend {address} port {port} is named {name} here and {other} at line {first}; \
                     one pod has one name"
                );
                self.problem(line, reason);
            }
            None => {
                self.backends
                    .insert((address, port), (line, name.to_owned()));
                let count = self.backends.len();
                self.limit(
                    line,
                    count,
                    abi::MAX_BACKENDS,
                    "backends on the node",
                    "list fewer",
                );
            }
        }
    }

    pub(super) fn vips_are_not_backends(&mut self) {
        let loops: Vec<_> = self
            .vips
            .iter()
            .filter_map(|(key, (line, _))| Some((key, line, self.backends.get(key)?)))
            .map(|((address, port), line, (_, backend))| Problem {
                line: *line,
                reason: format!(
                    "VIP {address} port {port} is also the address of backend {backend}: packets would go round; \
                     use another VIP or port"
                ),
            })
            .collect();
        self.problems.extend(loops);
    }
}
