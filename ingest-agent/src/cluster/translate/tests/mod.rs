//! Tables of rules, by matter.
