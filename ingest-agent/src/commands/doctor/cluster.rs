//! What `--source kubernetes` needs besides: the API server, rights there, and what the opt-ins take.

use std::path::Path;

use super::{Check, fail, ok, warn};
use crate::{
    cluster::{self, Access},
    error::Error,
};

/// What the API server says, or why it says nothing.
pub(super) fn access(answer: Result<Vec<Access>, cluster::Error>) -> Vec<Check> {
    let access = match answer {
        Ok(access) => access,
        Err(error) => {
            return vec![fail(
                "API server",
                &Error::from(error).chain(),
                "see that this node reaches it, and the service account or kubeconfig",
            )];
        }
    };
    let denied: Vec<String> = access
        .iter()
        .filter(|a| !a.allowed)
        .map(|a| format!("{} {}", a.verb, a.resource))
        .collect();
    let rights = if denied.is_empty() {
        ok("RBAC", "all verbs that are used are allowed")
    } else {
        let remedy = "bind the service account to the ClusterRole in deploy/";
        // Without these it runs on, poorer.
        let optional = |right: &String| {
            ["pods", "events.events.k8s.io", "services/status"]
                .iter()
                .any(|resource| right.ends_with(resource))
        };
        let found = format!("denied: {}", denied.join(", "));
        if denied.iter().all(optional) {
            warn("RBAC", &found, remedy)
        } else {
            fail("RBAC", &found, remedy)
        }
    };
    vec![ok("API server", "answers"), rights]
}

/// Switching GRO on in pods: the namespaces must be seen, and entered.
pub(super) fn pod_gro(netns_dir: &Path, may_enter: bool) -> Vec<Check> {
    let namespaces = std::fs::read_dir(netns_dir).map(Iterator::count);
    let seen = match namespaces {
        Ok(0) => warn(
            "--pod-gro",
            &format!("{} is empty", netns_dir.display()),
            "with containers, mount it with mountPropagation: HostToContainer; or see --netns-dir",
        ),
        Ok(count) => ok(
            "--pod-gro",
            &format!("{count} network namespaces in {}", netns_dir.display()),
        ),
        Err(error) => fail(
            "--pod-gro",
            &format!("{}: {error}", netns_dir.display()),
            "name the directory where the container runtime binds them: --netns-dir",
        ),
    };
    let entered = if may_enter {
        ok("--pod-gro", "CAP_SYS_ADMIN is there")
    } else {
        fail(
            "--pod-gro",
            "CAP_SYS_ADMIN is missing",
            "add it, or leave --pod-gro out: `peer` needs none",
        )
    };
    vec![seen, entered]
}

#[cfg(test)]
mod tests {
    use super::{super::Grade, *};

    fn right(verb: &'static str, resource: &str, allowed: bool) -> Access {
        Access {
            verb,
            resource: resource.to_owned(),
            allowed,
        }
    }

    #[test]
    fn denied_rights_weigh_as_what_is_lost_with_them() {
        let grade = |access| access_of(access).grade;
        assert_eq!(grade(vec![right("list", "services", true)]), Grade::Ok);
        assert_eq!(
            grade(vec![right("patch", "services/status", false)]),
            Grade::Warn
        );
        let both = vec![
            right("create", "events.events.k8s.io", false),
            right("watch", "endpointslices.discovery.k8s.io", false),
        ];
        let check = access_of(both);
        assert_eq!(check.grade, Grade::Fail);
        assert!(
            check.found.contains("watch endpointslices"),
            "{}",
            check.found
        );
    }

    fn access_of(list: Vec<Access>) -> Check {
        access(Ok(list)).pop().unwrap()
    }

    #[test]
    fn a_missing_capability_or_directory_fails() {
        let grades = |dir: &str, may| -> Vec<Grade> {
            pod_gro(Path::new(dir), may)
                .iter()
                .map(|c| c.grade)
                .collect()
        };
        assert_eq!(grades("/proc/self", true), [Grade::Ok, Grade::Ok]);
        assert_eq!(grades("/no/such", false), [Grade::Fail, Grade::Fail]);
    }
}
