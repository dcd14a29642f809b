//! `ingest-agent doctor`: why it would not work on this node. Gathers facts, changes nothing.

mod cluster;
mod host;
mod uplink;

use std::path::Path;

use serde::Serialize;

use self::{host::HostFacts, uplink::UplinkFacts};
use crate::{
    cli::{Doctor, Output, Source},
    commands::begin,
    dataplane::{self, Reader},
    error::Error,
    output::{self, print},
    ports,
    source::file,
};

/// One thing that was looked at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Check {
    /// What was looked at.
    pub name: String,
    /// How it is.
    pub grade: Grade,
    /// What was found.
    pub found: String,
    /// What to do about it.
    pub remedy: Option<String>,
}

/// How a thing is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Grade {
    /// As it should be.
    Ok,
    /// It works, with the drawback that is named.
    Warn,
    /// It will not work.
    Fail,
}

pub(super) async fn run(pin_root: &Path, output: Output, args: &Doctor) -> Result<(), Error> {
    let mut checks = Vec::new();
    let mut uplinks = args.cluster.uplink.clone();
    if let Some(path) = &args.config {
        match file::read(path).and_then(|bytes| file::parse(path, &bytes)) {
            Ok(snapshot) => {
                checks.push(ok("configuration", &format!("{} is valid", path.display())));
                checks.extend(
                    snapshot
                        .warnings
                        .iter()
                        .map(|w| warn("configuration", w, "see whether that is meant")),
                );
                uplinks.extend(snapshot.uplinks);
            }
            Err(error) => {
                checks.push(fail(
                    "configuration",
                    &Error::from(error).chain(),
                    "correct the file",
                ));
            }
        }
    }
    let host = HostFacts::gather(pin_root);
    checks.extend(host::checks(&host));
    if args.source == Source::Kubernetes {
        match begin::options(&args.cluster).await {
            Ok(options) => {
                checks.extend(cluster::access(crate::cluster::check(&options).await));
                uplinks = options.uplinks;
            }
            Err(error) => checks.push(fail("uplink", &error.chain(), "name it: --uplink eth0")),
        }
        if args.cluster.pod_gro {
            checks.extend(cluster::pod_gro(&args.cluster.netns_dir, host.may_enter()));
        }
    }
    let loaded = loaded(pin_root);
    checks.push(loaded_check(&loaded));
    let links = loaded
        .ok()
        .flatten()
        .and_then(|reader| reader.links().ok())
        .unwrap_or_default();
    for name in uplinks {
        let ours = links
            .iter()
            .filter(|l| l.interface == name && l.hook == "xdp");
        let ours = ours.map(|l| l.program_id).collect();
        let facts = UplinkFacts::gather(&name, ports::link_by_name(&name).await?, ours);
        checks.extend(uplink::checks(&facts));
    }
    print(output, &checks, |checks| table(checks))?;
    match checks.iter().filter(|c| c.grade == Grade::Fail).count() {
        0 => Ok(()),
        failures => Err(Error::Unfit {
            failures,
            checks: checks.len(),
        }),
    }
}

fn check(name: &str, grade: Grade, found: &str, remedy: Option<&str>) -> Check {
    let remedy = remedy.map(str::to_owned);
    Check {
        name: name.to_owned(),
        grade,
        found: found.to_owned(),
        remedy,
    }
}

fn ok(name: &str, found: &str) -> Check {
    check(name, Grade::Ok, found, None)
}

fn warn(name: &str, found: &str, remedy: &str) -> Check {
    check(name, Grade::Warn, found, Some(remedy))
}

fn fail(name: &str, found: &str, remedy: &str) -> Check {
    check(name, Grade::Fail, found, Some(remedy))
}

fn loaded(pin_root: &Path) -> Result<Option<Reader>, dataplane::Error> {
    match Reader::open(pin_root) {
        Ok(reader) => Ok(Some(reader)),
        Err(dataplane::Error::NotLoaded { .. }) => Ok(None),
        Err(error) => Err(error),
    }
}

fn loaded_check(loaded: &Result<Option<Reader>, dataplane::Error>) -> Check {
    match loaded {
        Ok(Some(_)) => ok("pins", "a dataplane of this version is loaded"),
        Ok(None) => ok("pins", "nothing is loaded"),
        Err(error) => fail(
            "pins",
            &error.to_string(),
            "`ingest-agent unload` drops them, and their streams",
        ),
    }
}

fn table(checks: &[Check]) -> String {
    let grade = |g| match g {
        Grade::Ok => "ok",
        Grade::Warn => "warn",
        Grade::Fail => "FAIL",
    };
    output::table(
        ["", "CHECK", "FOUND", "REMEDY"],
        checks.iter().map(|c| {
            [
                grade(c.grade).to_owned(),
                c.name.clone(),
                c.found.clone(),
                c.remedy.clone().unwrap_or_default(),
            ]
        }),
    )
}

/// Of our network namespace, where it is one of `net`.
fn sysctl(name: &str) -> Option<u32> {
    std::fs::read_to_string(Path::new("/proc/sys").join(name))
        .ok()?
        .trim()
        .parse()
        .ok()
}
