//! What an agent finds of earlier ones, and of others: taken over, refused or cleared away.

#![expect(clippy::unwrap_used, reason = "a test panics")]

mod lab;

use std::{
    fs,
    net::{IpAddr, SocketAddr},
    time::Instant,
};

use ingest_agent::{
    dataplane::{self, Error, Lock, Reader, XdpHook, client_frame},
    reconcile::Op,
};
use ingest_common::abi::{self, DeliveryMode};
use lab::{
    PinRoot, UPLINK, VIP, VIP_PORT, ids, leave, load, load_and_attach, make_uplink, refusal, run,
    with_uplink,
};
use nix::net::if_::if_nametoindex;

#[test]
#[ignore = "needs root: cargo xtask test"]
fn an_agent_takes_over_links_and_maps() {
    with_uplink(|| async {
        let root = PinRoot::new("adopt");
        leave(&root).await;
        assert!(!Lock::is_held(&root.0));
        let before = ids(&root);
        assert_eq!(
            before
                .iter()
                .map(|(hook, ..)| hook.as_str())
                .collect::<Vec<_>>(),
            ["xdp", "tc_in", "tc_out"]
        );

        let start = Instant::now();
        let (mut dataplane, _lock) = load(&root).await.unwrap();
        println!("loaded in {:?}", start.elapsed());
        let start = Instant::now();
        dataplane.attach().unwrap();
        println!("attached in {:?}", start.elapsed());
        assert!(dataplane.uplinks()[0].adopted);
        assert_eq!(dataplane.uplinks()[0].xdp, Some(XdpHook::Native));
        let after = ids(&root);
        for ((hook, link, program), (_, same_link, new_program)) in before.iter().zip(&after) {
            assert_eq!(link, same_link, "{hook}: the link is the same");
            assert_ne!(program, new_program, "{hook}: the program is new");
        }

        let start = Instant::now();
        let seen = dataplane.observe().unwrap();
        println!("observed in {:?}", start.elapsed());
        assert_eq!(seen.service_names[&0], "live/srt");
        assert_eq!(seen.backend_names[&0], "live/pod-a");
        assert_eq!(seen.services.len(), 2);
        assert_eq!(seen.endpoints.len(), 1);
        assert_eq!(seen.sources, [(0, "10.0.0.0/8".parse().unwrap())].into());
        assert!(seen.tables.is_empty(), "an adopted table is written anew");

        // Down to nothing again.
        let vip = abi::v4_mapped(VIP);
        dataplane
            .apply(&[
                Op::RemoveService {
                    key: abi::ServiceKey::new(vip, VIP_PORT, abi::UDP),
                },
                Op::RemoveService {
                    key: abi::ServiceKey::vip(vip),
                },
                Op::RemoveSource {
                    service: 0,
                    range: "10.0.0.0/8".parse().unwrap(),
                },
                Op::RemoveTable { pool: 0 },
                Op::RemoveTable { pool: 0 },
                Op::FreeBackend { slot: 0 },
            ])
            .unwrap();
        let seen = dataplane.observe().unwrap();
        assert!(seen.services.is_empty() && seen.vips.is_empty() && seen.sources.is_empty());
        assert!(seen.endpoints.is_empty() && seen.backend_names.is_empty());
    });
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn an_uplink_that_was_replaced_is_attached_anew() {
    with_uplink(|| async {
        let root = PinRoot::new("replaced");
        leave(&root).await;
        let before = ids(&root);
        run(&format!("ip link del {UPLINK}"));
        make_uplink();
        let (dataplane, _lock) = load_and_attach(&root).await.unwrap();
        assert!(!dataplane.uplinks()[0].adopted);
        let after = ids(&root);
        assert!(
            before
                .iter()
                .zip(&after)
                .all(|(before, after)| before.1 != after.1)
        );
        let links = Reader::open(&root.0).unwrap().links().unwrap();
        let ifindex = if_nametoindex(UPLINK).unwrap();
        assert!(
            links.iter().all(|link| link.ifindex == ifindex),
            "{links:?}"
        );
    });
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn there_is_one_agent_a_pin_root() {
    with_uplink(|| async {
        let root = PinRoot::new("lock");
        let (dataplane, lock) = load_and_attach(&root).await.unwrap();
        assert!(Lock::is_held(&root.0));
        assert!(matches!(Lock::acquire(&root.0), Err(Error::Locked { .. })));
        assert!(matches!(
            dataplane::unload(&root.0),
            Err(Error::Locked { .. })
        ));
        drop((dataplane, lock));
        assert!(!Lock::is_held(&root.0));
        Lock::acquire(&root.0).unwrap();
    });
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn links_of_another_schema_are_refused_and_unloaded() {
    with_uplink(|| async {
        let root = PinRoot::new("schema");
        leave(&root).await;
        let ours = root.0.join(format!("v{}", abi::SCHEMA_VERSION));
        let theirs = root.0.join("v9999");
        fs::rename(&ours, &theirs).unwrap();
        // Theirs runs on the uplink, so it is foreign; the schema is what explains it.
        let error = refusal(&root).await;
        assert!(error.is_incompatible(), "{error:?}");
        let removed = dataplane::unload(&root.0).unwrap();
        assert!(
            removed
                .iter()
                .any(|line| line.contains("v9999") && line.starts_with("link"))
        );
        assert!(!root.0.exists());
        load_and_attach(&root).await.unwrap();
    });
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn a_foreign_xdp_program_is_named_and_left_alone() {
    with_uplink(|| async {
        let theirs = PinRoot::new("theirs");
        leave(&theirs).await;
        let before = ids(&theirs);
        let root = PinRoot::new("foreign");
        let Error::ForeignProgram {
            interface,
            program,
            id,
        } = refusal(&root).await
        else {
            panic!("not refused as foreign")
        };
        assert_eq!(
            (interface.as_str(), program.as_str()),
            (UPLINK, "xdp_ingest")
        );
        assert_eq!(id, before[0].2);
        assert_eq!(ids(&theirs), before);
    });
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn the_cli_reads_drains_and_explains_without_an_agent() {
    with_uplink(|| async {
        let root = PinRoot::new("cli");
        assert!(matches!(
            Reader::open(&root.0),
            Err(Error::NotLoaded { .. })
        ));
        assert!(matches!(
            dataplane::explain(&root.0, &[0; 60]),
            Err(Error::NotLoaded { .. })
        ));
        leave(&root).await;

        let mut reader = Reader::open(&root.0).unwrap();
        let services = reader.services().unwrap();
        assert_eq!(services.len(), 1);
        assert_eq!(services[0].name, "live/srt");
        assert_eq!(reader.backends().unwrap()[0].name, "live/pod-a");
        assert_eq!(reader.node().unwrap().schema, abi::SCHEMA_VERSION);
        assert!(reader.flows().unwrap().is_empty());
        assert!(reader.drops().unwrap().iter().all(|(_, count)| *count == 0));
        reader.drain(0, 7, 9).unwrap();
        let health = reader.backends().unwrap()[0].health;
        assert_eq!(
            (
                health.drain,
                health.drain_deadline_ns,
                health.drain_window_ns
            ),
            (1, 7, 9)
        );
        reader.undrain(0).unwrap();
        assert_eq!(reader.backends().unwrap()[0].health, abi::Health::default());

        // An INDUCTION: control type 0, version 4, socket id 1 (SRT draft §4.3.1.1).
        let mut induction = vec![0_u8; 64];
        induction[0] = 0x80;
        induction[16 + 3] = 4;
        induction[20 + 3] = 2;
        induction[24 + 3] = 1;
        induction[28 + 2..28 + 4].copy_from_slice(&1500_u16.to_be_bytes());
        induction[32 + 2..32 + 4].copy_from_slice(&8192_u16.to_be_bytes());
        induction[36 + 3] = 1;
        induction[40 + 3] = 1;
        let client: SocketAddr = "10.7.7.7:5000".parse().unwrap();
        let vip = SocketAddr::new(IpAddr::from(VIP), VIP_PORT);
        let frame = client_frame(client, vip, &induction);
        let (explained, out) = dataplane::explain(&root.0, &frame).unwrap();
        println!("{explained:?}");
        assert_eq!(
            (explained.verdict, explained.slot, explained.by_flow),
            (3, 0, 0)
        );
        assert_eq!(explained.mode, DeliveryMode::Stack as u8);
        assert_eq!(out[30..34], [10, 0, 1, 2], "addressed to the pod");
        // Nothing was counted or kept.
        assert_eq!(
            reader.services().unwrap()[0].traffic,
            abi::Traffic::default()
        );
        assert_eq!(reader.handshakes().unwrap(), 0);

        let removed = dataplane::unload(&root.0).unwrap();
        assert_eq!(
            removed
                .iter()
                .filter(|line| line.starts_with("link"))
                .count(),
            3
        );
        assert!(!root.0.exists());
    });
}
