//! A thousand backends: a change of one is in the maps within milliseconds, and the agent stays small.

#![expect(clippy::unwrap_used, reason = "a test panics")]

use std::net::{IpAddr, Ipv4Addr};
use std::time::{Duration, Instant};

use ingest_tests::cluster::Cluster;
use ingest_tests::cluster::cni::Plugin;
use ingest_tests::cluster::objects::{self, Endpoint};
use ingest_tests::scene::LIMIT;
use ingest_tests::{command, median};

const SERVICES: usize = 20;
const BACKENDS: usize = 50;
/// Of a change, from the agent's learning of it to the last write: in the middle.
const MEDIAN_MS: f64 = 5.0;
/// Resident, of the agent.
const MEMORY_KIB: u64 = 60 * 1024;

fn service_name(index: usize) -> String {
    format!("ingest-{index:02}")
}

/// How long the agent took for each change that reached the maps so far, in ms, as it logs it.
fn taken(cluster: &mut Cluster) -> Vec<f64> {
    let log = cluster.agent.process().unwrap().stderr();
    let lines = log.iter().filter(|line| line.contains("maps written"));
    lines
        .filter_map(|line| duration_ms(line.split("took=").nth(1)?))
        .collect()
}

/// `1.25ms`, `830µs`, … as Rust prints durations.
fn duration_ms(text: &str) -> Option<f64> {
    let text = text.split_whitespace().next()?;
    let at = text.find(|c: char| !c.is_ascii_digit() && c != '.')?;
    let (number, unit) = text.split_at(at);
    let scale = match unit {
        "s" => 1e3,
        "ms" => 1.0,
        "µs" => 1e-3,
        "ns" => 1e-6,
        _ => return None,
    };
    Some(number.parse::<f64>().ok()? * scale)
}

/// * twenty Services with fifty backends each, which the host's stack reaches;
/// * a hundred times one of them becomes not ready, or ready again: each is in the maps, in the median within 5 ms;
/// * the programming latency is measured for each;
/// * the agent needs less than 60 MiB.
#[test]
#[ignore = "needs root: cargo xtask test"]
fn one_of_a_thousand_backends_flips_within_5_ms() {
    let mut cluster = Cluster::new(Plugin::Ptp).unwrap();
    let node = &cluster.topology.node;
    // As pods that share the node's namespace: a thousand others would be a thousand veths.
    node.shell("ip route add local 10.64.0.0/16 dev lo")
        .unwrap();
    let mut endpoints = Vec::new();
    for index in 0..SERVICES {
        let number = u8::try_from(index).unwrap();
        let vip = Ipv4Addr::new(203, 0, 113, 100 + number);
        let name = service_name(index);
        cluster
            .client
            .apply(&objects::service(&name, &[vip.into()]))
            .unwrap();
        let rows: Vec<_> = (1..=BACKENDS)
            .map(|backend| {
                let address = Ipv4Addr::new(10, 64, number, u8::try_from(backend).unwrap());
                Endpoint::new(IpAddr::V4(address))
            })
            .collect();
        cluster
            .client
            .apply(&objects::slice(&name, &name, &rows))
            .unwrap();
        endpoints.push(rows);
    }
    cluster
        .start_agent(&["--log-level", "info,ingest_agent=debug"])
        .unwrap();
    cluster.wait_backends(SERVICES * BACKENDS).unwrap();

    // The agent is measured, not who else uses the machine.
    let pid = cluster.agent.process().unwrap().pid().to_string();
    command::run("renice", &["-n", "-10", "-g", &pid]).unwrap();

    let before = taken(&mut cluster).len();
    let counted = |cluster: &Cluster| {
        let name = "ingest_programming_latency_seconds_count";
        cluster.agent.metric(name, "").unwrap()
    };
    let measured = counted(&cluster);
    for flip in 0..100 {
        let (index, backend) = (flip / 2 % SERVICES, flip / 2 % BACKENDS);
        endpoints[index][backend].ready = Some(flip % 2 == 1);
        let name = service_name(index);
        cluster
            .client
            .apply(&objects::slice(&name, &name, &endpoints[index]))
            .unwrap();
        let begun = Instant::now();
        while taken(&mut cluster).len() < before + flip + 1 {
            assert!(
                begun.elapsed() < LIMIT,
                "flip {flip}:\n{}",
                cluster.agent.said()
            );
            std::thread::sleep(Duration::from_millis(1));
        }
        if flip == 98 {
            cluster.wait_backends(SERVICES * BACKENDS - 1).unwrap();
        }
    }
    cluster.wait_backends(SERVICES * BACKENDS).unwrap();
    let mut times = taken(&mut cluster).split_off(before);
    let middle = median(&mut times);
    println!(
        "{} flips at {} backends, learned to written: median {middle:.2} ms, p99 {:.2} ms, worst {:.2} ms",
        times.len(),
        SERVICES * BACKENDS,
        times[(times.len() * 99).div_ceil(100) - 1],
        times[times.len() - 1],
    );
    let fed = counted(&cluster) - measured;
    assert!(fed >= 100.0, "programming latency was measured {fed} times");

    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let resident = status.lines().find_map(|line| {
        let rest = line.strip_prefix("VmRSS:")?;
        rest.trim().strip_suffix(" kB")?.parse::<u64>().ok()
    });
    let resident = resident.unwrap();
    println!("resident: {resident} KiB");
    assert!(resident < MEMORY_KIB, "{resident} KiB resident");
    assert!(middle < MEDIAN_MS, "median of {middle:.2} ms");
}
