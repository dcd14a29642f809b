//! The keys of our cookies, in a real map and over agents.

#![expect(clippy::unwrap_used, reason = "a test panics")]

mod lab;

use ingest_agent::dataplane::{Reader, now_ns};
use ingest_common::{
    abi::{self, Secrets},
    srt::{CookieCheck, check_cookie, cookie},
};
use lab::{PinRoot, load, with_uplink};

const PORT: u16 = 4000;
const CALLER_ID: u32 = 0x1234_5678;

fn client() -> [u32; 4] {
    abi::words_from_address(abi::v4_mapped([198, 51, 100, 7]))
}

fn made(secrets: &Secrets) -> u32 {
    cookie(secrets, client(), PORT, CALLER_ID, now_ns())
}

fn check(secrets: &Secrets, cookie: u32) -> CookieCheck {
    check_cookie(secrets, client(), PORT, CALLER_ID, cookie, now_ns())
}

/// * no secret, until one is made; made once, whoever comes after adopts it, and cookies stay valid;
/// * a cookie outlives one rotation and not two;
/// * nothing that prints what the map holds prints the keys.
#[test]
#[ignore = "needs root: cargo xtask test"]
fn cookies_outlive_agents_and_one_rotation() {
    with_uplink(|| async {
        let root = PinRoot::new("secrets");
        let (mut dataplane, lock) = load(&root).await.unwrap();
        let read = || Reader::open(&root.0).unwrap().secrets().unwrap();
        assert_eq!(read().serial, 0, "nobody is answered");
        let first = dataplane.ensure_secrets(now_ns()).unwrap();
        assert_eq!(first.serial, 1);
        let secrets = read();
        assert_ne!(secrets.keys[secrets.current as usize], [0; 2]);
        let cookie = made(&secrets);
        drop((dataplane, lock));

        let (mut dataplane, _lock) = load(&root).await.unwrap();
        assert_eq!(dataplane.ensure_secrets(now_ns()).unwrap(), first);
        assert_eq!(read(), secrets, "adopted");
        assert_eq!(check(&read(), cookie), CookieCheck::Valid);

        let second = dataplane.rotate_secrets(now_ns()).unwrap();
        assert_eq!(second.serial, 2);
        assert!(second.since_ns > first.since_ns);
        assert_ne!(read().keys, secrets.keys);
        assert_ne!(read().current, secrets.current);
        assert_eq!(check(&read(), cookie), CookieCheck::Valid);
        let newer = made(&read());
        dataplane.rotate_secrets(now_ns()).unwrap();
        assert_eq!(check(&read(), cookie), CookieCheck::Forged);
        assert_eq!(check(&read(), newer), CookieCheck::Valid);

        let shown = format!("{:?} {dataplane:?}", read());
        for word in read().keys.as_flattened() {
            assert!(!shown.contains(&word.to_string()), "{shown}");
            assert!(!shown.contains(&format!("{word:x}")), "{shown}");
        }
    });
}
