//! Real SRT peers: our listener and caller on libsrt, `srt-live-transmit`, ffmpeg.

mod caller;
mod encoder;
mod listener;
mod player;
mod versions;

pub use caller::{Caller, CallerEvent, CallerOptions};
pub use encoder::{Ffmpeg, FfmpegRun, LiveTransmit};
pub use listener::{Accepted, Listener, ListenerEvent, ListenerOptions, Session};
pub use player::{Player, TestPicture};
pub use versions::LIBSRT_VERSIONS;

use std::net::{IpAddr, SocketAddr};

/// Where listeners listen in their pods, and the VIP's port.
pub const PORT: u16 = 9000;

/// Latency by default: enough that a busy machine's pauses are no losses (libsrt's 120 ms are not).
const LATENCY_MS: u32 = 400;

/// What an encoder dials.
#[derive(Clone, Debug)]
pub struct Target {
    /// The VIP, or a pod.
    pub address: SocketAddr,
    /// The Stream ID.
    pub stream_id: String,
    /// 10 to 79 characters; `None`: in the clear.
    pub passphrase: Option<String>,
    /// Receiver latency, ms.
    pub latency_ms: u32,
}

impl Target {
    /// In the clear.
    pub fn new(address: IpAddr, stream_id: &str) -> Self {
        Self {
            address: SocketAddr::new(address, PORT),
            stream_id: stream_id.to_owned(),
            passphrase: None,
            latency_ms: LATENCY_MS,
        }
    }

    /// As the `srt://` URI of srt-live-transmit, which takes the Stream ID as it is: no `&` may be in it.
    fn uri(&self) -> String {
        format!("{}&streamid={}", self.unnamed_uri(1), self.stream_id)
    }

    /// What goes before ffmpeg's URI, and the URI. Some versions take what a URI says of the Stream ID as it is,
    /// percent signs and all.
    fn ffmpeg_uri(&self) -> ([&str; 2], String) {
        // It counts latency in µs.
        (["-srt_streamid", &self.stream_id], self.unnamed_uri(1000))
    }

    fn unnamed_uri(&self, latency_unit: u32) -> String {
        let mut uri = format!(
            "srt://{}?mode=caller&transtype=live&latency={}",
            self.address,
            self.latency_ms * latency_unit
        );
        if let Some(passphrase) = &self.passphrase {
            uri.push_str("&passphrase=");
            uri.push_str(passphrase);
        }
        uri
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uris_name_the_stream() {
        let target = Target::new("2001:db8::10".parse().unwrap(), "#!::r=live/cam1,m=publish");
        let uri = target.uri();
        assert!(uri.starts_with("srt://[2001:db8::10]:9000?"), "{uri}");
        let latency = format!("latency={LATENCY_MS}&");
        assert!(uri.contains(&latency), "{uri}");
        assert!(
            uri.ends_with("&streamid=#!::r=live/cam1,m=publish"),
            "{uri}"
        );
    }
}
