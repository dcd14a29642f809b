use super::*;

/// The rules that `text` breaks as the file `path`, with their lines.
fn broken(path: &str, text: &str) -> Vec<(usize, &'static str)> {
    let found = check(&[Source::new(path, text.to_owned())]);
    found
        .into_iter()
        .map(|violation| (violation.line, violation.rule))
        .collect()
}

#[test]
fn aya_outside_the_dataplane() {
    let rule = "aya stays in the dataplane";
    for text in [
        "use aya::maps::HashMap;",
        "\nuse aya;",
        "fn f(x: aya_obj::Object) {}",
    ] {
        let line = text.matches('\n').count() + 1;
        assert_eq!(
            broken("ingest-agent/src/commands/status.rs", text),
            [(line, rule)],
            "{text}"
        );
    }
    assert_eq!(
        broken("ingest-common/src/lib.rs", "use aya::Pod;"),
        [(1, rule)]
    );
    for path in [
        "ingest-agent/src/dataplane/load.rs",
        "ingest-common/src/abi/mod.rs",
        "tests/src/lib.rs",
    ] {
        assert_eq!(broken(path, "use aya::Pod;"), [], "{path}");
    }
    assert_eq!(
        broken(
            "ingest-agent/src/lib.rs",
            "// use aya::Pod;\nuse aya_like::x;"
        ),
        []
    );
}

#[test]
fn kube_outside_the_cluster_source() {
    let text = "use kube::Api;";
    assert_eq!(
        broken("ingest-agent/src/lib.rs", text),
        [(1, "kube stays in the cluster source")]
    );
    assert_eq!(broken("ingest-agent/src/cluster/watch.rs", text), []);
}

#[test]
fn unsafe_where_it_is_not_allowed() {
    let text = "fn f() {\n    unsafe { g() }\n}";
    let rule = "unsafe stays at the border to the kernel";
    assert_eq!(broken("ingest-agent/src/ports/mod.rs", text), [(2, rule)]);
    assert_eq!(broken("ingest-common/src/maglev.rs", text), [(2, rule)]);
    for path in [
        "ingest-agent/src/dataplane/mod.rs",
        "ingest-ebpf/src/maps.rs",
        "ingest-common/src/packet/mod.rs",
    ] {
        assert_eq!(broken(path, text), [], "{path}");
    }
    assert_eq!(
        broken(
            "ingest-agent/src/lib.rs",
            "#![deny(unsafe_code)]\nlet x = \"unsafe\";"
        ),
        []
    );
}

#[test]
fn reconcile_does_io_or_reads_the_clock() {
    for text in [
        "use tokio::time;",
        "let t = std::time::Instant::now();",
        "use crate::dataplane::Dataplane;",
    ] {
        assert_eq!(
            broken("ingest-agent/src/reconcile/plan.rs", text),
            [(1, "reconcile is pure")],
            "{text}"
        );
        assert_eq!(
            broken("ingest-agent/src/commands/run.rs", text),
            [],
            "{text}"
        );
    }
}

#[test]
fn anyhow_in_a_library() {
    let text = "fn f() -> anyhow::Result<()> { Ok(()) }";
    assert_eq!(
        broken("ingest-agent/src/ports/mod.rs", text),
        [(1, "errors have types")]
    );
    assert_eq!(broken("ingest-agent/src/main.rs", text), []);
    assert_eq!(broken("tests/src/bin/demo.rs", text), []);
}

#[test]
fn unfinished_work() {
    let rule = "nothing unfinished";
    for word in ["todo", "unimplemented", "dbg"] {
        assert_eq!(
            broken("tests/src/lib.rs", &format!("fn f() {{ {word}!() }}")),
            [(1, rule)],
            "{word}"
        );
    }
    for mark in [concat!("FIX", "ME"), concat!("XX", "X")] {
        assert_eq!(
            broken("README.md", &format!("a\n{mark}: b")),
            [(2, rule)],
            "{mark}"
        );
    }
    assert_eq!(broken("tests/src/lib.rs", "// todo! is not allowed"), []);
}

