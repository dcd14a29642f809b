//! What callers say of themselves and nobody else is to read: names, passwords and keys in their Stream IDs, their
//! address, and the secrets that our own cookies are made with. Tests plant it, and look for it everywhere.

use std::net::Ipv4Addr;

use anyhow::{Result, ensure};

use crate::netns::{CLIENT_V4, Topology};

/// The address that callers call from: nothing else has it.
pub const CALLER: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 77);
/// A Stream ID in the common form, with all that people put into them.
pub const STREAM_ID: &str = "#!::u=horst.kowalski,h=studio7.example,r=acme/geheimkanal,s=sess-9f31c7aa,pw=Tr0ub4dor-und-3,m=publish";
/// One of no form: all of it is the key.
pub const PLAIN_STREAM_ID: &str = "live_5e1f0a77c0ffee_key";
/// The same, but refused by a route of prefix `banned/`.
pub const BANNED_STREAM_ID: &str =
    "#!::u=erna.kowalski,r=banned/hinterzimmer,pw=Tr0ub4dor-und-4,m=publish";
/// What that route matches, as YAML.
pub const BANNED: &str = "resource: { prefix: banned/ }";

/// What must not be found.
#[derive(Clone, Debug)]
pub struct Planted {
    needles: Vec<String>,
}

impl Planted {
    /// All of it, and the keys of cookies. Gives the client its address.
    pub fn new(topology: &Topology, keys: &[u64]) -> Result<Self> {
        let own = format!("ip address add {CALLER}/32 dev eth0");
        topology.client.shell(&own)?;
        let route = format!("ip route add {CALLER}/32 via {CLIENT_V4}");
        topology.node.shell(&route)?;
        let ids = [STREAM_ID, PLAIN_STREAM_ID, BANNED_STREAM_ID];
        let mut needles: Vec<String> = ids.map(str::to_owned).to_vec();
        for id in ids {
            let fields = id.trim_start_matches("#!::").split(',');
            let values = fields.filter_map(|field| field.split_once('='));
            let secret = values.filter(|(name, _)| *name != "m");
            needles.extend(secret.map(|(_, value)| value.to_owned()));
        }
        needles.push(CALLER.to_string());
        let keys: Vec<_> = keys.iter().filter(|key| **key != 0).collect();
        ensure!(!keys.is_empty(), "there is no secret yet");
        for word in keys {
            needles.extend([
                word.to_string(),
                format!("{word:x}"),
                format!("{word:X}"),
                format!("{:x}", word.swap_bytes()),
            ]);
        }
        Ok(Self { needles })
    }

    /// What of it is in `text`.
    pub fn found_in(&self, text: &str) -> Vec<&str> {
        let found = self.needles.iter().filter(|needle| text.contains(*needle));
        found.map(String::as_str).collect()
    }

    /// Fails where any of it is in one of these named texts, or where one of them is empty.
    pub fn expect_in_none(&self, texts: &[(&str, String)]) -> Result<()> {
        for (name, text) in texts {
            ensure!(!text.is_empty(), "{name}: nothing was looked at");
            let found = self.found_in(text);
            ensure!(found.is_empty(), "{name} tells {found:?}:\n{text}");
        }
        Ok(())
    }
}
