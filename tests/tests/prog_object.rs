//! The object itself: its maps and programs are what the ABI says, the verifier's work stays bounded, and a dry run
//! leaves no trace.

use aya::maps::{Map, MapData};
use ingest_common::abi::{EXPLAIN_MAP, MAPS, MapShape, NODE_MAP, program};
use ingest_tests::fixtures::{
    kernel::{self, Build, Kernel, stack},
    model::differences,
    plane::{At, Dataplane, Host, Verdict},
    table,
};

/// The verifier gives up at a million instructions; older kernels walk more of them for the same program.
const INSTRUCTIONS_MAX: u32 = 400_000;
/// The same for the object that copies packets word by word.
const INSTRUCTIONS_MAX_5_10: u32 = 500_000;

const PROGRAMS: [&str; 6] = [
    program::XDP_INGEST,
    program::TC_UPLINK_IN,
    program::TC_UPLINK_OUT,
    program::TC_POD,
    program::XDP_PROBE,
    program::XDP_MARK,
];

/// Bytes of stack that each program may use, of the 512 that the verifier allows: the rest is room to grow.
const STACK_MAX: [(&str, u32); 6] = [
    (program::XDP_INGEST, 416),
    (program::TC_UPLINK_IN, 416),
    (program::TC_UPLINK_OUT, 416),
    (program::TC_POD, 416),
    (program::XDP_PROBE, 32),
    (program::XDP_MARK, 32),
];

fn data(map: &Map) -> &MapData {
    match map {
        Map::Array(data)
        | Map::ArrayOfMaps(data)
        | Map::DevMap(data)
        | Map::HashMap(data)
        | Map::LpmTrie(data)
        | Map::LruHashMap(data)
        | Map::PerCpuArray(data)
        | Map::RingBuf(data) => data,
        other => panic!("a map of a kind that abi::MapKind does not know: {other:?}"),
    }
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn maps_are_what_the_abi_says() {
    for build in Build::ALL {
        check_maps(build);
    }
}

fn check_maps(build: Build) {
    let ebpf = aya::EbpfLoader::new()
        .load(&kernel::object(build).expect("the object is built"))
        .expect("the object's maps can be made");
    for shape in MAPS.iter().chain([&NODE_MAP, &EXPLAIN_MAP]) {
        let MapShape { name, kind, .. } = shape;
        let map = ebpf
            .map(name)
            .unwrap_or_else(|| panic!("{name} is not in the object"));
        let info = data(map).info().expect("the kernel tells of its maps");
        assert_eq!(
            info.map_type().map(|kind| kind as u32).ok(),
            Some(*kind as u32),
            "{name}: type"
        );
        assert_eq!(info.key_size(), shape.key_size, "{name}: key");
        assert_eq!(info.value_size(), shape.value_size, "{name}: value");
        assert_eq!(info.max_entries(), shape.max_entries, "{name}: entries");
        assert_eq!(
            info.name_as_str(),
            Some(*name),
            "{name}: the kernel's name for it"
        );
    }
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn programs_are_what_the_abi_says() {
    for build in Build::ALL {
        let ebpf = kernel::open(build, false).expect("the object opens");
        for name in PROGRAMS {
            assert!(ebpf.program(name).is_some(), "{build:?}: no {name}");
            assert!(name.len() <= 15, "{name} is longer than the kernel's names");
        }
    }
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn the_verifier_walks_a_bounded_number_of_instructions() {
    for (build, most) in [
        (Build::Current, INSTRUCTIONS_MAX),
        (Build::Linux5_10, INSTRUCTIONS_MAX_5_10),
    ] {
        let kernel = Kernel::load_as(build, false).expect("the object loads");
        for name in PROGRAMS {
            let walked = kernel
                .verified_instructions(name)
                .expect("the kernel counts them");
            println!("{build:?} {name}: {walked} instructions");
            assert!(walked < most, "{build:?} {name}: {walked} instructions");
        }
    }
}

/// Beyond the limit, values belong into per-CPU scratch space, or are kept for less long.
#[test]
#[ignore = "needs root: cargo xtask test"]
fn the_stack_keeps_room_for_what_is_to_come() {
    for build in Build::ALL {
        let object = kernel::object(build).expect("the object is built");
        let depths = stack::depths(&object).expect("the object can be read");
        for (name, most) in STACK_MAX {
            let depth = depths.get(name).copied().expect("the program is there");
            println!("{build:?} {name}: {depth} bytes of stack");
            assert!(
                depth <= most,
                "{build:?} {name}: {depth} bytes of stack, not {most}"
            );
        }
    }
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn a_dry_run_explains_as_the_host_does_and_leaves_no_trace() {
    let mut kernel = Kernel::load_as(Build::Current, true).expect("the object loads");
    let mut decided = 0;
    for row in table::rows() {
        let mut host = Host::new();
        let Some(frame) = row.uplink_frames(host.now()).next() else {
            continue;
        };
        let mut world = row.world(host.now());
        world.dry_run = true;
        host.load(&world);
        host.run(At::Uplink, &frame);

        let since = kernel.now();
        let world = row.world(since);
        kernel.load(&world);
        let outcome = kernel.run(At::Uplink, &frame);
        let after = kernel.world();
        assert_eq!(outcome.verdict, Verdict::XdpPass, "{}", row.name);
        assert_eq!(
            after.explain.get(),
            host.0.explain.get(),
            "{}: explained",
            row.name
        );
        decided += u32::from(after.explain.get().verdict != 0);
        after.explain.set(world.explain.get());
        let trace = differences(&after.normalised(since), &world.normalised(since));
        assert!(trace.is_empty(), "{}: a trace:\n{trace}", row.name);
    }
    assert!(decided > 100, "only {decided} rows were explained");
}
