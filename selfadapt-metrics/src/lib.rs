//! Metrics and criteria.
#![forbid(unsafe_code)]
