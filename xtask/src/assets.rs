//! Where the API server of the tests comes from: the programs that envtest calls its binary assets.

use std::{env, path::Path, path::PathBuf};

use anyhow::{Result, bail};

use crate::command::is_executable;

/// Names the folder; `setup-envtest use` prints one.
pub(crate) const VARIABLE: &str = "KUBEBUILDER_ASSETS";
/// Where envtest looks without it.
const USUAL: &str = "/usr/local/kubebuilder/bin";
const PROGRAMS: [&str; 3] = ["etcd", "kube-apiserver", "kubectl"];

/// The folder, where there is one. A named folder that will not do is an error: somebody meant it.
pub(crate) fn find() -> Result<Option<PathBuf>> {
    let Some(named) = env::var_os(VARIABLE).filter(|value| !value.is_empty()) else {
        let usual = Path::new(USUAL);
        return Ok(missing(usual).is_none().then(|| usual.to_path_buf()));
    };
    let named = PathBuf::from(named);
    match missing(&named) {
        None => Ok(Some(named)),
        Some(program) => bail!(
            "{VARIABLE} is {}, where there is no {program}: {REMEDY}",
            named.display()
        ),
    }
}

/// The folder, which must be there.
pub(crate) fn require() -> Result<PathBuf> {
    match find()? {
        Some(folder) => Ok(folder),
        None => bail!("no API server to test against: {REMEDY}"),
    }
}

const REMEDY: &str = "set KUBEBUILDER_ASSETS to a folder with etcd, kube-apiserver and kubectl \
    (`setup-envtest use` of sigs.k8s.io/controller-runtime downloads them and prints it), \
    or put them into /usr/local/kubebuilder/bin";

fn missing(folder: &Path) -> Option<&'static str> {
    let is_there = |program: &str| is_executable(&folder.join(program));
    PROGRAMS.into_iter().find(|program| !is_there(program))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_without_an_api_server_will_not_do() {
        assert_eq!(missing(Path::new("/bin")), Some("etcd"));
    }
}
