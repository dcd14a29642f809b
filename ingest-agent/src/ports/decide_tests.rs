use super::*;

const UPLINK: u32 = 2;
const BRIDGE: u32 = 3;
const VETH_A: u32 = 10;
const VETH_B: u32 = 11;
const TAP: u32 = 12;
const NETKIT: u32 = 13;

const MAC_A: Mac = [2, 0, 0, 0, 1, 1];
const MAC_B: Mac = [2, 0, 0, 0, 1, 2];
const HOST_MAC: Mac = [2, 0, 0, 0, 9, 9];

fn pod() -> IpAddr {
    [10, 0, 1, 2].into()
}

fn link(ifindex: u32, kind: &str, controller: Option<u32>) -> LinkInfo {
    LinkInfo {
        name: format!("if{ifindex}"),
        ifindex,
        kind: kind.to_owned(),
        mac: (kind != "netkit").then_some(HOST_MAC),
        mtu: 1500,
        up: true,
        controller,
        xdp: None,
    }
}

fn node() -> Snapshot {
    let links = [
        link(UPLINK, "veth", None),
        link(BRIDGE, "bridge", None),
        link(VETH_A, "veth", Some(BRIDGE)),
        link(VETH_B, "veth", None),
        link(TAP, "tun", Some(BRIDGE)),
        link(NETKIT, "netkit", None),
    ];
    Snapshot {
        links: links.into_iter().map(|link| (link.ifindex, link)).collect(),
        ..Default::default()
    }
}

fn surroundings() -> Surroundings {
    Surroundings {
        uplinks: vec![UPLINK],
        partial_checksums: true,
    }
}

fn decide(snapshot: &Snapshot, route: Route) -> Decision {
    snapshot.decide(pod(), route, &surroundings())
}

fn straight(ifindex: u32) -> Route {
    Route::Out {
        ifindex,
        gateway: false,
    }
}

#[test]
fn a_route_straight_to_a_veth_is_the_pod_port() {
    let mut snapshot = node();
    snapshot.learn(Neighbour::Resolved {
        ifindex: VETH_B,
        address: pod(),
        mac: MAC_B,
    });
    let decision = decide(&snapshot, straight(VETH_B));
    assert!(!decision.unresolved);
    assert_eq!(
        decision.port,
        PodPort {
            mode: DeliveryMode::Peer,
            ifindex: VETH_B,
            pod_mac: MAC_B,
            port_mac: HOST_MAC,
            partial_checksums: true,
        }
    );
}

#[test]
fn a_veth_pod_whose_mac_is_unknown_is_reached_and_asked() {
    let decision = decide(&node(), straight(VETH_B));
    assert_eq!(
        (decision.port.mode, decision.port.ifindex),
        (DeliveryMode::Peer, VETH_B)
    );
    assert_eq!(decision.port.pod_mac, [0; 6]);
    assert!(decision.unresolved);
}

#[test]
fn a_netkit_without_macs_has_nothing_to_resolve() {
    let decision = decide(&node(), straight(NETKIT));
    assert_eq!(
        (decision.port.mode, decision.port.ifindex),
        (DeliveryMode::Peer, NETKIT)
    );
    assert!(!decision.unresolved);
}

#[test]
fn behind_a_bridge_the_fdb_tells_the_port() {
    let mut snapshot = node();
    snapshot.learn(Neighbour::Resolved {
        ifindex: BRIDGE,
        address: pod(),
        mac: MAC_A,
    });
    let decision = decide(&snapshot, straight(BRIDGE));
    assert!(decision.unresolved);
    assert_eq!(
        decision.outdated,
        Some(BRIDGE),
        "a MAC that nobody here has"
    );
    snapshot.learn(Neighbour::Learned {
        bridge: BRIDGE,
        mac: MAC_A,
        ifindex: VETH_A,
    });
    let decision = decide(&snapshot, straight(BRIDGE));
    assert!(!decision.unresolved);
    assert_eq!(decision.outdated, None);
    assert_eq!(
        (decision.port.mode, decision.port.ifindex),
        (DeliveryMode::Peer, VETH_A)
    );
    assert_eq!(decision.port.pod_mac, MAC_A);
}

#[test]
fn a_bridge_pod_nobody_has_heard_of_goes_by_the_stack_and_is_asked() {
    let decision = decide(&node(), straight(BRIDGE));
    assert_eq!(decision.port.mode, DeliveryMode::Stack);
    assert!(decision.unresolved);
    assert_eq!(decision.outdated, None);
}

#[test]
fn a_bridge_port_that_is_no_veth_goes_by_the_stack() {
    let mut snapshot = node();
    snapshot.learn(Neighbour::Resolved {
        ifindex: BRIDGE,
        address: pod(),
        mac: MAC_A,
    });
    snapshot.learn(Neighbour::Learned {
        bridge: BRIDGE,
        mac: MAC_A,
        ifindex: TAP,
    });
    assert_eq!(
        decide(&snapshot, straight(BRIDGE)).port,
        plain(DeliveryMode::Stack, &surroundings())
    );
}

#[test]
fn an_uplink_is_no_pod_port_even_as_a_veth() {
    assert_eq!(
        decide(&node(), straight(UPLINK)).port.mode,
        DeliveryMode::Stack
    );
}

#[test]
fn behind_a_gateway_is_another_node() {
    let route = Route::Out {
        ifindex: VETH_B,
        gateway: true,
    };
    assert_eq!(decide(&node(), route).port.mode, DeliveryMode::Stack);
}

#[test]
fn our_own_address_goes_by_the_stack_and_no_route_by_nothing() {
    assert_eq!(decide(&node(), Route::Local).port.mode, DeliveryMode::Stack);
    assert_eq!(decide(&node(), Route::None).port.mode, DeliveryMode::None);
}

#[test]
fn a_bridge_does_not_learn_its_own_addresses() {
    let mut snapshot = node();
    let own = Neighbour::Learned {
        bridge: BRIDGE,
        mac: HOST_MAC,
        ifindex: BRIDGE,
    };
    assert!(!snapshot.contradicts(&own));
    snapshot.learn(own);
    assert!(snapshot.learned.is_empty());
}

#[test]
fn what_timed_out_is_inherited_while_its_interface_lives() {
    let mut before = node();
    before.learn(Neighbour::Resolved {
        ifindex: BRIDGE,
        address: pod(),
        mac: MAC_A,
    });
    before.learn(Neighbour::Learned {
        bridge: BRIDGE,
        mac: MAC_A,
        ifindex: VETH_A,
    });
    before.learn(Neighbour::Learned {
        bridge: BRIDGE,
        mac: MAC_B,
        ifindex: TAP,
    });

    let mut now = node();
    now.links.remove(&TAP);
    now.inherit(&before);
    assert_eq!(decide(&now, straight(BRIDGE)).port.ifindex, VETH_A);
    assert!(!now.learned.contains_key(&(BRIDGE, MAC_B)));
}

#[test]
fn what_is_known_now_beats_what_was_known() {
    let mut before = node();
    before.learn(Neighbour::Resolved {
        ifindex: VETH_B,
        address: pod(),
        mac: MAC_A,
    });
    let mut now = node();
    let news = Neighbour::Resolved {
        ifindex: VETH_B,
        address: pod(),
        mac: MAC_B,
    };
    assert!(before.contradicts(&news));
    now.learn(news);
    now.inherit(&before);
    assert_eq!(decide(&now, straight(VETH_B)).port.pod_mac, MAC_B);
}
