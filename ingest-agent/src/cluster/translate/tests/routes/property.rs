//! What holds of any routes.

use proptest::prelude::*;

use super::*;

/// Its name and age, and of each rule: field, value, mode, target.
type Drawn = (u8, u8, Vec<(u8, u8, u8, u8)>);

/// Anything that the schema lets through, and some that it does not.
fn any_route() -> impl Strategy<Value = Drawn> {
    (
        0_u8..6,
        1_u8..4,
        prop::collection::vec((0_u8..8, 0_u8..4, 0_u8..3, 0_u8..6), 0..4),
    )
}

fn written((name, age, rules): &Drawn) -> Arc<StreamRoute> {
    let rules = rules.iter().map(|(field, value, mode, target)| {
        let field = ["streamId", "resource", "user", "host", "source", "none", "source", "user"]
            [usize::from(*field)];
        let value = ["", "a", "a/b", "10.0.0.0/8"][usize::from(*value)];
        let mut wanted = match field {
            "source" => json!({ "source": value }),
            "none" => json!({}),
            _ => json!({ field: { "type": if *mode == 1 { "Exact" } else { "Prefix" }, "value": value } }),
        };
        if *mode == 2 {
            wanted["mode"] = json!("publish");
        }
        let mut rule = json!({ "matches": [wanted] });
        match target {
            0 => rule["reject"] = json!(true),
            1 => rule["backendRef"] = json!({ "name": "srs" }),
            2 => rule["backendRef"] = json!({ "name": "acme" }),
            3 => rule["backendRef"] = json!({ "name": "acme", "port": 3 }),
            4 => rule["backendRef"] = json!({ "name": "gone" }),
            _ => {}
        }
        rule
    });
    route(&format!("r{name}"), *age, rules.collect())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn routes_are_judged_alike_everywhere(
        routes in prop::collection::btree_map(0_u8..6, any_route(), 0..6),
        elsewhere in any::<bool>(),
        turn in 0_usize..6,
    ) {
        let routes: Vec<_> = routes.into_iter().map(|(name, (_, age, rules))| written(&(name, age, rules))).collect();
        let mut world = with_routes(routes);
        let derived = world.derive();
        let count = world.routes.len().max(1);
        world.routes.rotate_left(turn % count);
        world.routes.reverse();
        world.services.reverse();
        prop_assert_eq!(&world.derive(), &derived);
        // Another node, with other pods, other flags: the same is said.
        if elsewhere {
            world.options.node = "node-b".to_owned();
        }
        world.options.node_ports = true;
        world.slices.clear();
        let said = |derived: &Derived| -> Vec<_> {
            derived.routes.iter().map(|(name, s)| (name.clone(), s.accepted.clone(), s.resolved.clone())).collect()
        };
        prop_assert_eq!(said(&world.derive()), said(&derived));
        // Whatever it is, the plan can take it.
        let mut seen = BTreeSet::new();
        let mut taken = BTreeSet::new();
        for route in &derived.desired.routes {
            prop_assert!(seen.insert(route.name.clone()));
            prop_assert!(derived.desired.services.iter().any(|s| s.name == route.service && !s.vips.is_empty()));
            if let Target::Pool(pool) = &route.target {
                prop_assert!(derived.desired.services.iter().any(|s| s.name == *pool));
            }
            prop_assert!(!route.matches.is_empty());
            for wanted in &route.matches {
                prop_assert!(taken.insert((route.service.clone(), wanted.clone())));
            }
        }
        for state in derived.routes.values() {
            prop_assert!(state.becomes.iter().flatten().all(|name| seen.contains(name)));
            prop_assert!(state.accepted.holds || state.becomes.is_err());
        }
    }
}