#[test]
fn exceptions_without_a_reason() {
    assert_eq!(
        broken("tests/src/a.rs", "#[ignore]\nfn f() {}"),
        [(1, "ignored tests have a reason")]
    );
    assert_eq!(
        broken("tests/src/a.rs", "#[ignore = \"needs root\"]\nfn f() {}"),
        []
    );
    let rule = "lint exceptions have a reason";
    assert_eq!(
        broken("tests/src/a.rs", "\n#![allow(dead_code)]"),
        [(2, rule)]
    );
    assert_eq!(
        broken("tests/src/a.rs", "#[expect(\n    dead_code\n)]"),
        [(1, rule)]
    );
    assert_eq!(
        broken(
            "tests/src/a.rs",
            "#[expect(\n    dead_code,\n    reason = \"x\"\n)]"
        ),
        []
    );
    assert_eq!(
        broken("tests/src/a.rs", "x.expect(\"is not an attribute\");"),
        []
    );
}

#[test]
fn kernel_names_that_would_be_cut() {
    let rule = "kernel names are short";
    let names = "map(\"FIFTEEN_BYTES_X\", 1),\nmap(\"SIXTEEN_BYTES_XX\", 1),\nconst A: &str = \"sixteen_bytes_xx\";";
    assert_eq!(
        broken("ingest-common/src/abi/names.rs", names),
        [(2, rule), (3, rule)]
    );
    let map = "#[btf_map]\npub(crate) static SIXTEEN_BYTES_XX: Array<u32> = Array::new();";
    assert_eq!(broken("ingest-ebpf/src/maps.rs", map), [(1, rule)]);
    let program = "#[xdp(frags)]\npub fn sixteen_bytes_xx(ctx: XdpContext) -> u32 {";
    assert_eq!(broken("ingest-ebpf/src/main.rs", program), [(1, rule)]);
    assert_eq!(
        broken(
            "ingest-ebpf/src/main.rs",
            "#[xdp]\npub fn xdp_ingest(ctx: XdpContext) -> u32 {"
        ),
        []
    );
}

#[test]
fn tests_that_nobody_runs() {
    let text = "#[test]\n#[ignore = \"needs root\"]\nfn f() {}";
    assert_eq!(
        broken("tests/tests/failover.rs", text),
        [(2, "every test is run")]
    );
    assert_eq!(broken("tests/tests/netns_failover.rs", text), []);
    assert_eq!(broken("tests/tests/prog_fixtures.rs", text), []);
}

#[test]
fn files_too_long_to_read() {
    let rule = "files are short";
    assert_eq!(
        broken("tests/peers/listener.c", &"x\n".repeat(501)),
        [(501, rule)]
    );
    assert_eq!(broken("tests/peers/listener.c", &"x\n".repeat(500)), []);
    assert_eq!(broken("README.md", &"x\n".repeat(501)), []);
}

#[test]
fn metrics_that_the_reference_does_not_name() {
    let metrics = r##"
        registry.register("flows", "Flows", flows.clone());
        let mut drops = counter(
            encoder,
            "drops",
            "Packets dropped",
        )?;
        counter(encoder, &format!("{of}_{}", metric.name), metric.help)?;
        assert!(text.contains(r#"ingest_service_bytes_total{service="live/srt"} 0"#));
    "##;
    let undocumented = |reference: &str| {
        let sources = [
            Source::new("docs/metrics.md", reference.to_owned()),
            Source::new("ingest-agent/src/metrics/kernel.rs", metrics.to_owned()),
        ];
        let found = check(&sources).into_iter();
        found
            .map(|v| (v.line, v.remedy.split(' ').nth(1).unwrap().to_owned()))
            .collect::<Vec<_>>()
    };
    let all = ["ingest_service_bytes", "ingest_flows", "ingest_drops"];
    let expected: Vec<_> = [9, 2, 3].into_iter().zip(all.map(str::to_owned)).collect();
    assert_eq!(undocumented("ingest_flows, in passing"), expected);
    let table = "| `ingest_flows` | a |\n| `ingest_drops_total{reason}` | b |\n| `ingest_service_bytes_total` | c |";
    assert_eq!(undocumented(table), []);
    assert_eq!(
        broken("ingest-agent/src/metrics/kernel.rs", metrics),
        [],
        "no reference yet"
    );
}
