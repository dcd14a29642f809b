//! The guest's file system, as a cpio archive in the form that the kernel unpacks (`newc`,
//! Documentation/driver-api/early-userspace/buffer-format.rst).

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result};

use super::{Kernel, fetch};
use crate::{
    command::{find, output, run as run_command},
    workspace,
};

const DIRECTORY: u32 = 0o040_755;
const PROGRAM: u32 = 0o100_755;
const LINK: u32 = 0o120_777;
const CONSOLE: u32 = 0o020_600;

/// What busybox is called as. Not `ip`, `sh` or `nsenter`: its own lack what the tests ask of them.
const APPLETS: [&str; 12] = [
    "cat", "env", "find", "insmod", "ls", "mkdir", "mount", "poweroff", "ps", "sleep", "sysctl",
    "uname",
];
/// This machine's programs that the tests run.
const PROGRAMS: [&str; 5] = ["sh", "ip", "tc", "ethtool", "nsenter"];

/// Files by their path, with mode and content.
#[derive(Debug, Default)]
struct Files(BTreeMap<String, (u32, Vec<u8>)>);

/// What all guests have in common.
pub(super) fn base(tests: &[(String, PathBuf)], filter: Option<&str>) -> Result<Vec<u8>> {
    let mut files = Files::default();
    files.add("/bin/busybox", &fetch::busybox())?;
    for applet in APPLETS {
        files
            .0
            .insert(format!("/bin/{applet}"), (LINK, b"busybox".to_vec()));
    }
    for program in PROGRAMS {
        let path = find(program)
            .with_context(|| format!("no program {program}: run `cargo xtask setup`"))?;
        files.program(&format!("/bin/{program}"), &path)?;
    }
    let target = workspace::target_dir();
    files.program(
        "/ingest/ingest-agent",
        &workspace::release_binary("ingest-agent"),
    )?;
    for peer in ["caller", "listener"] {
        files.program(&format!("/ingest/{peer}"), &target.join("peers").join(peer))?;
    }
    for object in ["ingest", "ingest-linux-5.10", "ingest-bench"] {
        files.add(
            &format!("/ingest/ebpf/{object}"),
            &workspace::ebpf_dir().join(object),
        )?;
    }
    for (name, path) in tests {
        // Debug information is most of a test.
        let stripped = target.join("kernels").join(name);
        run_command(Command::new("strip").arg("-o").arg(&stripped).arg(path))?;
        files.program(&format!("/tests/{name}"), &stripped)?;
    }
    let init = include_str!("init.sh").replace("@FILTER@", filter.unwrap_or_default());
    files
        .0
        .insert("/init".to_owned(), (PROGRAM, init.into_bytes()));
    Ok(files.archive())
}

/// `base` and the kernel's modules, at `to`. The kernel unpacks one archive after the other.
pub(super) fn write(base: &[u8], kernel: &Kernel, to: &Path) -> Result<()> {
    let mut files = Files::default();
    let folder = kernel.folder();
    let entries = fs::read_dir(&folder).with_context(|| format!("reading {}", folder.display()))?;
    for entry in entries {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "ko") {
            let name = path
                .file_name()
                .unwrap_or_default()
                .to_string_lossy()
                .into_owned();
            files.add(&format!("/modules/{name}"), &path)?;
        }
    }
    let archive = [base, &files.archive()].concat();
    fs::write(to, archive).with_context(|| format!("writing {}", to.display()))
}

impl Files {
    fn add(&mut self, to: &str, from: &Path) -> Result<()> {
        let content = fs::read(from).with_context(|| format!("reading {}", from.display()))?;
        self.0.insert(to.to_owned(), (PROGRAM, content));
        Ok(())
    }

    /// A program with all that it loads, each library where this machine has it.
    fn program(&mut self, to: &str, from: &Path) -> Result<()> {
        self.add(to, from)?;
        let loaded = output(Command::new("ldd").arg(from)).unwrap_or_default();
        let libraries = loaded
            .split_whitespace()
            .filter(|word| word.starts_with('/'));
        libraries
            .collect::<Vec<_>>()
            .into_iter()
            .try_for_each(|library| self.add(library, Path::new(library)))
    }

    fn archive(&self) -> Vec<u8> {
        let mut archive = Vec::new();
        for directory in self.directories() {
            append(&mut archive, &directory, DIRECTORY, (0, 0), &[]);
        }
        append(&mut archive, "/dev/console", CONSOLE, (5, 1), &[]);
        for (path, (mode, content)) in &self.0 {
            append(&mut archive, path, *mode, (0, 0), content);
        }
        append(&mut archive, "/TRAILER!!!", 0, (0, 0), &[]);
        archive
    }

    /// Every folder that something is in, or is mounted on, outer ones first.
    fn directories(&self) -> BTreeSet<String> {
        let mounted = ["/dev", "/proc", "/sys", "/tmp", "/run"].map(Path::new);
        let parents = self
            .0
            .keys()
            .flat_map(|path| Path::new(path).ancestors().skip(1));
        let all = mounted
            .into_iter()
            .chain(parents)
            .map(|path| path.display().to_string());
        all.filter(|path| path != "/").collect()
    }
}

/// Appends an entry. Its names have no slash in front.
fn append(archive: &mut Vec<u8>, path: &str, mode: u32, device: (u32, u32), content: &[u8]) {
    let name = format!("{}\0", path.trim_start_matches('/'));
    let lengths =
        [content.len(), name.len()].map(|length| u32::try_from(length).unwrap_or(u32::MAX));
    // Number, mode, owner, group, links, time, size, device of the file, its own device, length of the name, checksum.
    let fields = [
        0, mode, 0, 0, 1, 0, lengths[0], 0, 0, device.0, device.1, lengths[1], 0,
    ];
    archive.extend(b"070701");
    for field in fields {
        archive.extend(format!("{field:08X}").bytes());
    }
    for part in [name.as_bytes(), content] {
        archive.extend(part);
        archive.resize(archive.len().next_multiple_of(4), 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_are_padded_and_folders_come_first() {
        let mut files = Files::default();
        files
            .0
            .insert("/a/b/c".to_owned(), (PROGRAM, b"12345".to_vec()));
        let archive = files.archive();
        assert_eq!(archive.len() % 4, 0);
        let text = String::from_utf8_lossy(&archive);
        let place = |what: &str| text.find(what).unwrap();
        assert!(place("a\0") < place("a/b\0") && place("a/b\0") < place("a/b/c\0"));
        // 110 bytes of header and 6 of name are padded by none, 5 of content by 3.
        let header = place("a/b/c\0") - 110;
        assert_eq!(&text[header..header + 6], "070701");
        assert_eq!(&text[header + 54..header + 62], "00000005");
        assert_eq!(&text[header + 116..header + 124], "12345\0\0\0");
        assert_eq!(&text[header + 124..header + 130], "070701");
        assert_eq!(place("TRAILER!!!") + 14, archive.len());
    }
}
