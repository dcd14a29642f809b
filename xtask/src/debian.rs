//! Debian's packages as files: downloaded and unpacked, never installed. apt works on lists and state of its own, and
//! checks Debian's signatures.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result};

use crate::{
    command::{output, run as run_command},
    setup::apt_install,
};

const MIRROR: &str = "http://deb.debian.org/debian";
const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// An apt that knows nothing of the machine's packages, and leaves no trace among them.
#[derive(Debug)]
pub(crate) struct Apt {
    folder: PathBuf,
}

impl Apt {
    /// With the lists of `suites`.
    pub(crate) fn new(folder: PathBuf, suites: &[&str]) -> Result<Self> {
        if !Path::new(KEYRING).exists() {
            apt_install(&["debian-archive-keyring"])?;
        }
        for part in ["lists/partial", "cache/archives/partial"] {
            let part = folder.join(part);
            fs::create_dir_all(&part).with_context(|| format!("creating {}", part.display()))?;
        }
        let source = |suite: &&str| {
            format!("deb [signed-by={KEYRING} target=Packages] {MIRROR} {suite} main\n")
        };
        let sources = suites.iter().map(source).collect::<Vec<_>>().concat();
        for (name, text) in [("sources.list", sources), ("status", String::new())] {
            let file = folder.join(name);
            fs::write(&file, text).with_context(|| format!("writing {}", file.display()))?;
        }
        let apt = Self { folder };
        let suites = suites.join(", ");
        run_command(apt.command().arg("update")).with_context(|| {
            format!(
                "the lists of Debian's suites {suites} at {MIRROR} \
                 (a suite that is no longer there is at http://archive.debian.org/debian)"
            )
        })?;
        Ok(apt)
    }

    fn command(&self) -> Command {
        let mut command = Command::new("apt-get");
        command.args(["-qq", "-o", "Dir::Etc::sourceparts=-"]);
        // apt's own user cannot write into a target directory.
        command.args(["-o", "APT::Sandbox::User=root"]);
        for (option, at) in [
            ("Dir::State", ""),
            ("Dir::State::lists", "lists"),
            ("Dir::State::status", "status"),
            ("Dir::Cache", "cache"),
            ("Dir::Etc::sourcelist", "sources.list"),
        ] {
            let value = self.folder.join(at);
            command.args(["-o", &format!("{option}={}", value.display())]);
        }
        command
    }

    /// Packages of `suite` as files in `to`.
    pub(crate) fn download(
        &self,
        to: &Path,
        suite: &str,
        packages: &[&str],
    ) -> Result<Vec<PathBuf>> {
        fs::create_dir_all(to).with_context(|| format!("creating {}", to.display()))?;
        let mut download = self.command();
        download.arg("download").current_dir(to);
        download.args(packages.iter().map(|package| format!("{package}/{suite}")));
        run_command(&mut download)?;
        files(to)
    }

    /// Packages with all that they depend on, down to the C library.
    pub(crate) fn download_with_dependencies(&self, packages: &[&str]) -> Result<Vec<PathBuf>> {
        let mut install = self.command();
        install
            .args(["install", "--download-only", "--no-install-recommends"])
            .args(packages);
        run_command(&mut install)?;
        let mut files = files(&self.folder.join("cache/archives"))?;
        files.retain(|file| file.extension().is_some_and(|extension| extension == "deb"));
        Ok(files)
    }

    /// Removes lists, state and downloads.
    pub(crate) fn remove(self) -> Result<()> {
        remove(&self.folder)
    }
}

/// Unpacks a package below `root`.
pub(crate) fn unpack(package: &Path, root: &Path) -> Result<()> {
    run_command(Command::new("dpkg-deb").arg("-x").arg(package).arg(root))
}

/// A field of a package's description.
pub(crate) fn field(package: &Path, name: &str) -> Option<String> {
    output(Command::new("dpkg-deb").arg("-f").arg(package).arg(name))
}

/// Removes a folder.
pub(crate) fn remove(folder: &Path) -> Result<()> {
    fs::remove_dir_all(folder).with_context(|| format!("removing {}", folder.display()))
}

fn files(folder: &Path) -> Result<Vec<PathBuf>> {
    let entries = fs::read_dir(folder).with_context(|| format!("reading {}", folder.display()))?;
    entries
        .map(|entry| Ok(entry?.path()))
        .collect::<Result<_>>()
}
