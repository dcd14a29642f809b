//! Where pins are, and whether those found there fit. Opens pins, never loads or attaches.
//!
//! ```text
//! <pin root>/v<schema>/maps/<MAP>
//! <pin root>/v<schema>/<uplink>/{xdp,tc_in,tc_out}
//! <pin root>/v<schema>/pod_ports/<ifindex>
//! ```
//! Without tcx, a tc program is pinned where its link would be, see [`filters`].

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use aya::maps::MapInfo;
use ingest_common::abi::{self, MapShape};

use super::{Error, filters, raw};

/// Directory of map pins.
const MAPS: &str = "maps";
/// Directory of the pod ports' links.
const POD_PORTS: &str = "pod_ports";

/// A hook on an uplink, by the name of its pin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Hook {
    Xdp,
    TcIn,
    TcOut,
}

impl Hook {
    pub(super) const ALL: [Self; 3] = [Self::Xdp, Self::TcIn, Self::TcOut];

    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Xdp => "xdp",
            Self::TcIn => "tc_in",
            Self::TcOut => "tc_out",
        }
    }
}

/// Every map that is pinned.
pub(super) fn shapes() -> impl Iterator<Item = &'static MapShape> {
    abi::MAPS.iter().chain([&abi::NODE_MAP])
}

/// The pins of this agent's schema.
#[derive(Clone, Debug)]
pub(super) struct Pins {
    root: PathBuf,
    schema: PathBuf,
}

impl Pins {
    pub(super) fn new(root: &Path) -> Self {
        Self {
            root: root.to_owned(),
            schema: root.join(format!("v{}", abi::SCHEMA_VERSION)),
        }
    }

    pub(super) fn maps(&self) -> PathBuf {
        self.schema.join(MAPS)
    }

    pub(super) fn map(&self, name: &str) -> PathBuf {
        self.schema.join(MAPS).join(name)
    }

    pub(super) fn uplink(&self, interface: &str) -> PathBuf {
        self.schema.join(escape(interface))
    }

    pub(super) fn link(&self, interface: &str, hook: Hook) -> PathBuf {
        self.uplink(interface).join(hook.as_str())
    }

    pub(super) fn pod_ports(&self) -> PathBuf {
        self.schema.join(POD_PORTS)
    }

    pub(super) fn pod_port(&self, ifindex: u32) -> PathBuf {
        self.pod_ports().join(ifindex.to_string())
    }

    /// Makes the directories that every agent needs.
    pub(super) fn make(&self) -> Result<(), Error> {
        make_directory(&self.schema.join(MAPS))?;
        make_directory(&self.pod_ports())
    }

    /// Names of interfaces with a directory of links.
    pub(super) fn uplinks(&self) -> Result<Vec<String>, Error> {
        let names = list(&self.schema)?;
        Ok(names
            .iter()
            .filter(|name| name.as_str() != MAPS && name.as_str() != POD_PORTS)
            .map(|name| unescape(name))
            .collect())
    }

    /// Interface indexes of the pinned pod port links.
    pub(super) fn pod_port_indexes(&self) -> Result<Vec<u32>, Error> {
        Ok(list(&self.pod_ports())?
            .iter()
            .filter_map(|name| name.parse().ok())
            .collect())
    }

    /// Refuses where an agent of another schema has left links: both would steer the same packets.
    pub(super) fn refuse_other_schemas(&self) -> Result<(), Error> {
        for name in list(&self.root)? {
            let path = self.root.join(&name);
            if path == self.schema {
                continue;
            }
            for directory in list(&path)?.iter().filter(|name| name.as_str() != MAPS) {
                if !list(&path.join(directory))?.is_empty() {
                    return Err(Error::OtherSchema {
                        path,
                        ours: abi::SCHEMA_VERSION,
                    });
                }
            }
        }
        Ok(())
    }

