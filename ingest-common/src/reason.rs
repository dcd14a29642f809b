//! Numbered reasons. They are the metric labels, so a number or a word is never reused or changed.

/// Declares a reason enum with its number, word and meaning.
macro_rules! reasons {
    ($(#[$meta:meta])* $name:ident { $($(#[doc = $doc:literal])+ $variant:ident = $number:literal, $word:literal;)+ }) => {
        $(#[$meta])*
        #[repr(u8)]
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum $name { $($(#[doc = $doc])+ $variant = $number,)+ }

        impl $name {
            /// Every reason, by number.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];

            /// The word: metric label and log field.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $word),+ }
            }

            /// Its meaning, for people.
            #[must_use]
            pub const fn explained(self) -> &'static str {
                match self { $(Self::$variant => concat!($($doc),+).trim_ascii_start()),+ }
            }

            /// The reason with this number.
            #[must_use]
            pub const fn from_u8(value: u8) -> Option<Self> {
                match value { $($number => Some(Self::$variant),)+ _ => None }
            }
        }
    };
}

reasons! {
    /// Why a packet was dropped.
    DropReason {
        /// The source is in none of the service's source ranges.
        SourceDenied = 1, "source_denied";
        /// IP, UDP and frame disagree about lengths, or the packet ends before its headers do.
        Malformed = 2, "malformed";
        /// SRT: UDP payload outside 16..=1472 bytes (check 1).
        SrtLength = 3, "srt_length";
        /// SRT: unknown control type, or a subtype where none belongs (check 2).
        SrtControlType = 4, "srt_control_type";
        /// SRT: a control packet of a length its type does not have (checks 2 and 10).
        SrtControlLength = 5, "srt_control_length";
        /// SRT: destination id 0 on anything but INDUCTION and CONCLUSION (check 3).
        SrtUnaddressed = 6, "srt_unaddressed";
        /// SRT: malformed INDUCTION (check 4), or a late copy from a caller that has its session.
        SrtInduction = 7, "srt_induction";
        /// SRT: malformed CONCLUSION (checks 5 and 6).
        SrtConclusion = 8, "srt_conclusion";
        /// SRT: malformed handshake extension (check 7).
        SrtExtension = 9, "srt_extension";
        /// SRT: malformed key material (check 7; CVE-2026-55868, CVE-2026-55869).
        SrtKeyMaterial = 10, "srt_key_material";
        /// SRT: destination id is not the flow's listener (check 8).
        SrtSocketId = 11, "srt_socket_id";
        /// SRT: data packet with key field 3 or without payload (check 9).
        SrtData = 12, "srt_data";
        /// SRT: sequence number too far from the flow's (check 9).
        SrtSequence = 13, "srt_sequence";
        /// SRT: malformed NAK (check 11).
        SrtNak = 14, "srt_nak";
        /// SRT: malformed DROPREQ (check 12).
        SrtDropRequest = 15, "srt_drop_request";
        /// SRT: malformed user control packet (check 13).
        SrtUser = 16, "srt_user";
        /// No backend takes new sessions.
        NoBackend = 17, "no_backend";
        /// The flow was cut: its caller is told SHUTDOWN and what still comes has no receiver. Or there will be none: the
        /// service was removed meanwhile.
        FlowCut = 18, "flow_cut";
        /// The frame could not be prepared for delivery (no room, no pod port).
        Undeliverable = 19, "undeliverable";
        /// ICMP "port unreachable" from a pod: noted, and of no use to the client.
        PodUnreachable = 20, "pod_unreachable";
        /// The pod's answer to the agent's probe of a delivery mode: noted.
        ProbeReply = 21, "probe_reply";
        /// SRT: a CONCLUSION with a cookie of ours that is too old (check 5).
        CookieStale = 22, "cookie_stale";
        /// SRT: a CONCLUSION with a cookie that we never issued (check 5).
        CookieForged = 23, "cookie_forged";
        /// SRT: handshakes of one source came too fast (check 14).
        SourceRate = 24, "source_rate";
        /// A CONCLUSION whose UDP checksum is wrong: a flipped bit must not become another stream's name.
        Checksum = 25, "checksum";
        /// SRT: a Stream ID that names a field twice, or is no text (check 7).
        SrtStreamId = 26, "srt_stream_id";
        /// No route matches, and the service takes only routed streams.
        NoRoute = 27, "no_route";
        /// The route that matches rejects.
        Forbidden = 28, "forbidden";
        /// The route has as many sessions as it may.
        QuotaStreams = 29, "quota_streams";
        /// The route's new sessions come too fast.
        QuotaSessions = 30, "quota_sessions";
        /// The stream is over its bitrate.
        QuotaStreamBitrate = 31, "quota_stream_bitrate";
        /// The route's streams together are over its bitrate.
        QuotaRouteBitrate = 32, "quota_route_bitrate";
        /// A pod's INDUCTION response: its cookie is noted, and the caller must not see it.
        InductionResponse = 33, "induction_response";
        /// A CONCLUSION response of one pod to a caller that another one has accepted.
        AcceptedElsewhere = 34, "accepted_elsewhere";
    }
}

reasons! {
    /// Why a packet to a VIP was left to the host.
    PassReason {
        /// An IP fragment: it has no port.
        Fragment = 1, "fragment";
        /// IPv4 options.
        IpOptions = 2, "ip_options";
        /// IPv6 extension header.
        ExtensionHeader = 3, "extension_header";
        /// No flow and no handshake: a session that began before we did may live in the host's own tables.
        NoFlow = 4, "no_flow";
        /// To a VIP, but to a port or protocol that is no service.
        NoService = 5, "no_service";
        /// ICMP to a VIP that concerns no flow (echo included).
        Icmp = 6, "icmp";
        /// No backend here takes new sessions, and other nodes have some: the host's own balancing knows them.
        Elsewhere = 7, "elsewhere";
    }
}
