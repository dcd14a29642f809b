//! Who has come back, and who is only somebody else.

use super::*;

/// A second session of one Stream ID on another port, accepted now.
fn comes_back(world: &mut World, port: u16) -> Vec<Change> {
    let mut flow = accepted(world.now_ns, u32::from(port));
    flow.slot = 4;
    world.flows.push((key(port), flow));
    world
        .asked
        .insert(key(port), asked(u32::from(port), "live/camera-1"));
    world.look()
}

fn camera() -> World {
    let mut world = World::with_one(Thresholds::default());
    world.asked.insert(key(5000), asked(77, "live/camera-1"));
    world.run(5, 100);
    world
}

fn end(world: &mut World, state: FlowState) {
    let now_ns = world.now_ns;
    let flow = world.flow();
    flow.state = state as u8;
    flow.ended_ns = now_ns;
    flow.cut_reason = if state == FlowState::Cut {
        CutReason::Unreachable as u8
    } else {
        0
    };
}

fn counts(world: &World, port: u16) -> (u32, u32) {
    let stream = world.view.stream(&key(port)).unwrap();
    (stream.reconnects, stream.failovers)
}

#[test]
fn a_caller_that_was_cut_fails_over() {
    let mut world = camera();
    end(&mut world, FlowState::Cut);
    world.now_ns += SECOND / 2;
    let changes = comes_back(&mut world, 5001);
    let failovers: Vec<&Failover> = world.view.failovers().collect();
    let [failover] = failovers[..] else {
        panic!("{failovers:?}")
    };
    assert_eq!(failover.took_ns, SECOND / 2);
    assert_eq!(failover.reason, Some(CutReason::Unreachable));
    assert_eq!(failover.from.as_deref(), Some("live/pod-3"));
    assert_eq!(failover.to.as_deref(), Some("live/pod-4"));
    assert!(changes.contains(&Change::Failover(failover.clone())));
    assert_eq!(counts(&world, 5001), (1, 1));
    assert_eq!(
        world.view.stream(&key(5001)).unwrap().identity.id(),
        world.stream().identity.id()
    );
    // Told once.
    world.run(3, 100);
    assert_eq!(world.view.failovers().count(), 1);
}

#[test]
fn a_caller_that_ended_reconnects() {
    let mut world = camera();
    end(&mut world, FlowState::Ended);
    world.run(1, 0);
    world.flows.clear();
    world.look();
    world.now_ns += 300 * SECOND;
    let changes = comes_back(&mut world, 5001);
    assert_eq!(changes, [Change::Reconnected { key: key(5001) }]);
    assert_eq!(counts(&world, 5001), (1, 0));
}

#[test]
fn after_ten_minutes_it_is_a_new_caller() {
    let mut world = camera();
    end(&mut world, FlowState::Ended);
    world.run(1, 0);
    world.flows.clear();
    world.look();
    world.now_ns += 601 * SECOND;
    assert_eq!(comes_back(&mut world, 5001), []);
    assert_eq!(counts(&world, 5001), (0, 0));
}

#[test]
fn links_beside_each_other_are_not_reconnects() {
    let mut world = camera();
    assert_eq!(comes_back(&mut world, 5001), []);
    let mut bonded = asked(5002, "live/camera-1");
    bonded.group = 9;
    world.asked.insert(key(5002), bonded);
    end(&mut world, FlowState::Ended);
    world.flows.push((key(5002), accepted(world.now_ns, 5002)));
    let changes = world.look();
    assert!(!changes.contains(&Change::Reconnected { key: key(5002) }));
}

#[test]
fn an_encoder_that_begins_anew_does_not_wait_for_its_old_session() {
    let mut world = camera();
    world.now_ns += 3 * SECOND;
    assert!(comes_back(&mut world, 5001).contains(&Change::Reconnected { key: key(5001) }));
}

#[test]
fn a_caller_may_come_back_on_its_port() {
    let mut world = camera();
    world.now_ns += SECOND;
    let now_ns = world.now_ns;
    *world.flow() = accepted(now_ns, 78);
    world.asked.insert(key(5000), asked(78, "live/camera-1"));
    assert_eq!(world.look(), [Change::Reconnected { key: key(5000) }]);
    assert_eq!(counts(&world, 5000), (1, 0));
    // Its pod was replaced meanwhile: that was no whim of the caller's.
    world.run(3, 100);
    world.names.backends.remove(&3);
    world.now_ns += SECOND;
    let mut flow = accepted(world.now_ns, 79);
    flow.slot = 4;
    *world.flow() = flow;
    world.asked.insert(key(5000), asked(79, "live/camera-1"));
    assert!(matches!(world.look()[..], [Change::Failover(_)]));
    assert_eq!(counts(&world, 5000), (2, 1));
}

#[test]
fn without_a_stream_id_the_address_tells_for_a_while() {
    let mut world = camera();
    world.asked.clear();
    world.flows.clear();
    world.look();
    for (wait, expected) in [(2, 1), (20, 0)] {
        world.flows = vec![(key(5000), accepted(world.now_ns, 1))];
        world.look();
        end(&mut world, FlowState::Cut);
        world.look();
        world.now_ns += wait * SECOND;
        world.flows = vec![(key(6000), accepted(world.now_ns, 2))];
        world.look();
        assert_eq!(counts(&world, 6000), (expected, expected));
        world.now_ns += 60 * SECOND;
    }
    // Ended of itself: nobody knows whether the next is the same.
    world.flows = vec![(key(5000), accepted(world.now_ns, 3))];
    world.look();
    end(&mut world, FlowState::Ended);
    world.look();
    world.flows = vec![(key(6001), accepted(world.now_ns, 4))];
    world.look();
    assert_eq!(counts(&world, 6001), (0, 0));
}

#[test]
fn a_flow_that_is_read_twice_is_one() {
    let mut world = camera();
    let twice = world.flows[0];
    world.flows.push(twice);
    world.flows.push((key(5001), accepted(world.now_ns, 5001)));
    world.flows.push((key(5001), accepted(world.now_ns, 5001)));
    assert_eq!(world.look(), []);
    assert_eq!(world.view.streams().count(), 2);
}

#[test]
fn callers_are_forgotten_the_oldest_first() {
    let mut callers = identity::Callers::default();
    let mut last = None;
    for n in 0..identity::MOST as u64 + 1000 {
        let flow = accepted(START + n, 1);
        let text = format!("s{n}");
        let asked = asked(1, &text);
        let identity = Identity::new(&key(1), &flow, Some(&asked));
        callers.begin(identity, &key(1), &flow, Some(&asked));
        callers.end(identity, &key(1), true, identity::Ended::of(&flow, None));
        last = Some((identity, asked));
    }
    let now_ns = START + SECOND;
    callers.forget(now_ns);
    assert_eq!(callers.len(), identity::MOST);
    let (identity, asked) = last.unwrap();
    let flow = accepted(now_ns, 2);
    let (returns, _) = callers.begin(identity, &key(1), &flow, Some(&asked));
    assert_eq!(returns.reconnects, 1);
    callers.forget(START + 1000 * SECOND);
    assert_eq!(callers.len(), 1);
}
