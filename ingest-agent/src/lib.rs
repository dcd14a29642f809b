//! The per-node agent of ingest steering: keeps the kernel's maps equal to what is desired, and shows what they say.
//!
//! The way of a change, and where to read:
//! 1. [`source`] reads and watches the configuration, or [`cluster`] follows Kubernetes; both give whole
//!    [`source::Snapshot`]s.
//! 2. [`ports`] asks the kernel where each pod is on this node.
//! 3. [`reconcile`] compares both with the maps: a pure function from three plain states to a list of writes.
//! 4. [`dataplane`] does these writes. It alone knows aya, bpffs and `unsafe`.
//! 5. [`agent`] is the loop around them; [`metrics`] serves what it and the kernel count, and a [`notice`] is what it has
//!    to tell the people of a cluster.
//!
//! [`view`] judges every stream, once a second, from what the maps say; [`web`] shows it on a page.
//!
//! [`commands`] has one file a subcommand ([`cli`] has their arguments). All but `run` read what is pinned and work
//! without an agent: traffic does not depend on this process, only changes do.
//! [`error`] turns what went wrong into a sentence and an exit code.

#![warn(missing_docs)]

pub mod agent;
pub mod cli;
pub mod cluster;
pub mod commands;
pub mod dataplane;
pub mod error;
pub mod metrics;
pub mod notice;
mod output;
pub mod ports;
pub mod reconcile;
mod redact;
pub mod source;
pub mod telemetry;
pub mod view;
pub mod web;
