//! Backends: of a service, of the node, and against the VIPs.

use std::{collections::HashMap, net::IpAddr};

use ingest_common::abi;
use serde_saphyr::Spanned;

use super::{Checker, Listed, family};
use crate::{
    reconcile,
    source::file::{error::Problem, schema::Backend},
};

/// Most shares of one backend: a table has 16,381 positions for up to 1024 backends.
const MAX_WEIGHT: i64 = 100;

impl Checker {
    pub(super) fn service_backends(
        &mut self,
        backends: &[Spanned<Backend>],
        vips: &[IpAddr],
        counts: bool,
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
            let what = |which| format!("{which} of backend {name}");
            let weight = self.number(b.weight.as_ref(), 1..=MAX_WEIGHT, &what("weight"), "");
            let limit = self.number(
                b.limit.as_ref(),
                1..=u32::MAX.into(),
                &what("limit"),
                " sessions; to take none, set `terminating: true`",
            );
            if let Some(limit) = b.limit.as_ref().filter(|_| !counts) {
                self.problem(
                    limit.referenced.line(),
                    format!(
                        "limit of backend {name} in service {service}, which is udp; sessions are counted with srt: \
                         remove it"
                    ),
                );
            }
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
            self.node_backend(address, port, line, &name, limit);
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
                weight: weight.unwrap_or(1),
                limit,
                tenant: abi::Tenant::default(),
            });
        }
        listed
    }

    /// Counts a backend once a node: one address:port may serve several services.
    fn node_backend(
        &mut self,
        address: IpAddr,
        port: u16,
        line: u64,
        name: &str,
        limit: Option<u32>,
    ) {
        let Some(listed) = self.backends.get_mut(&(address, port)) else {
            let listed = Listed {
                line,
                name: name.to_owned(),
                limit,
            };
            self.backends.insert((address, port), listed);
            let count = self.backends.len();
            self.limit(
                line,
                count,
                abi::MAX_BACKENDS,
                "backends on the node",
                "list fewer",
            );
            return;
        };
        let first = listed.line;
        let reason = if listed.name != name {
            format!(
                "backend {address} port {port} is named {name} here and {} at line {first}; \
                 one pod has one name",
                listed.name
            )
        } else if let (Some(one), Some(other)) = (listed.limit, limit)
            && one != other
        {
            format!(
                "backend {address} port {port} has the limit {other} here and {one} at line {first}; \
                 a limit counts the sessions of all services: write the same one"
            )
        } else {
            listed.limit = listed.limit.or(limit);
            return;
        };
        self.problem(line, reason);
    }

    pub(super) fn vips_are_not_backends(&mut self) {
        let loops: Vec<_> = self
            .vips
            .iter()
            .filter_map(|(key, (line, _))| Some((key, line, self.backends.get(key)?)))
            .map(|((address, port), line, backend)| Problem {
                line: *line,
                reason: format!(
                    "VIP {address} port {port} is also the address of backend {}: packets would go round; \
                     use another VIP or port",
                    backend.name
                ),
            })
            .collect();
        self.problems.extend(loops);
    }
}
