//! What holds of any objects.

use std::time::Instant;

use proptest::{prelude::*, sample::Index};

use super::*;

/// An endpoint's node, its conditions, and what its Pod says.
type Kind = (u8, bool, Option<bool>, Option<bool>, Option<bool>, u8);

fn kind() -> impl Strategy<Value = Kind> {
    (
        0_u8..12,
        any::<bool>(),
        any::<Option<bool>>(),
        any::<Option<bool>>(),
        any::<Option<bool>>(),
        0_u8..6,
    )
}

fn as_endpoint((n, here, ready, serving, terminating, _): Kind) -> Value {
    endpoint(
        n,
        json!({
            "nodeName": if here { HERE } else { "node-b" },
            "conditions": { "ready": ready, "serving": serving, "terminating": terminating },
        }),
    )
}

fn said(kinds: &[Kind]) -> LocalPods {
    let mut pods = LocalPods::default();
    let now = Instant::now();
    for &(n, _, _, _, _, word) in kinds {
        match word {
            0 => pods.applied(&pod(n, json!({})), now),
            1 => pods.applied(
                &pod(
                    n,
                    json!({ "status": { "conditions": [{ "type": "Ready", "status": "False" }] } }),
                ),
                now,
            ),
            2 => pods.applied(
                &pod(
                    n,
                    json!({ "metadata": { "deletionTimestamp": "2026-02-01T00:00:00Z" } }),
                ),
                now,
            ),
            3 => pods.deleted(&pod(n, json!({}))),
            _ => {}
        }
    }
    pods
}

/// Slices of Service `srs`, the endpoints dealt by `deal`.
fn dealt(kinds: &[Kind], deal: &[Index]) -> Vec<Arc<EndpointSlice>> {
    let mut slices = vec![Vec::new(); 3];
    for (kind, index) in kinds.iter().zip(deal) {
        slices[index.index(3)].push(as_endpoint(*kind));
    }
    let slices = slices.into_iter();
    slices
        .map(|e| slice("srs", json!({ "endpoints": e })))
        .collect()
}

fn services(ages: &[u8]) -> Vec<Arc<Service>> {
    let names = ["srs", "b", "c", "d"].into_iter().zip(ages);
    let service = |(name, age): (&str, &u8)| {
        let created = json!({ "creationTimestamp": format!("2026-01-{:02}T00:00:00Z", age + 1) });
        let entries = json!([{ "ip": format!("203.0.113.{}", age % 2) }, { "ip": format!("203.0.113.{name}", name = 100 + name.len()) }]);
        service(
            name,
            json!({ "metadata": created, "status": { "loadBalancer": { "ingress": entries } } }),
        )
    };
    names.map(service).collect()
}

fn world_of(kinds: &[Kind], deal: &[Index], ages: &[u8]) -> World {
    World {
        services: services(ages),
        routes: Vec::new(),
        slices: dealt(kinds, deal),
        pods: said(kinds),
        options: options(),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn the_order_of_objects_does_not_matter(
        kinds in prop::collection::vec(kind(), 0..16),
        deal in prop::collection::vec(any::<Index>(), 16),
        ages in prop::collection::vec(0_u8..3, 4),
        seed in any::<u64>(),
    ) {
        let mut world = world_of(&kinds, &deal, &ages);
        let before = world.derive();
        let shuffle = |n: usize, len: usize| (seed >> (n % 40)) as usize % len;
        for i in 0..world.services.len() {
            world.services.swap(i, shuffle(i, 4));
        }
        world.slices.rotate_left(shuffle(7, 3));
        for slice in &mut world.slices {
            Arc::make_mut(slice).endpoints.reverse();
        }
        prop_assert_eq!(world.derive(), before);
    }

    #[test]
    fn moves_and_copies_between_slices_change_nothing(
        kinds in prop::collection::vec(kind(), 0..16),
        deal in prop::collection::vec(any::<Index>(), 16),
        other in prop::collection::vec(any::<Index>(), 16),
    ) {
        let mut world = world_of(&kinds, &deal, &[0]);
        let before = world.derive();
        world.slices.extend(dealt(&kinds, &other));
        prop_assert_eq!(&world.derive(), &before);
        world.slices = dealt(&kinds, &other);
        prop_assert_eq!(world.derive(), before);
    }

    #[test]
    fn no_backend_is_invented_and_none_that_serves_is_lost(
        kinds in prop::collection::vec(kind(), 0..16),
        deal in prop::collection::vec(any::<Index>(), 16),
    ) {
        let mut world = world_of(&kinds, &deal, &[0]);
        let listed = |world: &World| -> BTreeMap<IpAddr, bool> {
            let service = world.derive().desired.services.remove(0);
            service.backends.into_iter().map(|b| (b.address, b.draining)).collect()
        };
        let with_pods = listed(&world);
        world.pods = LocalPods::default();
        let by_slices = listed(&world);
        let expected: BTreeSet<IpAddr> = kinds
            .iter()
            .filter(|(_, here, ready, serving, ..)| *here && (ready.unwrap_or(true) || serving.unwrap_or(true)))
            .map(|(n, ..)| ip(&format!("10.0.0.{n}")))
            .collect();
        // The same pod listed on two nodes counts where it is judged better.
        prop_assert!(by_slices.keys().all(|address| expected.contains(address)));
        let one_node = |address: &IpAddr| {
            let same = kinds.iter().filter(|(n, ..)| ip(&format!("10.0.0.{n}")) == *address);
            same.map(|(_, here, ..)| *here).collect::<BTreeSet<_>>().len() == 1
        };
        for address in expected.iter().filter(|a| one_node(a)) {
            prop_assert!(by_slices.contains_key(address));
        }
        // Pods only take down.
        prop_assert!(with_pods.keys().filter(|a| one_node(a)).all(|a| by_slices.contains_key(a)));
    }
}
