//! A session on the real object, as on the host: connect, stream, hang, come again.

use std::time::Duration;

use ingest_common::abi::CutReason;
use ingest_tests::fixtures::{
    kernel::Kernel,
    model::World,
    packet::{CLIENT, Family},
    plane::Dataplane,
    session::{Caller, Pod, Sent},
    srt::{CALLER_ID, LISTENER_ID},
};

#[test]
#[ignore = "needs root: cargo xtask test"]
fn a_hung_pod_is_left_after_three_hundred_milliseconds() {
    let mut kernel = Kernel::load().expect("the object loads");
    for family in [Family::V4, Family::V6] {
        let mut world = World::node(family, kernel.now());
        world.prefer_a_for(family, CLIENT);
        kernel.load(&world);
        let mut caller = Caller::new(family, CLIENT, CALLER_ID);
        assert_eq!(caller.connect(&mut kernel, LISTENER_ID), Pod::A);
        for _ in 0..50 {
            assert_eq!(caller.data(&mut kernel), Sent::Reached(Pod::A));
            kernel.wait(Duration::from_millis(2));
            caller.acknowledge(&mut kernel, Pod::A);
        }
        let hung = kernel.now();
        let mut answered = false;
        while !answered && kernel.now() < hung + 2_000_000_000 {
            kernel.wait(Duration::from_millis(5));
            answered = matches!(caller.data(&mut kernel), Sent::Answered(_));
        }
        let took = (kernel.now() - hung) / 1_000_000;
        assert!((300..600).contains(&took), "cut after {took} ms");
        let flow = kernel.world().flow_of(family, CLIENT);
        assert_eq!(flow.cut_reason, CutReason::Silent as u8);
        assert_eq!((flow.up.gaps, flow.down.acks), (0, 50));
        let mut again = Caller::new(family, CLIENT, CALLER_ID - 1);
        assert_eq!(again.connect(&mut kernel, LISTENER_ID - 1), Pod::B);
        assert_eq!(again.data(&mut kernel), Sent::Reached(Pod::B));
    }
}
