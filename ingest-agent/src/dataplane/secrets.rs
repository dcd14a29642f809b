//! The keys of our cookies: made once, shared by every agent after, and exchanged from time to time.
//!
//! Whoever has them opens sessions under any address: they are neither logged nor shown.

use ingest_common::abi::Secrets;

use super::{Dataplane, Error};

/// What there is of secrets, without them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SecretsState {
    /// How many keys there have been.
    pub serial: u32,
    /// When the current one became so ([`super::now_ns`]).
    pub since_ns: u64,
}

impl Dataplane {
    /// Makes the first secret, unless an earlier agent has: cookies survive the agent that made them. Until then nobody
    /// is answered.
    pub fn ensure_secrets(&mut self, now_ns: u64) -> Result<SecretsState, Error> {
        let secrets = self.maps.secrets.get(0)?;
        if secrets.serial == 0 {
            return self.rotate_secrets(now_ns);
        }
        Ok(state(&secrets))
    }

    /// Makes another secret the current one. Cookies made with the one before stay valid until the next rotation, which
    /// must not come sooner than cookies grow old (two minutes).
    pub fn rotate_secrets(&mut self, now_ns: u64) -> Result<SecretsState, Error> {
        let secrets = self.maps.secrets.get(0)?;
        let [prepared, rotated] = rotation(&secrets, key()?, now_ns);
        self.maps.secrets.set(0, &prepared)?;
        self.maps.secrets.set(0, &rotated)?;
        Ok(state(&rotated))
    }
}

fn state(secrets: &Secrets) -> SecretsState {
    SecretsState {
        serial: secrets.serial,
        since_ns: secrets.since_ns,
    }
}

fn key() -> Result<[u64; 2], Error> {
    let mut bytes = [[0; 8]; 2];
    getrandom::fill(bytes.as_flattened_mut()).map_err(|error| Error::System {
        operation: "drawing random bytes",
        source: error.into(),
    })?;
    Ok(bytes.map(u64::from_ne_bytes))
}

/// The two writes of a rotation. The kernel may read in the middle of either: the first changes only the key that
/// nobody makes cookies with, the second no key at all.
fn rotation(secrets: &Secrets, key: [u64; 2], now_ns: u64) -> [Secrets; 2] {
    let mut prepared = *secrets;
    let idle = match secrets.current {
        0 => 1,
        _ => 0,
    };
    prepared.keys[idle] = key;
    let rotated = Secrets {
        current: idle as u32,
        // 0 would say that there is none.
        serial: secrets.serial.checked_add(1).unwrap_or(1),
        since_ns: now_ns,
        ..prepared
    };
    [prepared, rotated]
}

#[cfg(test)]
mod tests {
    use ingest_common::srt::{CookieCheck, check_cookie, cookie};

    use super::*;

    const CLIENT: [u32; 4] = [0, 0, 0xffff_0000, 0x0100_000a];
    const NOW: u64 = 1_000_000_000_000;

    fn check(secrets: &Secrets, made: u32) -> CookieCheck {
        check_cookie(secrets, CLIENT, 4000, 7, made, NOW)
    }

    #[test]
    fn a_cookie_outlives_one_rotation_and_not_two() {
        let [_, first] = rotation(&Secrets::default(), [1, 2], NOW);
        assert_eq!((first.current, first.serial), (1, 1));
        let made = cookie(&first, CLIENT, 4000, 7, NOW);
        let [prepared, second] = rotation(&first, [3, 4], NOW);
        let [next_prepared, third] = rotation(&second, [5, 6], NOW);
        assert_eq!(check(&first, made), CookieCheck::Valid);
        assert_eq!(check(&prepared, made), CookieCheck::Valid);
        assert_eq!(check(&second, made), CookieCheck::Valid);
        assert_eq!(check(&next_prepared, made), CookieCheck::Forged);
        assert_eq!(check(&third, made), CookieCheck::Forged);
        let later = cookie(&second, CLIENT, 4000, 7, NOW);
        assert_eq!(check(&third, later), CookieCheck::Valid);
    }

    /// Or a kernel that reads in between takes a half-written key for the current one.
    #[test]
    fn no_write_changes_the_key_in_use() {
        let mut secrets = Secrets::default();
        for key in [[1, 2], [3, 4], [5, 6]] {
            let [prepared, rotated] = rotation(&secrets, key, NOW);
            let current = secrets.current as usize;
            assert_eq!(prepared.keys[current], secrets.keys[current]);
            assert_eq!(
                (prepared.current, prepared.serial),
                (secrets.current, secrets.serial)
            );
            assert_eq!(rotated.keys, prepared.keys);
            secrets = rotated;
        }
    }

    #[test]
    fn a_serial_is_never_none() {
        let last = Secrets {
            serial: u32::MAX,
            ..Default::default()
        };
        assert_eq!(rotation(&last, [1, 2], NOW)[1].serial, 1);
    }
}
