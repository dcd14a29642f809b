//! GRO switched on in a pod whose namespace is found from outside.

#![expect(clippy::unwrap_used, reason = "a test panics")]

mod lab;

use std::{fs, path::PathBuf, process::Command};

use ingest_agent::{
    dataplane::{GroOutcome, enable_gro},
    ports,
};
use ingest_tests::cleanup::unique_name;
use lab::{Pod, in_namespace, run};
use nix::mount::{MntFlags, MsFlags, mount, umount2};

/// A directory with namespaces bound in it, as a container runtime keeps it.
struct NetnsDir(PathBuf);

impl NetnsDir {
    fn new() -> Self {
        let dir = std::env::temp_dir().join(unique_name("netns"));
        fs::create_dir(&dir).unwrap();
        // No namespace at all: the agent must pass it over.
        fs::write(dir.join("README"), "").unwrap();
        Self(dir)
    }

    fn bind(&self, name: &str, pid: u32) -> PathBuf {
        let file = self.0.join(name);
        fs::write(&file, "").unwrap();
        let namespace = PathBuf::from(format!("/proc/{pid}/ns/net"));
        let none: Option<&str> = None;
        mount(Some(&namespace), &file, none, MsFlags::MS_BIND, none).unwrap();
        file
    }
}

impl Drop for NetnsDir {
    fn drop(&mut self) {
        for entry in fs::read_dir(&self.0).into_iter().flatten().flatten() {
            // Not each of them is a mount.
            umount2(&entry.path(), MntFlags::MNT_DETACH).ok();
        }
        if let Err(error) = fs::remove_dir_all(&self.0) {
            eprintln!("{}: {error}", self.0.display());
        }
    }
}

fn gro(pod: &Pod) -> String {
    let output = Command::new("nsenter")
        .arg(format!("--net=/proc/{}/ns/net", pod.pid()))
        .args(["ethtool", "-k", "eth0"])
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let line = text
        .lines()
        .find(|l| l.starts_with("generic-receive-offload"));
    line.unwrap().to_owned()
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn gro_is_switched_on_in_the_right_pod_and_only_there() {
    in_namespace(|| async {
        let pods: Vec<Pod> = (0..3)
            .map(|i| Pod::with_port(&format!("veth{i}"), &format!("02:00:00:00:00:0{i}")))
            .collect();
        for pod in &pods {
            run(&format!(
                "nsenter --net=/proc/{}/ns/net ethtool -K eth0 gro off",
                pod.pid()
            ));
        }
        let dir = NetnsDir::new();
        let bound: Vec<PathBuf> = pods[..2]
            .iter()
            .enumerate()
            .map(|(i, pod)| dir.bind(&format!("cni-{i}"), pod.pid()))
            .collect();
        let port = |name: &str| nix::net::if_::if_nametoindex(name).unwrap();

        let end = ports::pod_end(port("veth1"), &dir.0).await.unwrap();
        assert_eq!(end.netns, bound[1]);
        assert_eq!(
            enable_gro(&end.netns, end.ifindex).unwrap(),
            GroOutcome::Enabled
        );
        assert!(gro(&pods[1]).ends_with(": on"), "{}", gro(&pods[1]));
        assert!(gro(&pods[0]).ends_with(": off"), "{}", gro(&pods[0]));
        assert_eq!(
            enable_gro(&end.netns, end.ifindex).unwrap(),
            GroOutcome::WasOn
        );
        // This thread stayed where it was.
        assert!(nix::net::if_::if_nametoindex("veth1").is_ok());

        let unbound = ports::pod_end(port("veth2"), &dir.0).await.unwrap_err();
        assert!(unbound.to_string().contains("--netns-dir"), "{unbound}");
        assert!(enable_gro(&bound[0], 4242).is_err());
        let nowhere = ports::pod_end(port("veth0"), &dir.0.join("no"))
            .await
            .unwrap_err();
        assert!(nowhere.to_string().contains("cannot be read"), "{nowhere}");
    });
}