    /// Compares each pinned map with what this agent expects, since loading would adopt anything. Gives the maps
    /// that are not pinned yet.
    pub(super) fn verify(&self) -> Result<Vec<&'static MapShape>, Error> {
        let mut absent = Vec::new();
        for shape in shapes() {
            let path = self.map(shape.name);
            if !path.exists() {
                absent.push(shape);
                continue;
            }
            let info = MapInfo::from_pin(&path).map_err(|source| Error::Map {
                operation: "opening pinned",
                map: shape.name,
                source: Box::new(source),
            })?;
            // A type that aya does not know is not ours either; 0 is no type.
            let kind = info.map_type().map_or(0, |kind| kind as u32);
            same(shape.name, "type", shape.kind as u32, kind)?;
            same(shape.name, "key size", shape.key_size, info.key_size())?;
            same(
                shape.name,
                "value size",
                shape.value_size,
                info.value_size(),
            )?;
            if !shape.sized_by_flows {
                same(
                    shape.name,
                    "max entries",
                    shape.max_entries,
                    info.max_entries(),
                )?;
            }
        }
        Ok(absent)
    }

    /// What the link pinned at `path` attaches, or the filter that the pin is the mark of, if there is one.
    pub(super) fn attachment(path: &Path) -> Result<Option<raw::Attachment>, Error> {
        let failed = |source| Error::Files {
            operation: "reading pinned link",
            path: path.to_owned(),
            source,
        };
        match raw::open_pin(path) {
            Ok(fd) => raw::attachment(&fd)
                .map(|mut found| {
                    if found.is_filter() {
                        found.ifindex = filters::ifindex(path);
                    }
                    Some(found)
                })
                .map_err(failed),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(failed(error)),
        }
    }

    /// Detaches what [`Self::attachment`] tells of and removes the pin.
    pub(super) fn remove_link(path: &Path) -> Result<(), Error> {
        if Self::attachment(path)?.is_some_and(raw::Attachment::is_filter) {
            return filters::remove(path);
        }
        if let Err(error) = raw::open_pin(path).and_then(|fd| raw::detach(&fd)) {
            // Its device is gone, and the attachment with it.
            tracing::debug!(path = %path.display(), %error, "pinned link was not attached");
        }
        remove_file(path)
    }
}

fn same(map: &'static str, field: &'static str, expected: u32, found: u32) -> Result<(), Error> {
    if expected == found {
        Ok(())
    } else {
        Err(Error::PinIncompatible {
            map,
            field,
            expected,
            found,
        })
    }
}

/// A BPF filesystem refuses dots in names, which VLAN interfaces have.
fn escape(interface: &str) -> String {
    interface.replace('%', "%25").replace('.', "%2e")
}

pub(super) fn unescape(name: &str) -> String {
    name.replace("%2e", ".").replace("%25", "%")
}

/// Names in a directory, sorted; none where there is no directory.
pub(super) fn list(directory: &Path) -> Result<Vec<String>, Error> {
    let failed = |source| Error::Files {
        operation: "listing",
        path: directory.to_owned(),
        source,
    };
    let entries = match fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) if error.kind() == io::ErrorKind::NotADirectory => return Ok(Vec::new()),
        Err(error) => return Err(failed(error)),
    };
    let mut names = entries
        .map(|entry| entry.map(|entry| entry.file_name().to_string_lossy().into_owned()))
        .collect::<Result<Vec<_>, _>>()
        .map_err(failed)?;
    names.sort_unstable();
    Ok(names)
}

pub(super) fn make_directory(path: &Path) -> Result<(), Error> {
    fs::create_dir_all(path).map_err(|source| Error::Files {
        operation: "making directory",
        path: path.to_owned(),
        source,
    })
}

pub(super) fn remove_file(path: &Path) -> Result<(), Error> {
    fs::remove_file(path).map_err(|source| Error::Files {
        operation: "removing pin",
        path: path.to_owned(),
        source,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn interface_names_with_dots_become_pin_names_without_and_come_back() {
        for name in ["eth0", "eth0.100", "a%2e.b", "100%"] {
            assert!(!escape(name).contains('.'));
            assert_eq!(unescape(&escape(name)), name);
        }
    }

    #[test]
    fn pins_lie_under_the_schema_version() {
        let pins = Pins::new(Path::new("/p"));
        let schema = format!("/p/v{}", abi::SCHEMA_VERSION);
        assert_eq!(pins.map("FLOWS"), Path::new(&schema).join("maps/FLOWS"));
        assert_eq!(
            pins.link("eth0.7", Hook::TcIn),
            Path::new(&schema).join("eth0%2e7/tc_in")
        );
        assert_eq!(pins.pod_port(12), Path::new(&schema).join("pod_ports/12"));
    }
}
