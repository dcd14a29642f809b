//! The agent.
#![allow(missing_docs, reason = "scaffold")]
pub mod reconcile;
