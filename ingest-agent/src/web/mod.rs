//! The page and the read-only JSON API beside it.
