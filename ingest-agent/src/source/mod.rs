//! Where the desired state comes from. A source reads, checks and watches; it knows neither maps nor netlink.
//!
//! Every source gives the same [`Snapshot`], whole at each change, and never a part of one.

pub mod file;

use crate::reconcile::Desired;

/// The whole desired state at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Snapshot {
    /// Names of the interfaces that clients' packets come in by. Fixed while the agent runs.
    pub uplinks: Vec<String>,
    /// What the maps should say.
    pub desired: Desired,
    /// What is allowed but probably not meant, one sentence each.
    pub warnings: Vec<String>,
}
