//! The agent.
#![allow(missing_docs, reason = "scaffold")]
pub mod dataplane;
pub mod ports;
pub mod reconcile;
pub mod source;
